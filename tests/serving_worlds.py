"""Where a serving engine runs, and what can befall it there."""

from __future__ import annotations

import os
import shutil
import time
from contextlib import ExitStack
from pathlib import Path

import onnx_models
import psutil
from bed.control_plane import ControlPlane
from object_store import object_store
from serving_pods import Serving, server_pods, serving

from aiaas_hub.adapters import unix_http
from aiaas_hub.adapters.kubernetes.client import Cluster
from aiaas_hub.adapters.supervisor import Supervisor
from aiaas_hub.adapters.triton_kubernetes.catalogue import Catalogue
from aiaas_hub.adapters.triton_kubernetes.engine import TritonKubernetes
from aiaas_hub.adapters.triton_local import TritonLocal
from aiaas_hub.adapters.triton_local.server import _SHARED_MEMORY
from aiaas_hub.domain.ports import ServingEngine
from aiaas_hub.home import Home
from aiaas_hub.schemas.platform import EngineState

SIGNATURE = onnx_models.SCALE_SIGNATURE


def wait_ready(engine: ServingEngine, seconds: float = 300) -> None:
    """The first start on a machine installs the serving environment; on a busy one, one look at it
    may go unanswered."""
    deadline = time.monotonic() + seconds
    while (health := engine.health()).state is not EngineState.READY:
        assert time.monotonic() < deadline, health
        time.sleep(0.02)


class Local:
    """A tritonserver of this machine."""

    servers = 1
    forgets = True
    """Whether a Triton that was killed comes back without its models."""

    def __init__(self, root: Path) -> None:
        self.home = Home(root)
        self.home.prepare()
        self.supervisor = Supervisor(self.home.processes, self.home.logs)
        self.engine = TritonLocal(self.home, self.supervisor)

    def start(self) -> None:
        self.engine.start()

    def another(self) -> TritonLocal:
        """The engine of another process of the service."""
        return TritonLocal(self.home, Supervisor(self.home.processes, self.home.logs))

    def running(self) -> list[str]:
        process = self.supervisor.process("triton")
        return [str(process)] if process else []

    def ready_servers(self) -> int:
        """How many say themselves that they are, which is more than to be alive."""
        status, _ = unix_http.get(self.engine.http_socket, "/v2/health/ready", timeout=30)
        return int(status == 200)

    def places(self) -> list[str]:
        """Paths that no error may tell."""
        return [str(self.home.root)]

    def spoil(self, model: str, version: int) -> None:
        """Past the check, as a failing disk would have it."""
        (self.home.triton / "models" / model / str(version) / "model.onnx").write_bytes(b"rubbish")

    def litter(self, model: str) -> None:
        _litter(self.home.triton / "models" / model)

    def kill(self) -> None:
        process = self.supervisor.process("triton")
        assert process is not None
        os.kill(process.pid, 9)
        while self.supervisor.alive("triton"):
            time.sleep(0.01)

    def revive(self) -> None:
        self.engine.start()

    def kill_instances(self) -> None:
        process = self.supervisor.process("triton")
        assert process is not None
        _kill_children(psutil.Process(process.pid))

    def stop(self) -> None:
        self.engine.shutdown()
        regions = [p.name for p in _SHARED_MEMORY.glob(f"{self.engine._region()}*")]
        assert regions == []


class OnPods:
    """Two pods on a control plane of its own, and a real S3 server."""

    servers = 2
    forgets = False

    def __init__(self, root: Path) -> None:
        self.home = Home(root / "home")
        self.home.prepare()
        self._plane = ControlPlane(root / "plane")
        self._ends = ExitStack()
        try:
            self._ends.callback(self._plane.down)
            self._plane.up()
            store = self._ends.enter_context(object_store(root / "s3"))
            pods = server_pods(self._plane.namespace("serving"), store)
            self.serving: Serving = self._ends.enter_context(
                serving(self._plane, self.home, store, pods, gateways=0)
            )
        except BaseException:
            self._ends.close()
            raise
        self.engine = self.serving.triton
        self._others: list[TritonKubernetes] = []

    def start(self) -> None:
        self.engine.start()
        self.serving.until(lambda: len(self._ready()) == self.servers)

    def another(self) -> TritonKubernetes:
        made = TritonKubernetes(
            Cluster(self.serving.namespace, self.serving.kubeconfig),
            self.serving.pods,
            Catalogue(self.serving.pods.store),
            self.serving.control,
            self.home.triton,
        )
        self._ends.callback(made.close)
        return made

    def running(self) -> list[str]:
        return sorted(pod["metadata"]["uid"] for pod in self.serving.servers())

    def ready_servers(self) -> int:
        """By the probe of their pods, which asks the same."""
        return len(self._ready())

    def places(self) -> list[str]:
        return [str(self.home.root), "/srv/models", str(self._plane.root)]

    def spoil(self, model: str, version: int) -> None:
        """The hash is right, and what has it is no model."""
        rubbish = self.home.root / "rubbish"
        rubbish.write_bytes(b"rubbish")
        record = self.engine._record(model)
        sha256 = onnx_models.sha256(rubbish)
        self.engine._catalogue.keep(rubbish, sha256)
        record.versions[version].sha256 = sha256
        self.engine._write(model, record)

    def litter(self, model: str) -> None:
        for pod in self.serving.servers():
            models = self._plane.state / pod["metadata"]["uid"] / "volumes" / "models" / "models"
            _litter(models / model)

    def kill(self) -> None:
        """Their containers find no program to start again with, until `revive`."""
        self._program().rename(self._program().with_suffix(".off"))
        for triton in self._tritons():
            triton.kill()
        self.serving.until(lambda: not self._ready())

    def revive(self) -> None:
        self._program().with_suffix(".off").rename(self._program())
        self.serving.until(lambda: len(self._ready()) == self.servers)

    def kill_instances(self) -> None:
        """Of one pod."""
        _kill_children(self._tritons()[0])

    def stop(self) -> None:
        self._ends.close()

    def _ready(self) -> list[str]:
        return [
            pod["metadata"]["name"]
            for pod in self.serving.servers()
            for one in pod["status"].get("conditions", ())
            if (one["type"], one["status"]) == ("Ready", "True")
        ]

    def _tritons(self) -> list[psutil.Process]:
        flags = {f"--http-address={pod['status']['podIP']}" for pod in self.serving.servers()}
        return [
            process
            for process in psutil.process_iter(["name", "cmdline"])
            if process.info["name"] == "tritonserver" and flags & set(process.info["cmdline"] or ())
        ]

    def _program(self) -> Path:
        return self._plane.state / "images" / self.serving.pods.image / "tritonserver"


World = Local | OnPods


def _litter(directory: Path) -> None:
    shutil.copytree(directory / "1", directory / "9.tmp")
    (directory / "notes.txt").write_text("somebody's")


def _kill_children(triton: psutil.Process) -> None:
    stubs = triton.children(recursive=True)
    assert stubs
    for stub in stubs:  # those of other tests' models may be ending still
        stub.kill()
