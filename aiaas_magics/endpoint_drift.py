"""How what callers send differs from what a model was made from: a table, and the shares of the
features that changed most."""

from __future__ import annotations

from collections.abc import Sequence

from aiaas_hub.schemas import drift as wire
from aiaas_magics import display, plot
from aiaas_magics.curves import Curve
from aiaas_magics.display import Column, Listing, Rich
from aiaas_magics.plot import Panel

_DRAWN = 3
_LISTED = 20
_NAMED = 3
_LEAST = 1e-300
_WORDS = {"none": "as before", "some": "some change", "much": "much change"}


class Drift(Rich):
    """Per loaded version, newest first, as of when it was asked for."""

    def __init__(self, endpoint: str, record: wire.EndpointDrift) -> None:
        self._endpoint = endpoint
        self.versions = record.versions

    def _html(self) -> str:
        parts = []
        for version in self.versions:
            parts.append(f"<div><b>{display.escape(_title(version))}</b></div>")
            parts.append(f"<div>{display.muted(basis(version))}</div>")
            if version.features:
                parts += [_table(version)._html(), plot.html(_panels(version))]
        return "".join(parts) or f"<div>{display.escape(_NOTHING)}</div>"

    def _text(self) -> str:
        parts = []
        for version in self.versions:
            parts += [_title(version), basis(version)]
            if version.features:
                parts += [_table(version)._text(), plot.text(_panels(version))]
        return "\n".join(parts) or _NOTHING


_NOTHING = "Nothing is served."


def summary(record: wire.EndpointDrift) -> str:
    """In a line, of the newest version that gets requests."""
    version = next((one for one in record.versions if one.percent), None)
    if version is None:
        return ""
    if not version.features:
        return version.reason
    changed = [feature for feature in version.features if feature.change != "none"]
    if not changed:
        return f"as before; {basis(version)}"
    named = ", ".join(f"{feature.name} ({feature.psi:.2f})" for feature in changed[:_NAMED])
    more = f" and {len(changed) - _NAMED} more" if len(changed) > _NAMED else ""
    return f"{len(changed)} of {len(version.features)} changed: {named}{more}; {basis(version)}"


def basis(version: wire.VersionDrift) -> str:
    """What was compared, or why nothing was."""
    omitted = f"; without {', '.join(version.omitted)}, not being numbers"
    if not version.features:
        return version.reason
    since = "since the model was loaded"
    if version.since is not None:
        since = f"since {version.since:%Y-%m-%d %H:%M} UTC"
    return (
        f"{version.rows:,} rows {since}, against {version.reference_rows:,} held-out rows"
        f"{omitted if version.omitted else ''}"
    )


def _title(version: wire.VersionDrift) -> str:
    return f"version {version.version}, {version.percent} % of the requests"


def _table(version: wire.VersionDrift) -> Listing[wire.FeatureDrift]:
    return Listing(version.features[:_LISTED], _COLUMNS, empty=_NOTHING)


def _panels(version: wire.VersionDrift) -> list[Panel]:
    """Percent of the rows in each bin, then and now, of what changed, or else of the first."""
    changed = [feature for feature in version.features if feature.change != "none"]
    return [
        Panel(
            f"% of rows by {feature.name}",
            {"training": _curve(feature.reference), "now": _curve(feature.seen)},
            "bin, from small values to large",
        )
        for feature in (changed or version.features)[: _DRAWN if changed else 1]
    ]


def _curve(shares: Sequence[float]) -> Curve:
    return Curve(
        list(range(1, len(shares) + 1)), [100 * share for share in shares], [0.0] * len(shares)
    )


def _middle(shares: Sequence[float], edges: Sequence[float]) -> str:
    """The bin of the median."""
    total, place = 0.0, 0
    for place, share in enumerate(shares):  # noqa: B007 - where it ends is what is asked for
        total += share
        if total >= sum(shares) / 2:
            break
    if not sum(shares):
        return "no numbers"
    # The next number after a value, which ends its bin, may be the smallest there is.
    ends = [display.number(edge if abs(edge) > _LEAST else 0.0) for edge in edges]
    if place == 0:
        return f"below {ends[0]}"
    if place == len(edges):
        return f"above {ends[-1]}"
    low, high = ends[place - 1], ends[place]
    return low if low == high else f"{low} to {high}"


def _missing(feature: wire.FeatureDrift) -> str:
    if not feature.reference_missing and not feature.seen_missing:
        return ""
    return f"{feature.reference_missing:.1%} → {feature.seen_missing:.1%}"


_COLUMNS: list[Column[wire.FeatureDrift]] = [
    Column("input", lambda f: f.name),
    Column("change", lambda f: _WORDS[f.change]),
    Column("PSI", lambda f: f"{f.psi:.2f}"),
    Column("by chance", lambda f: f"up to {f.chance:.2f}"),
    Column("median then", lambda f: _middle(f.reference, f.edges)),
    Column("median now", lambda f: _middle(f.seen, f.edges)),
    Column("no number", _missing),
]
