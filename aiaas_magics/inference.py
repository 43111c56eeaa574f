"""Calls to an endpoint: the Open Inference Protocol with binary tensors, through the gateway.

The hub token stays with the service: calls carry a key of ten minutes that it was exchanged for.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from aiaas_hub.schemas.endpoints import Endpoint, EndpointToken
from aiaas_hub.schemas.errors import (
    AiaasError,
    Conflict,
    Forbidden,
    InternalError,
    InvalidInput,
    NotFound,
    TooLarge,
    Unauthenticated,
    Unavailable,
)
from aiaas_hub.schemas.models import Signature, TensorSpec
from aiaas_magics import string_inputs

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from aiaas_magics.client import Client

    Arrays = dict[str, NDArray[np.generic]]

# A key is changed this long before it ends: a call under way must not outlive it.
_MARGIN = timedelta(seconds=60)
_TIMEOUT_SECONDS = 60.0
_CONNECT_SECONDS = 5.0
# A gateway or engine that restarts is back within seconds.
PAUSES = (0.2, 0.5, 1.0, 2.0)


VERSION_HEADER = "x-aiaas-model-version"
"""Of an answer: which version gave it."""
_CHOICE_HEADER = "x-aiaas-version"
_STICKY_HEADER = "x-aiaas-sticky"


@dataclass(frozen=True)
class _Call:
    """Whom to ask for what."""

    endpoint: Endpoint
    signature: Signature
    version: int | None


class Caller:
    """Predictions from one endpoint. Safe to use from several threads."""

    def __init__(self, client: Client, owner: str, name: str) -> None:
        self._client = client
        self._owner = owner
        self._name = name
        self.last_version: int | None = None
        self._token: EndpointToken | None = None
        self._lock = threading.Lock()
        # tritonclient's connections belong to the greenlet hub of the thread that made them.
        self._local = threading.local()

    def predict(
        self,
        endpoint: Endpoint,
        x: Any,
        version: int | None = None,
        signature: Signature | None = None,
    ) -> Arrays:
        """Outputs by name; of this version, which has this signature, or of whichever the traffic
        leads to. Raises `AiaasError`."""
        signature = signature or endpoint.signature
        if signature is None or not endpoint.traffic:
            raise Conflict(
                f"Endpoint {endpoint.name} is {endpoint.state} and answers nothing.",
                remedy=f"Publish a model to it: '%aiaas publish {endpoint.name} --run ID'.",
            )
        if signature.generates:
            raise InvalidInput(
                f"The model of {endpoint.name} generates text, and does not predict.",
                remedy=f"Type aiaas.endpoints.get({endpoint.name!r}).generate('A prompt', "
                "max_tokens=100), or stream() for its pieces.",
            )
        inputs = to_tensors(signature, x)
        call = _Call(endpoint, signature, version)
        answers = [
            self._call(call, piece)
            for piece in _pieces(
                inputs, call.endpoint.largest_batch, is_image=signature.takes_image
            )
        ]
        if len(answers) == 1:
            return answers[0]
        import numpy as np

        return {name: np.concatenate([answer[name] for answer in answers]) for name in answers[0]}

    def _call(self, call: _Call, inputs: Arrays) -> Arrays:
        from tritonclient.utils import InferenceServerException

        renewed = False
        pauses = iter(PAUSES)
        while True:
            try:
                return self._infer(call, inputs)
            except (InferenceServerException, OSError) as failure:
                error = _as_error(call.endpoint, failure)
                if isinstance(error, Unauthenticated) and not renewed:
                    renewed = True
                    self.renew()
                    continue
                pause = next(pauses, None)
                # What took too long once would take as long again.
                if (
                    isinstance(error, Unavailable)
                    and pause is not None
                    and _status(failure) != "504"
                ):
                    time.sleep(pause)
                    continue
                raise error from failure

    def _infer(self, call: _Call, inputs: Arrays) -> Arrays:
        from tritonclient import http
        from tritonclient.utils import np_to_triton_dtype

        tensors = []
        for name, array in inputs.items():
            tensor = http.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
            tensor.set_data_from_numpy(array, binary_data=True)
            tensors.append(tensor)
        wanted = [
            http.InferRequestedOutput(spec.name, binary_data=True)
            for spec in call.signature.outputs
        ]
        headers = self.headers(call.endpoint, call.version)
        answer = self._connection(call.endpoint.url).infer(
            call.endpoint.name, tensors, outputs=wanted, headers=headers
        )
        # The gateway's header says the same; tritonclient does not show it.
        self.last_version = int(answer.get_response()["model_version"])
        return {
            spec.name: _read(spec, answer.as_numpy(spec.name)) for spec in call.signature.outputs
        }

    def headers(self, endpoint: Endpoint, version: int | None) -> dict[str, str]:
        """Of a call: the key, the version that is to answer, and who calls."""
        headers = {"Authorization": f"Bearer {self._key()}"}
        if version is not None:
            headers[_CHOICE_HEADER] = str(version)
        if endpoint.sticky:
            # The key is another one every few minutes.
            headers[_STICKY_HEADER] = self._client.user
        return headers

    def renew(self) -> None:
        """The key is another one from now on: its clock and ours may differ, or the signing key
        was changed."""
        self._token = None

    def _connection(self, url: str) -> Any:
        known = getattr(self._local, "connection", None)
        if known is not None and self._local.url == url:
            return known
        from tritonclient import http

        scheme, _, address = url.partition("://")
        self._local.connection = http.InferenceServerClient(
            address,
            ssl=scheme == "https",
            connection_timeout=_CONNECT_SECONDS,
            network_timeout=_TIMEOUT_SECONDS,
        )
        self._local.url = url
        return self._local.connection

    def _key(self) -> str:
        with self._lock:
            if self._token is None or _ends_soon(self._token):
                self._token = self._client.endpoints.token(self._owner, self._name)
            return self._token.token


def to_tensors(signature: Signature, x: Any) -> Arrays:
    """Arrays for a request, each cast to its dtype. Raises `InvalidInput` if `x` does not fit."""
    names = [spec.name for spec in signature.inputs]
    if isinstance(x, Mapping):
        if set(x) != set(names):
            raise InvalidInput(
                f"The model's inputs are {', '.join(names)}; given are {', '.join(map(str, x))}.",
                remedy="Give a dict with exactly these names.",
            )
        given = dict(x)
    elif len(names) == 1:
        given = {names[0]: x}
    elif hasattr(x, "columns"):
        given = _by_column(names, x)
    else:
        raise InvalidInput(
            f"The model has {len(names)} inputs: {', '.join(names)}.",
            remedy="Give a dict {name: array}.",
        )
    arrays = {spec.name: _to_tensor(spec, given[spec.name]) for spec in signature.inputs}
    counts = {array.shape[0] for array in arrays.values()}
    if len(counts) > 1:
        raise InvalidInput(
            "The inputs have different numbers of rows: "
            + ", ".join(f"{name} {array.shape[0]}" for name, array in arrays.items())
            + ".",
            remedy="Give each input the same number of rows.",
        )
    return arrays


def _by_column(names: list[str], frame: Any) -> dict[str, Any]:
    """A DataFrame's columns for a model that has an input for each, as after a ColumnTransformer:
    `[rows, 1]`. Columns of other names are not the model's, and left out."""
    columns = {str(column): column for column in frame.columns}
    missing = [name for name in names if name not in columns]
    if missing:
        raise InvalidInput(
            f"The rows have no column {missing[0]!r}, which the model takes.",
            remedy=f"Give a DataFrame with the columns {', '.join(names)}.",
        )
    return {name: frame[[columns[name]]].to_numpy() for name in names}


