"""Build the JupyterLab extension in `labextension/`, or check its sources.

    python .ci/labextension.py build STAMP     also link it into this environment; touch STAMP
    python .ci/labextension.py check           types, format and unit tests

Its packages come from the npm registry by the lock file. Where that fails, `build` says so in a
line and is content: the platform works without the extension. Standard library and our own Node.js
finder only.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

from aiaas_hub.local.node_proxy import Node, find_node
from aiaas_hub.schemas.errors import AiaasError

SOURCE = Path(__file__).resolve().parents[1] / "labextension"
BUILT = SOURCE / "built"
SECONDS = 600
MOST_LINES = 200


class Failed(Exception):
    """In a few words, why."""


def main() -> int:
    match sys.argv[1:]:
        case ["build", stamp]:
            return build(Path(stamp))
        case ["check"]:
            return check()
    print(__doc__)
    return 2


def build(stamp: Path) -> int:
    try:
        node = prepare()
        npm(node, "run", "build")
        link()
    except (Failed, AiaasError, OSError) as error:
        print(
            f"The JupyterLab extension was not built ({error}): everything works without it, but "
            "runs in notebooks that are opened again show what was saved of them.",
            flush=True,
        )
        return 0
    stamp.touch()
    return 0


def check() -> int:
    try:
        npm(prepare(), "run", "check")
    except (Failed, AiaasError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def prepare() -> Node:
    """Install the packages that the lock file names, unless they are there."""
    node = find_node()
    lock = hashlib.sha256((SOURCE / "package-lock.json").read_bytes()).hexdigest()
    installed = SOURCE / "node_modules" / ".installed"
    if not installed.is_file() or installed.read_text() != lock:
        print("Installing what the JupyterLab extension is built with …", flush=True)
        npm(node, "ci", "--ignore-scripts", "--fetch-retries=1", "--fetch-timeout=30000")
        installed.write_text(lock)
    return node


def npm(node: Node, *arguments: str) -> None:
    path = f"{Path(node.node).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    try:
        done = subprocess.run(
            [*node.npm, *arguments],
            cwd=SOURCE,
            env={**os.environ, "PATH": path, "NO_COLOR": "1"},
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise Failed(f"npm {arguments[0]} took longer than {SECONDS} s") from error
    if done.returncode != 0:
        # The compiler speaks on one stream, npm on the other, where it warns as well.
        lines = [*done.stdout.splitlines(), *done.stderr.splitlines()]
        if arguments[-1] == "check":
            raise Failed("\n".join(line[:300] for line in lines[-MOST_LINES:]))
        telling = [line for line in lines if "error" in line.lower()] or lines[-3:]
        raise Failed(telling[0].strip()[:300] if telling else f"npm {arguments[0]} failed")


def link() -> None:
    """JupyterLab looks for extensions in its environment; a clone's is found there by a link."""
    name = json.loads((SOURCE / "package.json").read_text())["name"]
    place = Path(sys.prefix, "share", "jupyter", "labextensions", name)
    place.parent.mkdir(parents=True, exist_ok=True)
    if place.is_symlink() or not place.exists():
        place.unlink(missing_ok=True)
        place.symlink_to(BUILT, target_is_directory=True)


if __name__ == "__main__":
    sys.exit(main())
