"""One Triton and its repository of files: which versions it serves, changed so that what was served
before is served still when something does not load."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from aiaas_hub.adapters.triton_local.client import TritonClient
from aiaas_hub.adapters.triton_local.model_configuration import is_decoupled, scalar_tensors
from aiaas_hub.adapters.triton_local.repository import Repository
from aiaas_hub.schemas.errors import Conflict, InvalidInput, Unavailable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from aiaas_hub.domain.ports import Tensors

_SETTLE_SECONDS = 30.0


class Loading:
    """One writer per model at a time. `connected` gives a client, or raises `Unavailable` while
    Triton is not up."""

    def __init__(self, repository: Repository, connected: Callable[[], TritonClient]) -> None:
        self._repository = repository
        self._connected = connected
        self._locks: dict[str, threading.RLock] = {}
        self._guard = threading.Lock()

    def lock(self, model: str) -> threading.RLock:
        with self._guard:
            return self._locks.setdefault(model, threading.RLock())

    def serve(self, model: str, wanted: set[int], text: str) -> None:
        """Serve exactly these versions, with `text` as their configuration; none: unload it. Raises
        as `ServingEngine.set_versions`."""
        with self.lock(model):
            client = self._connected()
            if not wanted:
                self._unload(client, model)
                return
            self._repository.sweep(model)
            self._repository.require(model, wanted)
            former = self._repository.read_configuration(model)
            if former == text and client.ready_versions(model) == wanted:
                return
            if former != text:
                self._repository.write_configuration(model, text)
            try:
                client.load(model)
                # An answer without an error is no proof: a version may be missing all the same.
                self._settle(client, model, wanted)
            except InvalidInput:
                if former is not None and former != text:
                    # Else the next load, for whatever reason, would fail like this one.
                    self._repository.write_configuration(model, former)
                raise

    def heal(self, model: str) -> None:
        """See `ServingEngine.heal`."""
        with self.lock(model):
            client = self._connected()
            ready = client.ready_versions(model)
            if not ready:
                return
            self._repository.sweep(model)
            self._repository.touch(model, ready)
            client.load(model)
            self._settle(client, model, ready)

    def remove(self, model: str, version: int | None = None) -> None:
        """See `ServingEngine.remove`."""
        with self.lock(model):
            client = self._connected()
            if version is None:
                self._unload(client, model)
            elif version in client.ready_versions(model):
                raise Conflict(
                    "A version that is served cannot be removed.",
                    remedy="Take its traffic away first.",
                )
            self._repository.remove(model, version)

    def _unload(self, client: TritonClient, model: str) -> None:
        if not client.ready_versions(model):
            return
        client.unload(model)
        deadline = time.monotonic() + _SETTLE_SECONDS
        # What is in flight is finished first.
        while client.ready_versions(model):
            if time.monotonic() > deadline:
                raise Unavailable(
                    "Triton still serves a model that was unloaded.", remedy="Try again."
                )
            time.sleep(0.02)

    def _settle(self, client: TritonClient, model: str, wanted: set[int]) -> None:
        """Wait until the READY versions are the wanted ones: old ones finish what is in flight."""
        deadline = time.monotonic() + _SETTLE_SECONDS
        while (ready := client.ready_versions(model)) != wanted:
            reasons = client.index().get(model, {})
            failed = [
                reason
                for version, (state, reason) in reasons.items()
                if version in wanted and state == "UNAVAILABLE" and reason
            ]
            if failed:
                raise InvalidInput(
                    f"The model does not load in Triton: {failed[0][:600]}",
                    remedy="Load the model with onnxruntime in a notebook.",
                )
            if time.monotonic() > deadline:
                raise Unavailable(
                    f"Triton serves the versions {sorted(ready)} instead of {sorted(wanted)}.",
                    remedy="Try again; its log says more.",
                )
            time.sleep(0.02)


def infer(
    client: TritonClient, configuration: str, model: str, version: int, inputs: Tensors
) -> dict[str, NDArray[np.generic]]:
    """See `ServingEngine.infer`; `configuration`: the model's. Tensors without dimensions besides
    the batch have one in Triton."""
    scalars = scalar_tensors(configuration)
    arrays = {
        name: array.reshape(-1, 1) if name in scalars and array.ndim == 1 else array
        for name, array in inputs.items()
    }
    ask = client.infer_in_stream if is_decoupled(configuration) else client.infer
    outputs = ask(model, version, arrays)
    return {
        name: array.reshape(-1) if name in scalars else array for name, array in outputs.items()
    }
