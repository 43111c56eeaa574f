"""Who a token is, asked of a hub: what is remembered, for how long and how much of it."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from aiaas_hub.api import identity
from aiaas_hub.api.identity import HubIdentity, Scope
from aiaas_hub.schemas.errors import Unavailable

ADA = {"kind": "user", "name": "ada", "scopes": ["custom:aiaas:read!user=ada"], "groups": ["a"]}
SERVICE = {"kind": "service", "name": "other", "scopes": ["custom:aiaas:read"]}


class Hub(ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.known = {"ada": ADA, "service": SERVICE}
        self.asked: list[str] = []


class Handler(BaseHTTPRequestHandler):
    server: Hub

    def do_GET(self) -> None:
        token = self.headers["Authorization"].partition(" ")[2]
        self.server.asked.append(token)
        model = self.server.known.get(token)
        self.send_response(403 if model is None else 200)
        self.end_headers()
        self.wfile.write(json.dumps(model or {"message": "who?"}).encode())

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    server = Hub()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("JUPYTERHUB_API_URL", f"http://127.0.0.1:{server.server_address[1]}/hub/api")
    monkeypatch.setenv("JUPYTERHUB_API_TOKEN", "of-the-service")
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_revoked_token_changes_nothing_at_once(hub: Hub) -> None:
    who = HubIdentity()

    async def visits() -> None:
        ada = await who.identify("ada", fresh=False)
        assert ada is not None
        assert (ada.user, ada.groups, ada.admin) == ("ada", frozenset("a"), False)
        assert ada.may(Scope.READ, "ada")
        assert not ada.may(Scope.READ, "bob")
        assert not ada.may(Scope.RUNS_WRITE, "ada")
        assert not ada.reads_all
        await who.identify("ada", fresh=False)
        assert hub.asked == ["ada"], "reads are remembered"
        del hub.known["ada"]
        assert await who.identify("ada", fresh=True) is None

    asyncio.run(visits())


def test_a_service_is_nobody(hub: Hub) -> None:
    assert asyncio.run(HubIdentity().identify("service", fresh=True)) is None


def test_a_flood_of_tokens_is_forgotten(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "MAX_CACHED_TOKENS", 5)
    who = HubIdentity()

    async def flood() -> int:
        most = 0
        for number in range(20):
            assert await who.identify(f"guess-{number}", fresh=False) is None
            most = max(most, len(who._auth.cache.values))
        return most

    assert asyncio.run(flood()) <= 7


def test_a_hub_that_is_down_is_nobodys_no(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUPYTERHUB_API_URL", "http://127.0.0.1:9/hub/api")
    with pytest.raises(Unavailable):
        asyncio.run(HubIdentity().identify("ada", fresh=True))
