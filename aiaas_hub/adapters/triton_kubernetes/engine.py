"""The `ServingEngine` port on groups of Triton pods.

The object store says what each group serves; the service is its one writer. A change is written
there, told to every pod, and confirmed at each of them by gRPC before the call returns, so before
traffic moves. A pod that starts meanwhile either reads the change itself or answers the call.
"""

from __future__ import annotations

import hashlib
import logging
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from aiaas_hub.adapters.kubernetes import client
from aiaas_hub.adapters.kubernetes.client import Cluster
from aiaas_hub.adapters.triton_kubernetes.answers import agree, sum_of
from aiaas_hub.adapters.triton_kubernetes.catalogue import Catalogue, ModelRecord, VersionFile
from aiaas_hub.adapters.triton_kubernetes.manifests import (
    SHARED,
    SPECIFICATION,
    ServerPods,
    group_of,
    name_of,
    service,
)
from aiaas_hub.adapters.triton_kubernetes.servers import Server, Servers, why
from aiaas_hub.adapters.triton_kubernetes.workloads import WORKLOADS
from aiaas_hub.adapters.triton_local import inspection
from aiaas_hub.adapters.triton_local.loading import infer
from aiaas_hub.adapters.triton_local.model_configuration import configuration
from aiaas_hub.adapters.triton_local.repository import Repository
from aiaas_hub.domain.ports import DEFAULT_OPTIONS, DoesNotAnswer, ModelCounts, StagedVersion
from aiaas_hub.schemas.drift import InputReference
from aiaas_hub.schemas.endpoints import ServingOptions
from aiaas_hub.schemas.errors import AiaasError, Conflict, InvalidInput, NotFound, Unavailable
from aiaas_hub.schemas.models import Signature
from aiaas_hub.schemas.platform import EngineHealth, EngineState

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from aiaas_hub.domain.ports import Tensors

log = logging.getLogger(__name__)

NAME = "triton"
_SETTLE_SECONDS = 30.0
_HEALTH_SECONDS = 2.0


