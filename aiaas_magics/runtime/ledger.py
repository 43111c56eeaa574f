"""How a sweep's trials stand, written down so that a later driver goes on where one died."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from aiaas_hub.schemas.errors import InvalidInput
from aiaas_hub.schemas.runs import ParamValue, RunError, SweepSpec
from aiaas_magics.runtime.search import Search, best
from aiaas_magics.runtime.trial import TrialsFailed

_FAILURES_IN_A_ROW = 3
"""A sweep whose first trials all fail has a fault of its own: the others are not tried."""


class Journal:
    """One JSON object a line: a trial's beginning with its parameters, its end with its value.

    Written before a trial begins, so that a search that draws by chance and by what it has seen
    gives the same number the same parameters again.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self.begun: dict[int, dict[str, ParamValue]] = {}
        self.ended: dict[int, float | None] = {}
        for line in self._lines():
            if "params" in line:
                self.begun[line["number"]] = line["params"]
            else:
                self.ended[line["number"]] = line["value"]

    def begin(self, number: int, params: dict[str, ParamValue]) -> None:
        self.begun[number] = params
        self._write({"number": number, "params": params})

    def end(self, number: int, value: float | None) -> None:
        self.ended[number] = value
        self._write({"number": number, "value": value})

    def _lines(self) -> Iterator[dict[str, Any]]:
        if not self._file.exists():
            return
        for line in self._file.read_text().splitlines():
            # The last one may have been cut by a power failure: then it was not acted upon.
            with contextlib.suppress(ValueError):
                yield json.loads(line)

    def _write(self, line: dict[str, Any]) -> None:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with self._file.open("ab+") as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    # The line that was cut stays one of its own.
                    file.write(b"\n")
            file.write(json.dumps(line).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())


class Ledger:
    """How the sweep's trials stand."""

    def __init__(self, journal: Journal, search: Search, spec: SweepSpec) -> None:
        self._journal = journal
        self._search = search
        self._spec = spec
        self.left = [number for number in range(spec.trials) if number not in journal.ended]
        """Numbers that have not been begun by this driver, in their order."""
        self.failures: list[RunError] = []
        self.running: dict[int, float | None] = {}
        """Number → the last value it reported."""

    def begin(self) -> tuple[int, dict[str, ParamValue]] | None:
        if not self.left:
            return None
        number = self.left.pop(0)
        params = self._journal.begun.get(number)
        if params is None:
            params = self._search.params(number)
            self._journal.begin(number, params)
        self.running[number] = None
        return number, params

    def report(self, number: int, value: float) -> None:
        self.running[number] = value

    def end(self, number: int, failure: RunError | None = None) -> float | None:
        """The value that the trial came to."""
        value = self.running.pop(number, None) if failure is None else None
        self.running.pop(number, None)
        if failure is not None:
            self.failures.append(failure)
        self._journal.end(number, value)
        self._search.finished(number, value)
        return value

    @property
    def hopeless(self) -> bool:
        return len(self.failures) >= _FAILURES_IN_A_ROW and len(self.failures) == len(
            self._journal.ended
        )

    def best(self) -> tuple[int, dict[str, ParamValue], float] | None:
        values = {n: value for n, value in self._journal.ended.items() if value is not None}
        number = best(values, self._spec.mode)
        return None if number is None else (number, self._journal.begun[number], values[number])

    def conclude(self) -> None:
        """Say which trial was best. Raises `TrialsFailed`, or `InvalidInput` if none even
        failed, if there is no best one."""
        found = self.best()
        if found is not None:
            number, params, value = found
            say(f"best: trial {number} ({shown(params)}), {self._spec.metric} {value:.4g}")
        elif self.failures:
            raise TrialsFailed(self.failures[0], len(self.failures))
        else:
            raise InvalidInput(
                f"No trial came to a value of {self._spec.metric!r} before the sweep's end.",
                remedy="Give it longer, --time-limit 2h, or leave the limit out.",
            )


def shown(params: Mapping[str, ParamValue]) -> str:
    """Parameters in a line of the log."""
    return ", ".join(
        f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in params.items()
    )


def say(line: str) -> None:
    """Write a line into the sweep's log."""
    print(f"[aiaas] {line}", flush=True)  # noqa: T201 - its log
