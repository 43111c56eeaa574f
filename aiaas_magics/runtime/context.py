"""`ctx`: what a training function gets from the platform."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from aiaas_hub.schemas.datasets import parse_dataset_reference
from aiaas_hub.schemas.errors import InvalidInput
from aiaas_hub.schemas.jobs import Job
from aiaas_hub.schemas.models import ModelHandOver
from aiaas_hub.schemas.runs import Progress
from aiaas_magics.errors import invalid
from aiaas_magics.model_card import card
from aiaas_magics.runtime import checkpoints, stopping
from aiaas_magics.runtime.cache import fetch
from aiaas_magics.runtime.datasets import RunDataset
from aiaas_magics.runtime.early_stopping import EarlyStopping
from aiaas_magics.runtime.event_files import EventFiles
from aiaas_magics.runtime.metrics import number
from aiaas_magics.runtime.parallel import Parallel, Precision, Strategy
from aiaas_magics.runtime.params import Params

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from torch import nn

    from aiaas_magics.runtime.surroundings import MetricSink, RunService, Surroundings

_current: Context | None = None


class _Reason(IntEnum):
    """Why to stop, as workers tell each other; of several the largest."""

    ASKED = 1
    LATE = 2
    EARLY = 3


class Context:
    """One worker's view of the run. Made by the runtime, passed to `train(ctx)`.

    Attributes:
        params: the run's parameters, a mapping that also has them as attributes.
        rank: this worker's number, from 0.
        world_size: how many workers there are.
        device: the `torch.device` this worker trains on.
    """

    def __init__(
        self,
        job: Job,
        api: RunService,
        sender: MetricSink | None,
        surroundings: Surroundings | None = None,
    ) -> None:
        if surroundings is None:
            from aiaas_magics.runtime.ray_surroundings import RaySurroundings

            surroundings = RaySurroundings()
        self.params = Params(job.params)
        self.rank: int = surroundings.rank
        self.world_size: int = surroundings.world_size
        self.device: torch.device = surroundings.device
        self._surroundings = surroundings
        self._job = job
        self._api = api
        self._sender = sender
        self._step = 0
        self._parallel = Parallel(self.world_size, self.rank, self.device)
        self._early = EarlyStopping(job.early_stop) if job.early_stop else None
        left = job.time_limit if job.time_left is None else job.time_left
        self._ends = None if left is None else time.monotonic() + left
        self._stopping = False
        self._event_files = EventFiles(api, self.rank)

    def __repr__(self) -> str:
        return (
            f"<ctx of {self._job.run_id}: worker {self.rank} of {self.world_size} on {self.device}>"
        )

    def dataset(self, name: str | None = None) -> RunDataset:
        """One of the run's datasets; the name may be left out when there is one.

        Raises `InvalidInput` if the run has no dataset of this name.
        """
        pinned = self._job.datasets
        names = ", ".join(str(dataset) for dataset in pinned) or "none"
        if name is None:
            if len(pinned) != 1:
                raise InvalidInput(
                    f"ctx.dataset() needs a name here; the run's datasets are: {names}.",
                    remedy="Write ctx.dataset('name')."
                    if pinned
                    else "Add `--dataset NAME` to the %%aiaas train line.",
                )
            index = 0
        else:
            wanted = parse_dataset_reference(name)
            found = [
                position
                for position, dataset in enumerate(pinned)
                if dataset.name == wanted.name
                and wanted.owner in (None, dataset.owner)
                # A tag meant a version when the run was submitted, which is the one it has.
                and (isinstance(wanted.version, str) or wanted.version in (None, dataset.version))
            ]
            if len(found) != 1:
                raise InvalidInput(
                    f"{name!r} is not exactly one of the run's datasets: {names}.",
                    remedy=f"Add `--dataset {name}` to the %%aiaas train line."
                    if not found
                    else "Write owner/name@version.",
                )
            index = found[0]
        digest = self._job.dataset_digests[index] if self._job.dataset_digests else ""
        # Without a content hash the file may be shared among this run's workers only.
        key = digest or f"{self._job.run_id}/{index}"
        path = fetch(key, lambda target: self._api.download_dataset(index, target))
        return RunDataset(str(pinned[index]), path, self.rank, self.world_size)

    def prepare(
        self,
        model: nn.Module,
        strategy: Strategy = "ddp",
        precision: Precision | None = None,
    ) -> nn.Module:
        """Move the model to this worker's device and join it with the other workers' copies.

        With `strategy="fsdp"` each worker keeps a part of every weight instead of a copy, and
        the model itself is changed and returned; make the optimizer afterwards. `precision` is
        what `ctx.autocast()` computes in; the weights stay float32. It counts for the run, as
        the last call gave it. Raises `InvalidInput` for any other value.
        """
        return self._parallel.prepare(model, strategy, precision)

    def autocast(self) -> AbstractContextManager[Any]:
        """`with ctx.autocast():` around forward and loss, in the precision of `ctx.prepare`.

        Does nothing without one.
        """
        return self._parallel.autocast()

    def backward(self, loss: torch.Tensor) -> None:
        """`loss.backward()`, scaled as float16 and `ctx.accumulate` need it.

        `loss` has one element, the mean over the batch's rows.
        """
        self._parallel.backward(loss)

    def step(self, optimizer: torch.optim.Optimizer, max_norm: float | None = None) -> None:
        """`optimizer.step()` and `zero_grad()`, after `ctx.backward`.

        Gradients are clipped to the norm `max_norm` first, if it is given. In float16 a step
        whose gradients overflowed is left out.
        """
        self._parallel.step(optimizer, max_norm)

    def accumulate(self, model: nn.Module, step: int, every: int) -> AbstractContextManager[bool]:
        """Sum up gradients over `every` batches; `step` counts batches from 1.

            with ctx.accumulate(model, step, every=4) as last:
                ctx.backward(loss(model(x), y))
                if last:
                    ctx.step(optimizer)

        True in the last batch of each group. Before it workers do not exchange gradients, and
        `ctx.backward` divides by `every`. Raises `InvalidInput` if `every` is below 1.
        """
        return self._parallel.accumulate(model, step, every)

    def report(self, step: int | None = None, **metrics: Any) -> None:
        """Send metrics; cheap enough for every step. Worker 0's values are the run's.

        Without `step` the calls are counted. Values are numbers or tensors with one element.
        """
        self._step = self._step + 1 if step is None else int(step)
        values = {name: number(name, value) for name, value in metrics.items()}
        if self._early is not None:
            self._early.observe(values)
        if self._sender is not None and values:
            try:
                self._sender.put(self._step, values)
            except ValidationError as error:
                raise invalid(error) from error

    def progress(self, step: int, total: int | None = None) -> None:
        """Say how far the run is: `step` of `total` steps of whatever kind. Worker 0's counts."""
        if self._sender is not None:
            try:
                self._sender.progress(Progress(step=step, total=total))
            except ValidationError as error:
                raise invalid(error) from error

    @property
    def should_stop(self) -> bool:
        """Whether to save and return now: the run's early stop, its time limit, a cancel.

        Every worker asks, equally often, and all get the same answer; once true it stays true.
        """
        reason = self._reason_to_stop()
        if self.world_size > 1 and not self._stopping:
            reason = self._anyones(reason)
        if reason is not None and not self._stopping:
            self._stopping = True
            if self.rank == 0:
                said = self._in_words(reason)
                print(f"[aiaas] stopping: {said}", flush=True)  # noqa: T201 - the run's log
        return self._stopping

    def _conclude(self) -> None:
        """What the user's code has run to its end without."""
        if self._early is not None and self.rank == 0 and self._early.in_vain:
            print(f"[aiaas] {self._early.in_vain}", flush=True)  # noqa: T201 - the run's log

    @property
    def tensorboard_dir(self) -> Path:
        """An empty directory of this worker's own: what is in it when the code has ended, however
        it did, is kept with the run, and `run.to_tensorboard` brings it."""
        return self._event_files.directory

    def checkpoint(self, **state: Any) -> None:
        """Save state to go on from after a failure; every worker calls it, worker 0's is kept.

        Modules and optimizers are saved as their state dicts, other values as they are.
        """
        if not state:
            raise InvalidInput(
                "ctx.checkpoint() was called with nothing to save.",
                remedy="Write ctx.checkpoint(model=model, optimizer=optimizer, epoch=epoch).",
            )
        plain = {name: self._parallel.state_of(value) for name, value in state.items()}
        metrics = {"step": self._step}
        if self.rank != 0:
            self._surroundings.report(metrics, None)
            return
        if self._sender is not None:
            # What lies before a checkpoint is not reported again by who goes on from it.
            self._sender.flush()
        with tempfile.TemporaryDirectory(prefix="aiaas-checkpoint-") as directory:
            checkpoints.write(Path(directory), plain)
            self._surroundings.report(metrics, Path(directory))

    def restore(self, **into: Any) -> dict[str, Any] | None:
        """The state of the last checkpoint of this run, on the CPU, or None at the first start.

        Objects given by their names of `ctx.checkpoint` take their part of it, in place:
        `state = ctx.restore(model=model, optimizer=optimizer)`. Sharded models and their
        optimizers need it so. Raises `InvalidInput` if the checkpoint has no such part.
        """
        with self._surroundings.last_checkpoint() as directory:
            if directory is None:
                return None
            state = checkpoints.read(directory)
        for name, target in into.items():
            if name not in state:
                raise InvalidInput(
                    f"The last checkpoint has no {name!r}; it has: {', '.join(state)}.",
                    remedy=f"Save it: ctx.checkpoint({name}={name}, …).",
                )
            self._parallel.load(target, state[name])
        return state

    def whole(self, model: nn.Module) -> nn.Module:
        """The module as it was before `ctx.prepare`, with the weights of now.

        Every worker calls it. Of a sharded model worker 0 gets a copy on the CPU and the others
        one without values.
        """
        return self._parallel.whole(model)

    def save_model(
        self,
        model: Any,
        example_input: Any = None,
        eval_input: Any = None,
        labels: Sequence[str] | None = None,
        *,
        tokenizer: Any = None,
        max_length: int | None = None,
        processor: Any = None,
        description: str | None = None,
        licence: str | None = None,
        metrics: Mapping[str, float] | None = None,
    ) -> None:
        """Make `model` the run's model: exported to ONNX, checked, handed to the platform.

        Every worker may call it; worker 0's model counts. `model` is a torch module, a
        TorchScript one too, a Keras 3 model on torch or TensorFlow, a `tf.Module` or `tf.function`,
        a fitted scikit-learn estimator, or ONNX itself, a `ModelProto`; or the path of a file with
        ONNX or TorchScript. `example_input` is
        what the model takes: a tensor or array with a leading batch dimension, a tuple of them,
        or a dict by input name; for an estimator also a DataFrame. `eval_input`, of the same
        form, holds the rows that publishing compares outputs on. `labels` are the class names of
        the first output's last axis.

        With `tokenizer`, a fast one of transformers, the endpoint takes texts, cut beyond
        `max_length` tokens, or, of a causal language model of transformers, goes on with them, and
        `max_length` counts what it adds too; with `processor`, as `aiaas.publish` has it, images.
        The model takes what either makes, and the inputs here are lists of texts or images.
        `description`, `licence` and `metrics` stand on the model's card; metrics that the run
        reports do so anyway.

        Raises `InvalidInput` if the model cannot be exported, does not load or answers
        differently afterwards; nothing is handed over then.
        """
        from aiaas_magics.runtime.sources import export

        said = card(description, licence, metrics)
        source = self._parallel.whole(model) if _is_module(model) else model
        if self.rank != 0:
            return
        with tempfile.TemporaryDirectory(prefix="aiaas-model-") as directory:
            exported = export(
                source,
                example_input,
                eval_input,
                labels,
                tokenizer=tokenizer,
                max_length=max_length,
                processor=processor,
                directory=Path(directory),
            )
            version = self._api.hand_over(
                ModelHandOver(
                    onnx=self._api.upload(exported.onnx_path).digest,
                    evaluation=self._api.upload(exported.evaluation_path).digest,
                    signature=exported.signature,
                    export_max_abs=exported.export_max_abs,
                    framework=exported.framework,
                    card=said,
                )
            )
        print(  # noqa: T201 - the run's log
            f"[aiaas] saved {version.owner}/{version.name}@{version.version}; it differs from "
            f"the trained model by at most {exported.export_max_abs:.1e}",
            flush=True,
        )

    def _reason_to_stop(self) -> _Reason | None:
        if stopping.asked():
            return _Reason.ASKED
        if self._ends is not None and time.monotonic() >= self._ends:
            return _Reason.LATE
        early = self._early if self.rank == 0 else None
        return _Reason.EARLY if early is not None and early.reason is not None else None

    def _anyones(self, mine: _Reason | None) -> _Reason | None:
        """Any worker's reason, the same on all of them: their clocks do not strike together."""
        import torch
        import torch.distributed as dist

        flag = torch.tensor([mine or 0], device=self.device)
        dist.all_reduce(flag, op=dist.ReduceOp.MAX)
        return _Reason(int(flag.item())) if flag.item() else None

    def _in_words(self, reason: _Reason) -> str:
        """On worker 0, which alone knows of an early stop."""
        if reason is _Reason.ASKED:
            return "the run was asked to"
        if reason is _Reason.LATE:
            return f"the time limit of {self._job.time_limit:g} s is over"
        assert self._early is not None  # noqa: S101 - `_reason_to_stop` asked it
        return str(self._early.reason)


def current() -> Context:
    """The context of the run whose worker this is: for scripts, which no one passes it to.

    Raises `InvalidInput` outside a run.
    """
    if _current is None:
        raise InvalidInput(
            "There is no run here: this code runs by itself.",
            remedy="Submit it with '%aiaas train SCRIPT.py --name NAME'.",
        )
    return _current


@contextmanager
def entered(context: Context) -> Iterator[Context]:
    """Make it the one that `current` gives, meanwhile."""
    global _current
    former, _current = _current, context
    try:
        yield context
        context._conclude()
    finally:
        _current = former
        context._event_files.keep()


def _is_module(model: Any) -> bool:
    from torch import nn

    return isinstance(model, nn.Module)
