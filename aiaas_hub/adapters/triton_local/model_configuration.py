"""A model's `config.pbtxt` as Triton reads it, made and read by its own messages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from aiaas_hub.domain.ports import DEFAULT_OPTIONS
from aiaas_hub.schemas.endpoints import ServingOptions
from aiaas_hub.schemas.models import DType, Signature, TensorSpec

QUEUE_SLACK_SECONDS = 0.1
REQUEST, EVENT = "request", "event"
"""Tensors of JSON of a model that generates: what is asked, and a piece of the answer."""

TRITON_TYPES: dict[DType, str] = {
    "bool": "TYPE_BOOL",
    "uint8": "TYPE_UINT8",
    "int8": "TYPE_INT8",
    "int16": "TYPE_INT16",
    "int32": "TYPE_INT32",
    "int64": "TYPE_INT64",
    "float16": "TYPE_FP16",
    "float32": "TYPE_FP32",
    "float64": "TYPE_FP64",
    "string": "TYPE_STRING",
}


def configuration(
    model: str,
    signature: Signature,
    versions: Sequence[int],
    *,
    instances: int = 1,
    options: ServingOptions = DEFAULT_OPTIONS,
    on_gpus: bool = False,
) -> str:
    """`config.pbtxt` of a model that serves exactly `versions`; `instances` where the options do
    not say how many, on each GPU if `on_gpus`.

    The gateway ends a request at its time-out; what still waits a moment later is not inferred for
    nobody. At the very time-out the gateway's 504 would race Triton's 503, which clients take for
    a restart and send again.

    A tensor without dimensions besides the batch is given one of size 1, which `reshape` hides
    from the model: Triton allows no empty `dims`.
    """
    group = model_config_pb2.ModelInstanceGroup
    config = model_config_pb2.ModelConfig(
        name=model,
        # The first has the same model.onnx, and makes its tensors of texts, images or prompts.
        backend="aiaas" if signature.has_step else "onnxruntime",
        max_batch_size=options.largest_batch,
        input=[_tensor(model_config_pb2.ModelInput, spec) for spec in signature.inputs],
        output=[_tensor(model_config_pb2.ModelOutput, spec) for spec in signature.outputs],
        version_policy=model_config_pb2.ModelVersionPolicy(
            specific=model_config_pb2.ModelVersionPolicy.Specific(versions=sorted(set(versions)))
        ),
        instance_group=[
            group(
                count=options.instances or instances,
                kind=group.KIND_GPU if on_gpus else group.KIND_CPU,
            )
        ],
    )
    if signature.generates:
        _let_generate(config)
    elif options.batch_delay != "off":
        config.dynamic_batching.CopyFrom(_batching(options))
    return str(text_format.MessageToString(config))


def _let_generate(config: Any) -> None:
    """A request is answered in pieces, and may be one of JSON in place of the signature's: see the
    backend's `generating.py`. Its texts wait in the backend, so nothing does in Triton."""
    config.model_transaction_policy.decoupled = True
    for tensor in config.input:
        tensor.optional = True
    string = {"data_type": model_config_pb2.TYPE_STRING, "dims": [1]}
    config.input.add(name=REQUEST, optional=True, **string)
    config.output.add(name=EVENT, **string)


def is_decoupled(text: str) -> bool:
    """Whether a configuration's model answers a request in pieces."""
    config = text_format.Parse(text, model_config_pb2.ModelConfig())
    return bool(config.model_transaction_policy.decoupled)


def scalar_tensors(text: str) -> set[str]:
    """Names of the tensors of a configuration that have no dimensions besides the batch."""
    config = text_format.Parse(text, model_config_pb2.ModelConfig())
    tensors = [*config.input, *config.output]
    return {tensor.name for tensor in tensors if tensor.HasField("reshape")}


def queue_seconds(timeout: float) -> float:
    """How long a request may wait in Triton that the gateway ends after `timeout` seconds."""
    return 1.1 * timeout + QUEUE_SLACK_SECONDS


def _batching(options: ServingOptions) -> Any:
    batching = model_config_pb2.ModelDynamicBatching()
    if isinstance(options.batch_delay, float):
        batching.max_queue_delay_microseconds = round(1000 * options.batch_delay)
    if options.timeout_seconds is not None:
        policy = batching.default_queue_policy
        policy.timeout_action = model_config_pb2.ModelQueuePolicy.REJECT
        policy.default_timeout_microseconds = round(1e6 * queue_seconds(options.timeout_seconds))
    return batching


def _tensor(kind: type, spec: TensorSpec) -> object:
    data_type = model_config_pb2.DataType.Value(TRITON_TYPES[spec.dtype])
    dims = [-1 if dim is None else dim for dim in spec.shape]
    if dims:
        return kind(name=spec.name, data_type=data_type, dims=dims)
    return kind(
        name=spec.name,
        data_type=data_type,
        dims=[1],
        reshape=model_config_pb2.ModelTensorReshape(shape=[]),
    )
