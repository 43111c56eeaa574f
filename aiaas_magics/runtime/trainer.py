"""Ray Train with its slow part done in advance: workers that wait for their run.

Of Ray Train's start nearly all is processes that start and import. Here the controller runs in
the driver's own process, and the workers of the first attempt are actors that were started, with
torch imported, before the run was known. Everything else (placement, ranks, checkpoints, failure
policy, `ray.train` inside the function) is Ray Train's own. Each worker serves one run.

The classes extended here are internal to Ray Train v2; its version is pinned, and
`tests/engines` runs what is used of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import ray
from ray.data._internal.cluster_autoscaler.default_autoscaling_coordinator import (
    get_or_create_autoscaling_coordinator,
)
from ray.exceptions import OutOfMemoryError, RayActorError
from ray.train.torch import TorchConfig, TorchTrainer
from ray.train.torch.config import _TorchBackend
from ray.train.v2._internal.callbacks.datasets import DatasetsCallback
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
from ray.train.v2._internal.constants import (
    DEFAULT_COLLECTIVE_TIMEOUT_S,
    DEFAULT_COLLECTIVE_WARN_INTERVAL_S,
)
from ray.train.v2._internal.exceptions import WorkerGroupStartupFailedError
from ray.train.v2._internal.execution.checkpoint.checkpoint_manager import CheckpointManager
from ray.train.v2._internal.execution.checkpoint.sync_actor import SynchronizationActor
from ray.train.v2._internal.execution.controller import TrainController
from ray.train.v2._internal.execution.controller import controller as controller_module
from ray.train.v2._internal.execution.failure_handling import (
    DefaultFailurePolicy,
    FailureDecision,
)
from ray.train.v2._internal.execution.worker_group import (
    WorkerGroup,
    thread_runner,
    worker_group,
)
from ray.train.v2._internal.execution.worker_group.worker import RayTrainWorker, Worker

from aiaas_hub.schemas.errors import InvalidInput
from aiaas_magics.runtime.failures import worker_failures
from aiaas_magics.runtime.lines import take_any_text

if TYPE_CHECKING:
    from ray.train import Checkpoint, FailureConfig, Result, TrainingFailedError

    from aiaas_magics.runtime.worker_logs import WorkerLogs


# Ray's classes have no types: hence `type: ignore` where they are extended.
class RunWorker(RayTrainWorker):  # type: ignore[misc]
    """Ray Train's worker, which can be made ready in advance and tells its output by itself."""

    def __init__(self) -> None:
        super().__init__()
        # Of workers on other nodes, too, whose output takes another way.
        take_any_text()
        # Ray lets every library's INFO through to the run's log; Python's own default is better.
        for name in ("", "ray", "ray.train"):
            logging.getLogger(name).setLevel(logging.WARNING)
        # The runtime tells a failure itself, the user's own line first.
        logging.getLogger(thread_runner.__name__).setLevel(logging.CRITICAL)

    def warm_up(self) -> None:
        """Import what training functions use, and what these import at their first step."""
        from aiaas_magics.runtime.warm_up import warm_up

        warm_up()

    def write_to(self, fifo: str) -> None:
        """Send stdout and stderr to this FIFO from now on."""
        descriptor = os.open(fifo, os.O_WRONLY)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        os.close(descriptor)
        for stream in (sys.stdout, sys.stderr):
            stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]

    def ask_to_stop(self) -> None:
        """Let `ctx.should_stop` become true."""
        from aiaas_magics.runtime import stopping

        stopping.ask()


class Reserve:
    """Workers that wait for a run, and the actor that they meet at; all are used at most once."""

    def __init__(self, workers: int) -> None:
        environment = WorkerGroup._get_worker_runtime_env({})
        # They take no place among the processors: a run reserves its own when it starts.
        remote = ray.remote(num_cpus=0, runtime_env=environment)(RunWorker)
        self._workers = [remote.remote() for _ in range(workers)]
        self._barrier: Any = SynchronizationActor.remote(
            timeout_s=DEFAULT_COLLECTIVE_TIMEOUT_S,
            warn_interval_s=DEFAULT_COLLECTIVE_WARN_INTERVAL_S,
        )
        # Ray Train asks it for resources first of all; the first driver of a head starts it.
        coordinator: Any = get_or_create_autoscaling_coordinator()
        waits = [worker.warm_up.remote() for worker in self._workers]
        ray.get([*waits, self._barrier.__ray_ready__.remote(), coordinator.__ray_ready__.remote()])

    def take_workers(self, count: int, resources: dict[str, float]) -> list[Any] | None:
        """`count` workers; None where there are fewer, or where each needs a GPU of its own,
        which Ray gives to an actor only when it starts."""
        if count > len(self._workers) or set(resources) - {"CPU"}:
            return None
        taken, self._workers = self._workers[:count], self._workers[count:]
        return taken

    def release(self) -> None:
        """End the workers that the run does not need."""
        for worker in self._workers:
            ray.kill(worker)
        self._workers = []

    @contextlib.contextmanager
    def barrier(self) -> Iterator[None]:
        """Let Ray Train take the waiting actor where it would start one."""
        handle, self._barrier = self._barrier, None
        if handle is None or not _lives(handle):
            yield
            return
        original = worker_group.SynchronizationActor
        worker_group.SynchronizationActor = _Started(handle)
        try:
            yield
        finally:
            worker_group.SynchronizationActor = original


