"""Predictions over the wire: tritonclient's real bytes to a server that speaks the protocol."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from api_world import World
from notebook_shell import Notebook

from aiaas_hub.schemas.endpoints import MAX_BATCH


def test_predict(gateway: Any, working: World, notebook: Notebook) -> None:
    working.model()
    endpoint = notebook.run("endpoint = %aiaas publish digits --model cnn\nendpoint")
    assert endpoint.address == f"127.0.0.1:{gateway.server_port}/alice/digits"
    rows = MAX_BATCH + 6
    notebook.shell.user_ns["X"] = np.arange(rows * 3, dtype=np.float64).reshape(rows, 3)
    note = notebook.run("%aiaas predict digits X --into y")
    assert repr(note) == f"y: y float32 [{rows}, 3] from alice/digits"
    assert notebook.run("(y == 2 * X).all()")
    # The answer is the caller's own, in one piece or in two.
    assert notebook.run("y *= 2\n(y == 4 * X).all()")
    paths, keys, counts = zip(*gateway.calls, strict=True)
    assert set(paths) == {"/alice/digits/v2/models/digits/infer"}
    assert counts == (MAX_BATCH, 6)
    # A short-lived key of the endpoint, never the hub's token.
    assert len(set(keys)) == 1
    assert keys[0].startswith("Bearer ")
    assert "user:alice" not in keys[0]
    assert "batch" in notebook.refuses("%aiaas predict digits X[0]")
    assert "no variable 'Z'" in notebook.refuses("%aiaas predict digits Z")


def test_a_key_is_renewed_and_a_restart_is_waited_for(
    gateway: Any, working: World, notebook: Notebook
) -> None:
    working.model()
    endpoint = notebook.run("endpoint = %aiaas publish digits --model cnn\nendpoint")
    x = np.ones((2, 3), np.float32)
    gateway.statuses = [401, 503, 200]
    assert (endpoint.predict(x) == 2).all()
    assert len(gateway.calls) == 3
    gateway.statuses = [401, 401]
    with pytest.raises(Exception, match="did not accept the key"):
        endpoint.predict(x)


def test_an_old_object_learns_of_the_new_version(
    gateway: Any, working: World, notebook: Notebook
) -> None:
    working.model()
    endpoint = notebook.run("endpoint = %aiaas publish digits --model cnn\nendpoint")
    now = endpoint.refresh()
    x = np.ones((2, 3), np.float32)
    old = now.signature.inputs[0].model_copy(update={"shape": [4]})
    signature = now.signature.model_copy(update={"inputs": [old]})
    endpoint._take(now.model_copy(update={"signature": signature}))
    assert (endpoint.predict(x) == 2).all()
    endpoint._take(now.model_copy(update={"url": f"{now.url}-former"}))
    gateway.statuses = [404]
    assert (endpoint.predict(x) == 2).all()
    # What is known is right: the refusal stands, and is not asked for again.
    gateway.statuses, gateway.calls[:] = [400], []
    with pytest.raises(Exception, match="refused the input"):
        endpoint.predict(x)
    assert len(gateway.calls) == 1
