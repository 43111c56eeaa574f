"""The table of failures that are known, and of what engines say of workers that died."""

from __future__ import annotations

import difflib
import errno
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType

from aiaas_magics.runtime.diagnosis import Cause, Failure, Recogniser, pattern
from aiaas_magics.runtime.tensor_failures import AUTOGRAD, DEVICES, SHAPES, TYPES

_MAX_NAMES = 12

# Modules that are not called like the package that brings them.
_PACKAGES = {
    "PIL": "pillow",
    "bs4": "beautifulsoup4",
    "cv2": "opencv-python-headless",
    "dateutil": "python-dateutil",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}


def _out_of_memory(failure: Failure) -> Cause | None:
    error = failure.error
    if type(error).__name__ == "OutOfMemoryError" and "low on memory" not in failure.text:
        asked = re.search(r"Tried to allocate ([\d.]+ \w+)", failure.text)
        more = f" as it asked for {asked.group(1)} more" if asked else ""
        return Cause(f"the GPU's memory is full{more}", failure.smaller_batch)
    asked = re.search(r"allocate memory: you tried to allocate (\d+) bytes", failure.text)
    if asked is not None:
        gib = int(asked.group(1)) / 2**30
        return Cause(
            f"the worker's memory does not hold the {gib:,.1f} GiB that a tensor asked for",
            failure.smaller_batch,
        )
    if isinstance(error, MemoryError):
        return Cause(
            f"the worker's memory is full{f' ({failure.text})' if failure.text else ''}",
            failure.smaller_batch,
        )
    return None


def _missing_module(failure: Failure) -> Cause | None:
    error = failure.error
    if not isinstance(error, ImportError):
        return None
    name = error.name or ""
    top = name.partition(".")[0]
    if any(top in (Path(file).stem, Path(file).parent.name) for file in failure.files):
        return Cause(
            f"{failure.text} among the files that came with the run",
            "Correct the import, or put the missing file beside the others and run it again: the "
            "run takes the files that lie there when it is submitted.",
        )
    if not isinstance(error, ModuleNotFoundError):
        return Cause(
            failure.text,
            f"Correct the import in {failure.code}, or ask the operator which version of "
            f"{top or 'the package'} the workers have.",
        )
    package = _PACKAGES.get(top, top)
    return Cause(
        f"the workers have no module {name!r}",
        f"If {top}.py is your own, save it beside the notebook and run it again; if it is a "
        f"package, ask the operator to install {package!r} where runs execute.",
    )


def _missing_column(failure: Failure) -> Cause | None:
    error = failure.error
    if isinstance(error, KeyError) and error.args:
        key = error.args[0]
    elif isinstance(error, AttributeError) and isinstance(error.name, str):
        key = error.name
    else:
        return None
    found = _asked_of(failure, key)
    if found is None:
        return None
    what, names = found
    listed = ", ".join(names[:_MAX_NAMES]) + (", …" if len(names) > _MAX_NAMES else "")
    wanted = re.sub(r"^\[?'?|'?\]? not (in index|found in axis)$", "", str(key)).strip("[]'")
    near = difflib.get_close_matches(wanted, names, n=1, cutoff=0.6)
    meant = f"Write {near[0]!r} if that is meant" if near else "Write one of these names"
    look = ""
    if what == "column" and failure.job is not None and failure.job.datasets:
        dataset = failure.job.datasets[0]
        look = f"; '%aiaas preview {dataset.owner}/{dataset.name}' shows the data"
    return Cause(f"there is no {what} {wanted!r}; there are: {listed or 'none'}", f"{meant}{look}.")


def _asked_of(failure: Failure, key: object) -> tuple[str, list[str]] | None:
    """What the missing key was asked of, `column` or `key`, and the names that it has."""
    frames = list(_frames(failure.error))
    for frame in reversed(frames):
        table = frame.f_locals.get("self")
        if type(table).__name__ == "DataFrame":
            return "column", [str(name) for name in table.columns]  # type: ignore[union-attr]  # a DataFrame's
    if not isinstance(failure.error, KeyError) or not frames:
        return None
    for name, value in frames[-1].f_locals.items():
        named = re.search(rf"\b{re.escape(name)}\b", failure.line)
        if named and isinstance(value, Mapping) and key not in value:
            return "key", [str(known) for known in list(value)[: _MAX_NAMES + 1]]
    return None


def _frames(error: BaseException) -> Iterator[FrameType]:
    """From the outermost call to the one that raised."""
    here = error.__traceback__
    while here is not None:
        yield here.tb_frame
        here = here.tb_next


def _missing_file(failure: Failure) -> Cause | None:
    error = failure.error
    if not isinstance(error, FileNotFoundError) or not error.filename:
        return None
    return Cause(
        f"there is no file {str(error.filename)!r} on the worker, which does not see the "
        "notebook's disk",
        "Register it with '%aiaas register NAME PATH', submit with '--dataset NAME', and read it "
        "with ctx.dataset('NAME').",
    )


def _disk_full(failure: Failure) -> Cause | None:
    error = failure.error
    if not isinstance(error, OSError) or error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return None
    return Cause(
        "the worker's disk is full",
        f"Write less or fewer checkpoints, or ask the operator for room; then {failure.resume} "
        "goes on from the last checkpoint.",
    )