def _lives(barrier: Any) -> bool:
    try:
        ray.get(barrier.get_counter.remote())
    except RayActorError:
        return False
    return True


class _Started:
    """Looks like an actor class and gives an actor that has been started already."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle

    def options(self, **_: Any) -> _Started:
        return self

    def remote(self, **_: Any) -> Any:
        return self._handle


class _Group(WorkerGroup):  # type: ignore[misc]
    _worker_cls = RunWorker
    reserve: Reserve | None = None
    logs: WorkerLogs
    first_checkpoint: Checkpoint | None = None

    def _start_impl(self, worker_group_state_builder: Any) -> None:
        with self.reserve.barrier() if self.reserve else contextlib.nullcontext():
            super()._start_impl(worker_group_state_builder)

    def _create_workers(
        self,
        num_workers: int,
        placement_group: Any,
        resources_per_worker: dict[str, float],
        **options: Any,
    ) -> list[Worker]:
        # Only the first group of a run finds any: after a failure the workers are new ones.
        workers = self._waiting_workers(
            num_workers, resources_per_worker, options.get("replica_group_size")
        ) or super()._create_workers(num_workers, placement_group, resources_per_worker, **options)
        if self.reserve is not None:
            self.reserve.release()
        try:
            self.logs.follow(workers)
        except RayActorError as error:
            # In the form that Ray Train's failure policy knows as a worker's.
            raise WorkerGroupStartupFailedError("A worker died as it started.") from error
        return workers

    def _waiting_workers(
        self, count: int, resources: dict[str, float], replica_group_size: int | None
    ) -> list[Worker] | None:
        """Workers that waited; none where they do not suit or one has died meanwhile."""
        actors = self.reserve and self.reserve.take_workers(count, resources)
        if not actors:
            return None
        try:
            metadata = ray.get([actor.get_metadata.remote() for actor in actors])
        except RayActorError:
            for actor in actors:
                ray.kill(actor)
            return None
        workers = [
            Worker(actor, about, resources, placement_group_bundle_index=index)
            for index, (actor, about) in enumerate(zip(actors, metadata, strict=True))
        ]
        ranked: list[Worker] = WorkerGroup._assign_worker_ranks(
            workers, 0, None, replica_group_size
        )
        return ranked

    def _init_train_context_on_workers(
        self, workers: list[Worker], sync_actor: Any, train_context_args: dict[str, list[Any]]
    ) -> None:
        checkpoints = train_context_args.get("checkpoint", [])
        if self.first_checkpoint is not None and not any(checkpoints):
            train_context_args["checkpoint"] = [self.first_checkpoint] * len(workers)
        ray.get(
            [
                worker.actor.init_train_context.remote(
                    train_run_context=self._train_run_context,
                    distributed_context=worker.distributed_context,
                    synchronization_actor=sync_actor,
                    storage_context=self._storage_context,
                    worker_callbacks=self._worker_callbacks_to_propagate,
                    controller_actor=_NoController(),
                    dataset_shard_provider=_NoShards(),
                    **{name: values[rank] for name, values in train_context_args.items()},
                )
                for rank, worker in enumerate(workers)
            ]
        )


class _NoController:
    """Stands where Ray Train puts the handle of its controller, which is no actor here."""

    @property
    def get_all_reported_checkpoints(self) -> Any:
        raise InvalidInput(
            "ray.train.get_all_reported_checkpoints() cannot be called in a run.",
            remedy="Use ctx.restore(), or ray.train.get_checkpoint() for the last one.",
        )


class _NoShards:
    """Stands where Ray Train puts the handle of an actor that divides Ray's own datasets."""

    def get_dataset_shard(self, dataset: Any) -> Any:
        name = dataset.dataset_name
        raise InvalidInput(
            f"ray.train.get_dataset_shard({name!r}) has nothing to give in a run.",
            remedy=f"Use ctx.dataset({name!r}), which gives each worker its own shard.",
        )


