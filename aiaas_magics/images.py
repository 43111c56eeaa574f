"""A folder or a zip of images as a table: the image, its label, its path and a thumbnail.

Images are opened here, in the notebook of whoever has them, never by the platform.
"""

from __future__ import annotations

import io
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

from aiaas_hub.schemas.errors import InvalidInput, TooLarge

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".gif", ".bmp", ".webp", ".tif", ".tiff"})
MAX_IMAGES = 1_000_000
MAX_IMAGE_BYTES = 64 << 20
MAX_BYTES = 16 << 30
"""Of all images, unpacked."""
MAX_PIXELS = 100_000_000
_THUMBNAIL = 64
_BATCH = 256

Source = Iterator[tuple[PurePosixPath, int, Callable[[], bytes]]]
"""Path, size in bytes as said beforehand, and what reads it."""


def write_images(path: Path, target: Path) -> None:
    """Write `label` (the folder that an image is in), `path`, `image` (its file's bytes), `width`,
    `height` (pixels) and `thumbnail` (PNG, at most 64 pixels either way) as Parquet.

    Raises `InvalidInput` for a file that is no image, for a path that leads out of the zip and
    for a folder without images, `TooLarge` for more than may be.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema(
        [
            pa.field("label", pa.string()),
            pa.field("path", pa.string(), nullable=False),
            pa.field("image", pa.binary(), nullable=False),
            pa.field("width", pa.int32(), nullable=False),
            pa.field("height", pa.int32(), nullable=False),
            pa.field("thumbnail", pa.binary(), nullable=False),
        ]
    )
    rows: list[dict[str, object]] = []
    count = total = 0
    with pq.ParquetWriter(target, schema) as writer:
        for name, content in _contents(path):
            count, total = count + 1, total + len(content)
            if count > MAX_IMAGES or total > MAX_BYTES:
                raise TooLarge(
                    f"{path} has more than {MAX_IMAGES:,} images or {MAX_BYTES >> 30} GiB of them.",
                    remedy="Upload it in parts.",
                )
            rows.append(_row(name, content))
            if len(rows) == _BATCH:
                writer.write_batch(pa.RecordBatch.from_pylist(rows, schema=schema))
                rows = []
        if not count:
            raise InvalidInput(
                f"There is no image in {path}.",
                remedy=f"Images are files that end in {', '.join(sorted(SUFFIXES))}.",
            )
        if rows:
            writer.write_batch(pa.RecordBatch.from_pylist(rows, schema=schema))


def _contents(path: Path) -> Iterator[tuple[PurePosixPath, bytes]]:
    if path.is_dir():
        yield from _read(_in_folder(path))
        return
    try:
        with zipfile.ZipFile(path) as archive:
            yield from _read(_in_zip(archive))
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        # An encrypted one is a RuntimeError.
        raise InvalidInput(
            f"{path} is not readable as a zip: {error}.", remedy="Pack it again."
        ) from error


def _read(source: Source) -> Iterator[tuple[PurePosixPath, bytes]]:
    for name, size, read in source:
        if name.suffix.lower() not in SUFFIXES or name.name.startswith("."):
            continue
        content = b"" if size > MAX_IMAGE_BYTES else read()
        if not 0 < len(content) <= MAX_IMAGE_BYTES:
            raise TooLarge(
                f"The image {name} is empty or larger than {MAX_IMAGE_BYTES >> 20} MiB.",
                remedy="Remove it or make it smaller.",
            )
        yield name, content


def _in_folder(folder: Path) -> Source:
    for file in sorted(folder.rglob("*")):
        # A link may lead anywhere.
        if file.is_file() and not file.is_symlink():
            name = PurePosixPath(file.relative_to(folder).as_posix())
            yield name, file.stat().st_size, file.read_bytes


def _in_zip(archive: zipfile.ZipFile) -> Source:
    for entry in sorted(archive.infolist(), key=lambda entry: entry.filename):
        if entry.is_dir():
            continue
        name = PurePosixPath(entry.filename)
        if name.is_absolute() or ".." in name.parts or "\\" in entry.filename:
            raise InvalidInput(
                f"The zip holds {entry.filename!r}, which leads out of it.",
                remedy="Pack the folder again; do not use this zip.",
            )
        yield name, entry.file_size, lambda entry=entry: _unpacked(archive, entry)  # type: ignore[misc]  # mypy does not infer the default


def _unpacked(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    """Not more than an image may have, whatever the zip says of it."""
    with archive.open(entry) as stream:
        return stream.read(MAX_IMAGE_BYTES + 1)


def _row(name: PurePosixPath, content: bytes) -> dict[str, object]:
    from PIL import Image

    thumbnail = io.BytesIO()
    try:
        with warnings.catch_warnings():
            # Of many pixels in few bytes: refused below, before they are unpacked.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(content))
        width, height = image.size
        if width * height <= MAX_PIXELS:
            image.thumbnail((_THUMBNAIL, _THUMBNAIL))
            shown = image if image.mode in ("RGB", "RGBA", "L") else image.convert("RGBA")
            shown.save(thumbnail, "PNG")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InvalidInput(
            f"{name} is not readable as an image.", remedy="Remove it, or save it again."
        ) from error
    if width * height > MAX_PIXELS:
        raise TooLarge(
            f"The image {name} has more than {MAX_PIXELS:,} pixels.", remedy="Make it smaller."
        )
    parent = name.parent.name
    return {
        "label": parent or None,
        "path": str(name),
        "image": content,
        "width": width,
        "height": height,
        "thumbnail": thumbnail.getvalue(),
    }