def _read(spec: TensorSpec, array: NDArray[Any]) -> NDArray[np.generic]:
    """An output as a person has it: strings are str, one a row where the signature says so."""
    if spec.dtype != "string":
        # What tritonclient gives is a view of the answer's bytes, and nobody may write to it.
        return array.copy()
    import numpy as np

    found = np.array([one.decode(errors="replace") for one in array.flat], np.object_)
    return found if spec.shape == [1] else found.reshape(array.shape)


def _to_tensor(spec: TensorSpec, value: Any) -> NDArray[np.generic]:
    import numpy as np

    if spec.dtype == "string":
        return string_inputs.to_strings(spec, value)
    if hasattr(value, "detach"):
        # A torch tensor, which may need its gradient or its device taken off.
        value = value.detach().cpu()
    try:
        array = np.asarray(value)
    except (ValueError, TypeError) as error:
        raise InvalidInput(
            f"Input {spec.name} cannot be made an array: {error}.",
            remedy=f"Give an array of shape {_shape(spec)}.",
        ) from error
    fits = array.ndim == len(spec.shape) + 1 and all(
        wanted is None or wanted == got
        for wanted, got in zip(spec.shape, array.shape[1:], strict=False)
    )
    if not fits:
        one_row = array.ndim == len(spec.shape) and all(
            wanted is None or wanted == got
            for wanted, got in zip(spec.shape, array.shape, strict=True)
        )
        raise InvalidInput(
            f"Input {spec.name} has shape {list(array.shape)}, the model takes {_shape(spec)}.",
            remedy="It is one row without its batch dimension: give x[None]."
            if one_row
            else "Reshape it, with the batch first.",
        )
    if array.shape[0] == 0:
        raise InvalidInput(f"Input {spec.name} has no rows.", remedy="Give at least one row.")
    wanted_type = np.dtype(spec.dtype)
    # Floats may lose digits, as in any model; a text, or a fraction for an integer, is a mistake.
    castable = array.dtype == wanted_type or (
        array.dtype.kind in "biuf" and np.can_cast(array.dtype, wanted_type, "same_kind")
    )
    if not castable and array.dtype.kind in "iu" and wanted_type.kind in "iu":
        limits = np.iinfo(wanted_type)
        castable = bool(array.min() >= limits.min and array.max() <= limits.max)
    if not castable:
        raise InvalidInput(
            f"Input {spec.name} is {array.dtype}, the model takes {spec.dtype}.",
            remedy=f"Convert it: x.astype({spec.dtype!r}).",
        )
    return np.ascontiguousarray(array, dtype=wanted_type)