class _Checkpoints(CheckpointManager):  # type: ignore[misc]
    logs: WorkerLogs
    flush_log: Callable[[], None]

    def _write_state_to_storage(self) -> None:
        # What was said before a checkpoint is not said again by who goes on from it.
        self.logs.catch_up()
        self.flush_log()
        # Ray Train writes into the file that is there. A driver that is killed then, or a full
        # disk, would leave half of it, with which no later attempt begins.
        storage = self._storage_context
        path = storage.checkpoint_manager_snapshot_path
        with storage.storage_filesystem.open_output_stream(f"{path}.new") as file:
            file.write(self._save_state().encode())
        storage.storage_filesystem.move(f"{path}.new", path)


class _Retries(DefaultFailurePolicy):  # type: ignore[misc]
    """Ray Train's own policy, which tells of a retry; by itself it notes that for its developers.

    `told` gets the failure and, where it counts against the run's retries, which one it is.
    """

    def __init__(
        self, config: FailureConfig, told: Callable[[BaseException, int | None], None]
    ) -> None:
        super().__init__(config)
        self._told = told

    def make_decision(self, training_failed_error: TrainingFailedError) -> FailureDecision:
        before = self._worker_group_failures
        decision = super().make_decision(training_failed_error)
        # Failures of its controller alone are workers that have no place yet.
        if decision is FailureDecision.RETRY and worker_failures(training_failed_error):
            count = self._worker_group_failures
            self._told(training_failed_error, count if count > before else None)
        return decision


class _Backend(_TorchBackend):  # type: ignore[misc]
    def on_shutdown(self, *arguments: Any) -> None:
        # Ray Train expects that workers are gone here, and not Ray's word for those that its memory
        # monitor ended: then no others would take their place.
        with contextlib.suppress(OutOfMemoryError):
            super().on_shutdown(*arguments)


class GroupConfig(TorchConfig):  # type: ignore[misc]
    """`TorchConfig`, whose group may also end for want of memory."""

    @property
    def backend_cls(self) -> type[_TorchBackend]:
        return _Backend


class RunTrainer(TorchTrainer):  # type: ignore[misc]
    """`TorchTrainer` whose controller runs in this process, on workers from a reserve.

    The run begins with `first_checkpoint` as long as it has made none itself. Before one of its
    own counts, `flush_log` is called. When workers failed and others take their place, `retried`
    is called with the failure, which retry it is, and whether there is a checkpoint to go on from.

    `fit` raises what Ray Train's does, `ray.train.TrainingFailedError`.
    """

    def __init__(
        self,
        *arguments: Any,
        reserve: Reserve | None,
        logs: WorkerLogs,
        flush_log: Callable[[], None],
        first_checkpoint: Checkpoint | None = None,
        retried: Callable[[BaseException, int | None, bool], None] = lambda *_: None,
        **options: Any,
    ) -> None:
        super().__init__(*arguments, **options)
        self._logs = logs
        told = {"logs": logs, "flush_log": staticmethod(flush_log)}
        self._checkpoints = type("RunCheckpoints", (_Checkpoints,), told)
        own = {"reserve": reserve, "logs": logs, "first_checkpoint": first_checkpoint}
        self._group = type("RunWorkerGroup", (_Group,), own)
        self._controller: TrainController | None = None
        self._retried = retried
        self._first_checkpoint = first_checkpoint

    def ask_to_stop(self) -> None:
        """Let `ctx.should_stop` become true in the workers; returns at once."""
        group = self._controller and self._controller.get_worker_group()
        for worker in group.get_workers() if group and group.has_started() else ():
            worker.actor.ask_to_stop.remote()

    def _tell(self, failure: BaseException, count: int | None) -> None:
        own = self._controller and self._controller._checkpoint_manager.latest_checkpoint_result
        # A worker's last words may say why it died.
        self._logs.catch_up()
        self._retried(failure, count, bool(own or self._first_checkpoint))

    def _create_default_callbacks(self) -> list[Any]:
        # The cleaner is an actor that outlives a controller; ours ends with the driver, and
        # with that Ray frees the placement by itself. The other one starts an actor, which takes
        # seconds of a processor from the run's first steps, for datasets that no run has.
        unneeded = (PlacementGroupCleanerCallback, DatasetsCallback)
        return [one for one in super()._create_default_callbacks() if not isinstance(one, unneeded)]

    def _initialize_and_run_controller(self, **arguments: Any) -> Result:
        controller_class = type(
            "RunController", (TrainController,), {"worker_group_cls": self._group}
        )
        arguments["failure_policy"] = _Retries(self.run_config.failure_config, self._tell)
        # The constructor has no place for another one. One run, one controller in a process.
        controller_module.CheckpointManager = self._checkpoints
        controller = self._controller = controller_class(**arguments)
        asyncio.run(controller.run())
        return controller.get_result()
