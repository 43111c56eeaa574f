"""Small images, as their files, and small models of images for the tests."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import torch
from PIL import Image

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)
FORMATS = ("PNG", "JPEG", "WEBP")


def file(image: Image.Image, kind: str = "PNG", **how: Any) -> bytes:
    content = io.BytesIO()
    image.save(content, kind, **how)
    return content.getvalue()


def plain(colour: Any, kind: str = "PNG", sides: tuple[int, int] = (30, 20)) -> bytes:
    return file(Image.new("RGB", sides, colour), kind)


def noise(width: int, height: int, mode: str = "RGB", seed: int = 0) -> Image.Image:
    shape = (height, width) if mode == "L" else (height, width, len(mode))
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, np.uint8), mode)


def turned(image: Image.Image, orientation: int, kind: str = "JPEG") -> bytes:
    """As a camera writes it that was held otherwise."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return file(image, kind, exif=exif)


def bomb(side: int) -> bytes:
    """A PNG that says that it has `side` squared pixels, in less than a kilobyte."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    head = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    rows = zlib.compress(b"\0" * 1000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def colours() -> torch.nn.Module:
    """The mean of each colour of an image, `[rows, 3]`."""

    class Colours(torch.nn.Module):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return pixels.mean((2, 3))

    return Colours()


def tiny_vit(side: int = 32) -> Any:
    """A classifier of transformers with random weights and the labels cat, dog and fish."""
    from transformers import ViTConfig, ViTForImageClassification

    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=side,
        patch_size=8,
        id2label={0: "cat", 1: "dog", 2: "fish"},
        label2id={"cat": 0, "dog": 1, "fish": 2},
    )
    model = ViTForImageClassification(config).eval()
    # Random weights choose one class for all; so that the images decide.
    torch.nn.init.normal_(model.classifier.weight, std=2.0)
    torch.nn.init.normal_(model.vit.embeddings.patch_embeddings.projection.weight, std=1.0)
    return model
