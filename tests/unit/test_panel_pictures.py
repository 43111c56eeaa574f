"""A picture for a model: which models take one, and what is sent of it."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from aiaas_hub.schemas.errors import InvalidInput, TooLarge
from aiaas_hub.schemas.models import Signature
from aiaas_magics.panels.pictures import MOST_BYTES, Picture, Scale, picture_of, see


def signature(*shape: int | None, dtype: str = "float32", inputs: int = 1) -> Signature:
    spec = {"dtype": dtype, "shape": shape}
    return Signature.model_validate(
        {
            "inputs": [{"name": f"x{i}", **spec} for i in range(inputs)],
            "outputs": [{"name": "y", "dtype": "float32", "shape": [10]}],
        }
    )


def picture(*shape: int, dtype: str = "float32") -> Picture:
    found = picture_of(signature(*shape, dtype=dtype))
    assert found is not None
    return found


def png(image: Image.Image, **how: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG", **how)
    return file.getvalue()


@pytest.mark.parametrize(
    ("shape", "found", "likely"),
    [
        ((3, 224, 160), (224, 160, "RGB", "CHW"), True),
        ((224, 160, 3), (224, 160, "RGB", "HWC"), True),
        ((1, 8, 8), (8, 8, "L", "CHW"), True),
        ((32, 32, 4), (32, 32, "RGBA", "HWC"), True),
        ((8, 8), (8, 8, "L", "HW"), True),
        # A table of a time series, or 64 numbers: perhaps.
        ((20, 8), (20, 8, "L", "HW"), False),
        ((64,), (8, 8, "L", "flat"), False),
        ((784,), (28, 28, "L", "flat"), False),
    ],
)
def test_shapes_of_pictures(
    shape: tuple[int, ...], found: tuple[int, int, str, str], likely: bool
) -> None:
    known = picture(*shape)
    assert (known.height, known.width, known.mode, known.order) == found
    assert known.is_likely is likely


@pytest.mark.parametrize(
    "other",
    [
        signature(), signature(3), signature(60), signature(49), signature(2, 2),
        signature(5, 8, 8), signature(3, None, 224), signature(3, 2, 2), signature(2, 3, 8, 8),
        signature(8, 8, dtype="bool"), signature(8, 8, inputs=2), signature(4096, 4096),
    ],
)  # fmt: skip
def test_other_models_take_rows(other: Signature) -> None:
    assert picture_of(other) is None


def test_it_is_cut_to_its_middle_and_resized() -> None:
    # Wide: what is left and right of the middle is no part of it.
    image = Image.new("RGB", (60, 20), "blue")
    image.paste((255, 0, 0), (20, 0, 40, 20))
    seen = see(png(image), picture(3, 8, 8), Scale.UNIT)
    assert (seen.array.shape, seen.array.dtype) == ((1, 3, 8, 8), np.float32)
    # At its border is a little of what lies beyond it.
    assert seen.array[0, 0].min() > 0.8
    assert seen.array[0, 1:].max() < 0.2
    assert (seen.array[0, 0, 4, 4], seen.array[0, 2, 4, 4]) == (1, 0)
    assert Image.open(io.BytesIO(seen.png)).size == (8, 8)
    assert seen.address.startswith("data:image/png;base64,iVBOR")
    other = see(png(image), picture(8, 8, 3), Scale.UNIT).array
    assert np.array_equal(other[0].transpose(2, 0, 1), seen.array[0])


@pytest.mark.parametrize(
    ("scale", "dtype", "white", "grey"),
    [
        (Scale.UNIT, "float32", 1, 102 / 255),
        (Scale.BYTE, "uint8", 255, 102),
        (Scale.SIXTEEN, "int64", 16, 6),
        (Scale.SIGNED, "float64", 1, 102 / 127.5 - 1),
        (Scale.BYTE, "float16", 255, 102),
    ],
)
def test_what_its_numbers_become(scale: Scale, dtype: str, white: float, grey: float) -> None:
    image = Image.new("L", (8, 8), 255)
    image.paste(102, (0, 0, 8, 4))
    array = see(png(image), picture(64, dtype=dtype), scale).array
    assert (array.shape, array.dtype) == ((1, 64), np.dtype(dtype))
    assert array[0, -1] == pytest.approx(white, abs=1e-6)
    assert array[0, 0] == pytest.approx(grey, abs=1e-6)


def test_as_imagenets_models_take_it() -> None:
    array = see(png(Image.new("RGB", (8, 8), "white")), picture(3, 8, 8), Scale.IMAGENET).array
    wanted = [(1 - 0.485) / 0.229, (1 - 0.456) / 0.224, (1 - 0.406) / 0.225]
    assert array[0, :, 0, 0].tolist() == pytest.approx(wanted, rel=1e-6)


def test_dark_on_paper_becomes_bright_on_night() -> None:
    # Ink on nothing, as drawing programs save it: nothing is paper.
    image = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    image.paste((0, 0, 0, 255), (2, 2, 6, 6))
    square = picture(8, 8)
    plain = see(png(image), square, Scale.UNIT).array[0]
    assert (plain[0, 0], plain[4, 4]) == (1, 0)
    inverted = see(png(image), square, Scale.UNIT, invert=True).array[0]
    assert np.array_equal(inverted, 1 - plain)
    kept = see(png(image), picture(8, 8, 4), Scale.BYTE, invert=True).array[0]
    assert kept[0, 0].tolist() == [255, 255, 255, 0]


def test_it_is_turned_as_its_camera_says() -> None:
    image = Image.new("L", (8, 8), 0)
    image.paste(255, (0, 0, 8, 4))
    turned = Image.Exif()
    turned[0x0112] = 6  # its top is at the right
    array = see(png(image, exif=turned), picture(8, 8), Scale.UNIT).array[0]
    assert (array[:, 4:].min(), array[:, :4].max()) == (1, 0)


def test_an_endpoint_of_images_gets_the_file() -> None:
    image = {"name": "image", "dtype": "string", "shape": [1], "kind": "image"}
    scores = {"name": "y", "dtype": "float32", "shape": [10]}
    taken = picture_of(Signature.model_validate({"inputs": [image], "outputs": [scores]}))
    assert taken is not None
    assert taken.is_likely
    assert list(taken.scales) == [Scale.ENDPOINT]
    assert "PNG, JPEG or WebP" in taken.takes
    content = png(Image.new("RGB", (600, 300), "red"))
    seen = see(content, taken, Scale.ENDPOINT)
    assert seen.array.tolist() == [[content]]
    assert Image.open(io.BytesIO(seen.png)).size == (224, 112)
    inverted = see(content, taken, Scale.ENDPOINT, invert=True).array[0, 0]
    assert Image.open(io.BytesIO(inverted)).getpixel((0, 0)) == (0, 255, 255)
    assert Image.open(io.BytesIO(inverted)).size == (600, 300)
    with pytest.raises(InvalidInput, match="not readable as a picture"):
        see(b"rubbish", taken, Scale.ENDPOINT)


def test_what_is_no_picture_is_refused() -> None:
    square = picture(8, 8)
    with pytest.raises(InvalidInput, match="not readable as a picture"):
        see(b"GIF89a" + b"\0" * 50, square, Scale.UNIT)
    with pytest.raises(InvalidInput, match="not readable as a picture"):
        see(b"<svg/>", square, Scale.UNIT)
    with pytest.raises(TooLarge, match="MiB"):
        see(b"\0" * (MOST_BYTES + 1), square, Scale.UNIT)
    bomb = png(Image.new("1", (20_000, 6_000)))
    assert len(bomb) < 100_000
    with pytest.raises(TooLarge, match="100,000,000 pixels"):
        see(bomb, square, Scale.UNIT)
    with pytest.raises(InvalidInput, match="cannot be unit"):
        see(png(Image.new("L", (8, 8))), picture(8, 8, dtype="uint8"), Scale.UNIT)
