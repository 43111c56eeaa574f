"""How a version is served, in a line each: what was asked for, and what was measured."""

from __future__ import annotations

from aiaas_hub.schemas import endpoints as wire
from aiaas_magics import display


def parity_line(parity: wire.Parity) -> str:
    rate = f", {parity.rows_per_second:,.0f} rows a second" if parity.rows_per_second else ""
    memory = f"; {display.size(parity.memory_bytes)} of memory" if parity.memory_bytes else ""
    return (
        f"at most {parity.max_abs:.2g} apart on {parity.rows} held-out rows; "
        f"p50 {parity.p50_ms:.2f} ms, p99 {parity.p99_ms:.2f} ms{rate}{memory}"
    )


REPORT = ("version", "model", "apart", "rows", "p50", "p99", "rows a second", "memory")


def reports(record: wire.Endpoint) -> list[list[str]]:
    """Of the newest version and of the one that it came after: what was measured of either before
    its first request; nothing where there are not two that were."""
    newest = record.versions[0] if record.versions else None
    shares = {**record.traffic, **record.former}
    if newest is None or newest.parity is None:
        return []
    shares.pop(newest.version, None)
    former = max(shares, key=lambda version: shares[version], default=None)
    found = [v for v in record.versions if v.version in (newest.version, former)]
    if len(found) < 2 or any(v.parity is None for v in found):
        return []
    return [_report(version, version.parity) for version in found if version.parity is not None]


def _report(version: wire.EndpointVersion, parity: wire.Parity) -> list[str]:
    return [
        str(version.version),
        str(version.model),
        f"{parity.max_abs:.2g}",
        str(parity.rows),
        f"{parity.p50_ms:.2f} ms",
        f"{parity.p99_ms:.2f} ms",
        f"{parity.rows_per_second:,.0f}" if parity.rows_per_second else "",
        display.size(parity.memory_bytes) if parity.memory_bytes else "",
    ]


def reports_html(record: wire.Endpoint) -> str:
    rows = reports(record)
    cells = [[display.escape(cell) for cell in row] for row in rows]
    heading = f"<div>{display.muted('measured before the first request')}</div>"
    return heading + display.table(REPORT, cells) if rows else ""


def reports_text(record: wire.Endpoint) -> str:
    rows = reports(record)
    return display.text_table(REPORT, rows) if rows else ""


def options_line(options: wire.ServingOptions) -> str:
    """What was asked for when it was published; empty where the platform chose."""
    idle = display.duration(options.idle_seconds) if options.idle_seconds else ""
    delay = options.batch_delay
    said = [
        f"in {options.instances} instances" if options.instances else "",
        f"at most {options.max_batch} rows a request" if options.max_batch else "",
        f"at most {options.timeout_seconds:g} s a request" if options.timeout_seconds else "",
        f"in {options.precision}" if options.precision else "",
        "each request a run of its own" if delay == "off" else "",
        f"a request waits {delay:g} ms for others" if isinstance(delay, float) and delay else "",
        "warmed up" if options.warm_up else "",
        f"unloaded after {idle.removesuffix(' 00 s')} without a call" if idle else "",
    ]
    return ", ".join(part for part in said if part)


def conversion_line(parity: wire.Parity | None) -> str:
    """What a lower precision changed; empty where none was asked for."""
    found = parity.conversion if parity is not None else None
    if parity is None or found is None:
        return ""
    before, after = found.before, found.after
    return (
        f"{found.precision}: {display.size(after.size_bytes)} instead of "
        f"{display.size(before.size_bytes)}, {after.p50_ms:.2f} ms a row instead of "
        f"{before.p50_ms:.2f}, {after.rows_per_second:,.0f} rows a second instead of "
        f"{before.rows_per_second:,.0f}; {found.disagreement:.1%} of {parity.rows} held-out rows "
        f"answered otherwise, at most {found.max_disagreement:.0%} allowed"
    )
