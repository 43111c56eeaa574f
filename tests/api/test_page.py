"""The page and the metrics, with the hub's side of the sign-in played by a stand-in."""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from api_world import PREFIX, World, serving

from aiaas_hub.adapters.records.audit import SqlAuditRecords
from aiaas_hub.api.errors import request_id
from aiaas_hub.domain.auditing import Act
from aiaas_hub.home import Home
from aiaas_hub.logs import JsonLines, _WithRequest
from aiaas_hub.page.sessions import Expiring, OAuthClient
from aiaas_hub.schemas.audit import Outcome, Via

NASTY = "<img src=x onerror=alert(1)>'\""


class HubTokens(BaseHTTPRequestHandler):
    """Codes `CODE-OF-<token>` become that token, if the verifier fits the challenge."""

    challenges: dict[str, str] = {}  # noqa: RUF012 - the handler's class is made anew for each

    def do_POST(self) -> None:
        sent = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        digest = hashlib.sha256(sent["code_verifier"][0].encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        good = self.challenges.pop(sent["code"][0], None) == challenge and sent[
            "client_secret"
        ] == ["the-service's"]
        self.send_response(200 if good else 400)
        self.end_headers()
        token = sent["code"][0].removeprefix("CODE-OF-")
        self.wfile.write(json.dumps({"access_token": token}).encode() if good else b"{}")

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def hub() -> Iterator[HTTPServer]:
    server = HTTPServer(("127.0.0.1", 0), type("OneHub", (HubTokens,), {"challenges": {}}))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def paged(tmp_path: Path, hub: HTTPServer) -> Iterator[World]:
    client = OAuthClient(
        client_id="service-aiaas",
        secret="the-service's",
        authorize_url="/hub/api/oauth2/authorize",
        token_url=f"http://127.0.0.1:{hub.server_address[1]}/oauth2/token",
        redirect_uri=f"{PREFIX}oauth_callback",
    )
    home = Home(tmp_path / "home")
    with serving(home, f"sqlite:///{tmp_path / 'records.sqlite'}", client) as made:
        yield made


def browser(world: World) -> httpx.Client:
    return httpx.Client(base_url=world.client.base_url, timeout=world.client.timeout)


def begin(visitor: httpx.Client) -> dict[str, str]:
    answer = visitor.get(PREFIX)
    assert answer.status_code == 302
    address = urlsplit(answer.headers["location"])
    assert address.path == "/hub/api/oauth2/authorize"
    query = {name: values[0] for name, values in parse_qs(address.query).items()}
    assert query["code_challenge_method"] == "S256"
    return query


@contextmanager
def sign_in(world: World, hub: HTTPServer, token: str) -> Iterator[httpx.Client]:
    with browser(world) as visitor:
        query = begin(visitor)
        hub.RequestHandlerClass.challenges[f"CODE-OF-{token}"] = query["code_challenge"]  # type: ignore[attr-defined]
        answer = visitor.get(
            f"{PREFIX}oauth_callback", params={"code": f"CODE-OF-{token}", "state": query["state"]}
        )
        assert answer.status_code == 303, answer.text
        assert answer.headers["location"] == PREFIX
        yield visitor


def test_a_user_sees_their_own(paged: World, hub: HTTPServer) -> None:
    paged.published()
    paged.dataset("secret-of-bob", "user:bob")
    (paged.home.root / "quotas.yaml").write_text("default: {endpoints: 3}\n")
    with sign_in(paged, hub, "user:alice") as visitor:
        page = visitor.get(PREFIX)
        assert page.status_code == 200, page.text
        assert "alice/digits" in page.text
        assert "add_model_version" in page.text
        assert "bob" not in page.text
        assert "administrator" not in page.text
        for query in ("owner=bob", "actor=bob"):
            assert "secret-of-bob" not in visitor.get(f"{PREFIX}?{query}").text
        assert "Nothing found" in visitor.get(f"{PREFIX}?act=nothing").text


def test_an_administrator_sees_everybodys_and_searches(paged: World, hub: HTTPServer) -> None:
    paged.dataset("of-alice")
    paged.dataset("of-bob", "user:bob")
    with sign_in(paged, hub, "admin:root") as visitor:
        assert {"of-alice", "of-bob"} <= set(re.findall(r"of-[a-z]+", visitor.get(PREFIX).text))
        found = visitor.get(PREFIX, params={"actor": "bob"}).text
        assert "of-bob" in found
        assert "of-alice" not in found


def test_what_ended_is_told_once_and_what_did_not_is_told(paged: World, hub: HTTPServer) -> None:
    paged.dataset("of-alice")
    with sign_in(paged, hub, "user:alice") as visitor:
        page = visitor.get(PREFIX).text
        assert 'class="done">done</td>' in page
        assert ">begun</td>" not in page
        SqlAuditRecords(paged.database).append(
            Act("alice", Via.API, "put", "datasets/alice/x", Outcome.BEGUN, "alice", "r-1")
        )
        assert visitor.get(PREFIX).text.count(">begun</td>") == 1


def test_no_script_of_anybody_runs(paged: World, hub: HTTPServer) -> None:
    paged.call("DELETE", f"/endpoints/alice/{NASTY.replace('/', '')}")
    with sign_in(paged, hub, "user:alice") as visitor:
        page = visitor.get(PREFIX, params={"act": NASTY})
        assert "<img" not in page.text
        assert "&lt;img" in visitor.get(PREFIX).text
        policy = page.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "script" not in policy
        assert "frame-ancestors 'none'" in policy
        nonce = re.search(r"'nonce-([^']+)'", policy)
        assert nonce is not None
        assert f'<style nonce="{nonce[1]}">' in page.text
        assert "<script" not in page.text


def test_the_cookie_opens_the_page_and_nothing_else(paged: World, hub: HTTPServer) -> None:
    run = paged.submit()
    with sign_in(paged, hub, "user:alice") as visitor:
        [cookie] = [one for one in visitor.cookies.jar if one.name == "aiaas-page"]
        assert cookie.path == PREFIX
        assert "user:alice" not in cookie.value
        assert visitor.get(PREFIX).status_code == 200
        for method, path in (
            ("GET", "/runs"),
            ("POST", f"/runs/{run['id']}/cancel"),
            ("DELETE", "/endpoints/alice/digits"),
        ):
            assert visitor.request(method, f"{PREFIX}api/v1{path}").status_code == 401
        for method in ("POST", "PUT", "DELETE"):
            assert visitor.request(method, PREFIX).status_code == 405
        assert visitor.get(f"{PREFIX}metrics").status_code == 401
    assert paged.ok("GET", f"/runs/{run['id']}")["state"] == "queued"


def test_a_sign_in_that_another_browser_began_is_refused(paged: World, hub: HTTPServer) -> None:
    """What an attacker would send to a victim, to have them use the attacker's account."""
    with browser(paged) as attacker, browser(paged) as victim:
        query = begin(attacker)
        begin(victim)
        hub.RequestHandlerClass.challenges["CODE-OF-user:eve"] = query["code_challenge"]  # type: ignore[attr-defined]
        sent = {"code": "CODE-OF-user:eve", "state": query["state"]}
        assert victim.get(f"{PREFIX}oauth_callback", params=sent).status_code == 401
        # And a state is good for one use, whoever used it.
        assert attacker.get(f"{PREFIX}oauth_callback", params=sent).status_code == 401
        assert victim.get(PREFIX).status_code == 302
        for wrong in ({}, {"state": "x"}, {"code": "x"}, {"code": "x", "state": "y" * 900}):
            assert victim.get(f"{PREFIX}oauth_callback", params=wrong).status_code == 401


def test_a_code_that_the_hub_refuses_signs_nobody_in(paged: World) -> None:
    with browser(paged) as visitor:
        query = begin(visitor)
        sent = {"code": "CODE-OF-user:alice", "state": query["state"]}
        answer = visitor.get(f"{PREFIX}oauth_callback", params=sent)
        assert answer.status_code == 401
        assert "user:alice" not in answer.text


def test_a_revoked_token_signs_in_anew(paged: World, hub: HTTPServer) -> None:
    with sign_in(paged, hub, "user:alice") as visitor:
        paged.identity.revoked.add("user:alice")
        assert visitor.get(PREFIX).status_code == 302


def test_sessions_end_and_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aiaas_hub.page.sessions._MOST", 3)
    kept: Expiring[int] = Expiring(100)
    names = [kept.put(number) for number in range(5)]
    assert [kept.get(name) for name in names] == [None, None, 2, 3, 4]
    assert kept.take(names[4]) == 4
    assert kept.take(names[4]) is None
    gone: Expiring[int] = Expiring(-1)
    assert gone.get(gone.put(1)) is None


def test_metrics_are_for_who_may_see_everybody(paged: World) -> None:
    run = paged.submit(resources={"workers": 2})
    paged.run_token(run)
    paged.submit()

    def ask(token: str) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token}"}
        return paged.client.get(f"{PREFIX}metrics", headers=headers)

    assert ask("user:alice").status_code == 403
    assert ask("nonsense").status_code == 401
    assert paged.client.get(f"{PREFIX}metrics").status_code == 401
    assert ask("admin:root").status_code == 200
    text = ask(paged.home.secret("metrics_token")).text
    assert 'aiaas_engine_up{engine="ray"} 1.0' in text
    assert 'aiaas_runs{state="started"} 1.0' in text
    assert 'aiaas_runs{state="queued"} 1.0' in text
    assert "aiaas_workers 2.0" in text
    counted = 'aiaas_requests_total{method="POST",operation="submit_run",status="201"} 2.0'
    assert counted in text
    assert run["id"] not in text
    assert "alice" not in text


def test_the_dashboard_asks_for_metrics_that_there_are(paged: World) -> None:
    headers = {"Authorization": f"Bearer {paged.home.secret('metrics_token')}"}
    paged.ok("GET", "/runs")
    text = paged.client.get(f"{PREFIX}metrics", headers=headers).text
    there = set(re.findall(r"^(aiaas_[a-z_]+)", text, re.M))
    file = Path(__file__).parents[2] / "hub_config" / "grafana-dashboard.json"
    dashboard = json.loads(file.read_text())
    asked = {
        name
        for panel in dashboard["panels"]
        for target in panel["targets"]
        for name in re.findall(r"aiaas_[a-z_]+", target["expr"])
    }
    assert asked
    assert asked <= there


def test_a_line_of_the_log_tells_its_request() -> None:
    record = logging.LogRecord("x", logging.INFO, "f", 1, "said %s", ("so\n",), None)
    token = request_id.set("of-the-notebook")
    try:
        assert _WithRequest().filter(record)
    finally:
        request_id.reset(token)
    line: Any = json.loads(JsonLines().format(record))
    assert (line["message"], line["request_id"], line["level"]) == (
        "said so\n",
        "of-the-notebook",
        "INFO",
    )