class TritonKubernetes:
    """`ServingEngine` on groups of Triton's pods."""

    def __init__(
        self, cluster: Cluster, pods: ServerPods, catalogue: Catalogue, secret: str, staging: Path
    ) -> None:
        """`catalogue`: where the service writes what pods read at `pods.store`; `staging`: a
        directory for what is being published."""
        self._cluster = cluster
        self._pods = pods
        self._workload = WORKLOADS[pods.workload]
        self._catalogue = catalogue
        self._servers = Servers(cluster, pods, secret)
        self._staged = Repository(staging)
        self._guard = threading.Lock()
        self._writers: dict[str, threading.RLock] = {}
        self._reading = threading.Lock()
        self._records: dict[str, ModelRecord] | None = None
        self._made: set[str] = set()
        self._health: tuple[float, EngineHealth] | None = None

    # Servers

    def start(self) -> None:
        """Make the servers that are wanted, or change them to what the settings say."""
        groups = {SHARED} if self._pods.grouping == "shared" else self._catalogue.groups()
        for group in sorted(groups):
            self._make(group)
        self._servers.forget_others(sorted(groups))

    def close(self) -> None:
        self._servers.close()
        self._cluster.close()

    def require(self) -> None:
        """Nothing: what a cluster lacks, somebody may add."""

    def health(self) -> EngineHealth:
        with self._guard:
            if self._health and time.monotonic() - self._health[0] < _HEALTH_SECONDS:
                return self._health[1]
        found = self._examine()
        with self._guard:
            self._health = (time.monotonic(), found)
        return found

    def _examine(self) -> EngineHealth:
        def unwell(reason: str, state: EngineState = EngineState.UNAVAILABLE) -> EngineHealth:
            return EngineHealth(name=NAME, state=state, reason=reason)

        try:
            groups = {self._group(model) for model in self._all()}
            groups |= {SHARED} if self._pods.grouping == "shared" else set()
            for group in sorted(groups):
                if group not in self._made:
                    self._require_workload()
                    return unwell(f"The servers {name_of(group)} are not made yet.")
                try:
                    self._servers.ready(group)
                except Unavailable:
                    pods = self._servers.look(group)
                    if not pods:
                        # Perhaps somebody deleted them: they are made again if so.
                        self._made.discard(group)
                    state = EngineState.STARTING if pods else EngineState.UNAVAILABLE
                    return unwell(f"{name_of(group)}: {why(pods)}.", state)
        except AiaasError as error:
            return unwell(error.message)
        return EngineHealth(name=NAME, state=EngineState.READY)

    def _make(self, group: str) -> None:
        kind, pods = self._workload.kind, self._pods
        wanted = self._workload.make(group, pods)
        name = name_of(group)
        self._require_workload()
        self._cluster.create(client.SERVICES, service(group, pods))
        first = self._workload.with_replicas(wanted, pods.replicas)
        if self._cluster.create(kind, first) is None:
            found = self._cluster.get(kind, name)
            if found is None:
                raise Unavailable(f"The {wanted['kind']} {name} is being deleted.")
            marks = found["metadata"].get("annotations") or {}
            if marks.get(SPECIFICATION) != wanted["metadata"]["annotations"][SPECIFICATION]:
                # How many there are may be an autoscaler's by now.
                kept = self._workload.replicas(found) or pods.replicas
                wanted = self._workload.with_replicas(wanted, kept)
                wanted["metadata"]["resourceVersion"] = found["metadata"]["resourceVersion"]
                if self._cluster.replace(kind, name, wanted) is None:
                    raise Unavailable(f"The {wanted['kind']} {name} was changed by somebody else.")
                log.info("%s is changed to what the settings say", name)
        self._made.add(group)

    def _require_workload(self) -> None:
        if self._workload.lacking and not self._cluster.answers(self._workload.kind):
            raise Unavailable(f"{self._workload.lacking}.")

    # Publishing

    def stage(
        self,
        model: str,
        version: int,
        signature: Signature,
        onnx: Path,
        options: ServingOptions = DEFAULT_OPTIONS,
        reference: InputReference | None = None,
    ) -> StagedVersion:
        """See `ServingEngine.stage`. Nothing is counted: NVIDIA's compiled backend serves."""
        with self._writer(model):
            self._staged.prepare()
            staged = self._staged.stage(model, version, onnx)
            installed = self._record(model).versions.get(version)
            if installed is not None:
                self._staged.discard(staged)
                if installed.sha256 != _sha256(onnx):
                    raise Conflict(
                        f"Version {version} of this endpoint holds another model already.",
                        remedy="Publish again: each publish gets a version of its own.",
                    )
                return replace(staged, memory=installed.memory)
            with self._staged.discarded_on_failure(staged):
                each = inspection.check(_Own(), staged.path / "model.onnx", signature)
                staged = replace(staged, memory=each * (options.instances or 1))
                self._staged.seal(staged)
            return staged

    def discard(self, staged: StagedVersion) -> None:
        self._staged.discard(staged)

    def memory(self) -> dict[tuple[str, int], int]:
        """See `ServingEngine.memory`. Of one pod: each has all models of its group."""
        return {
            (model, version): file.memory
            for model, record in self._all().items()
            for version, file in record.versions.items()
        }

    def install(self, staged: StagedVersion) -> None:
        """Into the object store, from which pods fetch it when it is to be served."""
        with self._writer(staged.model):
            record = self._record(staged.model)
            if staged.version in record.versions:
                self._staged.discard(staged)
                return
            sealed = self._staged.sealed(staged)
            self._catalogue.keep(staged.path / "model.onnx", sealed)
            file = VersionFile(sha256=sealed, memory=staged.memory)
            versions = {**record.versions, staged.version: file}
            self._write(staged.model, record.model_copy(update={"versions": versions}))
            self._staged.discard(staged)

    def set_versions(
        self,
        model: str,
        signature: Signature,
        versions: Sequence[int],
        options: ServingOptions = DEFAULT_OPTIONS,
    ) -> None:
        """See `ServingEngine.set_versions`."""
        with self._writer(model):
            former = self._record(model)
            wanted = sorted(set(versions))
            for version in wanted:
                if version not in former.versions:
                    raise NotFound(
                        f"Version {version} is not in the model repository.",
                        remedy="Publish it again.",
                    )
            if not wanted and not former.served:
                return
            group = self._group(model)
            if group not in self._made:
                self._make(group)
            text = ""
            if wanted:
                on_gpus = self._pods.gpus > 0
                text = configuration(model, signature, wanted, options=options, on_gpus=on_gpus)
            record = former.model_copy(update={"config": text, "served": wanted})
            # First: a pod that starts from here on reads it by itself.
            self._write(model, record)
            try:
                self._confirm(model, set(wanted))
            except InvalidInput:
                self._write(model, former)
                try:
                    self._confirm(model, set(former.served))
                except AiaasError as error:
                    # Each pod went back by itself where loading failed.
                    log.warning("%s is not what it was everywhere: %s", model, error)
                raise

    def _confirm(self, model: str, wanted: set[int]) -> None:
        """Have every pod do as the record says, and see at each that it did."""
        group = self._group(model)

        def tell(server: Server) -> None:
            try:
                self._servers.tell(server, "PUT", f"/models/{model}")
            except Unavailable:
                # One that is not ready yet has not read the record, or reads it again.
                if server.ready:
                    raise

        self._servers.each(self._servers.alive(group), tell)
        deadline = time.monotonic() + _SETTLE_SECONDS
        while True:
            ready = self._servers.ready(group)
            found = self._servers.each(ready, lambda one: self._ready_of(one, model))
            if all(versions == wanted for versions in found):
                if wanted:
                    self._servers.wait_for_gateway(group)
                return
            if time.monotonic() > deadline:
                odd = next(i for i, versions in enumerate(found) if versions != wanted)
                raise Unavailable(
                    f"The pod {ready[odd].name} serves the versions {sorted(found[odd])} instead "
                    f"of {sorted(wanted)}.",
                    remedy="Try again; its log says more.",
                )
            time.sleep(0.1)

    def ready_versions(self, model: str) -> set[int]:
        """What every ready pod serves."""
        ready = self._servers.ready(self._group(model))
        found = self._servers.each(ready, lambda one: self._ready_of(one, model))
        return set.intersection(*found)

    def _ready_of(self, server: Server, model: str) -> set[int]:
        return self._servers.triton(server).ready_versions(model)

    def installed_versions(self, model: str) -> set[int]:
        return set(self._record(model).versions)

    def models(self) -> set[str]:
        return set(self._all())

    def infer(self, model: str, version: int, inputs: Tensors) -> dict[str, NDArray[np.generic]]:
        """See `ServingEngine.infer`. Every ready pod is asked: an answer that only some give, or
        that differs between them, is none."""
        text = self._record(model).config
        ready = self._servers.ready(self._group(model))
        answers = self._servers.each(
            ready, lambda one: infer(self._servers.triton(one), text, model, version, inputs)
        )
        for server, answer in zip(ready[1:], answers[1:], strict=True):
            if not agree(answers[0], answer):
                raise DoesNotAnswer(
                    f"The pods {ready[0].name} and {server.name} answer differently.",
                    remedy="The model is loaded again soon.",
                )
        return answers[0]

    def counts(self, model: str) -> Mapping[int, ModelCounts]:
        """Over the pods that are ready now."""
        ready = self._servers.ready(self._group(model))
        total: dict[int, ModelCounts] = {}
        for counts in self._servers.each(
            ready, lambda one: self._servers.triton(one).counts(model)
        ):
            for version, counted in counts.items():
                former = total.get(version)
                total[version] = counted if former is None else sum_of(former, counted)
        return total

    def input_reference(self, model: str, version: int) -> InputReference | None:
        """None: see `stage`."""

    def input_counts(self) -> dict[tuple[str, int], NDArray[np.int64]]:
        """None: see `stage`."""
        return {}

    def heal(self, model: str) -> None:
        """See `ServingEngine.heal`: on each pod, one after the other, so that the others answer."""
        with self._writer(model):
            for server in self._servers.ready(self._group(model)):
                self._servers.tell(server, "POST", f"/models/{model}/heal")

    def remove(self, model: str, version: int | None = None) -> None:
        """See `ServingEngine.remove`."""
        with self._writer(model):
            record = self._record(model)
            if version is not None and version in record.served:
                raise Conflict(
                    "A version that is served cannot be removed.",
                    remedy="Take its traffic away first.",
                )
            if version is None:
                gone = set(record.versions)
                if record.served:
                    self._write(model, record.model_copy(update={"config": "", "served": []}))
                    self._confirm(model, set())
                if model in self._all():
                    self._write(model, None)
            else:
                gone = {version} & set(record.versions)
                kept = {one: file for one, file in record.versions.items() if one not in gone}
                if gone:
                    self._write(model, record.model_copy(update={"versions": kept}))
            wanted = {f.sha256 for one in self._all().values() for f in one.versions.values()}
            for one in gone:
                if record.versions[one].sha256 not in wanted:
                    self._catalogue.drop(record.versions[one].sha256)

    # Records

    def _all(self) -> Mapping[str, ModelRecord]:
        """What the object store has; read once, since nobody else writes there."""
        with self._reading:
            if self._records is None:
                self._records = {
                    model: record
                    for group in self._catalogue.groups()
                    for model in self._catalogue.models(group)
                    if self._group(model) == group
                    and (record := self._catalogue.read(group, model)) is not None
                }
            return self._records

    def _record(self, model: str) -> ModelRecord:
        return self._all().get(model) or ModelRecord()

    def _write(self, model: str, record: ModelRecord | None) -> None:
        """None: the model is gone."""
        self._all()
        if record is None:
            self._catalogue.forget(self._group(model), model)
        else:
            self._catalogue.write(self._group(model), model, record)
        with self._reading:
            # Another one: who goes through the former is not disturbed.
            others = {key: one for key, one in (self._records or {}).items() if key != model}
            self._records = others if record is None else {**others, model: record}

    def _group(self, model: str) -> str:
        return group_of(model, self._pods.grouping)

    def _writer(self, model: str) -> threading.RLock:
        with self._guard:
            return self._writers.setdefault(model, threading.RLock())


class _Own:
    """This process's Python, in which a model is looked at before any pod sees it."""

    python = Path(sys.executable)

    def variables(self) -> dict[str, str]:
        return {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "PYTHONNOUSERSITE": "1"}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
