"""Triton over gRPC, with its errors told as ours.

Loads go through gRPC: a load through HTTP holds one of the workers that answer inference.
"""

from __future__ import annotations

import queue
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from aiaas_hub.domain.ports import DoesNotAnswer, ModelCounts
from aiaas_hub.schemas.errors import AiaasError, InternalError, InvalidInput, NotFound, Unavailable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CALL_SECONDS = 10.0
LOAD_SECONDS = 120.0
INFER_SECONDS = 60.0
OWN = "aiaas-service"
"""Id of what the service itself asks for: the backend does not count it among what callers send."""

_PATH = re.compile(r"(?:/[\w.@+~-]+){2,}/?")
_CHANNEL = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # The name that HTTP/2 asks for; a socket's path is not one.
    ("grpc.default_authority", "localhost"),
    # A proxy of the environment does not lead to this machine's sockets.
    ("grpc.enable_http_proxy", 0),
    # A killed Triton is back within a second or two; the default backs off for minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
]


class TritonClient:
    """Thread-safe; connects at the first call and again whenever Triton comes back."""

    def __init__(self, target: str, headers: Mapping[str, str] | None = None) -> None:
        """`target` as gRPC has it: `unix:PATH` or `HOST:PORT`; `headers` go with every call."""
        self._target = target
        self._client = triton.InferenceServerClient(target, channel_args=_CHANNEL)
        self._headers = dict(headers or {})

    def close(self) -> None:
        self._client.close()

    def is_live(self, seconds: float = 2.0) -> bool:
        try:
            return bool(self._client.is_server_live(headers=self._headers, client_timeout=seconds))
        except InferenceServerException:
            return False

    def index(self) -> dict[str, dict[int, tuple[str, str]]]:
        """Every version that Triton knows of: model → version → (state, reason)."""
        try:
            answer = self._client.get_model_repository_index(
                headers=self._headers, client_timeout=CALL_SECONDS
            )
        except InferenceServerException as error:
            raise told(error) from error
        found: dict[str, dict[int, tuple[str, str]]] = {}
        for entry in answer.models:
            versions = found.setdefault(entry.name, {})
            # A model that is not loaded is listed once, without a version.
            if entry.version:
                versions[int(entry.version)] = (entry.state, entry.reason)
        return found

    def ready_versions(self, model: str) -> set[int]:
        versions = self.index().get(model, {})
        return {version for version, (state, _) in versions.items() if state == "READY"}

    def counts(self, model: str) -> dict[int, ModelCounts]:
        """Triton's own statistics of a model's versions."""
        try:
            answer = self._client.get_inference_statistics(
                model, headers=self._headers, client_timeout=CALL_SECONDS
            )
        except InferenceServerException as error:
            raise told(error) from error
        return {
            int(found.version): ModelCounts(
                rows=found.inference_count,
                requests=found.inference_stats.success.count,
                queue_ns=found.inference_stats.queue.ns,
                runs=found.execution_count,
                compute_ns=sum(batch.compute_infer.ns for batch in found.batch_stats),
                batch_sizes={
                    batch.batch_size: batch.compute_infer.count for batch in found.batch_stats
                },
            )
            for found in answer.model_stats
        }

    def load(self, model: str) -> None:
        """Raises `InvalidInput` with Triton's reason if the model does not load."""
        try:
            self._client.load_model(model, headers=self._headers, client_timeout=LOAD_SECONDS)
        except InferenceServerException as error:
            raise told(error, failed="The model does not load in Triton") from error

    def unload(self, model: str) -> None:
        try:
            self._client.unload_model(model, headers=self._headers, client_timeout=CALL_SECONDS)
        except InferenceServerException as error:
            raise told(error) from error

    def infer(
        self, model: str, version: int, inputs: Mapping[str, NDArray[np.generic]]
    ) -> dict[str, NDArray[np.generic]]:
        try:
            answer = self._client.infer(
                model,
                _tensors(inputs),
                model_version=str(version),
                request_id=OWN,
                headers=self._headers,
                client_timeout=INFER_SECONDS,
            )
        except InferenceServerException as error:
            raise told(error) from error
        return _arrays(answer)

    def infer_in_stream(
        self, model: str, version: int, inputs: Mapping[str, NDArray[np.generic]]
    ) -> dict[str, NDArray[np.generic]]:
        """The same of a model whose requests are answered in pieces: the first of them, which held-
        out rows have no other after. Such models answer to nothing else.

        Errors of a stream are texts without a status. The header `triton_grpc_error` would give
        them one, and Triton 2.51 crashes where the error is not the very last of a request.
        """
        pieces: queue.SimpleQueue[tuple[Any, InferenceServerException | None]] = queue.SimpleQueue()
        # A client has one stream.
        client = triton.InferenceServerClient(self._target, channel_args=_CHANNEL)
        try:
            client.start_stream(
                lambda result, error: pieces.put((result, error)),
                stream_timeout=INFER_SECONDS,
                headers=self._headers,
            )
            client.async_stream_infer(model, _tensors(inputs), model_version=str(version))
            answer, failure = pieces.get(timeout=INFER_SECONDS + CALL_SECONDS)
        except InferenceServerException as error:
            raise told(error) from error
        except queue.Empty:
            raise DoesNotAnswer(
                "The model does not answer in time.", remedy="It is started again soon."
            ) from None
        finally:
            client.stop_stream(cancel_requests=True)
            client.close()
        if failure is not None:
            raise told(failure) from failure
        return _arrays(answer)


