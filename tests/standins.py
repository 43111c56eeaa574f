"""Stand-ins for the engines' ports, for tests of what is decided about engines.

The engines themselves are tested for real in `tests/contract`, `tests/engines` and `tests/hub`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aiaas_hub.api.identity import Principal
from aiaas_hub.domain.ports import (
    DEFAULT_OPTIONS,
    Capacity,
    JobState,
    JobStatus,
    JobSubmission,
    ModelCounts,
    Route,
    StagedVersion,
    VersionTraffic,
)
from aiaas_hub.schemas.drift import InputReference
from aiaas_hub.schemas.endpoints import ServingOptions
from aiaas_hub.schemas.errors import InvalidInput, Unavailable
from aiaas_hub.schemas.models import Signature
from aiaas_hub.schemas.platform import EngineHealth, EngineState
from aiaas_hub.schemas.runs import Resources


class StandInTraining:
    def __init__(self) -> None:
        self.ready = True
        self.jobs: dict[str, JobStatus] = {}
        self.submissions: list[JobSubmission] = []
        self.stopped: list[str] = []
        self.has = Capacity(cpus=64, gpus=0)
        self.waiting = 0

    def start(self) -> None: ...

    def health(self) -> EngineHealth:
        if self.ready:
            return EngineHealth(name="ray", state=EngineState.READY)
        return EngineHealth(name="ray", state=EngineState.STARTING, reason="Ray is starting")

    def submit(self, job: JobSubmission) -> None:
        self._check()
        self.submissions.append(job)
        self.jobs.setdefault(job.id, JobStatus(JobState.RUNNING))

    def status(self, submission_id: str) -> JobStatus | None:
        self._check()
        return self.jobs.get(submission_id)

    def stop(self, submission_id: str) -> None:
        self._check()
        self.stopped.append(submission_id)
        if submission_id in self.jobs:
            self.jobs[submission_id] = JobStatus(JobState.STOPPED)

    def capacity(self) -> Capacity:
        return self.has

    def tend(self, live: object) -> None: ...

    def warm(self, resources: Resources) -> bool:
        return resources.workers <= self.waiting

    def _check(self) -> None:
        if not self.ready:
            raise Unavailable("Ray is starting")


class StandInServing:
    """Serves whatever is staged; answers are what `answer` gives for a version's inputs."""

    def __init__(self) -> None:
        self.ready = True
        self.staged: dict[tuple[str, int], bytes] = {}
        self.installed: set[tuple[str, int]] = set()
        self.served: dict[str, set[int]] = {}
        self.calls: list[str] = []
        self.refuse_load: set[int] = set()
        self.offset = 0.0
        self.each_takes = 100_000_000
        self.takes: dict[tuple[str, int], int] = {}
        self.options: dict[str, ServingOptions] = {}
        self.references: dict[tuple[str, int], InputReference | None] = {}
        self.inputs: dict[tuple[str, int], NDArray[np.int64]] = {}
        """What is said to have been counted."""
        self.asked_counts = 0
        self.counted = ModelCounts(12, 4, 2_000_000, 3, 9_000_000, {4: 3})
        """Of each version, since it was loaded."""
        self.batches: list[int] = []
        self.impossible = False
        self.crash_at: str | None = None

    def start(self) -> None: ...

    def require(self) -> None:
        if self.impossible:
            raise Unavailable("Triton has no wheel for this machine.", remedy="Use Linux.")

    def health(self) -> EngineHealth:
        state = EngineState.READY if self.ready else EngineState.STARTING
        return EngineHealth(name="triton", state=state)

    def stage(
        self,
        model: str,
        version: int,
        signature: Signature,
        onnx: Path,
        options: ServingOptions = DEFAULT_OPTIONS,
        reference: InputReference | None = None,
    ) -> StagedVersion:
        self._step("stage")
        content = onnx.read_bytes()
        if content.startswith(b"broken"):
            raise InvalidInput("The model does not load.", remedy="Export it again.")
        self.staged[model, version] = content
        self.references[model, version] = reference
        memory = self.each_takes * (options.instances or 1)
        self.takes[model, version] = memory
        return StagedVersion(model, version, onnx, memory)

    def discard(self, staged: StagedVersion) -> None:
        self.calls.append("discard")

    def memory(self) -> dict[tuple[str, int], int]:
        return {key: self.takes[key] for key in self.installed}

    def install(self, staged: StagedVersion) -> None:
        self._step("install")
        self.installed.add((staged.model, staged.version))

    def set_versions(
        self,
        model: str,
        signature: Signature,
        versions: Sequence[int],
        options: ServingOptions = DEFAULT_OPTIONS,
    ) -> None:
        self._step("set_versions")
        self.options[model] = options
        if self.refuse_load & set(versions):
            raise InvalidInput("Version does not load.")
        assert all((model, version) in self.installed for version in versions)
        self.served[model] = set(versions)

    def ready_versions(self, model: str) -> set[int]:
        self._check()
        return set(self.served.get(model, set()))

    def models(self) -> set[str]:
        self._check()
        return {model for model, _ in self.installed}

    def infer(self, model: str, version: int, inputs: Mapping[str, Any]) -> dict[str, Any]:
        self._step("infer")
        if version not in self.served.get(model, set()):
            raise InvalidInput("not served")
        x = next(iter(inputs.values()))
        assert len(x) <= self.options[model].largest_batch
        self.batches.append(len(x))
        return {"output": (2 * x + self.offset).astype(np.float32)}

    def counts(self, model: str) -> dict[int, ModelCounts]:
        self.asked_counts += 1
        self._check()
        return dict.fromkeys(self.served.get(model, set()), self.counted)

    def input_reference(self, model: str, version: int) -> InputReference | None:
        return self.references[model, version]

    def input_counts(self) -> dict[tuple[str, int], NDArray[np.int64]]:
        self._check()
        return self.inputs

    def heal(self, model: str) -> None:
        self.calls.append("heal")

    def installed_versions(self, model: str) -> set[int]:
        return {version for name, version in self.installed if name == model}

    def remove(self, model: str, version: int | None = None) -> None:
        self.installed = {
            (m, v)
            for m, v in self.installed
            if m != model or (version is not None and v != version)
        }
        if version is None:
            self.served.pop(model, None)

    def _step(self, name: str) -> None:
        self._check()
        self.calls.append(name)
        if self.crash_at == name:
            self.crash_at = None
            raise SystemExit(f"killed at {name}")

    def _check(self) -> None:
        if not self.ready:
            raise Unavailable("Triton is starting")


