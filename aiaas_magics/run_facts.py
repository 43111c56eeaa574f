"""What is said of a run by its record: how far it is, what it waits for, what came of it."""

from __future__ import annotations

from datetime import UTC, datetime

from aiaas_hub.schemas import runs as wire
from aiaas_magics import display

# The service's own word, and Ray's for a job whose driver does not train yet.
_STARTING_REASONS = ("starting workers", "Job ")


def measured(record: wire.Run) -> str:
    """A sweep has no metrics of its own, and its trials are not asked for one by one."""
    sweep = record.sweep
    if sweep is not None and record.kind is wire.RunKind.SWEEP:
        return f"sweep of {sweep.trials} trials by {sweep.metric} ({sweep.mode})"
    return metrics_line(record.last_metrics)


def makes(record: wire.Run) -> str:
    if record.transform is None:
        return ""
    return ", ".join(map(str, record.made)) or ", ".join(record.transform.names)


def metrics_line(values: dict[str, float]) -> str:
    return ", ".join(f"{name} {display.number(value)}" for name, value in values.items())


def waiting(record: wire.Run) -> str:
    """What goes on before training does: the place in the queue and what would help, or a
    reason."""
    if record.state.is_terminal:
        return ""
    if record.state is wire.RunState.QUEUED and record.queue is not None:
        place = record.queue
        instead = f"; {place.remedy}" if place.remedy else ""
        blocked = place.blocked_by.rstrip(".")
        if blocked[1:2].islower() and not blocked.startswith("Ray "):
            blocked = blocked[0].lower() + blocked[1:]
        turn = ""
        if place.expected_seconds is not None:
            turn = (
                f"; its turn comes in about {display.about(place.expected_seconds)}, if the runs "
                "before it take as long as runs usually do"
            )
        return f"{_ordinal(place.position)} in the queue: {blocked}{instead}{turn}"
    if record.state is wire.RunState.STARTING and record.reason.startswith(_STARTING_REASONS):
        return (
            "Ray is starting the workers; the first run on a fresh platform takes about half a "
            "minute"
        )
    return record.reason


def error(record: wire.Run) -> str:
    if record.error is None:
        return ""
    return f"{display.sentence(record.error.message)} {record.error.remedy}".strip()


def _ordinal(number: int) -> str:
    ending = "th" if number // 10 % 10 == 1 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def timing(record: wire.Run) -> str:
    """How long it waited and how long it trained, as far as it has come."""
    end = record.finished_at or datetime.now(UTC)
    if record.started_at is None:
        waited = max(0.0, (end - record.created_at).total_seconds())
        return f"{display.duration(waited)} before its start"
    waited = max(0.0, (record.started_at - record.created_at).total_seconds())
    trained = max(0.0, (end - record.started_at).total_seconds())
    return f"started after {display.duration(waited)}, ran {display.duration(trained)}"
