"""What a user is told when their training code fails: a sentence, a remedy, their own line."""

from __future__ import annotations

import linecache
import re
import sys
import time
import traceback
from collections.abc import Mapping, Sequence

from aiaas_hub.schemas.errors import AiaasError
from aiaas_hub.schemas.jobs import Job
from aiaas_hub.schemas.runs import RunError
from aiaas_magics.runtime.diagnosis import Failure, diagnose
from aiaas_magics.runtime.recognisers import CERTAIN_DEATHS, DEATHS, LAST_WORDS, RECOGNISERS

_MAX_MESSAGE = 500
_MAX_TRACEBACK = 20_000
_COLLECTIVE = re.compile(r"gloo|nccl|connection closed by peer", re.IGNORECASE)


class TrainingFailed(Exception):
    """Travels from a worker to the driver, so it holds nothing but text and numbers."""

    def __init__(self, error_json: str, rank: int, at: float, secondary: bool) -> None:
        super().__init__(error_json, rank, at, secondary)
        self.error_json = error_json
        self.rank = rank
        self.at = at
        self.secondary = secondary
        """It failed because another worker went away, so the cause is elsewhere."""

    @property
    def error(self) -> RunError:
        return RunError.model_validate_json(self.error_json)

    def __str__(self) -> str:
        # Ray logs it several times; the worker has logged the whole of it once.
        return self.error.message

    @classmethod
    def of(
        cls, error: BaseException, rank: int, user_files: Sequence[str], job: Job | None = None
    ) -> TrainingFailed:
        secondary = any(
            type(cause).__module__.startswith("torch.distributed")
            or type(cause).__name__.startswith("Dist")
            or _COLLECTIVE.search(str(cause))
            for cause in _causes(error)
        )
        described = describe(error, user_files, job).model_dump_json()
        return cls(described, rank, time.time(), secondary)


def log(error: RunError, who: str = "") -> None:
    """Write it down where the run's user looks; `who` begins the sentence."""
    said = f"{who}{error.message.rstrip('.')}. {error.remedy}"
    print(f"{error.traceback.rstrip()}\n[aiaas] {said}", file=sys.stderr)  # noqa: T201 - the run's log


def describe(error: BaseException, user_files: Sequence[str], job: Job | None = None) -> RunError:
    """What to show for an exception of the user's code whose files are `user_files`.

    With the `job` the remedy is a command that names the run and its parameters.
    """
    frames = user_frames(error, user_files)
    if isinstance(error, AiaasError):
        return _error(error.message, error.remedy, _render(frames))
    said = "".join(traceback.format_exception_only(error)).strip()
    if isinstance(error, SyntaxError):
        return _syntax_error(error, said, job)
    line = (frames[0].line or "") if frames else ""
    where = f" at {frames[0].filename}, line {frames[0].lineno}" if frames else ""
    sentence, remedy = said, "Correct the code and run it again."
    # What the user raised comes first; what they caught before may still be the one we know.
    for cause in _causes(error):
        known = diagnose(Failure(cause, job, tuple(user_files), line), RECOGNISERS)
        if known is not None:
            sentence, remedy = known.sentence, known.remedy
            break
    message = _shorten(f"{_what(job)} failed{where}: {sentence}")
    return _error(message, remedy, f"{_render(frames)}{said}")


def _what(job: Job | None) -> str:
    return "The transform" if job is not None and job.transform is not None else "Training"


def _syntax_error(error: SyntaxError, said: str, job: Job | None) -> RunError:
    where = f"{error.filename}, line {error.lineno}"
    text = (error.text or "").rstrip("\n")
    frame = traceback.FrameSummary(error.filename or "", error.lineno or 0, "", line=text)
    return _error(
        _shorten(f"{_what(job)} failed at {where}: {said.splitlines()[-1]}"),
        "Correct this line and run it again.",
        f"{_render([frame])}{said}",
    )


