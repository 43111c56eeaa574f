"""How a canary's judgement and an endpoint's history look."""

from __future__ import annotations

from collections.abc import Iterable

from aiaas_hub.schemas import endpoints as wire
from aiaas_magics import display
from aiaas_magics.display import Column, Listing

SHOWN_CHANGES = 5


def traffic_line(traffic: dict[int, int], *, sticky: bool = False) -> str:
    if not traffic:
        return "none yet"
    shares = [f"version {version}: {share} %" for version, share in sorted(traffic.items())]
    stays = "; each caller stays with one" if sticky and len(shares) > 1 else ""
    return ", ".join(shares) + stays


def history(changes: Iterable[wire.Change]) -> Listing[wire.Change]:
    return Listing(changes, _COLUMNS, empty="Nothing has changed yet.")


def who(change: wire.Change) -> str:
    return change.by or "the platform"


def judgement_line(version: wire.EndpointVersion) -> str:
    """What becomes of a canary, and when; of one that was judged, what decided."""
    bake, plan = version.bake, version.plan
    if bake is not None and bake.decision is not None:
        return f"{bake.decision}: {' '.join(bake.reasons)}"
    if not version.is_judged or plan is None:
        return ""
    copies = f"gets a copy of {plan.percent} % of the requests; " if plan.shadow else ""
    if plan.bake_seconds is None:
        return f"{copies}waits for %aiaas promote or %aiaas rollback"
    ends = f" at {bake.ends_at:%H:%M:%S} UTC" if bake is not None and bake.ends_at else ""
    return (
        f"{copies}is promoted or rolled back{ends}, after {display.duration(plan.bake_seconds)}: "
        f"{limits_line(plan.limits)}"
    )


def limits_line(limits: wire.Limits) -> str:
    return (
        f"at most {limits.max_error_rate:.1%} more errors, {limits.max_slowdown:g} times the p95, "
        f"{limits.max_disagreement:.0%} other answers"
    )


def agreement_line(version: wire.EndpointVersion) -> str:
    """How often a canary answers otherwise than what it is compared with."""
    bake = version.bake
    if bake is None or bake.disagreement is None:
        return ""
    return (
        f"{bake.disagreement:.1%} of {bake.rows} held-out rows answered otherwise than by version "
        f"{bake.former_version}"
    )


def numbers_rows(version: wire.EndpointVersion) -> list[list[str]]:
    """Canary and former version side by side: a heading, then their numbers."""
    bake = version.bake
    if bake is None:
        return []
    role = "shadow" if version.plan is not None and version.plan.shadow else "canary"
    rows = [_numbers(version.version, role, bake.canary)]
    if bake.former_version is not None:
        rows.append(_numbers(bake.former_version, "former", bake.former))
    return [list(NUMBERS), *rows]


NUMBERS = ("version", "", "requests", "errors", "p50", "p95", "p99", "probes", "right", "probe p50")


def _numbers(version: int, role: str, numbers: wire.VersionNumbers) -> list[str]:
    return [
        str(version),
        role,
        str(numbers.requests),
        str(numbers.errors),
        _ms(numbers.p50_ms),
        _ms(numbers.p95_ms),
        _ms(numbers.p99_ms),
        str(numbers.probes),
        str(numbers.probes - numbers.probe_errors),
        _ms(numbers.probe_p50_ms),
    ]


def numbers_html(version: wire.EndpointVersion) -> str:
    rows = numbers_rows(version)
    if not rows:
        return ""
    return display.table(rows[0], [[display.escape(cell) for cell in row] for row in rows[1:]])


def numbers_text(version: wire.EndpointVersion) -> str:
    rows = numbers_rows(version)
    return display.text_table(rows[0], rows[1:]) if rows else ""


def _ms(value: float | None) -> str:
    return "" if value is None else f"{value:.2f} ms"


_COLUMNS: list[Column[wire.Change]] = [
    Column("when", lambda c: f"{c.at:%Y-%m-%d %H:%M:%S}"),
    Column("what", lambda c: c.action if c.version is None else f"{c.action}: version {c.version}"),
    Column("who", who),
    Column("from", lambda c: traffic_line(c.before) if c.before else ""),
    Column("to", lambda c: traffic_line(c.after) if c.after else "none"),
    Column("why", lambda c: c.why),
]
