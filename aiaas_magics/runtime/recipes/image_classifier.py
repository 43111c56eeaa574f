"""The recipe `image-classifier`: a convolutional network over columns of pixels."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from aiaas_hub.schemas.errors import InvalidInput
from aiaas_magics.runtime.recipes import classes
from aiaas_magics.runtime.recipes.descent import descend, prepare, say
from aiaas_magics.runtime.recipes.evaluation import Confusion, Measure
from aiaas_magics.runtime.recipes.parameters import ImageClassifier
from aiaas_magics.runtime.recipes.rows import Indices, split

if TYPE_CHECKING:
    import pandas as pd

    from aiaas_magics.runtime.context import Context


def train(ctx: Context, parameters: ImageClassifier) -> None:
    frame = ctx.dataset().to_pandas()
    if parameters.target not in frame:
        raise classes.no_column(parameters.target, frame)
    labels, truth = classes.encode(frame[parameters.target])
    images = read_images(frame, parameters)
    say(
        ctx,
        f"{len(images)} images of {images.shape[2]} x {images.shape[3]} in {len(labels)} classes",
    )
    training, held_out = split(len(images), parameters.eval_split, parameters.seed)
    torch.manual_seed(parameters.seed)
    network = Network(images[training], parameters, len(labels))
    model = prepare(ctx, network, parameters)
    task = Task(ctx, images, torch.from_numpy(truth), labels)
    measure = descend(ctx, model, task, parameters, training, held_out)
    classes.tell(ctx, measure)
    rows = torch.from_numpy(images[held_out[:256]])
    ctx.save_model(model, rows[:2], rows, labels)


def read_images(frame: pd.DataFrame, parameters: ImageClassifier) -> NDArray[np.float32]:
    """(rows, channels, height, width), float32 in the dataset's scale.

    Raises `InvalidInput` if the pixels do not make images of one size.
    """
    pixels = _pixels(frame, parameters)
    channels = parameters.channels
    if pixels.ndim == 2:
        count = pixels.shape[1] // channels
        height = parameters.height or math.isqrt(count)
        if height * (count // max(1, height)) * channels != pixels.shape[1]:
            raise InvalidInput(
                f"{pixels.shape[1]} pixels make no image of height {height} with {channels} "
                "channels.",
                remedy="Say how they lie: --param height=… --param channels=….",
            )
        pixels = pixels.reshape(len(pixels), height, -1, channels)
    elif pixels.ndim == 3:
        pixels = pixels[..., None]
    elif pixels.ndim == 4 and pixels.shape[-1] not in (1, 3, 4) and pixels.shape[1] in (1, 3, 4):
        return np.ascontiguousarray(pixels)
    if pixels.ndim != 4:
        raise InvalidInput(
            f"The pixels have {pixels.ndim - 1} dimensions a row.",
            remedy="Give images as flat lists, or nested as height, width and channels.",
        )
    return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))


def _pixels(frame: pd.DataFrame, parameters: ImageClassifier) -> NDArray[np.float32]:
    column = parameters.pixels
    others = [name for name in frame.columns if name != parameters.target]
    if column is None:
        lists = [name for name in others if frame[name].dtype.kind == "O" and _is_list(frame[name])]
        if not lists:
            numeric = [name for name in others if frame[name].dtype.kind in "biuf"]
            return np.asarray(frame[numeric].to_numpy(np.float32), np.float32)
        if len(lists) > 1:
            raise InvalidInput(
                f"Several columns hold lists: {', '.join(lists)}.",
                remedy="Name the images' one: --param pixels=….",
            )
        column = lists[0]
    if column not in frame:
        raise classes.no_column(column, frame)
    try:
        return np.array([_nested(image) for image in frame[column]], dtype=np.float32)
    except (TypeError, ValueError):
        raise InvalidInput(
            f"Column {column!r} does not hold images of one size.",
            remedy="Resize them to the same height and width before they are registered.",
        ) from None


def _is_list(values: pd.Series[Any]) -> bool:
    return len(values) > 0 and isinstance(values.iloc[0], list | np.ndarray)


def _nested(image: Any) -> Any:
    """Parquet gives an image of several dimensions as arrays of arrays."""
    if isinstance(image, np.ndarray) and image.dtype == object:
        return [_nested(part) for part in image]
    return image


class Network(nn.Module):
    """Stages of convolutions, each with twice the channels and half the size of the one before;
    the pixels' scale is part of it, and of what serves."""

    def __init__(
        self, images: NDArray[np.float32], parameters: ImageClassifier, outputs: int
    ) -> None:
        super().__init__()
        self.mean: torch.Tensor
        self.deviation: torch.Tensor
        self.register_buffer("mean", torch.tensor(float(images.mean())))
        self.register_buffer("deviation", torch.tensor(float(images.std()) or 1.0))
        size = min(images.shape[2:])
        if size < 2**parameters.stages:
            raise InvalidInput(
                f"Images of {size} pixels cannot be halved {parameters.stages} times.",
                remedy=f"Use --param stages={max(1, int(math.log2(size)))}.",
            )
        block = Residual if parameters.network == "resnet" else Plain
        stages: list[nn.Module] = []
        before, width = images.shape[1], parameters.width
        for _ in range(parameters.stages):
            stages += [block(before, width), nn.MaxPool2d(2)]
            before, width = width, width * 2
        self.body = nn.Sequential(*stages)
        # What lies where in the image is told by a small grid, not by its mean alone.
        self.pool = (
            nn.AdaptiveAvgPool2d(1) if size > 2 ** (parameters.stages + 2) else nn.Identity()
        )
        left = [side // 2**parameters.stages for side in images.shape[2:]]
        cells = 1 if size > 2 ** (parameters.stages + 2) else left[0] * left[1]
        self.head = nn.Sequential(
            nn.Flatten(), nn.Dropout(parameters.dropout), nn.Linear(before * cells, outputs)
        )

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        scaled = (pixels - self.mean) / self.deviation
        logits: torch.Tensor = self.head(self.pool(self.body(scaled)))
        return logits


class Plain(nn.Sequential):
    def __init__(self, before: int, width: int) -> None:
        super().__init__(
            nn.Conv2d(before, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
        )


class Residual(nn.Module):
    """He et al., Deep Residual Learning for Image Recognition (2015), the basic block."""

    def __init__(self, before: int, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(*list(Plain(before, width))[:-1])
        self.past = nn.Conv2d(before, width, 1, bias=False)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.body(features) + self.past(features))


class Task:
    """What `descend` asks."""

    def __init__(
        self,
        ctx: Context,
        images: NDArray[np.float32],
        truth: torch.Tensor,
        labels: list[str],
    ) -> None:
        self._device = ctx.device
        self._images = images
        self._truth = truth
        self._labels = labels

    def loss(self, model: nn.Module, rows: Indices) -> torch.Tensor:
        return nn.functional.cross_entropy(
            self._answer(model, rows), self._truth[rows].to(self._device)
        )

    def measure(self) -> Measure:
        return Confusion(self._labels)

    def evaluate(
        self, model: nn.Module, rows: Indices, counted: torch.Tensor, measure: Measure
    ) -> None:
        measure.add(self._answer(model, rows), self._truth[rows], counted)

    def _answer(self, model: nn.Module, rows: Indices) -> torch.Tensor:
        logits: torch.Tensor = model(torch.from_numpy(self._images[rows]).to(self._device))
        return logits
