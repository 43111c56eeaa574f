"""A torch module as ONNX, proven to load and to answer as the module does."""

from __future__ import annotations

import inspect
import keyword
import logging
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from aiaas_hub.schemas.errors import InvalidInput
from aiaas_hub.schemas.models import DType
from aiaas_magics.runtime import torchscript
from aiaas_magics.runtime.exported import ExportedModel, first_line, prove
from aiaas_magics.runtime.torchscript import is_scripted

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch import nn

    Arrays = dict[str, NDArray[np.generic]]

_DTYPES = [name for name in get_args(DType) if name != "string"]


def export_torch(
    model: nn.Module,
    example_input: Any,
    eval_input: Any = None,
    labels: Sequence[str] | None = None,
    *,
    directory: Path,
) -> ExportedModel:
    """Export `model`, TorchScript too, with a free batch dimension into `directory`, and compare
    it with onnxruntime.

    Inputs are a tensor or array with a leading batch dimension, a tuple of them in the order of
    `forward`'s parameters, or a dict by parameter name. Other dimensions are fixed, except
    where `eval_input` has another size there than `example_input`. The module itself is left as
    it was; its training mode is off meanwhile.

    Raises `InvalidInput` if the module does not export, the result does not load, or an output
    differs by more than `TOLERANCE` of the output's scale at batch 1, 3 or all rows.
    """
    import torch

    example = _named_inputs(model, example_input, "example_input")
    rows = example if eval_input is None else _named_inputs(model, eval_input, "eval_input")
    free = _free_dimensions(example, rows)
    with at_rest(model) as module, torch.no_grad():
        _, names = _call(module, _sized(example, 2))
        onnx_path = directory / "model.onnx"
        _export(module, _sized(example, max(2, _rows(example))), free, names, onnx_path)

        def answer(batch: Arrays) -> Arrays:
            tensors = {name: torch.from_numpy(array) for name, array in batch.items()}
            return _call(module, tensors)[0]

        return prove(
            onnx_path,
            {name: tensor.numpy() for name, tensor in rows.items()},
            answer,
            labels,
            f"torch {torch.__version__.split('+')[0]}",
        )


def _named_inputs(model: nn.Module, given: Any, argument: str) -> dict[str, torch.Tensor]:
    import numpy as np
    import torch

    names, variadic = _parameters(model)
    if isinstance(given, Mapping):
        unknown = [name for name in given if name not in names]
        if unknown:
            raise InvalidInput(
                f"{argument} has {unknown[0]!r}, which the model's forward does not take.",
                remedy=f"Its parameters are: {', '.join(names)}.",
            )
        named = {name: given[name] for name in names if name in given}
    else:
        values = list(given) if isinstance(given, tuple | list) else [given]
        if variadic:
            names = names + [f"{variadic}_{index}" for index in range(len(values) - len(names))]
        if len(values) > len(names):
            raise InvalidInput(
                f"{argument} has {len(values)} tensors; the model's forward takes {len(names)}.",
                remedy="Give a tuple in the order of forward's parameters, or a dict by name.",
            )
        named = dict(zip(names, values, strict=False))
    tensors = {}
    for name, value in named.items():
        tensor = torch.from_numpy(value) if isinstance(value, np.ndarray) else value
        if not isinstance(tensor, torch.Tensor) or tensor.ndim == 0 or tensor.shape[0] == 0:
            raise InvalidInput(
                f"{argument} {name!r} is not a tensor with a leading batch dimension.",
                remedy="Give at least one row, for example example_input=x[:1].",
            )
        if _dtype(tensor) not in _DTYPES:
            raise InvalidInput(
                f"{argument} {name!r} has the type {_dtype(tensor)}, which cannot be served.",
                remedy=f"Use one of: {', '.join(_DTYPES)}.",
            )
        tensors[name] = tensor.detach().cpu()
    if not tensors or len({tensor.shape[0] for tensor in tensors.values()}) != 1:
        raise InvalidInput(
            f"The tensors of {argument} do not have the same number of rows.",
            remedy="Every input has the batch dimension first.",
        )
    return tensors


def _parameters(model: nn.Module) -> tuple[list[str], str | None]:
    """Names of what `forward` takes, and the name of its `*args` if it has them."""
    if is_scripted(model):
        return torchscript.parameters(model), None
    names = []
    variadic = None
    for parameter in inspect.signature(model.forward).parameters.values():
        if parameter.kind is parameter.VAR_POSITIONAL:
            variadic = parameter.name
        elif parameter.kind is not parameter.VAR_KEYWORD:
            names.append(parameter.name)
    return names, variadic


def _free_dimensions(
    example: dict[str, torch.Tensor], rows: dict[str, torch.Tensor]
) -> dict[str, set[int]]:
    if example.keys() != rows.keys():
        raise InvalidInput(
            f"eval_input has {', '.join(rows)}, example_input has {', '.join(example)}.",
            remedy="Give both in the same form.",
        )
    free = {}
    for name, tensor in example.items():
        other = rows[name]
        if tensor.ndim != other.ndim or tensor.dtype != other.dtype:
            raise InvalidInput(
                f"eval_input {name!r} is {_dtype(other)}{list(other.shape)}, example_input is "
                f"{_dtype(tensor)}{list(tensor.shape)}.",
                remedy="Give both with the same type and number of dimensions.",
            )
        free[name] = {
            axis for axis in range(1, tensor.ndim) if tensor.shape[axis] != other.shape[axis]
        }
    return free


