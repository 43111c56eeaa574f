"""The loop that all recipes share: descend, evaluate after each epoch, checkpoint, stop in time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import torch
from torch import nn

from aiaas_magics.runtime.recipes import optimisers, schedules
from aiaas_magics.runtime.recipes.evaluation import Measure
from aiaas_magics.runtime.recipes.parameters import Parameters
from aiaas_magics.runtime.recipes.rows import Indices, Shard

if TYPE_CHECKING:
    from aiaas_magics.runtime.context import Context


class Task(Protocol):
    """What differs between recipes. `rows` are indices into the recipe's own arrays."""

    def loss(self, model: nn.Module, rows: Indices) -> torch.Tensor:
        """The mean over the rows, with one element."""

    def measure(self) -> Measure:
        """A new one, to which `evaluate` adds."""

    def evaluate(
        self, model: nn.Module, rows: Indices, counted: torch.Tensor, measure: Measure
    ) -> None: ...


def prepare(ctx: Context, model: nn.Module, parameters: Parameters) -> nn.Module:
    precision = None if parameters.precision == "float32" else parameters.precision
    return ctx.prepare(model, strategy=parameters.strategy, precision=precision)


def descend(
    ctx: Context,
    model: nn.Module,
    task: Task,
    parameters: Parameters,
    training: Indices,
    held_out: Indices,
) -> Measure:
    """Train `model`, which `prepare` returned, from the last checkpoint on if there is one.

    Gives the last evaluation. `parameters.steps` and what stops a run end it within an epoch.
    """
    shard = Shard.of(ctx, training, parameters.batch_size, parameters.seed)
    held = Shard.of(ctx, held_out, parameters.batch_size, parameters.seed)
    every = optimisers.batches_per_update(parameters, len(shard))
    # The last group of an epoch may be a smaller one.
    per_epoch = -(-len(shard) // every)
    updates = min(parameters.epochs * per_epoch, parameters.steps or parameters.epochs * per_epoch)
    optimizer = optimisers.make(parameters, model.parameters())
    schedule = schedules.make(parameters, optimizer, updates)
    state = ctx.restore(model=model, optimizer=optimizer, schedule=schedule)
    epoch, update = (0, 0) if state is None else (int(state["epoch"]), int(state["update"]))
    stop = update >= updates
    measure: Measure | None = None
    while not stop and epoch < parameters.epochs:
        epoch += 1
        model.train()
        group = _Groups(len(shard), every)
        for batch, rows in enumerate(shard.shuffled(epoch), 1):
            # Counted so that the end of a group, smaller or not, is where a count divides.
            with ctx.accumulate(model, *group.place(batch)) as last:
                with ctx.autocast():
                    loss = task.loss(model, rows)
                ctx.backward(loss)
                if not last:
                    continue
                ctx.step(optimizer, parameters.max_norm)
            schedule.step()
            update += 1
            ctx.report(step=update, loss=loss, lr=optimisers.current_rate(optimizer))
            ctx.progress(update, updates)
            stop = update >= updates or ctx.should_stop
            if stop:
                break
        measure = evaluate(ctx, model, task, held)
        metrics = measure.metrics()
        ctx.report(step=update, epoch=epoch, **metrics)
        say(ctx, f"epoch {epoch}/{parameters.epochs}: " + _shown({"loss": loss.item()} | metrics))
        ctx.checkpoint(
            model=model, optimizer=optimizer, schedule=schedule, epoch=epoch, update=update
        )
        stop = stop or ctx.should_stop
    # A run that goes on where it had ended already has nothing left to train.
    return measure or evaluate(ctx, model, task, held)


def evaluate(ctx: Context, model: nn.Module, task: Task, held_out: Shard) -> Measure:
    """On all held-out rows, by all workers together."""
    measure = task.measure()
    model.eval()
    with torch.no_grad(), ctx.autocast():
        for rows, counted in held_out.in_order():
            task.evaluate(model, rows, torch.from_numpy(counted), measure)
    measure.gather(ctx.device)
    return measure


class _Groups:
    """The batches of an epoch in groups of `every`; the last group has what is left."""

    def __init__(self, batches: int, every: int) -> None:
        self._batches = batches
        self._every = every

    def place(self, batch: int) -> tuple[int, int]:
        """(number of the batch in its group, size of the group), for `ctx.accumulate`."""
        begun = (batch - 1) // self._every * self._every
        return batch - begun, min(self._every, self._batches - begun)


def say(ctx: Context, text: str) -> None:
    """A line of the run's log, once."""
    if ctx.rank == 0:
        print(text, flush=True)  # noqa: T201 - the run's log


def _shown(metrics: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in metrics.items())
