"""Models over several workers: copies joined (DDP) or shards (FSDP), in mixed precision.

Weights stay float32 in every precision; `autocast` computes in the smaller type where that is
safe. So a checkpoint or a saved model does not depend on how it was trained.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Literal

from aiaas_hub.schemas.errors import InvalidInput

if TYPE_CHECKING:
    import torch
    from torch import nn

Strategy = Literal["ddp", "fsdp"]
Precision = Literal["bf16", "fp16"]


class Parallel:
    """What one worker prepared. Methods marked *together* are called by all workers."""

    def __init__(self, world_size: int, rank: int, device: torch.device) -> None:
        self._world_size = world_size
        self._rank = rank
        self._device = device
        self._sharded: dict[int, tuple[nn.Module, nn.Module]] = {}
        self._precision: Precision | None = None
        self._scaler: torch.amp.GradScaler | None = None
        self._every = 1

    def prepare(
        self, model: nn.Module, strategy: Strategy, precision: Precision | None
    ) -> nn.Module:
        if strategy not in ("ddp", "fsdp"):
            raise InvalidInput(
                f"{strategy!r} is not a strategy of ctx.prepare.", remedy="Use 'ddp' or 'fsdp'."
            )
        if precision not in (None, "bf16", "fp16"):
            raise InvalidInput(
                f"{precision!r} is not a precision of ctx.prepare.",
                remedy="Use 'bf16' or 'fp16', or leave it out for float32.",
            )
        self._precision = precision
        if precision == "fp16" and self._scaler is None:
            import torch

            # Small gradients would become zero in float16.
            self._scaler = torch.amp.GradScaler(self._device.type)
        if self._world_size == 1:
            return model.to(self._device)
        if strategy == "fsdp":
            return self._shard(model)
        return self._join(model)

    def autocast(self) -> AbstractContextManager[Any]:
        if self._precision is None:
            return nullcontext()
        import torch

        dtype = torch.bfloat16 if self._precision == "bf16" else torch.float16
        return torch.autocast(self._device.type, dtype=dtype)

    @contextmanager
    def accumulate(self, model: nn.Module, step: int, every: int) -> Iterator[bool]:
        from torch.distributed.fsdp import FSDPModule
        from torch.nn.parallel import DistributedDataParallel

        if every < 1:
            raise InvalidInput(
                f"Gradients cannot be accumulated over {every} batches.",
                remedy="Give a number of at least 1.",
            )
        last = step % every == 0
        former, self._every = self._every, every
        try:
            if isinstance(model, DistributedDataParallel) and not last:
                with model.no_sync():
                    yield last
            elif isinstance(model, FSDPModule):
                model.set_requires_gradient_sync(last)
                yield last
            else:
                yield last
        finally:
            self._every = former

    def backward(self, loss: torch.Tensor) -> None:
        whole = loss / self._every
        if self._scaler is not None:
            whole = self._scaler.scale(whole)
        whole.backward()  # type: ignore[no-untyped-call]  # torch's has no types

    def step(self, optimizer: torch.optim.Optimizer, max_norm: float | None) -> None:
        import torch

        scaler = self._scaler
        if max_norm is not None:
            if scaler is not None:
                scaler.unscale_(optimizer)
            parameters = [item for group in optimizer.param_groups for item in group["params"]]
            torch.nn.utils.clip_grad_norm_(parameters, max_norm)
        if scaler is None:
            optimizer.step()
        else:
            scaler.step(optimizer)
            scaler.update()
        optimizer.zero_grad(set_to_none=True)

    def whole(self, model: nn.Module) -> nn.Module:
        """The module as it was before `prepare`, with the weights of now; *together*.

        Of a sharded model worker 0 gets a copy on the CPU, the others one without values (on
        torch's `meta` device).
        """
        from torch.nn.parallel import DistributedDataParallel

        if id(model) in self._sharded:
            original = self._sharded[id(model)][1]
            state = _gathered(model)
            if self._rank == 0:
                original.load_state_dict(state)
            return original
        if isinstance(model, DistributedDataParallel):
            inner: nn.Module = model.module
            return inner
        return model

    def state_of(self, value: Any) -> Any:
        """The state of a module, optimizer or anything with a `state_dict`; *together*."""
        from torch import nn, optim

        if isinstance(value, nn.Module):
            if id(value) in self._sharded:
                return _gathered(value)
            return self.whole(value).state_dict()
        if isinstance(value, optim.Optimizer) and (model := self._sharded_model_of(value)):
            from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict

            return get_optimizer_state_dict(model, value, options=_whole_state())
        if callable(getattr(value, "state_dict", None)):
            return value.state_dict()
        return value

    def load(self, target: Any, state: Any) -> None:
        """Put what `state_of` gave into `target`, in place; *together*."""
        from torch import nn, optim

        if isinstance(target, nn.Module):
            if id(target) in self._sharded:
                from torch.distributed.checkpoint.state_dict import set_model_state_dict

                set_model_state_dict(target, state, options=_whole_state())
            else:
                self.whole(target).load_state_dict(state)
        elif isinstance(target, optim.Optimizer) and (model := self._sharded_model_of(target)):
            from torch.distributed.checkpoint.state_dict import set_optimizer_state_dict

            set_optimizer_state_dict(model, target, state, options=_whole_state())
        else:
            target.load_state_dict(state)

    def _join(self, model: nn.Module) -> nn.Module:
        from torch.nn.parallel import DistributedDataParallel

        if self._device.type == "cpu":
            return DistributedDataParallel(model)
        import torch

        torch.cuda.set_device(self._device)
        return DistributedDataParallel(model.to(self._device), device_ids=[self._device])

    def _shard(self, model: nn.Module) -> nn.Module:
        """FSDP2: the elements of each ModuleList (a transformer's blocks) are gathered one at a
        time in forward and backward, what is around them as one more."""
        import torch
        import torch.distributed as dist
        from torch import nn
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        if self._device.type == "cuda":
            torch.cuda.set_device(self._device)
        # For the hand-over, where the whole model has to fit on a CPU anyway.
        original = copy.deepcopy(model).to("cpu" if self._rank == 0 else "meta")
        model = model.to(self._device)
        # Where no seed was set each worker's weights are its own; shards must be of one model.
        for tensor in [*model.parameters(), *model.buffers()]:
            dist.broadcast(tensor.data, 0)
        mesh = init_device_mesh(self._device.type, (self._world_size,))
        blocks = [
            block
            for part in model.modules()
            if isinstance(part, nn.ModuleList)
            for block in part
            if any(True for _ in block.parameters())
        ]
        # The innermost first: a block that is sharded already stays out of its parent's group.
        for block in reversed(blocks):
            fully_shard(block, mesh=mesh)
        fully_shard(model, mesh=mesh)
        self._sharded[id(model)] = (model, original)
        return model

    def _sharded_model_of(self, optimizer: torch.optim.Optimizer) -> nn.Module | None:
        mine = {id(item) for group in optimizer.param_groups for item in group["params"]}
        for model, _ in self._sharded.values():
            if any(id(parameter) in mine for parameter in model.parameters()):
                return model
        return None


def _whole_state() -> Any:
    from torch.distributed.checkpoint.state_dict import StateDictOptions

    return StateDictOptions(full_state_dict=True, cpu_offload=True)


def _gathered(model: nn.Module) -> dict[str, Any]:
    """The whole state of a sharded model on worker 0's CPU; the others get nothing."""
    from torch.distributed.checkpoint.state_dict import get_model_state_dict

    state: dict[str, Any] = get_model_state_dict(model, options=_whole_state())
    return state
