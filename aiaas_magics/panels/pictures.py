"""A picture for a model whose input has the shape of one, or is the file of one.

It is opened here, in the kernel or notebook server of whoever has it; only its numbers are sent, or
its file to an endpoint that makes the numbers itself.
"""

from __future__ import annotations

import base64
import io
import math
import warnings
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal

from aiaas_hub.schemas.errors import InvalidInput, TooLarge
from aiaas_hub.schemas.models import Signature
from aiaas_magics.images import MAX_PIXELS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

MOST_BYTES = 12 << 20
"""Of a picture's file."""
_MOST_NUMBERS = 4 << 20
_LEAST_SIDE = 4
_SHOWN_SIDE = 224
"""Pixels of a file that is sent, as it is shown."""
_LEAST_FLAT_SIDE = 8
_MODES: dict[int, Literal["L", "RGB", "RGBA"]] = {1: "L", 3: "RGB", 4: "RGBA"}
_COLOURS = {"L": "grey", "RGB": "RGB", "RGBA": "RGBA"}
# Of ImageNet's training images, by channel: what torchvision's transforms take off and divide by.
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Scale(StrEnum):
    """What the brightness of a pixel becomes; a file has 0 to 255."""

    UNIT = "unit"
    BYTE = "byte"
    SIXTEEN = "sixteen"
    SIGNED = "signed"
    IMAGENET = "imagenet"
    ENDPOINT = "endpoint"


_SAID = {
    Scale.UNIT: "0 to 1",
    Scale.BYTE: "0 to 255",
    Scale.SIXTEEN: "0 to 16, as in scikit-learn's digits",
    Scale.SIGNED: "-1 to 1",
    Scale.IMAGENET: "0 to 1, less ImageNet's mean and by its deviation",
    Scale.ENDPOINT: "as the endpoint makes them of the file",
}


@dataclass(frozen=True)
class Picture:
    """How a model's only input holds one: `order` of height, width and channels, as in its shape;
    `flat`: row after row; `file`: as its file, of any size."""

    name: str
    dtype: str
    height: int
    width: int
    mode: Literal["L", "RGB", "RGBA"]
    order: Literal["CHW", "HWC", "HW", "flat", "file"]

    @property
    def is_likely(self) -> bool:
        """Whether it is more than a table or a line of numbers that has the shape by chance."""
        return self.order in ("CHW", "HWC", "file") or (
            self.order == "HW" and self.height == self.width
        )

    @property
    def takes(self) -> str:
        if self.order == "file":
            return (
                "A picture's file is sent as it is, PNG, JPEG or WebP; the endpoint turns and "
                "resizes it, and makes numbers of it."
            )
        return (
            "A picture is turned as its camera says, cut to its middle, resized to "
            f"{self.width} by {self.height} pixels, {_COLOURS[self.mode]}, and sent as numbers."
        )

    @property
    def scales(self) -> dict[Scale, str]:
        """What its numbers may be, the likeliest first."""
        if self.order == "file":
            return {Scale.ENDPOINT: _SAID[Scale.ENDPOINT]}
        if self.dtype.startswith(("int", "uint")):
            fit = [Scale.BYTE, Scale.SIXTEEN]
        else:
            fit = [Scale.UNIT, Scale.BYTE, Scale.SIGNED, Scale.SIXTEEN]
            if self.mode == "RGB":
                fit.append(Scale.IMAGENET)
        if self.dtype == "int8":
            # It has no 255.
            fit.remove(Scale.BYTE)
        return {scale: _SAID[scale] for scale in fit}


@dataclass(frozen=True)
class Seen:
    """What is sent of a picture, `[1, *shape]` in the input's dtype or its file, `[1, 1]`; and how
    it looks."""

    array: NDArray[np.generic]
    png: bytes

    @property
    def address(self) -> str:
        return f"data:image/png;base64,{base64.b64encode(self.png).decode()}"


