"""One tiny model whose answer is known: does this Triton answer rightly at all?"""

from __future__ import annotations

from importlib import resources

import numpy as np

from aiaas_hub.domain.ports import ServingEngine
from aiaas_hub.schemas.errors import Unavailable
from aiaas_hub.schemas.models import Signature, TensorSpec

NAME = "aiaas-golden"
_SIGNATURE = Signature(
    inputs=[TensorSpec(name="x", dtype="float32", shape=[3])],
    outputs=[TensorSpec(name="y", dtype="float32", shape=[3])],
)


def check(engine: ServingEngine) -> None:
    """Serve it and compare: a Python or numpy that does not fit the stub loads and says READY all
    the same, and then returns other numbers, or none. Raises `Unavailable`; the model is left for
    the caller to remove."""
    rows = np.arange(6, dtype=np.float32).reshape(2, 3)
    onnx = resources.files(__package__).joinpath("golden.onnx")
    with resources.as_file(onnx) as path:
        engine.install(engine.stage(NAME, 1, _SIGNATURE, path))
    engine.set_versions(NAME, _SIGNATURE, [1])
    answer = engine.infer(NAME, 1, {"x": rows})["y"]
    if not np.array_equal(answer, rows + rows):
        raise Unavailable(
            "Triton answers wrongly here: its Python and numpy do not fit each other.",
            remedy="Remove the directory aiaas-serving of this environment and start "
            "the platform again.",
        )
    engine.set_versions(NAME, _SIGNATURE, [])
