"""The `ServingEngine` port on a tritonserver of this machine."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import logging
import shutil
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from aiaas_hub.adapters import run_directory
from aiaas_hub.adapters.run_directory import triton_sockets
from aiaas_hub.adapters.supervisor import ProcessSpec, Supervisor
from aiaas_hub.adapters.triton_local import backend, golden, inspection, loading
from aiaas_hub.adapters.triton_local.client import TritonClient
from aiaas_hub.adapters.triton_local.counted_inputs import VARIABLE, CountedInputs
from aiaas_hub.adapters.triton_local.environment import (
    EnvironmentMaker,
    Progress,
    ServingEnvironment,
    check_platform,
)
from aiaas_hub.adapters.triton_local.model_configuration import configuration
from aiaas_hub.adapters.triton_local.repository import Repository
from aiaas_hub.domain.ports import DEFAULT_OPTIONS, ModelCounts, StagedVersion
from aiaas_hub.home import Home
from aiaas_hub.schemas.drift import InputReference
from aiaas_hub.schemas.endpoints import ServingOptions
from aiaas_hub.schemas.errors import AiaasError, Unavailable
from aiaas_hub.schemas.models import Signature
from aiaas_hub.schemas.platform import EngineHealth, EngineState

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from aiaas_hub.domain.ports import Tensors

log = logging.getLogger(__name__)

NAME = "triton"
_START_SECONDS = 60.0
# gRPC of Triton takes an address and a port and joins them with a colon: of a socket's path the
# port becomes the end. It says nothing otherwise.
_GRPC_PORT = 1
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - where the python backend puts its regions
_STACK_KIB = 512 << 10


class TritonLocal:
    """One tritonserver for this home, reachable through sockets in a private directory only.

    It listens on no port at all, so there is nothing to guard with a secret, which Triton could
    take only in its command line.
    """

    def __init__(
        self,
        home: Home,
        supervisor: Supervisor,
        *,
        instances: int = 1,
        progress: Progress = log.info,
    ) -> None:
        self._home = home
        self._supervisor = supervisor
        self._instances = instances
        self._environment = EnvironmentMaker(progress)
        self._repository = Repository(home.triton)
        self._counted = CountedInputs(home.triton / "inputs")
        self._loading = loading.Loading(self._repository, self._connected)
        self._client: TritonClient | None = None
        self._starter: threading.Thread | None = None
        self._phase = ""
        """While it starts: what is being done."""
        self._failure = ""
        """Why the last start failed."""
        self._guard = threading.Lock()

    # Process

    @property
    def http_socket(self) -> Path:
        """Where the gateway reaches it."""
        return self._sockets() / "http"

    def start(self) -> None:
        """Start Triton, or adopt it if it runs; returns before it is ready, see `health`.

        The first start on a machine installs the serving environment. Models are not loaded:
        whoever knows which are wanted calls `set_versions`. Raises `Unavailable` where it cannot
        run at all, or its environment could not be made a moment ago.
        """
        self._environment.require()
        with self._guard:
            if self._starter is not None and self._starter.is_alive():
                return
            if self._supervisor.alive(NAME):
                return
            self._phase, self._failure = "It is starting.", ""
            self._starter = threading.Thread(target=self._start, name="start-triton", daemon=True)
            self._starter.start()

    def shutdown(self) -> None:
        """Stop Triton; a repeat does nothing."""
        starter = self._starter
        if starter is not None:
            starter.join()
        with self._guard:
            if self._client is not None:
                self._client.close()
                self._client = None
        self._supervisor.stop(NAME)
        run_directory.remove(self._home, NAME)

    def require(self) -> None:
        """See `ServingEngine.require`: no wheel, no libpython, or no environment."""
        self._environment.require()

    def health(self) -> EngineHealth:
        if self._phase:
            return EngineHealth(name=NAME, state=EngineState.STARTING, reason=self._phase)
        if self._supervisor.alive(NAME):
            if self._triton().is_live():
                return EngineHealth(name=NAME, state=EngineState.READY)
            reason = "It does not answer. Its log is in logs/triton.log."
        else:
            reason = self._failure or "It is not running; it is started again within seconds."
            try:
                check_platform()
            except Unavailable as error:
                reason = str(error)
        return EngineHealth(name=NAME, state=EngineState.UNAVAILABLE, reason=reason)

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
        """See `ServingEngine.stage`."""
        environment = self._environment.get()
        with self._loading.lock(model):
            self._repository.prepare()
            staged = self._repository.stage(model, version, onnx, reference)
            if self._repository.is_installed(staged):
                return staged
            with self._repository.discarded_on_failure(staged):
                each = inspection.check(environment, staged.path / "model.onnx", signature)
                staged = replace(staged, memory=each * (options.instances or self._instances))
                self._repository.seal(staged)
            return staged

    def discard(self, staged: StagedVersion) -> None:
        self._repository.discard(staged)

    def memory(self) -> dict[tuple[str, int], int]:
        """See `ServingEngine.memory`."""
        self._repository.prepare()
        return self._repository.memory()

    def install(self, staged: StagedVersion) -> None:
        with self._loading.lock(staged.model):
            self._repository.install(staged)

    def set_versions(
        self,
        model: str,
        signature: Signature,
        versions: Sequence[int],
        options: ServingOptions = DEFAULT_OPTIONS,
    ) -> None:
        """See `ServingEngine.set_versions`."""
        wanted = set(versions)
        text = configuration(
            model, signature, sorted(wanted), instances=self._instances, options=options
        )
        self._loading.serve(model, wanted, text)
        self._close_regions()

    def ready_versions(self, model: str) -> set[int]:
        return self._connected().ready_versions(model)

    def installed_versions(self, model: str) -> set[int]:
        return self._repository.versions(model)

    def models(self) -> set[str]:
        self._repository.prepare()
        return self._repository.models() - {golden.NAME}

    def infer(self, model: str, version: int, inputs: Tensors) -> dict[str, NDArray[np.generic]]:
        """See `ServingEngine.infer`."""
        text = self._repository.read_configuration(model) or ""
        return loading.infer(self._triton(), text, model, version, inputs)

    def counts(self, model: str) -> dict[int, ModelCounts]:
        return self._connected().counts(model)

    def input_reference(self, model: str, version: int) -> InputReference | None:
        return self._repository.reference(model, version)

    def input_counts(self) -> dict[tuple[str, int], NDArray[np.int64]]:
        """See `ServingEngine.input_counts`."""
        return self._counted.read()

    def heal(self, model: str) -> None:
        """See `ServingEngine.heal`."""
        self._loading.heal(model)
        self._close_regions()

    def remove(self, model: str, version: int | None = None) -> None:
        """See `ServingEngine.remove`."""
        self._loading.remove(model, version)
        self._counted.remove(model, version)

    # Starting

    def _start(self) -> None:
        try:
            self._phase = "Its environment is being prepared; the first time takes a minute."
            environment = self._environment.get()
            self._phase = "It is starting."
            self._spawn(environment)
            self._wait_until_live()
            try:
                golden.check(self)
            finally:
                self._repository.remove(golden.NAME)
        except AiaasError as error:
            self._failure = str(error)
            log.warning("Triton does not start: %s", error)
            self._supervisor.stop(NAME)
        except Exception:
            self._failure = "It could not be started; the service's log says why."
            log.exception("Triton does not start")
            self._supervisor.stop(NAME)
        finally:
            self._phase = ""

    def _spawn(self, environment: ServingEnvironment) -> None:
        self._repository.prepare()
        sockets = self._sockets()
        self._write_backends(environment)
        self._counted.clear()
        region = _SHARED_MEMORY / self._region()
        self._supervisor.start(
            ProcessSpec(
                NAME,
                self._argv(environment, sockets),
                {**environment.variables(), VARIABLE: str(self._counted.root)},
                cwd=self._home.triton,
                grace_seconds=10,
                # A Triton that is killed leaves 1 MiB of shared memory for each of its processes.
                leaves=[f"{region}*", f"{glob.escape(str(sockets))}/*"],
            )
        )

    def _wait_until_live(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while not self.http_socket.exists() or not self._triton().is_live(0.5):
            if not self._supervisor.alive(NAME) or time.monotonic() > deadline:
                lines = self._supervisor.last_lines(NAME, 50)
                telling = [line for line in lines if line.startswith(("E", "error"))] or lines
                raise Unavailable(
                    f"Triton did not start: {telling[-1] if telling else 'it wrote no log.'}",
                    remedy="Its log is in logs/triton.log.",
                )
            time.sleep(0.02)

    def _argv(self, environment: ServingEnvironment, sockets: Path) -> list[str]:
        return [
            # JSON that is nested deeply enough overflows the stack of the thread that parses it,
            # and with it goes the server. The gateway bounds such bodies; this bears the bound.
            *("/bin/sh", "-c", f'ulimit -S -s {_STACK_KIB}; exec "$@"', NAME),
            str(environment.tritonserver),
            f"--model-repository={self._repository.models_root}",
            f"--backend-directory={self._home.triton / 'backends'}",
            "--model-control-mode=explicit",
            # Configurations are whole: guessing the rest costs a second per load.
            "--disable-auto-complete-config",
            # One version that failed to load must not make the whole server unready for ever.
            "--strict-readiness=false",
            f"--http-address=unix:{sockets / 'http'}",
            f"--grpc-address=unix:{sockets / 'grpc'}",
            f"--grpc-port={_GRPC_PORT}",
            "--allow-metrics=false",
            "--allow-sagemaker=false",
            "--allow-vertex-ai=false",
            "--exit-timeout-secs=5",
            f"--backend-config=python,shm-region-prefix-name={self._region()}",
        ]

    def _write_backends(self, environment: ServingEnvironment) -> None:
        """The backend directory, anew: copies, as Triton refuses links that lead out of it."""
        backends = self._home.triton / "backends"
        shutil.rmtree(backends, ignore_errors=True)
        (backends / "python").mkdir(parents=True)
        for path in environment.python_backend:
            shutil.copy(path, backends / "python")
        for name in ("onnxruntime", "aiaas"):
            (backends / name).mkdir()
            for file, content in backend.files().items():
                (backends / name / file).write_bytes(content)

    def _connected(self) -> TritonClient:
        if not self._supervisor.alive(NAME):
            raise Unavailable("Triton is not up.", remedy="Try again in a moment.")
        return self._triton()

    def _triton(self) -> TritonClient:
        with self._guard:
            if self._client is None:
                self._client = TritonClient(f"unix:{self._sockets() / 'grpc'}:{_GRPC_PORT}")
            return self._client

    def _sockets(self) -> Path:
        return triton_sockets(self._home)

    def _close_regions(self) -> None:
        """Requests pass through shared memory, which Triton's python backend makes readable for all
        users of the machine, whatever the umask. A region is there from when a model's process
        starts, and is closed before that is asked for anything."""
        for region in _SHARED_MEMORY.glob(f"{self._region()}*"):
            with contextlib.suppress(FileNotFoundError):
                region.chmod(0o600)

    def _region(self) -> str:
        return shared_memory_prefix(self._home)


def shared_memory_prefix(home: Home) -> str:
    """What the names of all shared memory begin with that this home's Triton makes."""
    name = hashlib.sha256(str(home.root).encode()).hexdigest()[:12]
    return f"triton_aiaas_{name}_"
