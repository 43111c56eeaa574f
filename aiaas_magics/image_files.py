"""Images that somebody has, as the bytes of their files: what an endpoint of images is sent."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiaas_hub.schemas.errors import InvalidInput, NotFound, TooLarge

if TYPE_CHECKING:
    from PIL.Image import Image

_REMEDY = "Give a path, a file's bytes, an image of Pillow, or a list of them."


def contents(given: Any) -> list[bytes]:
    """The files of one image or of several: paths, bytes, Pillow's images or arrays of uint8,
    `[height, width]` or `[height, width, 3]`. The last two become PNG.

    Raises `InvalidInput` for anything else, `NotFound` for a path that leads to no file, and
    `TooLarge` for a larger file than an endpoint takes.
    """
    several = given if isinstance(given, Iterable) and not _is_one(given) else [given]
    found = [_content(one) for one in several]
    if not found:
        raise InvalidInput("There is no image.", remedy=_REMEDY)
    return found


def pixel_count(content: bytes) -> int:
    """Of a file's image, by its first bytes; 0 where they say nothing."""
    from aiaas_hub.schemas.pixels import opened

    try:
        image = opened(content)
    except ValueError:
        # The endpoint says what is wrong with it.
        return 0
    return image.width * image.height


def _is_one(given: Any) -> bool:
    if _is_array(given):
        return bool(given.dtype == "uint8" and given.ndim in (2, 3))
    return isinstance(given, str | bytes | bytearray | os.PathLike) or _is_image(given)


def _is_array(given: Any) -> bool:
    return type(given).__module__ == "numpy" and hasattr(given, "ndim")


def _is_image(given: Any) -> bool:
    return any(base.__module__ == "PIL.Image" for base in type(given).__mro__)


def _content(given: Any) -> bytes:
    from aiaas_hub.schemas.pixels import MAX_BYTES

    content = _read(given)
    if len(content) > MAX_BYTES:
        raise TooLarge(
            f"An image's file has more than {MAX_BYTES >> 20} MiB.", remedy="Make it smaller."
        )
    return content


def _read(given: Any) -> bytes:
    if isinstance(given, bytes | bytearray):
        return bytes(given)
    if isinstance(given, str | os.PathLike):
        try:
            return Path(given).read_bytes()
        except (OSError, ValueError) as error:
            # Base64 that was taken for a path is long.
            raise NotFound(
                f"There is no image at {os.fspath(given)[:200]!r}.", remedy=_REMEDY
            ) from error
    if _is_image(given):
        return _png(given)
    if _is_array(given) and _is_one(given):
        from PIL import Image

        try:
            return _png(Image.fromarray(given))
        except (TypeError, ValueError) as error:
            raise InvalidInput(
                f"An array of the shape {list(given.shape)} is no image.",
                remedy="Its axes are height, width and, of colours, 3 channels.",
            ) from error
    raise InvalidInput(f"A {type(given).__name__} is no image.", remedy=_REMEDY)


def _png(image: Image) -> bytes:
    from PIL import ImageOps

    # PNG keeps no word of a camera that was turned.
    turned = ImageOps.exif_transpose(image)
    if turned.mode not in ("1", "L", "LA", "P", "RGB", "RGBA"):
        turned = turned.convert("RGB")
    file = io.BytesIO()
    turned.save(file, "PNG")
    return file.getvalue()