def explain(error: BaseException, job: Job | None = None, log: str = "") -> RunError:
    """Why a run failed, from whatever the engine wrapped it in, and from the end of its log where
    a worker could not say it in another way."""
    failures = worker_failures(error)
    told = [failure for failure in failures.values() if isinstance(failure, TrainingFailed)]
    own = [failure for failure in told if not failure.secondary]
    dead = {rank: f for rank, f in failures.items() if not isinstance(f, TrainingFailed)}
    # A worker that lost its peer fails as well; what came first and of itself is the cause.
    if own or (told and not dead):
        return min(own or told, key=lambda failure: failure.at).error
    if dead:
        return _died(dead, job, log)
    known = diagnose(Failure(error, job), (*CERTAIN_DEATHS, *DEATHS))
    return _error(
        f"The run failed in Ray: {known.sentence if known else _last_line(error)}",
        known.remedy if known else "Submit the run again; its log has the details.",
        "".join(traceback.format_exception_only(error)).strip(),
    )


def _error(message: str, remedy: str, trace: str) -> RunError:
    """Of text that need not be valid: an exception may quote half of a surrogate pair, which no
    record can hold."""
    valid = [text.encode(errors="backslashreplace").decode() for text in (message, remedy, trace)]
    return RunError(message=valid[0], remedy=valid[1], traceback=valid[2][-_MAX_TRACEBACK:])


def worker_failures(error: BaseException) -> Mapping[int, BaseException]:
    """Rank → what Ray Train says of that worker."""
    failures = getattr(error, "worker_failures", None) or {}
    # Ray Train v2 keeps a user's exception inside one that holds its traceback as text.
    return {rank: getattr(failure, "_base_exc", failure) for rank, failure in failures.items()}


def _died(dead: Mapping[int, BaseException], job: Job | None, log: str) -> RunError:
    known = None
    for rank, death in sorted(dead.items()):
        failure = Failure(death, job)
        words = Failure(RuntimeError(_words_of(rank, log, job)), job)
        known = diagnose(failure, CERTAIN_DEATHS) or diagnose(words, LAST_WORDS)
        if known is not None:
            break
    else:
        rank, death = min(dead.items())
        failure = Failure(death, job)
        known = diagnose(failure, DEATHS)
    return _error(
        f"Worker {rank} died: {known.sentence if known else _last_line(death)}",
        known.remedy
        if known
        else f"Read the log for its last words; {failure.resume} goes on from the last checkpoint, "
        "as --retries 2 does by itself.",
        str(death),
    )


def _words_of(rank: int, log: str, job: Job | None) -> str:
    """A worker's own lines: it is named by the log, or, if it was on another node, by torch."""
    if job is None or job.resources.workers == 1:
        return log
    own = re.compile(rf"^\[{rank}\] |\[rank{rank}\]:|\bRank {rank}\]")
    return "\n".join(line for line in log.splitlines() if own.search(line))


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:300] if lines else type(error).__name__


def user_frames(error: BaseException, user_files: Sequence[str]) -> list[traceback.FrameSummary]:
    """Frames of the user's own files, the one that raised first."""
    found = [
        frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename in user_files
    ]
    return found[::-1]


def remember_source(filename: str, source: str) -> None:
    """Let tracebacks show lines of code that is in no file of this name."""
    lines = source.splitlines(keepends=True)
    # A None mtime keeps linecache from looking for the file.
    linecache.cache[filename] = (len(source), None, lines, filename)


def _render(frames: Sequence[traceback.FrameSummary]) -> str:
    lines = []
    for frame in frames:
        name = f", in {frame.name}" if frame.name else ""
        lines.append(f"{frame.filename}, line {frame.lineno}{name}\n    {frame.line or ''}\n")
    return "".join(lines)


def _causes(error: BaseException) -> list[BaseException]:
    chain: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in chain:
        chain.append(current)
        current = current.__cause__ or current.__context__
    return chain


def _shorten(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _MAX_MESSAGE else f"{line[: _MAX_MESSAGE - 1]}…"
