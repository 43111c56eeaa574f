"""What an endpoint of images makes of them, so that a model is trained on the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiaas_magics.image_files import contents
from aiaas_magics.runtime.image_processing import declared, numbers

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def pixels(images: Any, processor: Any) -> NDArray[np.generic]:
    """`[rows, channels, height, width]`, as `processor` says: what a model that is published with
    it will be given.

    `images`: paths, files' bytes, images of Pillow or arrays of uint8, one or several. `processor`:
    a dict (`docs/serving.md` has its fields) or an image processor of transformers.

    Raises `InvalidInput` for a processor that an endpoint cannot be and for what is no image,
    `NotFound` for a path that leads to no file.
    """
    return numbers(processor, declared(processor), contents(images))
