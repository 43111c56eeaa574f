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


def options_line(options: wire.ServingOptions) -> str:
    """What was asked for when it was published; empty where the platform chose."""
    idle = display.duration(options.idle_seconds) if options.idle_seconds else ""
    said = [
        f"in {options.instances} instances" if options.instances else "",
        f"at most {options.max_batch} rows a request" if options.max_batch else "",
        f"at most {options.timeout_seconds:g} s a request" if options.timeout_seconds else "",
        f"in {options.precision}" if options.precision else "",
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
