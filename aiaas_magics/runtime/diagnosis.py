"""What went wrong in training code, in a sentence, and the next thing to type.

A table of small recognisers: each knows one kind of failure by its exception's class and text,
and says nothing of any other. The texts are those of torch 2, numpy 2, pandas 2 and Ray 2; the
tests raise the real exceptions, so that a library that rewords one is noticed.
"""

from __future__ import annotations

import difflib
import errno
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from aiaas_hub.schemas.runs import Job

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


Recogniser = Callable[[Failure], Cause | None]


def diagnose(failure: Failure, among: Sequence[Recogniser]) -> Cause | None:
    """What the first recogniser that knows the failure says of it."""
    for recognise in among:
        cause = recognise(failure)
        if cause is not None:
            return cause
    return None


def _pattern(text: str, sentence: str, remedy: str) -> Recogniser:
    """Knows a failure by its text. `{1}` … are the pattern's groups, `{code}`, `{resume}` and
    `{smaller_batch}` those of `Failure`."""
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
        }
        return Cause(sentence.format(*groups, **names), remedy.format(*groups, **names))

    return recognise


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
            return "column", [str(name) for name in table.columns]  # type: ignore[union-attr]
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


_SHAPES = (
    _pattern(
        r"mat1 and mat2 shapes cannot be multiplied \((\d+)x(\d+) and (\d+)x(\d+)\)",
        "shapes do not fit: the layer takes {3} features and its input of {1}x{2} has {2}",
        "Make the layer nn.Linear({2}, {4}), or reshape its input to {3} features.",
    ),
    _pattern(
        r"expected input(\[.*?\]) to have (\d+) channels, but got (\d+) channels",
        "shapes do not fit: the convolution takes {2} channels and its input {1} has {3}",
        "Build the layer for {3} channels, or give it {2}: the order is (batch, channels, …).",
    ),
    _pattern(
        r"Expected (.+?) input to conv(\d)d, but got input of size: (\[.*?\])",
        "shapes do not fit: the convolution takes a {1} input and got {3}",
        "Add the missing dimension, for example x.unsqueeze(1) for one channel.",
    ),
    _pattern(
        r"size of tensor a \((\d+)\) must match the size of tensor b \((\d+)\)"
        r" at non-singleton dimension (\d+)",
        "shapes do not fit: two tensors have {1} and {2} values in dimension {3}",
        "Print both shapes before this line; view or unsqueeze makes them alike.",
    ),
    _pattern(
        r"shape '(\[.*?\])' is invalid for input of size (\d+)",
        "shapes do not fit: {2} values cannot be viewed as {1}",
        "Let torch count one dimension: view(len(x), -1).",
    ),
    _pattern(
        r"Expected input batch_size \((\d+)\) to match target batch_size \((\d+)\)",
        "shapes do not fit: the model's output has {1} rows and the target {2}",
        "Keep the first dimension for the batch in both: view(len(x), -1) does.",
    ),
    _pattern(
        r"Target (-?\d+) is out of bounds",
        "the target has class {1}, which the model's output does not have",
        "Give the last layer one output for each class, and number the classes from 0.",
    ),
    _pattern(
        r"index out of range in self",
        "an embedding was asked for a row that it does not have",
        "Make num_embeddings larger than the largest index of the data.",
    ),
    _pattern(
        r"0D or 1D target tensor expected",
        "shapes do not fit: the target of the loss has a dimension too many",
        "Give class numbers of shape (batch,): target.squeeze(1), or target.argmax(1) for one-hot.",
    ),
    _pattern(
        r"target size \(torch\.Size\((\[.*?\])\)\).*input size \(torch\.Size\((\[.*?\])\)\)",
        "shapes do not fit: the target is {1} and the model's output {2}",
        "Give both the same shape: output.squeeze(1), or target.unsqueeze(1).",
    ),
    _pattern(
        r"running_mean should contain (\d+) elements not (\d+)",
        "shapes do not fit: the batch norm is made for {2} features and its input has {1}",
        "Build the layer for {1} features.",
    ),
    _pattern(
        r"Given normalized_shape=(\[.*?\]).*but got input of size ?(\[.*?\])",
        "shapes do not fit: the layer norm takes {1} and its input is {2}",
        "Build the layer for the last dimension of its input.",
    ),
    _pattern(
        r"input\.size\(-1\) must be equal to input_size\. Expected (\d+), got (\d+)",
        "shapes do not fit: the recurrent layer takes {1} features and its input has {2}",
        "Build the layer with input_size={2}.",
    ),
    _pattern(
        r"stack expects each tensor to be equal size, but got (\[.*?\]).* and (\[.*?\])",
        "shapes do not fit: tensors of {1} and {2} cannot be stacked into a batch",
        "Pad or cut every example to one length.",
    ),
    _pattern(
        r"Sizes of tensors must match except in dimension (\d+)\. Expected size (\d+) but got size "
        r"(\d+)",
        "shapes do not fit: tensors that are joined have {2} and {3} values in a dimension",
        "Print the shapes before this line; only dimension {1} may differ.",
    ),
    _pattern(
        r"Error\(s\) in loading state_dict for (\w+): (.{1,160})",
        "the stored state is not one of this {1}: {2}",
        "Build the model as it was when the checkpoint was made, or train without restoring it.",
    ),
    _pattern(
        r"size mismatch, got input|Expected size for first two dimensions of batch2"
        r"|could not be broadcast|mismatch in its core dimension|inconsistent numbers of samples",
        "shapes do not fit: {0}",
        "Print the shapes before this line and make them alike.",
    ),
    _pattern(
        r"Expected more than 1 value per channel when training",
        "a batch of one row came to a batch norm, which needs two",
        "Drop the last short batch: DataLoader(…, drop_last=True), or choose another batch size.",
    ),
)

