"""A shell in which tests run cells."""

from __future__ import annotations

from typing import Any

from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell


class Notebook:
    """A shell in which cells run as they do in a kernel."""

    def __init__(self, shell: InteractiveShell) -> None:
        self.shell = shell

    def run(self, cell: str) -> Any:
        """The cell's value; an error is raised."""
        result = self.shell.run_cell(cell, store_history=True)
        result.raise_error()
        return result.result

    def refuses(self, cell: str) -> str:
        """The sentence of an error of exactly the class that shows no traceback."""
        result = self.shell.run_cell(cell)
        error = result.error_in_exec
        assert type(error) is UsageError, repr(error)
        assert error.__cause__ is None
        assert error.__suppress_context__ or error.__context__ is None
        return str(error)