@contextmanager
def at_rest(model: nn.Module) -> Iterator[nn.Module]:
    """The model on the CPU in evaluation mode; a model on the CPU is used in place."""
    import copy

    state = [*model.parameters(), *model.buffers()]
    module = model if all(t.device.type == "cpu" for t in state) else copy.deepcopy(model).cpu()
    # A frozen TorchScript module has no mode: it is at rest for ever.
    modes = [(part, part.training) for part in module.modules() if hasattr(part, "training")]
    module.eval()
    try:
        yield module
    finally:
        for part, training in modes:
            part.training = training


@contextmanager
def _quiet(*loggers: str) -> Iterator[None]:
    found = [logging.getLogger(name) for name in loggers]
    levels = [logger.level for logger in found]
    for logger in found:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(found, levels, strict=True):
            logger.setLevel(level)


def _rows(tensors: dict[str, torch.Tensor]) -> int:
    return int(next(iter(tensors.values())).shape[0])


def _sized(tensors: dict[str, torch.Tensor], rows: int) -> dict[str, torch.Tensor]:
    """The first `rows` rows, begun again from the top where there are fewer."""
    import torch

    index = torch.arange(rows) % _rows(tensors)
    return {name: tensor[index] for name, tensor in tensors.items()}


def _arguments(
    module: nn.Module, inputs: dict[str, torch.Tensor]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional where `forward` has `*args`, else by name, so that gaps are possible."""
    if _parameters(module)[1]:
        return tuple(inputs.values()), {}
    return (), dict(inputs)


def _call(module: nn.Module, inputs: dict[str, torch.Tensor]) -> tuple[Arrays, list[str]]:
    import torch
    from torch.utils import _pytree as pytree

    args, kwargs = _arguments(module, inputs)
    try:
        result = module(*args, **kwargs)
    except Exception as error:
        raise InvalidInput(
            f"The model does not run on the example input: {first_line(error)}",
            remedy="Give an example_input that the model's forward takes.",
        ) from error
    leaves = pytree.tree_leaves(result)
    tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
    rows = _rows(inputs)
    if not tensors or len(tensors) != len([leaf for leaf in leaves if leaf is not None]):
        raise InvalidInput(
            "The model's forward returns something other than tensors.",
            remedy="Return a tensor, or a tuple or dict of tensors.",
        )
    for tensor in tensors:
        if tensor.ndim == 0 or tensor.shape[0] != rows or _dtype(tensor) not in _DTYPES:
            raise InvalidInput(
                f"An output is {_dtype(tensor)}{list(tensor.shape)} for {rows} rows of input.",
                remedy="Return one row of output per row of input, of a numeric type.",
            )
    names = _output_names(result, len(tensors), taken=set(inputs))
    return {
        name: tensor.numpy(force=True) for name, tensor in zip(names, tensors, strict=True)
    }, names


def _output_names(result: Any, count: int, taken: set[str]) -> list[str]:
    keys: list[str] = []
    if isinstance(result, Mapping) and len(result) == count:
        keys = [re.sub(r"\W", "_", str(key)) for key in result]
    if len(set(keys)) != count or any(not key or keyword.iskeyword(key) for key in keys):
        keys = ["output" if index == 0 else f"output_{index}" for index in range(count)]
    # An output named like an input exports and then does not load.
    return [f"{key}_out" if key in taken else key for key in keys]


def _export(
    module: nn.Module,
    inputs: dict[str, torch.Tensor],
    free: dict[str, set[int]],
    output_names: list[str],
    target: Path,
) -> None:
    import torch

    if is_scripted(module):
        every = {name: sorted({0, *free[name]}) for name in inputs}
        torchscript.to_onnx(module, target, inputs, every, output_names)
        return
    batch = torch.export.Dim("batch", min=1)
    shapes = {
        name: {0: batch, **dict.fromkeys(free[name], torch.export.Dim.DYNAMIC)} for name in inputs
    }
    args, kwargs = _arguments(module, inputs)
    dynamic: Any = shapes
    if args:
        variadic = _parameters(module)[1]
        ordinary = [name for name in inputs if not name.startswith(f"{variadic}_")]
        dynamic = tuple(shapes[name] for name in ordinary)
        dynamic = (*dynamic, tuple(shapes[name] for name in inputs if name not in ordinary))
    to_onnx(
        module,
        target,
        args=args,
        kwargs=kwargs,
        dynamic_shapes=dynamic,
        input_names=list(inputs),
        output_names=output_names,
    )


def to_onnx(module: nn.Module, target: Path, **how: Any) -> None:
    """One file, by `torch.onnx.export`. Raises `InvalidInput` if it does not export."""
    import torch

    try:
        with warnings.catch_warnings(), _quiet("torch.onnx", "onnxscript", "onnx_ir"):
            # The exporter's own notes on its future are not the user's business.
            warnings.simplefilter("ignore")
            torch.onnx.export(
                module, f=target, dynamo=True, external_data=False, verbose=False, **how
            )
    except Exception as error:
        raise InvalidInput(
            f"The model cannot be exported to ONNX: {_cause(error)}",
            remedy="Use torch operations that do not depend on the values or the number of rows "
            "in forward, then save the model again.",
        ) from error


def _dtype(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _cause(error: BaseException) -> str:
    """The innermost reason: the exporter wraps it in pages about itself."""
    while error.__cause__ is not None:
        error = error.__cause__
    return first_line(error)