_TYPES = (
    _pattern(
        r"mat1 and mat2 must have the same dtype, but got (\w+) and (\w+)"
        r"|Input type \((\w+)\) and (?:bias|weight) type \((\w+)\) should be the same",
        "number types differ: the input is {1}{3} and the layer {2}{4}",
        "Give the layer what it has: x.float() for float32, x.to(model.dtype) for others.",
    ),
    _pattern(
        r"expected (?:target dtype to be|scalar type) (.+?),? but (?:got|found) (\w+)",
        "number types differ: {1} is expected and {2} was given",
        "Class numbers are target.long(), features are x.float().",
    ),
    _pattern(
        r"to have one of the following scalar types: (.+?); but got (torch\.)?(\w+)",
        "number types differ: {1} is expected and {3} was given",
        "Indices are x.long().",
    ),
    _pattern(
        r"Found dtype (\w+) but expected (\w+)",
        "number types differ: {2} is expected and {1} was given",
        "Bring both to one type, for example with .float().",
    ),
    _pattern(
        r"can't convert np\.ndarray of type numpy\.object_|too many dimensions 'str'",
        "a column of texts or lists cannot become a tensor",
        "Encode it as numbers first, or leave the column out.",
    ),
    _pattern(
        r"Input \w+ contains NaN",
        "the data has missing values, which this model does not take",
        "Fill or drop them first: frame.fillna(0), frame.dropna().",
    ),
)

_DEVICES = (
    _pattern(
        r"not compiled with CUDA|Found no NVIDIA driver|No CUDA GPUs are available"
        r"|torch\.cuda\.is_available\(\) is False",
        "the worker has no GPU, and the code asks for one",
        "Write ctx.device instead of 'cuda' (and map_location=ctx.device in torch.load), or submit "
        "with --gpus-per-worker 1.",
    ),
    _pattern(
        r"Expected all tensors to be on the same device",
        "tensors lie on different devices",
        "Move the batch to where the model is: x.to(ctx.device).",
    ),
    _pattern(
        r"device-side assert",
        "an index is out of bounds on the GPU; most often a class number is larger than the model "
        "has outputs",
        "Run it once on the CPU, without --gpus-per-worker: there the message names the value.",
    ),
)

