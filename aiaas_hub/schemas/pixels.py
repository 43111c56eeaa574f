"""An image's file becomes the numbers that a model takes: decoded, turned, resized, normalised.

One file for both sides. The notebook compares it with the processor that a model came with, and
the serving engine has a copy beside its backend: so it imports numpy and Pillow, and nothing of
ours. The steps and their order are those of the processors on PIL of transformers, to the bit.

A file is a stranger's. What it would take is known from its first bytes, and refused beyond the
limits below, before anything is decoded; nothing in it is run.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

FORMATS = ("PNG", "JPEG", "WEBP")
MAX_BYTES = 16 << 20
"""Of one file."""
MAX_PIXELS = 50_000_000
"""Of one image, as it comes and as it is resized before it is cropped: a telephone has 48."""
MAX_REQUEST_PIXELS = 200_000_000
"""Of all images of one request: about four seconds of a processor."""
_MAX_SIDE = 4096
"""Of what a model takes."""
_MAX_SCANS = 50
"""Of a progressive JPEG, which has about ten. Each goes over all pixels, and may be 47 bytes: a
file of 16 MiB could keep a processor for hours."""
_SCAN = b"\xff\xda"
_MAX_EXIF_BYTES = 1 << 16
"""What one of a camera's has at most. Each of its entries may name all of it, and Pillow before 13
copies that for each: of 16 MiB it would make terabytes."""
_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "hamming": Image.Resampling.HAMMING,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
_CHANNELS = {"L": 1, "RGB": 3}


@dataclass(frozen=True)
class Processing:
    """What is done to an image, in this order; None: left out.

    Raises `ValueError` for what cannot be, or gives no one size.
    """

    mode: Literal["RGB", "L"] = "RGB"
    background: Literal["white"] | None = None
    """What shows through; None: what is not opaque has the colour that its file says."""
    size: tuple[int, int] | int | None = None
    """Height and width, or the length of the shorter side."""
    resample: str = "bilinear"
    crop: tuple[int, int] | None = None
    """Height and width of its middle; what is smaller gets a black border."""
    scale: float | None = 1 / 255
    mean: tuple[float, ...] | None = None
    """Of each channel, after `scale`: taken off."""
    std: tuple[float, ...] | None = None
    """Of each channel: divided by."""
    data_format: Literal["channels_first", "channels_last"] = "channels_first"

    def __post_init__(self) -> None:
        for what, choices in (
            ("mode", _CHANNELS),
            ("background", ("white", None)),
            ("resample", _FILTERS),
            ("data_format", ("channels_first", "channels_last")),
        ):
            if getattr(self, what) not in choices:
                known = ", ".join(map(str, choices))
                raise ValueError(f"{what} is {getattr(self, what)!r}, which is none of {known}")
        for what in ("size", "crop"):
            if getattr(self, what) is not None:
                object.__setattr__(self, what, _sides(what, getattr(self, what)))
        if isinstance(self.crop, int) or (self.crop is None and not isinstance(self.size, tuple)):
            raise ValueError("images come out of it in several sizes: it needs a size or a crop")
        if self.scale is not None:
            object.__setattr__(self, "scale", _number("scale", self.scale))
        if (self.mean is None) != (self.std is None):
            raise ValueError("mean and std come together")
        for what in ("mean", "std"):
            if getattr(self, what) is not None:
                object.__setattr__(self, what, self._by_channel(what, getattr(self, what)))
        if self.std is not None and not all(self.std):
            raise ValueError("std is 0, and nothing is divided by that")

    @classmethod
    def declared(cls, fields: Mapping[str, Any]) -> Processing:
        """From what `declaration` gives, or somebody wrote."""
        unknown = sorted(set(fields) - set(cls.__dataclass_fields__))
        if unknown:
            known = ", ".join(cls.__dataclass_fields__)
            raise ValueError(f"{unknown[0]!r} is not known; there are {known}")
        return cls(**fields)

    def declaration(self) -> dict[str, Any]:
        """The same as JSON has it."""
        return asdict(self)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of one image's numbers."""
        sides = self.crop or self.size
        assert isinstance(sides, tuple)  # noqa: S101 - for the type checker: checked above
        channels = _CHANNELS[self.mode]
        return (channels, *sides) if self.data_format == "channels_first" else (*sides, channels)

    @property
    def dtype(self) -> str:
        return "uint8" if self.scale is None and self.mean is None else "float32"

    def _by_channel(self, what: str, values: Any) -> tuple[float, ...]:
        channels = _CHANNELS[self.mode]
        given = values if isinstance(values, Sequence) else [values] * channels
        if len(given) != channels:
            raise ValueError(f"{what} has {len(given)} numbers for {channels} channels")
        return tuple(_number(what, value) for value in given)


def _sides(what: str, given: Any) -> tuple[int, int] | int:
    sides = given if isinstance(given, list | tuple) else [given]
    if len(sides) > 2 or not sides or not all(type(side) is int for side in sides):
        raise ValueError(f"{what} is {given!r}, and neither [height, width] nor a whole number")
    if not all(0 < side <= _MAX_SIDE for side in sides):
        raise ValueError(f"{what} is {given!r}: a side has 1 to {_MAX_SIDE} pixels")
    return (sides[0], sides[1]) if len(sides) == 2 else int(sides[0])


