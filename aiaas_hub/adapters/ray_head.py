"""The process of a local Ray head: its ports, directory, environment and command line."""

from __future__ import annotations

import json
import os
import site
import sys
import sysconfig
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import aiaas_hub
from aiaas_hub.adapters import run_directory
from aiaas_hub.adapters.supervisor import ProcessSpec
from aiaas_hub.domain.ports import Capacity
from aiaas_hub.home import MARKER, Home, write_private
from aiaas_hub.loopback import ADDRESS, free_ports, is_free
from aiaas_hub.spawner.gpus import nvidia_gpu_count

NAME = "ray"
_OBJECT_STORE_BYTES = 500_000_000
_LEAST_CPUS = 4
"""Logical ones: two workers and what else a run starts fit on a laptop of two cores."""
_INHERITED = (
    MARKER,
    # From which hub's repositories recipes may load weights.
    "AIAAS_ALLOW_HUB_MODELS",
    "HOME",
    "LANG",
    "LD_LIBRARY_PATH",
    "LOGNAME",
    "PATH",
    "PYTHONPATH",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "TZ",
    "USER",
    "VIRTUAL_ENV",
    "XDG_CACHE_HOME",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
)
_INHERITED_PREFIXES = ("CUDA_", "HF_", "LC_", "NCCL_", "NVIDIA_", "OMP_")


@dataclass(frozen=True)
class RayPorts:
    """All on loopback. Kept in the home, so that a living head is found again."""

    gcs: int
    agent: int
    client: int


def read_ports(home: Home) -> RayPorts | None:
    try:
        return RayPorts(**json.loads(_ports_file(home).read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def choose_ports(home: Home) -> RayPorts:
    """The kept ports where they are free still, else new ones, written to the home."""
    kept = read_ports(home)
    if kept is not None and all(is_free(port) for port in asdict(kept).values()):
        return kept
    ports = RayPorts(*free_ports(len(fields(RayPorts))))
    home.ray.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_private(_ports_file(home), json.dumps(asdict(ports)) + "\n")
    return ports


def capacity() -> Capacity:
    """What the head has: CPUs as it is told, GPUs as it will find them itself."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    gpus = nvidia_gpu_count() if visible is None else len([*filter(None, visible.split(","))])
    return Capacity(cpus=max(os.cpu_count() or 1, _LEAST_CPUS), gpus=gpus)


def head_process(home: Home, ports: RayPorts) -> ProcessSpec:
    """`ray start --head --block`, all of it on loopback and behind a token."""
    home.secret("ray_token")
    return ProcessSpec(
        name=NAME,
        argv=[
            sys.executable,
            "-m",
            "ray.scripts.scripts",
            "start",
            "--head",
            "--block",
            f"--node-ip-address={ADDRESS}",
            f"--port={ports.gcs}",
            # A server of every run's logs that asks for no name; ours are asked for by owner.
            "--include-dashboard=false",
            f"--dashboard-agent-listen-port={ports.agent}",
            f"--ray-client-server-port={ports.client}",
            # Ray opens this directory to everybody (mode 777); the one around it is private.
            f"--temp-dir={run_directory.run_directory(home, NAME)}",
            f"--num-cpus={capacity().cpus:.0f}",
            f"--object-store-memory={_OBJECT_STORE_BYTES}",
            "--disable-usage-stats",
            # The autoscaler: one node has nothing to scale.
            "--no-monitor",
            # Workers' output is read where they write it.
            "--include-log-monitor=false",
        ],
        env=head_environment(home),
        # Python looks for modules where it stands: not in the home, which has a `triton`.
        cwd=home.ray,
        grace_seconds=8,
        # Its jobs.
        starts_sessions=True,
    )


def raylet_socket(home: Home) -> Path:
    """Where the head's raylet listens once it is up."""
    sessions = run_directory.run_directory(home, NAME)
    return sessions / "session_latest" / "sockets" / "raylet"


def has_started(home: Home) -> bool:
    """Whether `ray start` has come to its end. The head listens some seconds before its node is
    known, and gives up if that takes 30 s: what starts on it meanwhile may be what makes it late.
    """
    return (run_directory.run_directory(home, NAME) / "ray_current_cluster").exists()


def head_environment(home: Home) -> dict[str, str]:
    """What Ray and with it every run inherits: nothing of the hub's or the service's secrets."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if name in _INHERITED or name.startswith(_INHERITED_PREFIXES)
    }
    root = str(Path(aiaas_hub.__file__).parents[1])
    if root not in (*site.getsitepackages(), sysconfig.get_path("purelib")):
        # Run from a checkout: workers need the same code.
        known = environment.get("PYTHONPATH", "").split(os.pathsep)
        environment["PYTHONPATH"] = os.pathsep.join(dict.fromkeys([root, *filter(None, known)]))
    temporary = run_directory.run_directory(home, NAME) / "tmp"
    temporary.mkdir(mode=0o700, exist_ok=True)
    environment.update(
        RAY_AUTH_MODE="token",
        RAY_AUTH_TOKEN_PATH=str(home.secret_file("ray_token")),
        RAY_USAGE_STATS_ENABLED="0",
        # On a busy machine the head gives up on its own children too soon. (Its raylet it allows
        # 30 s whatever one sets: ray/_private/node.py; the reconciler then starts it again.)
        RAY_gcs_server_port_wait_time_s="120",
        # Off, Ray replaces a loopback address by the host's and listens on every interface.
        # The name is from the systems where this is the default.
        RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0",
        # No exporter that answers without a token; the dashboard's own takes a free port.
        RAY_enable_metrics_collection="0",
        DASHBOARD_METRIC_PORT="0",
        # Ray's idle workers never match a run's environment.
        RAY_prestart_worker_first_driver="0",
        # Else Ray's own titles of processes overwrite what the kernel shows of their environment,
        # and with it the platform's marker.
        SPT_NOENV="1",
        # What killed processes leave in it goes with the platform.
        TMPDIR=str(temporary),
        AIAAS_NODE_CACHE=str(home.root / "cache"),
    )
    if sys.platform == "linux":
        environment["GLOO_SOCKET_IFNAME"] = "lo"
    return environment


def _ports_file(home: Home) -> Path:
    return home.ray / "ports.json"