class StandInGateway:
    url = "http://127.0.0.1:1"
    wakes = True

    def __init__(self) -> None:
        self.routes: list[Route] = []
        self.counted: dict[tuple[str, int], VersionTraffic] = {}

    def start(self) -> None: ...

    def metrics(self) -> bytes:
        return b"envoy_server_live 1\n"

    def traffic(self) -> dict[tuple[str, int], VersionTraffic]:
        return dict(self.counted)

    def health(self) -> EngineHealth:
        return EngineHealth(name="envoy", state=EngineState.READY)

    def apply(self, routes: Sequence[Route]) -> None:
        self.routes = list(routes)


class StandInSigner:
    def sign(
        self, audience: str, jti: str, subject: str, expires_at: Any, scope: str = "infer"
    ) -> str:
        return f"signed:{audience}:{jti}"


class StandInIdentity:
    """Tokens `user:<name>`, `admin:<name>`, and `reader:<name>`, each with `+<group>` for every
    group that they are in; each asked about is counted."""

    def __init__(self) -> None:
        self.revoked: set[str] = set()
        self.fresh: list[bool] = []
        self.grace = 0
        """So many requests with a revoked token still pass."""

    async def identify(self, token: str, *, fresh: bool) -> Principal | None:
        self.fresh.append(fresh)
        kind, _, name = token.partition(":")
        user, *groups = name.split("+")
        if token in self.revoked and self.grace:
            self.grace -= 1
        elif token in self.revoked:
            return None
        if kind not in ("user", "admin", "reader"):
            return None
        verbs = ["read", "data:write", "runs:write", "models:write", "endpoints:write"]
        if kind == "reader":
            verbs = verbs[:1]
        suffix = "" if kind == "admin" else f"!user={user}"
        return Principal(
            user=user,
            scopes=frozenset(f"custom:aiaas:{verb}{suffix}" for verb in verbs),
            admin=kind == "admin",
            groups=frozenset(groups),
        )