def _number(what: str, given: Any) -> float:
    try:
        number = float(given)
    except (TypeError, ValueError):
        raise ValueError(f"{what} has {given!r}, which is no number") from None
    if not math.isfinite(number):
        raise ValueError(f"{what} has {number}")
    return number


class _Jpeg(JpegImageFile):
    def _read_dpi_from_exif(self) -> None:
        """Left out: it would read all of an EXIF before anybody has looked how large it is."""


_READERS: dict[bytes, Callable[[io.BytesIO], Image.Image]] = {
    b"\x89PNG": PngImageFile,
    b"\xff\xd8": _Jpeg,
    b"RIFF": WebPImageFile,
}


def opened(content: bytes) -> Image.Image:
    """A file's image, of which only the beginning was read.

    Raises `ValueError`, with words that may be shown, for what is none of `FORMATS` or too large.
    """
    if len(content) > MAX_BYTES:
        raise ValueError(f"the file has more than {MAX_BYTES >> 20} MiB")
    if content.startswith(b"\xff\xd8") and content.count(_SCAN) > _MAX_SCANS:
        raise ValueError(f"the JPEG has more than {_MAX_SCANS} scans")
    reader = next((one for start, one in _READERS.items() if content.startswith(start)), None)
    unreadable = f"the file is not readable as {_either(FORMATS)}"
    if reader is None:
        raise ValueError(unreadable)
    with _or_else(unreadable):
        # By itself: `Image.open` has more readers, and reads on in a JPEG of several images.
        image = reader(io.BytesIO(content))
    if image.width * image.height > MAX_PIXELS:
        raise ValueError(f"the image has more than {MAX_PIXELS:,} pixels")
    if image.mode.startswith("I"):
        # Pillow would make everything white that is brighter than 255 of 65,535.
        raise ValueError("the image has more than eight bits for a grey: save it with eight")
    return image


def pixels(image: Image.Image, processing: Processing) -> NDArray[Any]:
    """The numbers of an image from `opened`: `processing.shape` in `processing.dtype`.

    Raises `ValueError`, with words that may be shown, where the file is damaged or too narrow.
    """
    damaged = "the file is damaged: its image cannot be decoded"
    with _or_else(damaged):
        image.load()
    # PNG may have it behind the pixels, or as a text of hexadecimal digits.
    for key, most in (("exif", _MAX_EXIF_BYTES), ("Raw profile type exif", 3 * _MAX_EXIF_BYTES)):
        if len(image.info.get(key, "")) > most:
            raise ValueError(f"the file's EXIF has more than {_MAX_EXIF_BYTES >> 10} KiB")
    with _or_else(damaged):
        shown = _opaque(image, processing)
    if processing.size is not None:
        sides = _resized_sides(shown.height, shown.width, processing.size)
        shown = shown.resize((sides[1], sides[0]), _FILTERS[processing.resample])
    array: NDArray[Any] = np.asarray(shown)
    array = array[None] if array.ndim == 2 else array.transpose(2, 0, 1)
    if processing.crop is not None:
        array = _middle(array, processing.crop)
    if processing.scale is not None:
        array = (array.astype(np.float64) * processing.scale).astype(np.float32)
    if processing.mean is not None and processing.std is not None:
        mean = np.array(processing.mean, np.float32)[:, None, None]
        std = np.array(processing.std, np.float32)[:, None, None]
        array = (array.astype(np.float32) - mean) / std
    if processing.data_format == "channels_last":
        array = array.transpose(1, 2, 0)
    return np.ascontiguousarray(array)


@contextmanager
def _or_else(refusal: str) -> Iterator[None]:
    """For a broken file Pillow's readers raise anything, and warn of what is not its image."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except Exception:
        raise ValueError(refusal) from None


def _opaque(image: Image.Image, processing: Processing) -> Image.Image:
    """Upright, with nothing that shows through, and in the mode."""
    ImageOps.exif_transpose(image, in_place=True)
    if processing.background is not None and image.has_transparency_data:
        clear = image.convert("RGBA")
        paper = Image.new("RGBA", clear.size, processing.background)
        image = Image.alpha_composite(paper, clear)
    return image.convert(processing.mode)


def _resized_sides(height: int, width: int, size: tuple[int, int] | int) -> tuple[int, int]:
    if isinstance(size, tuple):
        return size
    longer = int(size * max(height, width) / min(height, width))
    if size * longer > MAX_PIXELS:
        raise ValueError(f"the image is too narrow: {width} by {height} pixels")
    return (longer, size) if width <= height else (size, longer)


def _middle(array: NDArray[Any], sides: tuple[int, int]) -> NDArray[Any]:
    """`[channels, height, width]` cut to its middle, with zeros around it where it is smaller."""
    kept, border = [slice(None)], [(0, 0)]
    for have, wanted in zip(array.shape[1:], sides, strict=True):
        start, missing = max(0, have - wanted) // 2, max(0, wanted - have)
        kept.append(slice(start, start + wanted))
        # Of an odd difference the larger half comes first.
        border.append((math.ceil(missing / 2), missing // 2))
    return np.pad(array[tuple(kept)], border)


def _either(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"
