"""What comes before and after a model that is given texts: tokens of them, and names of classes.

Both are declared in the metadata of the ONNX file, so that a version is one file and nothing in it
runs: `aiaas.tokenizer` is a `tokenizer.json` of Hugging Face's tokenizers with its truncation and
its padding, and `aiaas.step` is JSON:

    {"input": "text",                                     the tensor that holds the texts
     "tensors": {"input_ids": "ids", …},                  the model's inputs, see `_TENSORS`
     "label": {"output": "label", "names": ["good", …]}}  or null

It is imported by the backend and by the process that inspects a file before it is served.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from label_step import LabelStep
from steps import STEP, tokenizer_of, tokenizer_text

_MAX_TOKENS = 8192
_TENSORS = {"ids": "ids", "mask": "attention_mask", "types": "type_ids"}
"""What a model's input holds → the attribute of an `Encoding`."""
_INTEGERS = {"tensor(int64)": np.int64, "tensor(int32)": np.int32}


class TextStep:
    """Raises `ValueError` for what is not as above, or does not fit the model's session."""

    kind = "text"

    def __init__(self, metadata: Mapping[str, str], session: Any) -> None:
        step, text = json.loads(metadata[STEP]), tokenizer_text(metadata)
        declared = json.loads(text)
        length = (declared.get("truncation") or {}).get("max_length", 0)
        if not 0 < length <= _MAX_TOKENS or not declared.get("padding"):
            raise ValueError(
                f"the tokenizer does not truncate to at most {_MAX_TOKENS} tokens and pad"
            )
        self._tokenizer = tokenizer_of(text)
        inputs = {tensor.name: tensor for tensor in session.get_inputs()}
        if set(step["tensors"]) != set(inputs):
            raise ValueError(f"the text becomes {sorted(step['tensors'])}, not {sorted(inputs)}")
        self._tensors = {
            name: (_TENSORS[what], _INTEGERS[inputs[name].type])
            for name, what in step["tensors"].items()
        }
        self.input = str(step["input"])
        self.label = LabelStep(step.get("label"), session)

    def sample(self) -> Any:
        """Texts that could be sent, `[1, 1]`."""
        return np.array([[b"A text."]], np.object_)

    def read(self, texts: Any) -> Any:
        """A request's texts, bytes in UTF-8, as str. Raises `ValueError` for what is none."""
        return decoded(texts, self.input)

    def before(self, texts: Any) -> dict[str, Any]:
        """The model's inputs, `[rows, tokens]`, from texts `[rows, 1]`; padded to the longest."""
        encodings = self._tokenizer.encode_batch(texts[:, 0].tolist())
        return {
            name: np.array([getattr(encoding, what) for encoding in encodings], dtype)
            for name, (what, dtype) in self._tensors.items()
        }


def decoded(texts: Any, name: str) -> Any:
    """Bytes in UTF-8, of the tensor `name`, as str. Raises `ValueError` for what is none."""
    try:
        found = [one.decode() for one in texts.flat]
    except UnicodeDecodeError:
        raise ValueError(f"{name} is not text in UTF-8") from None
    return np.array(found, np.object_).reshape(texts.shape)