_AUTOGRAD = (
    _pattern(
        r"does not require grad and does not have a grad_fn",
        "the loss does not depend on any trainable weight",
        "Compute the loss outside torch.no_grad(), without .detach() or .item(), from parameters "
        "that require gradients.",
    ),
    _pattern(
        r"backward through the graph a second time",
        "backward() was called twice for the same computation",
        "Compute the loss anew in each step, and .detach() what is carried from step to step.",
    ),
    _pattern(
        r"Expected to have finished reduction in the prior iteration",
        "some of the model's weights take no part in the loss, and workers wait for them",
        "Use every layer in forward(), or leave the unused ones out of the model.",
    ),
    _pattern(
        r"Function '(\w+)Backward\d*' returned nan values",
        "the gradient of {1} is not a number",
        "Keep its input away from where it is undefined (clamp it), or lower the learning rate.",
    ),
)

_PEERS = (
    _pattern(
        r"DataLoader worker .*(?:exited unexpectedly|killed by signal)",
        "a process that loads data was killed, most often for lack of memory",
        "Load data with num_workers=0, or with fewer workers. {smaller_batch}",
    ),
    _pattern(
        r"(?:gloo|nccl|store|barrier|collective).*tim(?:ed|e) ?out|tim(?:ed|e) ?out.*"
        r"(?:gloo|nccl|store|barrier|collective)",
        "a worker waited for the others until the time was up",
        "Every worker must take the same steps: give each the same number of batches, and call "
        "ctx.report(), ctx.checkpoint() and ctx.save_model() on all of them. Then {resume}.",
    ),
    _pattern(
        r"connection closed by peer|connection reset by peer|connection was (?:likely )?closed"
        r"|nccl(?:Remote|System)Error|NCCL.*(?:remote|system) error|broken pipe",
        "a worker lost the line to another one, which most likely died",
        "The log says which one went first; {resume} goes on from the last checkpoint.",
    ),
)

_OTHERS = (
    _pattern(
        r"cannot pickle '(.+?)' object",
        "an object of type {1} cannot be sent to another process",
        "Create it inside train(ctx), or load data with num_workers=0.",
    ),
    _pattern(
        r"Can't (?:pickle|get) local object '?(.+?)'?$",
        "{1} is defined inside a function and cannot be sent to another process",
        "Define it at the top of {code}, or load data with num_workers=0.",
    ),
    _pattern(
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
    *_SHAPES,
    *_TYPES,
    *_DEVICES,
    *_AUTOGRAD,
    *_PEERS,
    *_OTHERS,
    _assertion,
)

DEATHS: tuple[Recogniser, ...] = (
    _pattern(
        r"low on memory|memory monitor|OOMKilled|exit code 137",
        "it used more memory than its machine has left, and was stopped before the machine was",
        "{smaller_batch}",
    ),
    _pattern(
        r"node (?:\S+ )?(?:has )?died|node .*(?:was|is) (?:dead|terminated|drained|preempted)"
        r"|node failure",
        "its machine went away",
        "{resume} goes on from the last checkpoint; --retries 2 does so by itself.",
    ),
    _pattern(
        r"OOM killer|SIGKILL|exit code -9|connection error code 2|signal 9",
        "it was killed from outside, which the kernel does when memory runs out",
        "{smaller_batch} With --retries 2 a run goes on by itself from the last ctx.checkpoint().",
    ),
    _pattern(
        r"SIGSEGV|segmentation fault",
        "it crashed in compiled code",
        "Run it once with one worker and num_workers=0; the log's last lines say which library.",
    ),
)
"""What the engine says of a worker that could not say anything itself."""