def _assertion(failure: Failure) -> Cause | None:
    # Torch says with this class that it was built without CUDA.
    if not isinstance(failure.error, AssertionError) or "CUDA" in failure.text:
        return None
    said = failure.text or failure.line.strip()
    return Cause(
        f"an assertion does not hold{f': {said}' if said else ''}",
        f"Print the values before this line, correct {failure.code} and run it again.",
    )


def _undefined_name(failure: Failure) -> Cause | None:
    if not isinstance(failure.error, NameError):
        return None
    name = getattr(failure.error, "name", None) or "it"
    return Cause(
        failure.text,
        f"Define or import {name} in {failure.code} and run it again.",
    )


def _exit(failure: Failure) -> Cause | None:
    if not isinstance(failure.error, SystemExit):
        return None
    return Cause(
        f"the code called exit with {failure.error.code!r}",
        "Return from train(ctx) to end a run with success, and raise an exception to fail it.",
    )


_SAME_STEPS = (
    "Every worker must take the same steps: give each the same number of batches, and call "
    "ctx.report(), ctx.checkpoint() and ctx.save_model() on all of them. Then {resume}."
)

_PEERS = (
    pattern(
        r"DataLoader worker .*(?:exited unexpectedly|killed by signal)",
        "a process that loads data was killed, most often for lack of memory",
        "Load data with num_workers=0, or with fewer workers. {smaller_batch}",
    ),
    pattern(
        r"(?:gloo|nccl|store|barrier|collective).*tim(?:ed|e) ?out|tim(?:ed|e) ?out.*"
        r"(?:gloo|nccl|store|barrier|collective)",
        "a worker waited for the others until the time was up",
        _SAME_STEPS,
    ),
    pattern(
        r"connection closed by peer|connection reset by peer|connection was (?:likely )?closed"
        r"|nccl(?:Remote|System)Error|NCCL.*(?:remote|system) error|broken pipe",
        "a worker lost the line to another one, which most likely died",
        "The log says which one went first; {resume} goes on from the last checkpoint.",
    ),
)

_OTHERS = (
    pattern(
        r"cannot pickle '(.+?)' object",
        "an object of type {1} cannot be sent to another process",
        "Create it inside train(ctx), or load data with num_workers=0.",
    ),
    pattern(
        r"Can't (?:pickle|get) local object '?(.+?)'?$",
        "{1} is defined inside a function and cannot be sent to another process",
        "Define it at the top of {code}, or load data with num_workers=0.",
    ),
    pattern(
        r"Name or service not known|Temporary failure in name resolution|Network is unreachable"
        r"|Max retries exceeded",
        "the worker does not reach an address outside",
        "Register the data or the weights as a dataset, which workers always reach.",
    ),
)

RECOGNISERS: tuple[Recogniser, ...] = (
    _out_of_memory,
    _missing_module,
    _missing_column,
    _missing_file,
    _disk_full,
    _undefined_name,
    _exit,
    *SHAPES,
    *TYPES,
    *DEVICES,
    *AUTOGRAD,
    *_PEERS,
    *_OTHERS,
    _assertion,
)

_CRASH = "Run it once with one worker and num_workers=0; the log's last lines say which library."

CERTAIN_DEATHS: tuple[Recogniser, ...] = (
    pattern(
        r"low on memory|memory monitor|OOMKilled|exit code 137",
        "it used more memory than its machine has left, and was stopped before the machine was",
        "{smaller_batch}",
    ),
    pattern(
        r"node (?:\S+ )?(?:has )?died|node .*(?:was|is) (?:dead|terminated|drained|preempted)"
        r"|node failure",
        "its machine went away",
        "{resume} goes on from the last checkpoint{by_itself}.",
    ),
)
"""What the engine knows of a worker that could not say anything itself."""

LAST_WORDS: tuple[Recogniser, ...] = (
    pattern(
        # torch/csrc/distributed/c10d/ProcessGroupNCCL.cpp, WorkNCCL::checkTimeout.
        r"Watchdog caught collective operation timeout: WorkNCCL\(.*?OpType=_?(\w+),"
        r".*?Timeout\(ms\)=(\d+)000\)",
        "it waited {2} s for the others in {1}, until the time was up",
        _SAME_STEPS,
    ),
    pattern(
        # Ray's own handler of signals, and Python's.
        r"\*\*\* SIG(?:SEGV|BUS|ILL|FPE) received|Fatal Python error: (?:Segmentation|Bus error)",
        "it crashed in compiled code",
        _CRASH,
    ),
)
"""What a worker has logged before it died; the engine says of all that it may have been killed."""

DEATHS: tuple[Recogniser, ...] = (
    pattern(
        r"OOM killer|SIGKILL|exit code -9|connection error code 2|signal 9",
        # Ray says the same of a kill, a crash and an exit.
        "its process ended without a word; most often the kernel killed it for lack of memory",
        "{smaller_batch}{or_by_itself}",
    ),
    pattern(
        # As text: Ray wraps what its own writing of checkpoints raises.
        r"No space left on device|Disk quota exceeded",
        "the platform's disk is full",
        "Write less or fewer checkpoints, or ask the operator for room; then {resume} goes on from "
        "the last checkpoint.",
    ),
    pattern(
        r"SIGSEGV|segmentation fault",
        "it crashed in compiled code",
        _CRASH,
    ),
)
"""What the engine guesses."""
