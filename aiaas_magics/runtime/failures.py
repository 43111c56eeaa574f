"""What a user is told when their training code fails: a sentence, a remedy, their own line."""

from __future__ import annotations

import linecache
import time
import traceback
from collections.abc import Sequence

from aiaas_hub.schemas.errors import AiaasError
from aiaas_hub.schemas.runs import RunError

_MAX_MESSAGE = 500
_MAX_TRACEBACK = 20_000


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
    def of(cls, error: BaseException, rank: int, user_files: Sequence[str]) -> TrainingFailed:
        secondary = any(
            type(cause).__module__.startswith("torch.distributed") or "gloo" in str(cause).lower()
            for cause in _causes(error)
        )
        described = describe(error, user_files).model_dump_json()
        return cls(described, rank, time.time(), secondary)


def describe(error: BaseException, user_files: Sequence[str]) -> RunError:
    """What to show for an exception of the user's code whose files are `user_files`."""
    frames = user_frames(error, user_files)
    if isinstance(error, AiaasError):
        return RunError(message=error.message, remedy=error.remedy, traceback=_render(frames))
    said = "".join(traceback.format_exception_only(error)).strip()
    message = said.splitlines()[-1] if isinstance(error, SyntaxError) else said
    where = ""
    if isinstance(error, SyntaxError):
        where = f" at {error.filename}, line {error.lineno}"
        text = (error.text or "").rstrip("\n")
        frames = [traceback.FrameSummary(error.filename or "", error.lineno or 0, "", line=text)]
    elif frames:
        where = f" at {frames[0].filename}, line {frames[0].lineno}"
    return RunError(
        message=_shorten(f"Training failed{where}: {message}"),
        remedy=_remedy(error),
        traceback=f"{_render(frames)}{said}"[-_MAX_TRACEBACK:],
    )


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


def _remedy(error: BaseException) -> str:
    if isinstance(error, SyntaxError | NameError):
        return "Correct this line of the cell and run the cell again."
    if isinstance(error, ModuleNotFoundError):
        return (
            f"Install {error.name!r} where runs execute, or write the cell without it, then run "
            "the cell again."
        )
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return "Run the cell again with a smaller batch, for example --param batch_size=16."
    return "Correct the cell and run it again."


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
