"""What comes before a model that is given images: the numbers of their pixels.

It is declared in the metadata of the ONNX file, so that a version is one file and nothing in it
runs; `aiaas.step` is JSON:

    {"input": "image",                      the tensor that holds the images' files
     "pixels": {"mode": "RGB", …},          see `Processing` in `pixels.py`
     "label": {"output": "label", "names": ["cat", …]}}  or null

A file is sent as its bytes, PNG, JPEG or WebP, or as these in base64, as JSON has no bytes.
It is imported by the backend and by the process that inspects a file before it is served.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np
from label_step import LabelStep
from PIL import Image

# Beside this file where it serves: see `pixels.py`.
from pixels import MAX_REQUEST_PIXELS, Processing, opened, pixels
from steps import STEP

_BEGINNINGS = (b"\x89PNG", b"\xff\xd8", b"RIFF")
"""Of a file itself. In base64 these are `iVBO`, `/9j/` and `UklG`: no file begins so."""
_TYPES = {"tensor(float)": "float32", "tensor(uint8)": "uint8"}


class ImageStep:
    """Raises `ValueError` for what is not as above, or does not fit the model's session."""

    kind = "image"

    def __init__(self, metadata: Mapping[str, str], session: Any) -> None:
        step = json.loads(metadata[STEP])
        self.input = str(step["input"])
        self._processing = Processing.declared(step["pixels"])
        tensors = session.get_inputs()
        made, shape = self._processing.dtype, list(self._processing.shape)
        if len(tensors) != 1 or len(tensors[0].shape) != 4:
            raise ValueError("a model of images has one input of four dimensions")
        taken = zip(tensors[0].shape[1:], shape, strict=True)
        if _TYPES.get(tensors[0].type) != made or any(
            isinstance(dim, int) and dim != size for dim, size in taken
        ):
            raise ValueError(
                f"an image becomes {made} {shape}, and {tensors[0].name} is "
                f"{tensors[0].type} {tensors[0].shape}"
            )
        self._tensor = tensors[0].name
        self.label = LabelStep(step.get("label"), session)

    def sample(self) -> Any:
        """Images that could be sent, `[1, 1]`."""
        file = io.BytesIO()
        Image.new("RGB", (40, 30), "white").save(file, "PNG")
        return _column([file.getvalue()])

    def read(self, files: Any) -> Any:
        """A request's files, bytes `[rows, 1]`, as numbers: `[rows, channels, height, width]`.

        Raises `ValueError` for a file that is no image, and for more than one request may have,
        before the first one is decoded.
        """
        images: deque[Image.Image] = deque()
        total = 0
        for place, one in enumerate(files[:, 0], start=1):
            try:
                image = opened(_content(one))
            except ValueError as error:
                raise _of(place, len(files), error) from None
            total += image.width * image.height
            images.append(image)
        if total > MAX_REQUEST_PIXELS:
            raise ValueError(
                f"the images have {total:,} pixels together, and a request at most "
                f"{MAX_REQUEST_PIXELS:,}: send fewer of them at once"
            )
        made = np.empty((len(images), *self._processing.shape), self._processing.dtype)
        for place in range(len(files)):
            try:
                # Nobody else has it: decoded, each may be 200 MB.
                made[place] = pixels(images.popleft(), self._processing)
            except ValueError as error:
                raise _of(place + 1, len(files), error) from None
        return made

    def before(self, made: Any) -> dict[str, Any]:
        """The model's input, from what `read` made."""
        return {self._tensor: made}


def _content(given: bytes) -> bytes:
    if given.startswith(_BEGINNINGS):
        return bytes(given)
    try:
        return base64.b64decode(given, validate=True)
    except binascii.Error:
        raise ValueError(
            "the file is neither PNG, JPEG or WEBP, nor one of them in base64"
        ) from None


def _of(place: int, count: int, error: ValueError) -> ValueError:
    return ValueError(f"image {place} of {count}: {error}" if count > 1 else f"image: {error}")


def _column(values: list[Any]) -> Any:
    array = np.empty((len(values), 1), np.object_)
    array[:, 0] = values
    return array
