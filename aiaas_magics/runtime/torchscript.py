"""TorchScript: a model that is its own program, without the Python that it was made of.

`torch.export` refuses a `ScriptModule`, and what turns one into an exported program knows neither
loops nor branches by value. The older exporter reads its graph as it stands.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiaas_hub.schemas.errors import InvalidInput, NotFound
from aiaas_magics.runtime.exported import first_line

if TYPE_CHECKING:
    import torch
    from torch import nn

SUFFIXES = (".pt", ".pth", ".ts", ".torchscript")
"""Of files that hold a TorchScript module, or what was pickled by `torch.save`."""
_OPSET = 20
"""The newest that this exporter writes."""


def is_scripted(model: Any) -> bool:
    import torch

    return isinstance(model, torch.jit.ScriptModule)


def is_file(model: Any) -> bool:
    """Whether it is the path of a file that is TorchScript by its name."""
    return isinstance(model, str | os.PathLike) and os.fspath(model).endswith(SUFFIXES)


def opened(path: str | os.PathLike[str]) -> nn.Module:
    """The module in the file, on the CPU. Nothing in the file is unpickled.

    Raises `NotFound` if there is no such file, `InvalidInput` if it holds no TorchScript.
    """
    import torch

    # Its functions have no types.
    jit: Any = torch.jit
    file = Path(path).expanduser()
    if not file.is_file():
        raise NotFound(f"There is no file {file}.", remedy="Look at its name and folder.")
    try:
        with warnings.catch_warnings():
            # That TorchScript is deprecated is not news to who has such a file.
            warnings.simplefilter("ignore")
            module: nn.Module = jit.load(file, map_location="cpu")
    except Exception as error:  # the reader's own
        raise InvalidInput(
            f"{file.name} holds no TorchScript.",
            remedy="Write it with torch.jit.script(model).save(PATH). Weights, and modules of "
            "torch.save, are loaded into their module, and that is given.",
        ) from error
    return module


def parameters(module: Any) -> list[str]:
    """Names of what `forward` takes, which has no Python signature."""
    return [argument.name for argument in module.forward.schema.arguments[1:]]


def to_onnx(
    module: nn.Module,
    target: Path,
    inputs: Mapping[str, torch.Tensor],
    free: Mapping[str, list[int]],
    output_names: list[str],
) -> None:
    """One file. `free`: input → its dimensions that are not fixed, the batch among them.

    Raises `InvalidInput` if it does not export.
    """
    import torch

    jit: Any = torch.jit
    names = parameters(module)
    if list(inputs) != names[: len(inputs)]:
        raise InvalidInput(
            f"The TorchScript module takes {', '.join(names)}, and the example gives "
            f"{', '.join(inputs)}.",
            remedy="Give the first of them, without a gap.",
        )
    arguments = tuple(inputs.values())
    axes = {
        name: {axis: f"{name}_{axis}" if axis else "batch" for axis in free[name]}
        for name in inputs
    }
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # What has defaults and is not given becomes a constant of the graph.
            plain = jit.trace(_listed(module), arguments, check_trace=False)
            torch.onnx.export(
                plain,
                arguments,
                target,
                dynamo=False,
                opset_version=_OPSET,
                input_names=list(inputs),
                output_names=output_names,
                dynamic_axes=axes | {name: {0: "batch"} for name in output_names},
            )
    except Exception as error:
        raise InvalidInput(
            f"The TorchScript module cannot be exported to ONNX: {first_line(error)}",
            remedy="Give the module that it was scripted from, whose operations have other ways, "
            "or leave out the operation that it names.",
        ) from error


def _listed(module: nn.Module) -> nn.Module:
    """The same with a plain tuple of its tensors: the exporter knows no dicts. To trace a call of
    TorchScript keeps its loops and branches."""
    import torch
    from torch.utils import _pytree as pytree

    class Listed(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = module

        def forward(self, *values: Any) -> Any:
            leaves = pytree.tree_leaves(self.module(*values))
            return tuple(leaf for leaf in leaves if isinstance(leaf, torch.Tensor))

    return Listed().eval()
