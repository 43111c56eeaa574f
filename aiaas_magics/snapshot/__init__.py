"""Snapshots: the code that a run executes, as a zip with the same bytes for the same code.

    manifest.json              {"kind", "python", "client", "packages", …}
    cell.py, notebook.py       what defines `train(ctx)`, or `transform(batch)`
    function.pkl               or that function by value
    files/                     local modules; a script with its folder

A recipe's snapshot holds a manifest only. The control plane stores a snapshot and never opens a
pickle in it; the run does.
"""

from __future__ import annotations

import ast
import hashlib
import io
import json
import sys
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from aiaas_hub.schemas.errors import InvalidInput
from aiaas_hub.schemas.runs import Snapshot
from aiaas_magics import __version__
from aiaas_magics.runtime.snapshot import SIGNATURES
from aiaas_magics.snapshot import archive, functions, imports
from aiaas_magics.snapshot.archive import File
from aiaas_magics.snapshot.captures import Capture
from aiaas_magics.snapshot.captures import of_function as _captured
from aiaas_magics.snapshot.folder import collect
from aiaas_magics.snapshot.imports import Imports
from aiaas_magics.snapshot.notebook import read as read_notebook

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
FILES = "files"
_MOST_SOURCE = 100_000
"""Characters that are shown in lineage; the code itself may be longer."""


@dataclass(frozen=True)
class Code:
    """A snapshot before it is uploaded, and what it was found to be made of."""

    kind: str
    """cell, function, script, notebook or recipe."""
    content: bytes
    """The zip."""
    entry: str
    source: str
    """As typed, for lineage."""
    files: tuple[File, ...] = ()
    """Largest first, with sizes."""
    left_out: tuple[File, ...] = ()
    packages: Mapping[str, str] = field(default_factory=dict)
    """Distributions that the code imports, in the versions that are here."""
    missing: tuple[str, ...] = ()
    """Modules that the code imports and that are not here."""
    captured: tuple[Capture, ...] = ()
    notes: tuple[str, ...] = ()
    """What else a user should know, in sentences."""

    @property
    def digest(self) -> str:
        """SHA-256 of the content, in hexadecimal."""
        return hashlib.sha256(self.content).hexdigest()

    def mentions(self, name: str) -> bool:
        """Whether any of the code that travels has this name; a recipe's does not travel, and
        knows them all."""
        if self.kind == "recipe":
            return True
        with zipfile.ZipFile(io.BytesIO(self.content)) as zipped:
            code = [file for file in zipped.namelist() if file.endswith((".py", ".pkl"))]
            return any(name.encode() in zipped.read(file) for file in code)

    def described(self) -> Snapshot:
        """As the service takes it. Raises pydantic's `ValidationError` for an overlong source."""
        return Snapshot(
            digest=self.digest,
            entry=self.entry,
            source=self.source,
            python=PYTHON,
            client=__version__,
            packages=dict(self.packages),
        )


def of_cell(cell: str, line: str = "", name: str = "train") -> Code:
    """Snapshot of a cell that defines `train(ctx)`, or what `SIGNATURES` has under this name.
    Raises `InvalidInput` if it does not.

    `line` is what the magic's own line said. It stays as a comment, so that the lines of the
    code have the numbers that they have in the notebook.
    """
    if line:
        cell = f"# %%aiaas {' '.join(line.splitlines())}\n{cell}"
    check_cell(cell, name=name)
    source = cell if cell.endswith("\n") else f"{cell}\n"
    found = imports.follow(imports.of_source(source))
    return _made("cell", "cell.py", source, {"cell.py": source.encode()}, found)


def of_function(function: Callable[..., object]) -> Code:
    """Snapshot of a function by value: its globals and closure travel with it.

    Raises `InvalidInput` when it cannot be called as `train(ctx)` or holds what cannot travel,
    which is named.
    """
    functions.check(function)
    captured = _captured(function)
    content = functions.pickled(function, captured)
    found = imports.follow(functions.modules_of(function, content))
    return _made(
        "function",
        "function.pkl",
        functions.source(function),
        {"function.pkl": content},
        found,
        captured=tuple(captured),
    )


