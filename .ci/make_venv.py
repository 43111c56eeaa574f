"""Make a virtual environment with pip in it, on machines that come with little.

    python3 .ci/make_venv.py .venv

Debian and Ubuntu ship Python without `ensurepip` and without its shared library. Then: as root,
install the packages that have them; otherwise name them, or, where `PIP_INDEX_URL` names a package
index, fetch pip's own wheel from it, compare its hash with the index's, and let it install itself.
Standard library only.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.parse
import urllib.request
from pathlib import Path

VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
JSON = "application/vnd.pypi.simple.v1+json"


def main() -> int:
    if len(sys.argv) != 2:
        print(__doc__)
        return 2
    target = Path(sys.argv[1])
    if shutil.which("apt-get"):
        install_missing()
    if has_ensurepip():
        subprocess.run([sys.executable, "-m", "venv", str(target)], check=True)
        return 0
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(target)], check=True)
    try:
        fetch_pip(target / "bin" / "python")
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        shutil.rmtree(target, ignore_errors=True)
        print(
            f"This Python has no pip, and fetching it failed: {error}\n"
            f"Type this, then try again:  sudo apt-get install python{VERSION}-venv\n"
            "Where you may not, set PIP_INDEX_URL to the address of your package index.",
            file=sys.stderr,
        )
        return 1
    return 0


def has_ensurepip() -> bool:
    # A new process: an installation a moment ago must be seen.
    probe = [sys.executable, "-c", "import ensurepip, venv"]
    return subprocess.run(probe, stderr=subprocess.DEVNULL, check=False).returncode == 0


def has_libpython() -> bool:
    """Triton's Python backend links to it; Debian's python3 does without."""
    try:
        ctypes.CDLL(f"libpython{VERSION}.so.1.0")
    except OSError:
        return False
    return True


def install_missing() -> None:
    packages = [] if has_ensurepip() else [f"python{VERSION}-venv"]
    # Another Python than the distribution's needs another library than the distribution's.
    if os.path.realpath(sys.executable) == f"/usr/bin/python{VERSION}" and not has_libpython():
        packages.append(f"libpython{VERSION}")
    if not packages:
        return
    if os.geteuid() != 0:
        # pip can do without its package, Triton without the library cannot.
        if packages[-1].startswith("libpython"):
            print(
                "Publishing models needs Python's shared library, which is not here. Type this, "
                f"now or later:  sudo apt-get install {packages[-1]}",
                flush=True,
            )
        return
    environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    print(f"Installing {' and '.join(packages)} …", flush=True)
    for command in (
        ["apt-get", "-qq", "update"],
        ["apt-get", "-qq", "install", "-y", "--no-install-recommends", *packages],
    ):
        # A failure is not the end: pip can be fetched, and `aiaas doctor` names the library.
        subprocess.run(command, env=environ, stdout=subprocess.DEVNULL, check=False)


def fetch_pip(python: Path) -> None:
    index = os.environ.get("PIP_INDEX_URL", "").rstrip("/")
    if not index.startswith(("https://", "http://")):
        raise ValueError("PIP_INDEX_URL names no package index")
    page = f"{index}/pip/"
    request = urllib.request.Request(page, headers={"Accept": JSON})
    with urllib.request.urlopen(request, timeout=60) as answer:
        files = json.load(answer)["files"]
    wheels = {}
    for file in files:
        match = re.fullmatch(r"pip-(\d+(?:\.\d+)*)-py3-none-any\.whl", file["filename"])
        if match and not file.get("yanked"):
            wheels[tuple(map(int, match[1].split(".")))] = file
    newest = wheels[max(wheels)]
    with tempfile.TemporaryDirectory() as directory:
        wheel = Path(directory) / newest["filename"]
        address = urllib.parse.urljoin(page, newest["url"])
        with urllib.request.urlopen(address, timeout=120) as answer:
            content = answer.read()
        if hashlib.sha256(content).hexdigest() != newest["hashes"]["sha256"]:
            raise ValueError(f"{address} does not have the hash that the index names")
        wheel.write_bytes(content)
        # A wheel is a zip, and pip runs from within it.
        install = [str(python), f"{wheel}/pip", "install", "--no-index", str(wheel)]
        subprocess.run(install, check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    sys.exit(main())
