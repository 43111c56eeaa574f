"""Write or check the frozen requirements of the images.

    python .ci/images.py write     take them from the lock files
    python .ci/images.py check     are they in step with the lock files?

Each image has what the extras of pyproject.toml named here need, with all that these need in turn,
in the versions of `requirements.lock` and `requirements-test.lock`.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
LOCKS = ("requirements.lock", "requirements-test.lock")
IMAGES = {
    "hub": ("hub", "kubernetes", "postgresql"),
    "singleuser": ("singleuser", "train", "recipes", "tracking"),
    "ray": ("train", "recipes"),
}
SINGLE_USER = ("jupyterhub", "jupyterlab")
"""Of the extra `hub`, what a user's server needs."""
HEADER = "# Frozen requirements: `python .ci/images.py write` takes them from the lock files.\n"
TARGET = {"platform_machine": "x86_64", "sys_platform": "linux", "platform_system": "Linux"}


def main() -> int:
    match sys.argv[1:]:
        case ["write"]:
            for image in IMAGES:
                path(image).write_text(text(image))
            return 0
        case ["check"]:
            wrong = [image for image in IMAGES if path(image).read_text() != text(image)]
            for image in wrong:
                print(f"images/{image}/requirements.txt: python .ci/images.py write")
            return bool(wrong)
    print(__doc__)
    return 2


def path(image: str) -> Path:
    return ROOT / "images" / image / "requirements.txt"


def text(image: str) -> str:
    locked = dict(lock_lines())
    names = closure(first(image))
    missing = names - set(locked)
    if missing - {"aiaas-hub"}:
        # A lock that lacks a package is another check's business; it is named, not guessed.
        print(f"not locked yet, left out of {image}: {', '.join(sorted(missing))}", file=sys.stderr)
    return HEADER + "".join(f"{locked[name]}\n" for name in sorted(names & set(locked)))


def lock_lines() -> Iterator[tuple[str, str]]:
    for lock in LOCKS:
        for line in (ROOT / lock).read_text().splitlines():
            match = re.match(r"([A-Za-z0-9._-]+)==\S+", line)
            if match:
                yield canonicalize_name(match[1]), line


def first(image: str) -> Iterator[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    yield from map(Requirement, project["dependencies"])
    extras = project["optional-dependencies"]
    for extra in IMAGES[image]:
        wanted = extras["hub"] if extra == "singleuser" else extras[extra]
        for requirement in map(Requirement, wanted):
            if extra != "singleuser" or requirement.name in SINGLE_USER:
                yield requirement


def closure(wanted: Iterable[Requirement]) -> set[str]:
    """Names of all that is needed, as the installed packages say."""
    found: set[tuple[str, str]] = set()
    queue = [(one, "") for one in wanted]
    while queue:
        requirement, extra = queue.pop()
        environment = {**default_environment(), **TARGET, "extra": extra}
        if requirement.marker is not None and not requirement.marker.evaluate(environment):
            continue
        name = canonicalize_name(requirement.name)
        for of in (*requirement.extras, ""):
            if (name, of) in found:
                continue
            found.add((name, of))
            try:
                needs = requires(name) or []
            except PackageNotFoundError:
                needs = []
            queue += [(Requirement(need), of) for need in needs]
    return {name for name, _ in found}


if __name__ == "__main__":
    sys.exit(main())
