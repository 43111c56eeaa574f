"""What went wrong in training code, in a sentence, and the next thing to type.

A table of small recognisers: each knows one kind of failure by its exception's class and text,
and says nothing of any other. `recognisers` and `tensor_failures` hold the table.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from aiaas_hub.schemas.jobs import Job


@dataclass(frozen=True)
class Cause:
    """A sentence without its full stop, and what to do about it."""

    sentence: str
    remedy: str


@dataclass(frozen=True)
class Failure:
    """An exception with what is known of where it was raised."""

    error: BaseException
    job: Job | None = None
    files: Sequence[str] = ()
    """The user's own files."""
    line: str = ""
    """The user's line that raised it."""
    text: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", " ".join(str(self.error).split()))

    @property
    def code(self) -> str:
        """What the user edits: the cell, the function or the script."""
        entry = self.job.snapshot.entry if self.job is not None else "cell.py"
        if entry.endswith(".pkl"):
            return "the function"
        return "the cell" if entry == "cell.py" else entry

    @property
    def resume(self) -> str:
        """The command that goes on with the run, in quotes."""
        return f"'%aiaas resume {self.job.run_id}'" if self.job is not None else "'%aiaas resume'"

    @property
    def smaller_batch(self) -> str:
        """How to go on with half the batch, as far as the batch is a parameter of the run."""
        params = self.job.params if self.job is not None else {}
        for name, value in params.items():
            if "batch" in name.lower() and type(value) is int and value > 1:
                command = self.resume.strip("'")
                return f"Go on with half the batch: '{command} --param {name}={value // 2}'."
        return (
            f"Make the batch or the model smaller in {self.code} and run it again. With the batch "
            "as a parameter (--param batch_size=16, ctx.params.batch_size) a resume can halve it."
        )

    @property
    def by_itself(self) -> str:
        """That a run goes on by itself, to be said of one that does not."""
        return "" if self._retried else "; --retries 2 does so by itself"

    @property
    def or_by_itself(self) -> str:
        """The same as a sentence."""
        going = " With --retries 2 a run goes on by itself from the last ctx.checkpoint()."
        return "" if self._retried else going

    @property
    def _retried(self) -> bool:
        return self.job is not None and self.job.retries > 0


Recogniser = Callable[[Failure], Cause | None]


def diagnose(failure: Failure, among: Sequence[Recogniser]) -> Cause | None:
    """What the first recogniser that knows the failure says of it."""
    for recognise in among:
        cause = recognise(failure)
        if cause is not None:
            return cause
    return None


def pattern(text: str, sentence: str, remedy: str) -> Recogniser:
    """Knows a failure by its text. `{1}` … are the pattern's groups, the others
    properties of `Failure`."""
    expression = re.compile(text, re.IGNORECASE)

    def recognise(failure: Failure) -> Cause | None:
        found = expression.search(failure.text)
        if found is None:
            return None
        groups = [found.group(0), *(group or "" for group in found.groups())]
        names = {
            "code": failure.code,
            "resume": failure.resume,
            "smaller_batch": failure.smaller_batch,
            "by_itself": failure.by_itself,
            "or_by_itself": failure.or_by_itself,
        }
        return Cause(sentence.format(*groups, **names), remedy.format(*groups, **names))

    return recognise
