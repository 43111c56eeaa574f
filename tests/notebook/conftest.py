"""A notebook's shell before the real service; the engines behind it are stand-ins."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from api_world import PREFIX, World, serving
from doubling import doubling
from IPython.core.interactiveshell import InteractiveShell
from notebook_shell import Notebook
from traitlets.config import Config

from aiaas_hub.home import Home
from aiaas_magics import client as client_module
from aiaas_magics import completion


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """The service, with this process's environment as alice's notebook has it."""
    with serving(Home(tmp_path / "home"), f"sqlite:///{tmp_path / 'records.sqlite'}") as made:
        monkeypatch.setenv("AIAAS_URL", str(made.client.base_url.join(PREFIX)))
        monkeypatch.setenv("JUPYTERHUB_API_TOKEN", "user:alice")
        yield made


@pytest.fixture(autouse=True)
def clients_closed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No test meets another one's connections, nor names from its cache."""
    made: list[client_module.Client] = []
    make = client_module.Client.__init__

    def remember(client: client_module.Client, transport: client_module.Transport) -> None:
        make(client, transport)
        made.append(client)

    monkeypatch.setattr(client_module.Client, "__init__", remember)
    # Who types waits a second for names; a busy machine's tests longer.
    monkeypatch.setattr(completion, "_WAIT_SECONDS", 30.0)
    yield
    for client in made:
        client.transport.close()
    client_module._client_of.cache_clear()
    completion._cache.clear()


@pytest.fixture
def working(world: World) -> Iterator[World]:
    """The same, with the reconciler at work as in a platform."""
    stop = threading.Event()

    def work() -> None:
        while not stop.wait(0.05):
            world.tick()

    thread = threading.Thread(target=work)
    thread.start()
    yield world
    stop.set()
    thread.join()


@pytest.fixture
def gateway(working: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """What is behind an endpoint's address: see `doubling`."""
    with doubling() as server:
        url = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setattr(type(working.gateway), "url", url)
        yield server


@pytest.fixture(scope="session")
def one_shell() -> InteractiveShell:
    """One for all: a second one in a process would leave the first one's exit handlers behind."""
    main = sys.modules["__main__"]
    # No history: its thread and connection would outlive the tests.
    made = InteractiveShell.instance(config=Config({"HistoryManager": {"enabled": False}}))
    sys.modules["__main__"] = main
    return made


@pytest.fixture
def shell(one_shell: InteractiveShell, monkeypatch: pytest.MonkeyPatch) -> InteractiveShell:
    """Its module is `__main__` while it is used, as in a kernel: processes that other tests spawn
    look there for the program that they belong to."""
    monkeypatch.setitem(sys.modules, "__main__", one_shell.user_module)
    return one_shell


@pytest.fixture
def notebook(shell: InteractiveShell) -> Iterator[Notebook]:
    with pytest.MonkeyPatch.context() as patch:
        # IPython collects garbage here, among all that torch and others have: three quarters of the
        # time that these tests took.
        patch.setattr("gc.collect", lambda *_: 0)
        shell.reset(new_session=False)
    shell.run_line_magic("load_ext", "aiaas_magics")
    yield Notebook(shell)
    shell.run_line_magic("unload_ext", "aiaas_magics")