def _pieces(inputs: Arrays, most: int, *, is_image: bool = False) -> Iterator[Arrays]:
    """The rows in requests of at most so many, and of images of what one may have."""
    if is_image:
        (files,) = inputs.items()
        yield from ({files[0]: part} for part in string_inputs.image_requests(files[1], most))
        return
    rows = next(iter(inputs.values())).shape[0]
    for start in range(0, rows, most):
        yield {name: array[start : start + most] for name, array in inputs.items()}


def _shape(spec: TensorSpec) -> str:
    dims = ["batch", *("any" if d is None else str(d) for d in spec.shape)]
    return f"[{', '.join(dims)}]"


def _ends_soon(token: EndpointToken) -> bool:
    ends = token.expires_at
    if ends.tzinfo is None:
        ends = ends.replace(tzinfo=UTC)
    return ends - datetime.now(UTC) < _MARGIN


def _first_line(message: str) -> str:
    """What an engine said, short: beyond that line it is a page of HTML or a stack."""
    from aiaas_magics.display import sentence

    return sentence(message.strip().splitlines()[0][:200] if message.strip() else "no reason given")


def _status(failure: Exception) -> str:
    return str(getattr(failure, "status", lambda: "")() or "")


def _as_error(endpoint: Endpoint, failure: Exception) -> AiaasError:
    """Our word for what the gateway, the engine or the network said."""
    message = getattr(failure, "message", lambda: None)() or str(failure)
    status = "" if isinstance(failure, OSError) else _status(failure)
    return refusal(endpoint, status, message)


def refusal(endpoint: Endpoint, status: str, message: str) -> AiaasError:
    """Of an HTTP status; "" where there was no answer."""
    message = _first_line(message)
    if status == "401":
        return Unauthenticated(
            f"The gateway did not accept the key for {endpoint.name}.",
            remedy="Try again; if it stays, restart your server from the hub's Home page.",
        )
    if status == "403":
        return Forbidden(
            f"This key may not call {endpoint.name}.", remedy="Call an endpoint of your own."
        )
    if status == "404":
        return NotFound(
            f"Nothing is served at {endpoint.url}.",
            remedy=f"Look at it with '%aiaas endpoint {endpoint.name}'.",
        )
    if status == "413":
        return TooLarge(
            "The rows are larger than the gateway accepts at once.", remedy="Send fewer rows."
        )
    if status == "429":
        return Unavailable(
            f"Endpoint {endpoint.name} gets more calls than it may.", remedy="Call more slowly."
        )
    if status == "400":
        return InvalidInput(
            f"The model refused the input: {message}", remedy="Compare it with the signature."
        )
    if status == "504":
        return Unavailable(
            f"Endpoint {endpoint.name} did not answer in time.",
            remedy="Send fewer rows, or publish it with a longer --timeout.",
        )
    if status in ("", "502", "503"):
        return Unavailable(
            f"Endpoint {endpoint.name} does not answer: {message}",
            remedy="It may be restarting: try again in a moment.",
        )
    return InternalError(
        f"Endpoint {endpoint.name} answered with an error ({status}): {message}",
        remedy=f"Look at it with '%aiaas endpoint {endpoint.name}'.",
    )