def of_script(path: str | Path, arguments: Sequence[str] = ()) -> Code:
    """Snapshot of a script with its folder, or with its package if it imports parts of that.

    One that defines `train(ctx)` at its top level is imported, and `train` is called; any other
    is executed as `__main__`, with `arguments` in `sys.argv`.
    """
    script = Path(path).expanduser().absolute()
    if not script.is_file():
        raise InvalidInput(
            f"There is no file {str(path)!r}.",
            remedy=f"Check the path; it is relative to {Path.cwd()}.",
        )
    try:
        source = script.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise InvalidInput(
            f"{script.name} is not text in UTF-8.", remedy="Save it as UTF-8."
        ) from None
    tree = _parsed(source, script.name)
    call = "train" if _defined(tree, "train") else "main"
    if call == "train":
        check_cell(source, script.name)
        if arguments:
            raise InvalidInput(
                f"{script.name} defines train(ctx), which takes no arguments from the line.",
                remedy="Give --param NAME=VALUE, and read ctx.params['NAME'].",
            )
    root = script.parent
    if any(isinstance(node, ast.ImportFrom) and node.level for node in ast.walk(tree)):
        # It is part of a package, and finds the other parts from where that lies.
        while (root / "__init__.py").is_file():
            root = root.parent
    entry = script.relative_to(root).as_posix()
    folder = collect(root, root / entry.partition("/")[0] if "/" in entry else None)
    archive.check(archive.listed(folder.files))
    # What is named outright goes along, whatever the rules say.
    folder.files[entry] = script
    names = imports.of_source(source)
    for file in folder.files.values():
        if file.suffix == ".py":
            names |= imports.of_source(file.read_text(encoding="utf-8", errors="replace"))
    found = imports.follow(names, beside=[root])
    found.files = {**found.files, **folder.files}
    found.left_out = [*folder.left_out, *(f for f in found.left_out if f not in folder.left_out)]
    manifest = {"call": call, "arguments": list(arguments)}
    notes = _overshadowed(names, folder.files, entry)
    return _made("script", entry, source, {}, found, manifest=manifest, notes=notes)


def _overshadowed(imported: set[str], files: Mapping[str, Path], entry: str) -> tuple[str, ...]:
    """Modules beside the script that a plain Python would take and a run does not."""
    tops = {name.removesuffix(".py").partition("/")[0]: name for name in files if name != entry}
    return tuple(
        f"{tops[name]} has the name of a module of Python's own, which a run imports instead: "
        "rename it if the code means this one."
        for name in sorted(imported & tops.keys() & sys.stdlib_module_names)
    )


def of_notebook(path: str | Path) -> Code:
    """Snapshot of a whole notebook: its code cells one after the other; one defines `train(ctx)`.

    Commands of the notebook (`%…`, `!…`, cells of other languages) are left out and told of.
    """
    notebook = Path(path).expanduser().absolute()
    cells = read_notebook(notebook)
    texts: list[str] = []
    marks: list[tuple[str, int]] = []
    line = 0
    for cell in cells:
        if not cell.source.strip():
            continue
        text = cell.source if cell.source.endswith("\n") else f"{cell.source}\n"
        marks.append((f"{notebook.name} cell {cell.number}", line))
        texts.append(text)
        line += text.count("\n")
    source = "".join(texts)
    check_cell(source, notebook.name)
    skipped = [f"cell {cell.number}: {text}" for cell in cells for text in cell.skipped]
    notes = (
        (f"Left out of the run, as only a notebook can do it: {'; '.join(skipped)}.",)
        if skipped
        else ()
    )
    return _made(
        "notebook",
        "notebook.py",
        source,
        {"notebook.py": source.encode()},
        imports.follow(imports.of_source(source), beside=[notebook.parent]),
        manifest={"cells": marks},
        notes=notes,
    )


def of_recipe(name: str) -> Code:
    """Snapshot of a built-in recipe: the run has its code, so that this names it only."""
    manifest = {"recipe": name, "version": __version__}
    return _made("recipe", "manifest.json", f"# recipe {name}\n", {}, Imports(), manifest=manifest)