def _tensors(inputs: Mapping[str, NDArray[np.generic]]) -> list[Any]:
    tensors = []
    for name, array in inputs.items():
        tensor = triton.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
        tensors.append(tensor.set_data_from_numpy(array))
    return tensors


def _arrays(answer: Any) -> dict[str, NDArray[np.generic]]:
    return {output.name: answer.as_numpy(output.name) for output in answer.get_response().outputs}


def told(error: InferenceServerException, *, failed: str = "") -> AiaasError:
    """Triton's error as one of ours. With `failed`, any fault of the model is `InvalidInput`."""
    status = str(error.status() or "").removeprefix("StatusCode.")
    reason = sanitised(error.message() or "")
    again = "Try again in a moment."
    absent = ("is not at ready state", "unknown model", "is not available")
    if any(words in reason for words in absent) or status == "NOT_FOUND":
        return NotFound(f"Triton does not serve this version: {reason}", remedy=again)
    if status == "DEADLINE_EXCEEDED":
        return DoesNotAnswer(
            "The model does not answer in time.", remedy="It is started again soon."
        )
    if status == "CANCELLED" or (status == "UNAVAILABLE" and "connect" in reason.lower()):
        return Unavailable("Triton is not up.", remedy=again)
    if "Stub process" in reason:
        # The instance died, for want of memory perhaps. Triton never starts it again by itself.
        return DoesNotAnswer(
            "The model does not answer: its process has died.", remedy="It is started again soon."
        )
    if failed:
        return InvalidInput(
            f"{failed}: {reason}", remedy="Load the model with onnxruntime in a notebook."
        )
    if status == "INVALID_ARGUMENT":
        return InvalidInput(f"Triton refused the request: {reason}", remedy="")
    if status in ("UNAVAILABLE", "RESOURCE_EXHAUSTED"):
        return Unavailable(f"Triton cannot answer: {reason}", remedy=again)
    return InternalError(f"Triton failed: {reason}", remedy="Its log says more.")


def sanitised(text: str) -> str:
    """One line, without the Python backend's stack and without paths of this machine."""
    text = text.partition("\n\nAt:\n")[0]
    text = " ".join(text.split())
    return _PATH.sub(lambda match: match.group().rstrip("/").rpartition("/")[2], text)[:600]
