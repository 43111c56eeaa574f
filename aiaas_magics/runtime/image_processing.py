"""What a processor does to an image, as the endpoint declares it, and proven to be the same.

A processor of transformers is Python; of it an endpoint takes the numbers only. Whether they say
all of it is tried, on the images that it was given with and on some that are harder.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from aiaas_hub.schemas.errors import InvalidInput
from aiaas_magics.runtime.exported import first_line

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

    from aiaas_hub.schemas.pixels import Processing

TOLERANCE = 1e-6
"""Largest difference from the processor's numbers, relative to the largest of them (at least 1):
what the last bit of a float32 may do. Processors on Pillow differ by none."""
_LEVELS = 32
"""The same for a processor on torchvision, in levels of the 255 of a pixel: it rounds otherwise as
it resizes. In a photo that is one level in a pixel of a hundred, in the noise of the probes up to
20; another filter or cut would be off by more there."""
_WHOLE = 384
"""A processor of ConvNeXT resizes to a side from here on as a whole, and cuts smaller ones."""
_PROBES = ((37, 61), (61, 37), (640, 480), (300, 901), (5, 7), (64, 64))
"""Width and height."""


def declared(processor: Any, *, is_opaque: bool = False) -> Processing:
    """What a dict, with the fields of `Processing`, or a processor of transformers says.

    `is_opaque`: its images have lost what shows through before it sees them, as in a pipeline.
    Raises `InvalidInput` for what an endpoint cannot do.
    """
    from aiaas_hub.schemas.pixels import Processing

    try:
        if isinstance(processor, Mapping):
            # As in the lists of images in this project: what shows through is paper, not night.
            return Processing.declared({"background": "white", **processor})
        return Processing(**_fields(processor.to_dict(), is_opaque))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = "dict" if isinstance(processor, Mapping) else type(processor).__name__
        raise InvalidInput(
            f"The processor, a {what}, is not one that an endpoint can be: {first_line(error)}.",
            remedy="Give a dict: {'size': [224, 224], 'mean': [0.5, 0.5, 0.5], 'std': [0.5, 0.5, "
            "0.5]}; docs/serving.md has its fields.",
        ) from error


def numbers(processor: Any, processing: Processing, files: Sequence[bytes]) -> NDArray[np.generic]:
    """What the model is given for these files, `[rows, channels, height, width]`: of a processor of
    transformers by itself, proven to be what the endpoint will make of them. One on torchvision is
    taken for the same on Pillow, if it is off by rounding only.

    Raises `InvalidInput` if it is not, or for a file that is no image.
    """
    import numpy as np

    made = [_endpoint_s(file, processing) for file in files]
    if isinstance(processor, Mapping):
        return np.stack(made)
    rows = []
    for file in [*files, *(_probe(*sides, processing) for sides in _PROBES)]:
        own, theirs = _endpoint_s(file, processing), _processor_s(processor, file, processing)
        if own.shape != theirs.shape:
            raise _other(processor, f"the shape {list(theirs.shape)}, not {list(own.shape)}")
        off = float(np.abs(own.astype(np.float64) - theirs.astype(np.float64)).max())
        if not off <= _may_be_off(processor, processing, theirs):
            raise _other(processor, f"numbers that are off by {off:.2g}")
        rows.append(theirs)
    return np.stack(rows[: len(files)] if _is_on_pillow(processor) else made)


def _is_on_pillow(processor: Any) -> bool:
    return str(getattr(processor, "backend", "pil")) == "pil"


def _may_be_off(processor: Any, processing: Processing, theirs: NDArray[Any]) -> float:
    import numpy as np

    if _is_on_pillow(processor):
        return TOLERANCE * max(1.0, float(np.abs(theirs).max()))
    level = 1.0 if processing.scale is None else abs(processing.scale)
    return _LEVELS * level / min(map(abs, processing.std or (1.0,)))


def _fields(said: Mapping[str, Any], is_opaque: bool) -> dict[str, Any]:
    from PIL import Image

    size = _sides(said["size"]) if said.get("do_resize") else None
    crop = _sides(said["crop_size"]) if said.get("do_center_crop") else None
    if size is not None and said.get("crop_pct"):
        if not isinstance(size, int):
            raise ValueError("it has a crop_pct, and no shortest_edge")
        whole = (size, size)
        size, crop = (whole, crop) if size >= _WHOLE else (int(size / said["crop_pct"]), whole)
    normalises = said.get("do_normalize")
    return {
        "background": "white" if said.get("do_convert_rgb") and not is_opaque else None,
        "size": size,
        "resample": Image.Resampling(int(said.get("resample", 2))).name.lower(),
        "crop": crop,
        "scale": said["rescale_factor"] if said.get("do_rescale") else None,
        "mean": said["image_mean"] if normalises else None,
        "std": said["image_std"] if normalises else None,
    }


def _sides(size: Any) -> tuple[int, int] | int:
    if not isinstance(size, Mapping):
        return int(size)
    known = {name: side for name, side in size.items() if side is not None}
    if set(known) == {"height", "width"}:
        return (int(known["height"]), int(known["width"]))
    if set(known) == {"shortest_edge"}:
        return int(known["shortest_edge"])
    raise ValueError(f"its size has {', '.join(known)}")


def _image(file: bytes) -> Image:
    from PIL import ImageOps

    from aiaas_hub.schemas.pixels import opened

    return ImageOps.exif_transpose(opened(file))


def _endpoint_s(file: bytes, processing: Processing) -> NDArray[Any]:
    from aiaas_hub.schemas.pixels import opened, pixels

    try:
        return pixels(opened(file), processing)
    except ValueError as error:
        raise InvalidInput(
            f"An image cannot be taken: {error}.", remedy="Leave it out, or save it again."
        ) from error


def _processor_s(processor: Any, file: bytes, processing: Processing) -> NDArray[Any]:
    import numpy as np

    image = _image(file)
    # One that makes them opaque itself is given them as they are.
    shown = image if processing.background is not None else image.convert("RGB")
    try:
        found = np.asarray(processor(images=[shown], return_tensors="np")["pixel_values"])[0]
    except Exception as error:  # processors raise no narrower one
        raise InvalidInput(
            f"The processor does not take an image: {first_line(error)}",
            remedy="Give the image processor that the model came with.",
        ) from error
    return np.asarray(found)


def _probe(width: int, height: int, processing: Processing) -> bytes:
    """Noise, in which every pixel tells; half of it clear where the processor sees to that."""
    import numpy as np
    from PIL import Image

    channels = 3 if processing.background is None else 4
    noise = np.random.default_rng(width).integers(0, 256, (height, width, channels), np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "PNG", compress_level=1)
    return file.getvalue()


def _other(processor: Any, what: str) -> InvalidInput:
    return InvalidInput(
        f"A {type(processor).__name__} does more than an endpoint can: it makes {what}.",
        remedy="Give a dict of what it does, or a processor that resizes, crops and normalises."
        if _is_on_pillow(processor)
        else "Load it on Pillow: AutoImageProcessor.from_pretrained(…, backend='pil').",
    )
