"""Write or check the frozen requirements of the project.

    python .ci/locks.py write [--upgrade]     resolve pyproject.toml anew
    python .ci/locks.py check                 do the lock files satisfy pyproject.toml?

`requirements.lock` is what `make up` installs (extra `local`), `requirements-test.lock` what the
tests and checks need besides. Neither names an index or a path: where packages come from is the
business of whoever installs.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import tomllib
from importlib.metadata import distributions
from pathlib import Path

from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
LOCKS = {"local": ROOT / "requirements.lock", "test": ROOT / "requirements-test.lock"}
PROJECT = "aiaas-hub"
PINNED = [
    # Exactly this one: the exporter's behaviour differs between releases.
    "torch==2.13.0",
    # 3 needs Python 3.11.5, and Debian 12 has 3.11.2.
    "soupsieve<3",
]
PYTHONS = ["3.11.2", "3.12.0", "3.13.0"]
"""The oldest release of each Python that the locks are for."""
HEADER = "# Frozen requirements: `make lock` writes this file from pyproject.toml.\n"


def main() -> int:
    match sys.argv[1:]:
        case ["write"]:
            return write(upgrade=False)
        case ["write", "--upgrade"]:
            return write(upgrade=True)
        case ["check"]:
            problems = check()
            print("\n".join(problems) or "The lock files satisfy pyproject.toml.")
            return 1 if problems else 0
    print(__doc__)
    return 2


def write(*, upgrade: bool) -> int:
    with tempfile.TemporaryDirectory() as directory:
        constraints = [Path(directory) / "pinned.txt"]
        constraints[0].write_text("\n".join(PINNED) + "\n")
        for extra, lock in LOCKS.items():
            output = Path(directory) / lock.name
            if lock.exists() and not upgrade:
                # pip-compile keeps what its output file pins already.
                output.write_text(lock.read_text())
            _resolve(extra, constraints, output)
            lines = [_with_marker(line) for line in _cleaned(output.read_text())]
            if extra == "test":
                local = set(_requirement_lines(LOCKS["local"].read_text()))
                lines = [line for line in lines if line not in local]
            lock.write_text(HEADER + "\n".join(lines) + "\n")
            constraints.append(lock)
    return 0


def _resolve(extra: str, constraints: list[Path], output: Path) -> None:
    command = [sys.executable, "-m", "piptools", "compile", "--quiet", "--strip-extras"]
    command += ["--no-header", "--no-annotate", "--allow-unsafe", "--no-emit-options"]
    command += ["--no-emit-index-url", "--no-emit-trusted-host", "--no-emit-find-links"]
    for constraint in constraints:
        command += ["--constraint", str(constraint)]
    command += ["--extra", extra, "--output-file", str(output), "pyproject.toml"]
    subprocess.run(command, cwd=ROOT, check=True)


def _cleaned(text: str) -> list[str]:
    lines = []
    for line in _requirement_lines(text):
        name = canonicalize_name(re.split(r"[=@\s\[]", line, maxsplit=1)[0])
        if name == PROJECT:
            continue
        if "@" in line or "==" not in line:
            raise SystemExit(f"cannot be frozen: {line}")
        # `+cpu` names a build that only some indexes have.
        lines.append(re.sub(r"(==[^+;\s]+)\+[A-Za-z0-9.]+", r"\1", line))
    return lines


def _with_marker(line: str) -> str:
    """A frozen requirement that pyproject.toml asks for on some machines only says so too.

    It was resolved on one machine and is installed on all of them.
    """
    requirement = Requirement(line)
    requirement.marker = declared_markers().get(canonicalize_name(requirement.name))
    return str(requirement)


def declared_markers() -> dict[str, Marker]:
    """Packages that every requirement in pyproject.toml restricts, and to what."""
    found: dict[str, Marker | None] = {}
    for text in _declared():
        requirement = Requirement(text)
        name = canonicalize_name(requirement.name)
        if name not in found:
            found[name] = requirement.marker
        elif found[name] != requirement.marker:
            found[name] = None
    return {name: marker for name, marker in found.items() if marker is not None}


def _declared() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    return [*project["dependencies"], *(text for extra in extras.values() for text in extra)]


def _requirement_lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if re.match(r"[A-Za-z0-9]", line.strip())]


def check() -> list[str]:
    """What is wrong, one sentence each."""
    pins: dict[str, Version] = {}
    markers = declared_markers()
    problems = []
    for lock in LOCKS.values():
        text = lock.read_text()
        if "://" in text or "@" in text or "+" in text:
            problems.append(f"{lock.name} names an index, a path or a local build.")
        for line in _requirement_lines(text):
            requirement = Requirement(line)
            [specifier] = requirement.specifier
            name = canonicalize_name(requirement.name)
            pins[name] = Version(specifier.version)
            if requirement.marker != markers.get(name):
                problems.append(
                    f"{lock.name} locks {name} for other machines than pyproject.toml asks it "
                    "for: make lock"
                )
    for text in [*_declared(), *PINNED]:
        requirement = Requirement(text)
        name = canonicalize_name(requirement.name)
        marker: Marker | None = requirement.marker
        if name == PROJECT or (marker is not None and not marker.evaluate()):
            continue
        if name not in pins:
            problems.append(f"{name} is in no lock file: make lock")
        elif not requirement.specifier.contains(pins[name], prereleases=True):
            problems.append(f"{name} {pins[name]} is locked, {requirement} is asked for: make lock")
    return problems + _too_new(pins)


def _too_new(pins: dict[str, Version]) -> list[str]:
    """Locked packages that do not install on every Python of the project.

    It asks the installed packages, so it sees what this environment has of the locks.
    """
    problems = []
    for distribution in distributions():
        metadata = distribution.metadata
        name, needed = canonicalize_name(metadata["Name"]), metadata["Requires-Python"]
        if not needed or pins.get(name) != Version(distribution.version):
            continue
        refusing = [python for python in PYTHONS if python not in SpecifierSet(needed)]
        if refusing:
            problems.append(
                f"{name} {pins[name]} needs Python {needed} and does not install on "
                f"{', '.join(refusing)}: hold it back in PINNED."
            )
    return problems


if __name__ == "__main__":
    sys.exit(main())
