"""What code imports: modules beside it, which travel with it, and installed distributions.

Nothing is imported to find out: names come from the syntax tree or from the compiled code, and
`importlib` says where a module lies.
"""

from __future__ import annotations

import ast
import dis
import site
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import metadata
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec
from pathlib import Path
from types import CodeType, ModuleType

from aiaas_magics.snapshot.archive import File
from aiaas_magics.snapshot.folder import Rules, collect

# The run has its own; what lies beside the notebook by such a name is a checkout of this project.
_OURS = {"aiaas_magics", "aiaas_hub"}


@dataclass
class Imports:
    files: dict[str, Path] = field(default_factory=dict)
    """Local modules: name below a directory of `sys.path` → file."""
    packages: dict[str, str] = field(default_factory=dict)
    """Distribution → version installed here."""
    missing: list[str] = field(default_factory=list)
    """Modules that are not here at all."""
    left_out: list[File] = field(default_factory=list)


def of_source(source: str) -> set[str]:
    """Names of the modules that a source imports, up to the first dot.

    Those inside of `try` may well be missing and are not counted unless they are there.
    """
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return set()
    return set(_of_tree(tree, optional=False))


def _of_tree(node: ast.AST, *, optional: bool) -> Iterator[str]:
    for child in ast.iter_child_nodes(node):
        names: list[str] = []
        if isinstance(child, ast.Import):
            names = [alias.name for alias in child.names]
        elif isinstance(child, ast.ImportFrom) and not child.level and child.module:
            names = [child.module]
        for name in names:
            top = name.partition(".")[0]
            if not optional or _spec(top, ()) is not None:
                yield top
        # An import of types alone is none of the run's.
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield from _of_tree(child, optional=optional or isinstance(child, ast.Try))


def of_code(code: CodeType) -> set[str]:
    """The same of a compiled function, whose source need not be known."""
    found = set()
    instructions = list(dis.get_instructions(code))
    for position, instruction in enumerate(instructions):
        if instruction.opname == "IMPORT_NAME":
            level = instructions[position - 2].argval if position >= 2 else 0
            if not level:
                found.add(str(instruction.argval).partition(".")[0])
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            found |= of_code(constant)
    return found - {""}


def follow(names: Iterable[str], beside: Sequence[Path] = ()) -> Imports:
    """Where the modules come from, and those that local ones import in turn.

    `beside` are directories searched before `sys.path`, as that of a script is.
    """
    found = Imports()
    rules: dict[Path, Rules] = {}
    waiting, seen = sorted(set(names)), set[str]()
    while waiting:
        name = waiting.pop()
        if name in seen or name in _OURS or name in sys.stdlib_module_names or name == "__main__":
            continue
        seen.add(name)
        spec = _spec(name, beside)
        if spec is None:
            found.missing.append(name)
            continue
        place = local_place(spec)
        if place is None:
            found.packages.update(_distribution(name))
            continue
        root = place.parent
        if root not in rules:
            rules[root] = Rules(root)
        if place.is_dir():
            folder = collect(root, place, rules=rules[root])
            found.left_out += folder.left_out
            files = folder.files
        else:
            files = {place.name: place}
        for file, path in files.items():
            # As on sys.path, the first of a name counts.
            if found.files.setdefault(file, path) == path and path.suffix == ".py":
                waiting += of_source(path.read_text(encoding="utf-8", errors="replace"))
    found.missing.sort()
    return found


def local_place(spec: ModuleSpec) -> Path | None:
    """The file, or the directory, of a top-level module that is installed nowhere."""
    if spec.submodule_search_locations is not None:
        place = next(iter(spec.submodule_search_locations), None)
    else:
        place = spec.origin if spec.has_location else None
    if place is None or not Path(place).exists():
        return None
    path = Path(place).absolute()
    return None if any(path.is_relative_to(directory) for directory in _installed()) else path


def is_local(module: ModuleType) -> bool:
    """Whether a module that is loaded lies beside the notebook, and not in an environment."""
    top = sys.modules.get(module.__name__.partition(".")[0])
    spec = getattr(top, "__spec__", None)
    return module.__name__ != "__main__" and spec is not None and local_place(spec) is not None


def _spec(name: str, beside: Sequence[Path]) -> ModuleSpec | None:
    try:
        found = PathFinder.find_spec(name, [str(path) for path in beside]) if beside else None
        return found or find_spec(name)
    except (ImportError, ValueError, AttributeError):
        # Modules made by hand have no spec.
        return None


@cache
def _installed() -> tuple[Path, ...]:
    kinds = ("stdlib", "platstdlib", "purelib", "platlib")
    places = {sysconfig.get_path(kind) for kind in kinds} | {site.getusersitepackages()}
    places |= {path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")}
    return tuple(Path(place).absolute() for place in places if place)


def _distribution(name: str) -> dict[str, str]:
    try:
        # Most distributions are called like their module, and looking at all of them is slow.
        return {_canonical(name): metadata.version(name)}
    except metadata.PackageNotFoundError:
        pass
    for distribution in _distributions().get(name, []):
        return {_canonical(distribution): metadata.version(distribution)}
    return {}


@cache
def _distributions() -> dict[str, list[str]]:
    return {name: list(them) for name, them in metadata.packages_distributions().items()}


def _canonical(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")
