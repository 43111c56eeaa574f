"""`ctx`: what a training function gets from the platform."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ValidationError

from aiaas_hub.schemas.errors import InvalidInput
from aiaas_hub.schemas.models import ModelHandOver
from aiaas_hub.schemas.names import parse_reference
from aiaas_hub.schemas.runs import Job, ParamValue
from aiaas_magics.errors import MissingParam, invalid
from aiaas_magics.runtime.api import JobApi
from aiaas_magics.runtime.cache import fetch
from aiaas_magics.runtime.datasets import RunDataset
from aiaas_magics.runtime.metrics import MetricSender

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from torch import nn

_STATE_FILE = "state.pt"


class Params(Mapping[str, ParamValue]):
    """The run's parameters: `ctx.params["lr"]`, `ctx.params.lr`, `ctx.params.get("lr", 0.1)`."""

    def __init__(self, values: Mapping[str, ParamValue]) -> None:
        self._values = dict(values)

    def __getitem__(self, name: str) -> ParamValue:
        try:
            return self._values[name]
        except KeyError:
            known = ", ".join(sorted(self._values)) or "none"
            raise MissingParam(
                f"The run has no parameter {name!r}; it has: {known}.",
                remedy=f"Add `--param {name}=…`, or write ctx.params.get({name!r}, default).",
            ) from None

    def __getattr__(self, name: str) -> ParamValue:
        if name.startswith("_"):
            raise AttributeError(name)
        try:
            return self[name]
        except MissingParam as error:
            raise AttributeError(str(error)) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Params({self._values})"


