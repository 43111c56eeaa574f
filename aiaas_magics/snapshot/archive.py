"""The zip of a snapshot: the same bytes for the same files, within limits."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from aiaas_hub.schemas.errors import InvalidInput
from aiaas_magics.display import size

MAX_BYTES = 100 << 20
MAX_FILES = 5_000
_NAMED = 5

# The oldest moment that a zip can tell: real times would change the bytes.
_EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class File:
    """A file of a snapshot, or one that was left out of it and why."""

    name: str
    size: int
    """In bytes."""
    why: str = ""


def listed(files: Mapping[str, bytes | Path]) -> list[File]:
    """The files with their sizes, largest first; reads none of them."""
    found = [
        File(name, len(content) if isinstance(content, bytes) else content.stat().st_size)
        for name, content in files.items()
    ]
    return sorted(found, key=lambda file: (-file.size, file.name))


def check(files: list[File]) -> None:
    """Raise `InvalidInput`, with the largest files by name, for more than a snapshot may hold."""
    total = sum(file.size for file in files)
    if total <= MAX_BYTES and len(files) <= MAX_FILES:
        return
    largest = ", ".join(f"{file.name} ({size(file.size)})" for file in files[:_NAMED])
    raise InvalidInput(
        f"The code would be {size(total)} in {len(files):,} files; a snapshot holds at most "
        f"{size(MAX_BYTES)} and {MAX_FILES:,} files. The largest: {largest}. Nothing was sent.",
        remedy="Name what the run does not need in a file .aiaasignore beside the code, and pass "
        "data as --dataset.",
    )


def pack(files: Mapping[str, bytes | Path]) -> bytes:
    """The zip. Raises `InvalidInput` for a file that went away or grew meanwhile."""
    check(listed(files))
    buffer = io.BytesIO()
    # Stored, not deflated: compressed bytes differ between releases of zlib.
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            content = files[name]
            info = zipfile.ZipInfo(name, _EPOCH)
            info.create_system = 3
            executable = isinstance(content, Path) and content.stat().st_mode & 0o100
            info.external_attr = (0o755 if executable else 0o644) << 16
            archive.writestr(info, content if isinstance(content, bytes) else _read(content))
    return buffer.getvalue()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidInput(
            f"{path} cannot be read: {error.strerror}.",
            remedy="Make it readable, or name it in .aiaasignore.",
        ) from None
