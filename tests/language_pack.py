"""A language pack for JupyterLab, as one from a registry is installed, with nothing in it."""

from __future__ import annotations

from pathlib import Path


def make_language_pack(root: Path, locale: str) -> Path:
    """What must be on a path of Python's that it be found."""
    module = f"empty_pack_{locale.lower()}"
    package = root / module
    package.mkdir()
    (package / "__init__.py").touch()
    about = root / f"{module}-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1\n")
    (about / "entry_points.txt").write_text(f"[jupyterlab.languagepack]\n{locale} = {module}\n")
    return root
