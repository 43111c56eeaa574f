"""What comes after a model whose first output has a value for each class: the name of one.

In the metadata of the ONNX file, as a part of `aiaas.step`:

    "label": {"output": "label", "names": ["good", …]}    or null
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np


class LabelStep:
    """Raises `ValueError` for a number of names that does not fit the model's session."""

    def __init__(self, declared: Mapping[str, Any] | None, session: Any) -> None:
        self.output = str(declared["output"]) if declared else None
        """Name of the output that says each row's class."""
        self.names = [str(name) for name in declared["names"]] if declared else []
        self._encoded = np.array([name.encode() for name in self.names], np.object_)
        self._scores = session.get_outputs()[0].name
        shape = session.get_outputs()[0].shape
        if declared and (len(shape) != 2 or shape[1] not in (len(self.names), None)):
            raise ValueError(f"there are {len(self.names)} labels, and {self._scores} is {shape}")

    def after(self, results: Mapping[str, Any]) -> dict[str, Any]:
        """The outputs with the name of each row's largest value, `[rows, 1]`."""
        if self.output is None:
            return dict(results)
        chosen = results[self._scores].argmax(axis=1)
        return {**results, self.output: self._encoded[chosen].reshape(-1, 1)}
