"""The `ModelConverter` port on this machine."""

from __future__ import annotations

import importlib.util
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aiaas_hub.adapters import model_process
from aiaas_hub.domain.ports import ConvertedModel
from aiaas_hub.home import inherited_mark
from aiaas_hub.schemas.endpoints import ModelFigures, Precision
from aiaas_hub.schemas.errors import InvalidInput, Unavailable

_SCRIPT = Path(__file__).with_name("convert_model.py")
_SECONDS = 300
_MEMORY_BYTES = 16 << 30


class OnnxConverter:
    @contextmanager
    def converted(
        self, onnx: Path, precision: Precision, rows: Path, batch: int
    ) -> Iterator[ConvertedModel]:
        """See `ModelConverter.converted`."""
        if importlib.util.find_spec("onnx") is None:
            raise Unavailable(
                "What converts models, onnx, is not installed here.",
                remedy="pip install 'aiaas-hub[serve]', or publish without a precision.",
            )
        with tempfile.TemporaryDirectory(prefix="aiaas-precision-") as directory:
            target = Path(directory) / "model.onnx"
            before, after = _run(onnx, target, precision, rows, batch)
            yield ConvertedModel(target, before, after)


def _run(
    onnx: Path, target: Path, precision: Precision, rows: Path, batch: int
) -> tuple[ModelFigures, ModelFigures]:
    words = [onnx, target, precision, rows, batch, _SECONDS, _MEMORY_BYTES]
    answer = model_process.ask(
        [sys.executable, "-I", _SCRIPT, *map(str, words)],
        {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", **inherited_mark()},
        target.parent,
        _SECONDS,
    )
    if answer is None:
        raise InvalidInput(
            f"Making the model {precision} crashes, or takes too long or too much memory.",
            remedy="Publish it without --precision.",
        )
    if "error" in answer:
        raise InvalidInput(
            f"The model cannot be made {precision}: {str(answer['error']).rstrip('.')}.",
            remedy="Publish it without --precision.",
        )
    return (
        ModelFigures.model_validate(answer["before"]),
        ModelFigures.model_validate(answer["after"]),
    )
