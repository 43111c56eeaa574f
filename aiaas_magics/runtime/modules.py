"""Imports from a snapshot's files, which tracebacks call as their owner knows them.

A module of the run's own directory is compiled under its name below that directory, such as
`layers/conv.py`, so that a traceback shows no path that only this node has. Names of the standard
library stay its own: in a worker others have imported it, or will.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.machinery import (
    EXTENSION_SUFFIXES,
    ExtensionFileLoader,
    FileFinder,
    SourceFileLoader,
)
from pathlib import Path
from types import CodeType
from typing import Any

from aiaas_magics.runtime.failures import remember_source


def importable(root: Path) -> None:
    """Put `root` first on `sys.path`; its modules are named relative to it."""
    if str(root) in sys.path:
        return
    sys.path_hooks.insert(0, _hook(root))
    sys.path.insert(0, str(root))
    sys.path_importer_cache.pop(str(root), None)


def _hook(root: Path) -> Callable[[str], Any]:
    class Loader(SourceFileLoader):
        def source_to_code(  # type: ignore[override]  # typeshed lacks the private argument
            self, data: Any, path: Any, *, _optimize: int = -1
        ) -> CodeType:
            name = Path(path).relative_to(root).as_posix()
            if isinstance(data, bytes):
                remember_source(name, data.decode("utf-8", errors="replace"))
            code: CodeType = compile(data, name, "exec", dont_inherit=True, optimize=_optimize)
            return code

        def get_code(self, fullname: str) -> CodeType | None:
            # Never from a cache: it would bring the file's real path back.
            source = self.get_data(self.path)
            return self.source_to_code(source, self.path)

    class Finder(FileFinder):
        def find_spec(self, fullname: str, target: Any = None) -> Any:
            if fullname in sys.stdlib_module_names:
                return None
            return super().find_spec(fullname, target)

    finder = Finder.path_hook((ExtensionFileLoader, EXTENSION_SUFFIXES), (Loader, [".py"]))

    def hook(path: str) -> Any:
        if not Path(path).is_relative_to(root):
            raise ImportError(f"{path} is not below {root}")
        return finder(path)

    return hook