def check_cell(cell: str, what: str = "The cell", name: str = "train") -> None:
    """Raise `InvalidInput` unless the source is Python that defines the function of this name."""
    function = _defined(_parsed(cell, what), name)
    head = SIGNATURES[name]
    if function is None:
        code = "training code" if name == "train" else "code"
        raise InvalidInput(
            f"{what} does not define {head}.",
            remedy=f"Put the {code} into 'def {head}:' at the top level of "
            f"{'the cell' if what == 'The cell' else what}.",
        )
    if isinstance(function, ast.AsyncFunctionDef):
        raise InvalidInput(
            f"{name} is an async function (line {function.lineno}).",
            remedy=f"Write 'def {head}:' without async.",
        )
    if _yields(function):
        instead = "ctx.report(…) where it yields" if name == "train" else "return, once"
        raise InvalidInput(
            f"{name} has a yield (line {function.lineno}): called, it would do nothing.",
            remedy=f"Write {instead}.",
        )
    arguments = function.args
    positional = [*arguments.posonlyargs, *arguments.args]
    required = len(positional) - len(arguments.defaults)
    needs_keywords = any(default is None for default in arguments.kw_defaults)
    if required > 1 or needs_keywords or not (positional or arguments.vararg):
        raise InvalidInput(
            f"{name} must take one argument, "
            f"the {'context' if name == 'train' else 'batch'} (line {function.lineno}).",
            remedy=f"Write 'def {head}:'"
            f"{'; parameters of the run are in ctx.params' if name == 'train' else ''}.",
        )


def _defined(tree: ast.Module, name: str) -> ast.FunctionDef | ast.AsyncFunctionDef | None:
    definitions = [
        node
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name
    ]
    return definitions[-1] if definitions else None


def _yields(node: ast.AST) -> bool:
    """Whether a function is a generator: its own yield, not that of a function inside of it."""
    own = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
    return any(
        isinstance(child, ast.Yield | ast.YieldFrom)
        or (not isinstance(child, own) and _yields(child))
        for child in ast.iter_child_nodes(node)
    )


def _parsed(source: str, what: str) -> ast.Module:
    try:
        return ast.parse(source)
    except SyntaxError as error:
        raise _syntax_error(source, what, error) from None
    except ValueError as error:  # null bytes
        raise InvalidInput(
            f"{what} is not Python: {error}.", remedy="Remove the characters and run it again."
        ) from None


def _syntax_error(source: str, what: str, error: SyntaxError) -> InvalidInput:
    line = error.lineno or 0
    lines = source.splitlines()
    text = lines[line - 1].strip() if 0 < line <= len(lines) else ""
    if text.startswith(("%", "!")):
        return InvalidInput(
            f"Line {line} of {what[0].lower()}{what[1:]} is a notebook command, {text[:80]!r}.",
            remedy="The run executes plain Python: move the command to a cell of its own.",
        )
    shown = f": {text[:80]!r}" if text else ""
    return InvalidInput(
        f"{what} does not compile: {error.msg} at line {line}{shown}.",
        remedy="Correct the line and try again; nothing was sent.",
    )


def _made(
    kind: str,
    entry: str,
    source: str,
    own: dict[str, bytes],
    found: Imports,
    *,
    manifest: Mapping[str, object] | None = None,
    captured: tuple[Capture, ...] = (),
    notes: tuple[str, ...] = (),
) -> Code:
    described = {
        "kind": kind,
        "python": PYTHON,
        "client": __version__,
        "packages": found.packages,
        **(manifest or {}),
    }
    files: dict[str, bytes | Path] = dict(own)
    files["manifest.json"] = json.dumps(described, sort_keys=True).encode()
    files.update({f"{FILES}/{name}": path for name, path in found.files.items()})
    return Code(
        kind,
        archive.pack(files),
        entry,
        source if kind in ("cell", "function") else source[:_MOST_SOURCE],
        tuple(archive.listed(files)),
        tuple(found.left_out),
        found.packages,
        tuple(found.missing),
        captured,
        notes,
    )
