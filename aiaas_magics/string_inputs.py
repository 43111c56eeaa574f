"""Inputs of an endpoint that are strings: texts, and the files of images."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from aiaas_hub.schemas.errors import InvalidInput
from aiaas_hub.schemas.models import TensorSpec
from aiaas_magics.image_files import contents, pixel_count

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_REQUEST_BYTES = 48 << 20
"""Of the images of one request: the gateway takes 64 MiB, all in all."""


def to_strings(spec: TensorSpec, value: Any) -> NDArray[np.generic]:
    """A text, or texts in a list, an array or a column, `[rows, …]`; of images their files, bytes.

    Raises `InvalidInput` for anything else, or as `image_files.contents` does.
    """
    import numpy as np

    if spec.kind == "image":
        return _column(contents(_listed(value)))
    if isinstance(value, str | bytes):
        value = [value]
    try:
        array = np.asarray(value, np.object_)
    except ValueError:
        array = np.empty(0, np.object_)
    if array.ndim == 1 and spec.shape == [1]:
        array = array[:, None]
    odd = [one for one in array.flat if not isinstance(one, str | bytes)]
    if odd:
        raise InvalidInput(
            f"Input {spec.name} takes text, and {str(odd[0])[:40]!r} is of the type "
            f"{type(odd[0]).__name__}.",
            remedy="Give a text, or a list of texts; of a column: frame['name'].astype(str).",
        )
    if array.ndim != len(spec.shape) + 1 or array.shape[0] == 0:
        raise InvalidInput(
            f"Input {spec.name} takes texts, one a row.",
            remedy="Give a text, or a list of texts.",
        )
    return array


def image_requests(files: NDArray[Any], most: int) -> Iterator[NDArray[Any]]:
    """Files, `[rows, 1]`, in requests: of at most so many rows, and of no more bytes and pixels
    than one may have."""
    from aiaas_hub.schemas.pixels import MAX_REQUEST_PIXELS

    start = size = seen = 0
    for row, content in enumerate(files[:, 0]):
        count = pixel_count(content)
        full = size + len(content) > _REQUEST_BYTES or seen + count > MAX_REQUEST_PIXELS
        if row > start and (full or row - start == most):
            yield files[start:row]
            start, size, seen = row, 0, 0
        size, seen = size + len(content), seen + count
    yield files[start:]


def _listed(value: Any) -> Any:
    """A column of a DataFrame, or an array of them, row by row."""
    if hasattr(value, "to_numpy"):
        value = value.to_numpy()
    if str(getattr(value, "dtype", "")) == "object":
        return value.reshape(-1).tolist()
    return value


def _column(values: list[bytes]) -> NDArray[np.generic]:
    import numpy as np

    column: NDArray[np.object_] = np.empty((len(values), 1), np.object_)
    column[:, 0] = values
    return column