class Context:
    """One worker's view of the run. Made by the runtime, passed to `train(ctx)`.

    Attributes:
        params: the run's parameters, a mapping that also has them as attributes.
        rank: this worker's number, from 0.
        world_size: how many workers there are.
        device: the `torch.device` this worker trains on.
    """

    def __init__(self, job: Job, api: JobApi, sender: MetricSender | None) -> None:
        import ray.train
        import ray.train.torch

        worker = ray.train.get_context()
        self.params = Params(job.params)
        self.rank: int = worker.get_world_rank()
        self.world_size: int = worker.get_world_size()
        self.device: torch.device = ray.train.torch.get_device()
        self._job = job
        self._api = api
        self._sender = sender
        self._step = 0
        self._sharded: dict[int, nn.Module] = {}

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
            wanted = parse_reference(name)
            found = [
                position
                for position, dataset in enumerate(pinned)
                if dataset.name == wanted.name
                and wanted.owner in (None, dataset.owner)
                and wanted.version in (None, dataset.version)
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

    def prepare(self, model: nn.Module, strategy: Literal["ddp", "fsdp"] = "ddp") -> nn.Module:
        """Move the model to this worker's device and join it with the other workers' copies."""
        if strategy not in ("ddp", "fsdp"):
            raise InvalidInput(
                f"{strategy!r} is not a strategy of ctx.prepare.", remedy="Use 'ddp' or 'fsdp'."
            )
        if strategy == "fsdp" and self.device.type == "cpu":
            raise InvalidInput(
                "The strategy 'fsdp' needs a GPU for each worker.",
                remedy="Use strategy='ddp', or add --gpus-per-worker 1 where there are GPUs.",
            )
        if self.world_size == 1:
            # Nothing to join, and importing Ray's way of it costs seconds.
            return model.to(self.device)
        if strategy == "ddp" and self.device.type == "cpu":
            from torch.nn.parallel import DistributedDataParallel

            return DistributedDataParallel(model)
        from ray.train.torch import prepare_model

        original = copy.deepcopy(model).cpu() if strategy == "fsdp" else None
        prepared: nn.Module = prepare_model(model, parallel_strategy=strategy)
        if original is not None:
            self._sharded[id(prepared)] = original
        return prepared

    def report(self, step: int | None = None, **metrics: Any) -> None:
        """Send metrics; cheap enough for every step. Worker 0's values are the run's.

        Without `step` the calls are counted. Values are numbers or tensors with one element.
        """
        self._step = self._step + 1 if step is None else int(step)
        values = {name: _number(name, value) for name, value in metrics.items()}
        if self._sender is not None and values:
            try:
                self._sender.put(self._step, values)
            except ValidationError as error:
                raise invalid(error) from error

    def checkpoint(self, **state: Any) -> None:
        """Save state to go on from after a failure; every worker calls it, worker 0's is kept.

        Modules and optimizers are saved as their state dicts, other values as they are.
        """
        import ray.train
        import torch

        if not state:
            raise InvalidInput(
                "ctx.checkpoint() was called with nothing to save.",
                remedy="Write ctx.checkpoint(model=model, optimizer=optimizer, epoch=epoch).",
            )
        plain = {name: self._plain(value) for name, value in state.items()}
        metrics = {"step": self._step}
        if self.rank != 0:
            ray.train.report(metrics)
            return
        with tempfile.TemporaryDirectory(prefix="aiaas-checkpoint-") as directory:
            torch.save(plain, Path(directory) / _STATE_FILE)
            ray.train.report(metrics, checkpoint=ray.train.Checkpoint.from_directory(directory))

    def restore(self) -> dict[str, Any] | None:
        """The state of the last checkpoint of this run, on the CPU, or None at the first start."""
        import pickle

        import ray.train
        import torch

        checkpoint = ray.train.get_checkpoint()
        if checkpoint is None:
            return None
        with checkpoint.as_directory() as directory:
            file = Path(directory) / _STATE_FILE
            if not file.exists():
                raise InvalidInput(
                    "The last checkpoint was not made by ctx.checkpoint().",
                    remedy="Read it with ray.train.get_checkpoint().",
                )
            try:
                state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
            except pickle.UnpicklingError:
                # Objects of the user's own classes, written by this very run.
                state = torch.load(file, map_location="cpu", weights_only=False)
        return state

    def save_model(
        self,
        model: nn.Module,
        example_input: Any,
        eval_input: Any = None,
        labels: Sequence[str] | None = None,
    ) -> None:
        """Make `model` the run's model: exported to ONNX, checked, handed to the platform.

        Every worker may call it; worker 0's model counts. `example_input` is what `forward`
        takes: a tensor or array with a leading batch dimension, a tuple of them, or a dict by
        parameter name. `eval_input`, of the same form, holds the rows that publishing compares
        outputs on. `labels` are the class names of the first output's last axis.

        Raises `InvalidInput` if the model cannot be exported, does not load or answers
        differently afterwards; nothing is handed over then.
        """
        from aiaas_magics.runtime.export import export_torch

        module = self._whole(model)
        if self.rank != 0:
            return
        with tempfile.TemporaryDirectory(prefix="aiaas-model-") as directory:
            exported = export_torch(
                module, example_input, eval_input, labels, directory=Path(directory)
            )
            version = self._api.hand_over(
                ModelHandOver(
                    onnx=self._api.upload(exported.onnx_path).digest,
                    evaluation=self._api.upload(exported.evaluation_path).digest,
                    signature=exported.signature,
                    export_max_abs=exported.export_max_abs,
                    framework=exported.framework,
                )
            )
        print(  # noqa: T201 - the run's log
            f"[aiaas] saved {version.owner}/{version.name}@{version.version}; it differs from "
            f"the trained model by at most {exported.export_max_abs:.1e}",
            flush=True,
        )

    def _plain(self, value: Any) -> Any:
        from torch import nn

        if isinstance(value, nn.Module):
            if id(value) in self._sharded:
                return _gathered(value)
            return _unwrapped(value).state_dict()
        if hasattr(value, "state_dict") and callable(value.state_dict):
            return value.state_dict()
        return value

    def _whole(self, model: nn.Module) -> nn.Module:
        original = self._sharded.get(id(model))
        if original is None:
            return _unwrapped(model)
        original.load_state_dict(_gathered(model))
        return original


def _unwrapped(model: nn.Module) -> nn.Module:
    from torch.nn.parallel import DistributedDataParallel

    if isinstance(model, DistributedDataParallel):
        inner: nn.Module = model.module
        return inner
    return model


def _gathered(model: nn.Module) -> dict[str, Any]:
    """The whole state of a sharded model on the CPU; all workers call it together."""
    from torch.distributed.checkpoint.state_dict import (
        StateDictOptions,
        get_model_state_dict,
    )

    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    state: dict[str, Any] = get_model_state_dict(model, options=options)
    return state


def _number(name: str, value: Any) -> float:
    try:
        # A loss still knows how it came about, and torch warns of forgetting that silently.
        return float(value.detach() if hasattr(value, "detach") else value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InvalidInput(
            f"The metric {name!r} is not a number but {type(value).__name__}.",
            remedy="Report numbers or tensors with one element.",
        ) from error
