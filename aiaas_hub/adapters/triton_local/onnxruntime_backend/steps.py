"""Which step a model's file declares in its metadata: for texts, images, prompts, or none."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

STEP = "aiaas.step"
TOKENIZER = "aiaas.tokenizer"


def step_of(metadata: Mapping[str, str], session: Any) -> Any:
    """A `TextStep`, an `ImageStep`, a `GenerationStep` or None. Raises `ValueError` for what cannot
    be.

    Only what a model needs is imported for it: each instance is a process of its own.
    """
    if STEP not in metadata:
        return None
    declared = json.loads(metadata[STEP])
    if "generation" in declared:
        from generation_step import GenerationStep

        return GenerationStep(metadata, session)
    if "pixels" in declared:
        from image_step import ImageStep

        return ImageStep(metadata, session)
    from text_step import TextStep

    return TextStep(metadata, session)