def picture_of(signature: Signature) -> Picture | None:
    """None where the model takes something else."""
    if len(signature.inputs) != 1:
        return None
    spec = signature.inputs[0]
    if signature.takes_image:
        return Picture(spec.name, spec.dtype, _SHOWN_SIDE, _SHOWN_SIDE, "RGB", "file")
    sizes = [size for size in spec.shape if size is not None]
    if len(sizes) != len(spec.shape) or math.prod(sizes) > _MOST_NUMBERS:
        return None
    if spec.dtype == "bool" or str(spec.dtype) == "string":
        return None

    def made(
        height: int, width: int, channels: int, order: Literal["CHW", "HWC", "HW", "flat"]
    ) -> Picture | None:
        mode = _MODES.get(channels)
        if mode is None or min(height, width) < _LEAST_SIDE:
            return None
        return Picture(spec.name, spec.dtype, height, width, mode, order)

    match sizes:
        case [a, b, c]:
            return made(b, c, a, "CHW") or made(a, b, c, "HWC")
        case [height, width]:
            return made(height, width, 1, "HW")
        case [count]:
            side = math.isqrt(count)
            is_square = side * side == count and side >= _LEAST_FLAT_SIDE
            return made(side, side, 1, "flat") if is_square else None
    return None


def see(content: bytes, picture: Picture, scale: Scale, *, invert: bool = False) -> Seen:
    """A file's picture as the model's input. `invert`: what is dark becomes bright.

    Raises `InvalidInput` for what is no picture, `TooLarge` for more than may be.
    """
    import numpy as np
    from PIL import Image, ImageOps

    if scale not in picture.scales:
        known = ", ".join(picture.scales)
        raise InvalidInput(f"These numbers cannot be {scale}.", remedy=f"Choose one of {known}.")
    shown = _open(content, picture.mode)
    if picture.order == "file":
        return _as_file(content, shown, invert)
    shown = ImageOps.fit(shown, (picture.width, picture.height), Image.Resampling.BILINEAR)
    if invert:
        shown = _inverted(shown)
    png = _png(shown)
    pixels = np.asarray(shown, dtype=np.float64).reshape(picture.height, picture.width, -1)
    pixels = _scaled(pixels, scale)
    if np.dtype(picture.dtype).kind in "iu":
        pixels = pixels.round()
    array: NDArray[Any] = pixels.astype(picture.dtype)
    if picture.order == "CHW":
        array = array.transpose(2, 0, 1)
    elif picture.order == "HW":
        array = array[:, :, 0]
    elif picture.order == "flat":
        array = array.reshape(-1)
    return Seen(np.ascontiguousarray(array[None]), png)


def _as_file(content: bytes, shown: Image, invert: bool) -> Seen:
    import numpy as np

    if invert:
        shown = _inverted(shown)
        content = _png(shown)
    shown.thumbnail((_SHOWN_SIDE, _SHOWN_SIDE))
    array: NDArray[Any] = np.array([[content]], np.object_)
    return Seen(array, _png(shown))


def _png(shown: Image) -> bytes:
    file = io.BytesIO()
    shown.save(file, "PNG")
    return file.getvalue()


def _open(content: bytes, mode: Literal["L", "RGB", "RGBA"]) -> Image:
    from PIL import Image, ImageOps

    if len(content) > MOST_BYTES:
        raise TooLarge(
            f"The picture's file has more than {MOST_BYTES >> 20} MiB.", remedy="Make it smaller."
        )
    try:
        with warnings.catch_warnings():
            # Of many pixels in few bytes: refused below, before they are unpacked.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            opened = Image.open(io.BytesIO(content))
        if opened.width * opened.height > MAX_PIXELS:
            raise TooLarge(
                f"The picture has more than {MAX_PIXELS:,} pixels.", remedy="Make it smaller."
            )
        turned = ImageOps.exif_transpose(opened)
        if mode != "RGBA" and turned.has_transparency_data:
            # What can be seen through is paper, not night.
            clear = turned.convert("RGBA")
            turned = Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear)
        return turned.convert(mode)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InvalidInput(
            "This file is not readable as a picture.", remedy="Give a PNG, a JPEG or the like."
        ) from error


def _inverted(shown: Image) -> Image:
    from PIL import Image, ImageOps

    if shown.mode != "RGBA":
        return ImageOps.invert(shown)
    *colours, opacity = shown.split()
    return Image.merge("RGBA", [*map(ImageOps.invert, colours), opacity])


def _scaled(pixels: NDArray[np.float64], scale: Scale) -> NDArray[np.float64]:
    match scale:
        case Scale.UNIT:
            return pixels / 255
        case Scale.BYTE | Scale.ENDPOINT:
            return pixels
        case Scale.SIXTEEN:
            return pixels * (16 / 255)
        case Scale.SIGNED:
            return pixels / 127.5 - 1
        case Scale.IMAGENET:
            return (pixels / 255 - _MEAN) / _DEVIATION
