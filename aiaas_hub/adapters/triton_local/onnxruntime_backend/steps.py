"""Which step a model's file declares in its metadata: for texts, images, prompts, or none."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

STEP = "aiaas.step"
TOKENIZER = "aiaas.tokenizer"
_MAX_TOKENIZER_BYTES = 64 << 20


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


def tokenizer_text(metadata: Mapping[str, str]) -> str:
    """The `tokenizer.json` in a model's file. Raises `ValueError` if it is too large."""
    text = metadata.get(TOKENIZER, "")
    if len(text) > _MAX_TOKENIZER_BYTES:
        raise ValueError(f"the tokenizer has more than {_MAX_TOKENIZER_BYTES >> 20} MiB")
    return text


def tokenizer_of(text: str) -> Any:
    """A `Tokenizer`. Raises `ValueError` if the text is none."""
    # The instances of a model share the processors; a batch of texts takes microseconds.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_str(text)
    except Exception as error:  # tokenizers raises no narrower one
        raise ValueError(f"the tokenizer does not load: {error}") from None
