"""The way of JupyterLab's pages to the service: a real notebook server between two real ends."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from aiaas_hub.loopback import free_ports

HUB_TOKEN = "canary-of-the-hub-token"
SERVER_TOKEN = "token-of-the-notebook-server"
# As the hub makes it of the name `eve<'&">`.
BASE = "/user/eve%3C'%26%22%3E/"
RUN = "run-abcdefghij"
PATIENCE = 60


@dataclass
class TestService:
    """What stands behind the proxy here: it keeps what it was asked."""

    __test__ = False

    url: str = ""
    asked: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)
    go_on: threading.Event = field(default_factory=threading.Event)
    left: threading.Event = field(default_factory=threading.Event)
    """The reader of an endless stream went away."""

    @property
    def last_path(self) -> str:
        return self.asked[-1][1]


def _handler(service: TestService) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def _answer(self, status: int, body: bytes, **headers: str) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def _begin_events(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Connection", "close")
            self.end_headers()

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            service.asked.append((self.command, self.path, dict(self.headers), body))
            whole = self.path.partition("?")[0]
            path = whole.removeprefix("/api/v1/runs/")
            if path == whole:
                self._answer(200, b'{"items":[]}')
            elif path == RUN:
                answer = json.dumps({"id": RUN}).encode()
                self._answer(200, answer, Set_Cookie="stolen=1", X_Internal="secret")
            elif path == f"{RUN}/cancel":
                self._answer(200, b'{"state":"cancelled"}')
            elif path == f"{RUN}/logs":
                self._answer(200, b"<script>alert(1)</script>", Content_Type="text/html")
            elif path == f"{RUN}/events":
                self._begin_events()
                self.wfile.write(b"event: run\ndata: 1\n\n")
                assert service.go_on.wait(PATIENCE)
                self.wfile.write(b"event: end\ndata: 2\n\n")
            elif path == "run-endless/events":
                self._begin_events()
                try:
                    while not service.go_on.wait(0.05):
                        self.wfile.write(b": still here\n\n")
                except OSError:
                    service.left.set()
            elif path == "run-elsewhere":
                self._answer(302, b"", Location="http://127.0.0.1:9/hub/login")
            else:
                error = {"code": "not_found", "message": "There is no such run.", "remedy": "Look."}
                self._answer(404, json.dumps({"error": error}).encode())

        def do_POST(self) -> None:
            self.do_GET()

        def do_DELETE(self) -> None:
            self.do_GET()

    return Handler


@pytest.fixture
def service(served: TestService) -> Iterator[TestService]:
    served.asked.clear()
    served.go_on.clear()
    served.left.clear()
    yield served
    served.go_on.set()


@pytest.fixture(scope="module")
def served() -> Iterator[TestService]:
    service = TestService()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(service))
    server.daemon_threads = True
    service.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield service
    server.shutdown()
    thread.join()
    server.server_close()


@contextmanager
def notebook_server(home: Path, **environ: str) -> Iterator[httpx.Client]:
    """A visitor's client of a notebook server as the hub would start it, signed in by token."""
    port = free_ports(1)[0]
    extensions = {"aiaas_magics.lab": True}
    command = [
        *(sys.executable, "-m", "jupyter_server", "--no-browser", "--allow-root"),
        *(f"--port={port}", "--ServerApp.ip=127.0.0.1", "--ServerApp.port_retries=0"),
        *(f"--ServerApp.base_url={BASE}", f"--IdentityProvider.token={SERVER_TOKEN}"),
        *(f"--ServerApp.root_dir={home}", f"--ServerApp.jpserver_extensions={extensions}"),
    ]
    log = home / "server.log"
    isolated = {
        "JUPYTER_CONFIG_DIR": str(home),
        "JUPYTER_DATA_DIR": str(home),
        "JUPYTER_RUNTIME_DIR": str(home),
        # None of the other extensions that this environment has.
        "JUPYTER_NO_CONFIG": "1",
        "JUPYTERHUB_API_TOKEN": HUB_TOKEN,
    }
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env={**kept, **isolated, **environ}, stdout=output, stderr=output
        )
    try:
        with httpx.Client(
            base_url=f"http://127.0.0.1:{port}{BASE}",
            headers={"Authorization": f"token {SERVER_TOKEN}"},
            timeout=PATIENCE,
        ) as client:
            for attempt in Retrying(
                retry=retry_if_exception_type(httpx.ConnectError),
                stop=stop_after_delay(PATIENCE),
                wait=wait_fixed(0.1),
            ):
                with attempt:
                    assert process.poll() is None, log.read_text()
                    client.get("api").raise_for_status()
            yield client
        assert HUB_TOKEN not in log.read_text()
        assert "Traceback" not in log.read_text(), log.read_text()
    finally:
        process.terminate()
        process.wait(PATIENCE)


@pytest.fixture(scope="module")
def visitor(
    served: TestService, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[httpx.Client]:
    with notebook_server(tmp_path_factory.mktemp("notebooks"), AIAAS_URL=served.url) as client:
        yield client


def as_it_stands(visitor: httpx.Client, path: str) -> httpx.Response:
    """GET what httpx itself would not send: it resolves dots in paths."""
    where = visitor.base_url
    connection = http.client.HTTPConnection(where.host, where.port, timeout=PATIENCE)
    try:
        headers = {"Authorization": f"token {SERVER_TOKEN}"}
        connection.request("GET", f"{BASE}{path}", headers=headers)
        answer = connection.getresponse()
        return httpx.Response(answer.status, content=answer.read())
    finally:
        connection.close()


def error_of(answer: httpx.Response) -> dict[str, Any]:
    error: dict[str, Any] = answer.json()["error"]
    return error


def test_a_page_gets_the_answer_and_none_of_its_headers(
    visitor: httpx.Client, service: TestService
) -> None:
    answer = visitor.get(
        f"aiaas/api/v1/runs/{RUN}", headers={"Cookie": "session=mine", "X-Forwarded-User": "admin"}
    )
    assert (answer.status_code, answer.json()) == (200, {"id": RUN})
    assert "stolen" not in str(answer.headers)
    assert "x-internal" not in answer.headers
    [(method, path, headers, _)] = service.asked
    assert (method, path) == ("GET", f"/api/v1/runs/{RUN}")
    assert headers["Authorization"] == f"Bearer {HUB_TOKEN}"
    sent = str(headers)
    assert "session=mine" not in sent
    assert SERVER_TOKEN not in sent
    assert "X-Forwarded-User" not in headers


def test_only_numbers_that_a_path_knows_are_passed_on(
    visitor: httpx.Client, service: TestService
) -> None:
    visitor.get(f"aiaas/api/v1/runs/{RUN}/logs?tail=100&owner=bob&1700000000")
    assert service.last_path == f"/api/v1/runs/{RUN}/logs?tail=100"
    answer = visitor.get(f"aiaas/api/v1/runs/{RUN}/logs?tail=1%26owner%3Dbob")
    assert (answer.status_code, error_of(answer)["code"]) == (400, "invalid")
    assert len(service.asked) == 1


@pytest.mark.parametrize(
    ("asked", "sent"),
    [
        ("me?owner=bob", "me"),
        ("runs?limit=50&cursor=b2s_-=&owner=bob", "runs?cursor=b2s_-%3D&limit=50"),
        (
            "datasets?search=price%26owner%3Dbob&limit=5",
            "datasets?limit=5&search=price%26owner%3Dbob",
        ),
        (
            "datasets/eve%3C'%26%22%3E/flowers?version=2",
            "datasets/eve%3C%27%26%22%3E/flowers?version=2",
        ),
        (
            "datasets/%E5%BC%A0%20%3F%23/flowers/versions",
            "datasets/%E5%BC%A0%20%3F%23/flowers/versions",
        ),
        (
            "datasets/eve/flowers/preview?n=50&offset=100&where=1",
            "datasets/eve/flowers/preview?n=50&offset=100",
        ),
        ("datasets/eve/flowers/profile", "datasets/eve/flowers/profile"),
        ("models?limit=50", "models?limit=50"),
        ("models/eve/flowers?version=1&alias=x", "models/eve/flowers?version=1"),
        ("endpoints?limit=50", "endpoints?limit=50"),
        ("endpoints/eve/flowers", "endpoints/eve/flowers"),
        ("endpoints/eve/flowers/statistics", "endpoints/eve/flowers/statistics"),
        ("endpoints/eve/flowers/drift?all=1", "endpoints/eve/flowers/drift"),
        ("endpoints/eve/flowers/lineage?version=2", "endpoints/eve/flowers/lineage?version=2"),
        ("endpoints/eve/flowers/keys?limit=50&all=1", "endpoints/eve/flowers/keys?limit=50"),
    ],
)
def test_lists_and_objects_are_asked_for_as_they_are_called(
    visitor: httpx.Client, service: TestService, asked: str, sent: str
) -> None:
    assert as_it_stands(visitor, f"aiaas/api/v1/{asked}").status_code == 200
    [(method, path, _, body)] = service.asked
    assert (method, path, body) == ("GET", f"/api/v1/{sent}", b"")


@pytest.mark.parametrize(
    "path",
    [
        "runs?name=a%2Fb",
        "runs?cursor=a%26owner%3Dbob",
        f"datasets?search={'a' * 257}",
        "datasets/eve/flowers?version=latest",
        "datasets/eve/..",
        "datasets/eve/a..b",
        "models/eve/-x",
    ],
)
def test_what_cannot_be_is_refused_before_the_service_is_asked(
    visitor: httpx.Client, service: TestService, path: str
) -> None:
    answer = as_it_stands(visitor, f"aiaas/api/v1/{path}")
    assert (answer.status_code, error_of(answer)["code"]) == (400, "invalid")
    assert error_of(answer)["remedy"]
    assert not service.asked


@pytest.mark.parametrize(
    ("method", "path", "sent"),
    [
        ("POST", "endpoints/eve/flowers/promote", b"{}"),
        ("POST", "endpoints/eve/flowers/rollback", b"{}"),
        ("DELETE", "endpoints/eve/flowers", b""),
        ("DELETE", "endpoints/eve/flowers/keys/0a1b2c", b""),
    ],
)
def test_an_endpoint_is_changed_with_no_body_of_the_pages(
    visitor: httpx.Client, service: TestService, method: str, path: str, sent: bytes
) -> None:
    body = b'{"why": "because a page says so"}'
    assert visitor.request(method, f"aiaas/api/v1/{path}", content=body).is_success
    [(asked, at, _, passed_on)] = service.asked
    assert (asked, at, passed_on) == (method, f"/api/v1/{path}", sent)


@pytest.mark.parametrize(
    ("path", "given", "sent"),
    [
        (
            "endpoints/eve/flowers/traffic",
            {"traffic": {"1": 80, "2": 20}, "owner": "bob"},
            {"traffic": {"1": 80, "2": 20}, "sticky": None, "why": ""},
        ),
        (
            "endpoints/eve/flowers/keys",
            {"note": "<b>app</b>", "expires_in_days": 7, "admin": True},
            {"note": "<b>app</b>", "expires_in_days": 7, "scope": "infer", "rate": None},
        ),
    ],
)
def test_of_a_body_only_what_the_service_knows_is_passed_on(
    visitor: httpx.Client,
    service: TestService,
    path: str,
    given: dict[str, Any],
    sent: dict[str, Any],
) -> None:
    assert visitor.post(f"aiaas/api/v1/{path}", json=given).is_success
    [(_, at, headers, passed_on)] = service.asked
    assert (at, json.loads(passed_on)) == (f"/api/v1/{path}", sent)
    assert headers["Content-Type"] == "application/json"


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("traffic", b"", 400),
        ("traffic", b'{"traffic": {"1": 101}}', 400),
        ("traffic", b'{"traffic": {"canary-of-what-is-sent": 1}}', 400),
        ("keys", b'{"scope": "everything"}', 400),
        ("keys", b'{"note": "' + b"a" * (1 << 20) + b'"}', 413),
        ("trial", b'{"rows": 1}', 400),
    ],
)
def test_a_body_that_cannot_be_is_refused_here(
    visitor: httpx.Client, service: TestService, path: str, body: bytes, status: int
) -> None:
    answer = visitor.post(f"aiaas/api/v1/endpoints/eve/flowers/{path}", content=body)
    assert answer.status_code == status
    assert error_of(answer)["remedy"]
    assert not service.asked


@pytest.mark.parametrize(
    ("path", "body"),
    [(f"runs/{RUN}/resume", None), ("endpoints/eve/flowers/keys", {"expires_in_days": 1})],
)
def test_a_repeat_is_known_as_one(
    visitor: httpx.Client, service: TestService, path: str, body: dict[str, Any] | None
) -> None:
    key = {"Idempotency-Key": "0f8fad5b-d9cb-469f-a165-70867728950e"}
    visitor.post(f"aiaas/api/v1/{path}", json=body, headers=key)
    assert service.asked[-1][2].items() >= key.items()
    visitor.post(f"aiaas/api/v1/{path}", json=body)
    assert "Idempotency-Key" not in service.asked[-1][2]
    # Whatever else it is does not get there.
    answer = visitor.post(
        f"aiaas/api/v1/{path}", json=body, headers={"Idempotency-Key": "a key; b=c"}
    )
    assert answer.status_code == 400
    assert len(service.asked) == 2


def test_no_answer_becomes_a_page_of_the_notebook_server(
    visitor: httpx.Client, service: TestService
) -> None:
    answer = visitor.get(f"aiaas/api/v1/runs/{RUN}/logs")
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "path",
    [
        "aiaas/api/v1/runs/../admin/users",
        "aiaas/api/v1/runs/%2e%2e/datasets",
        f"aiaas/api/v1/runs/{RUN}%2f..%2f..%2fdatasets",
        f"aiaas/api/v1/runs/{RUN}%3Fowner=bob",
        "aiaas/api/v1/runs/RUN_upper",
        f"aiaas/api/v1/runs/{'a' * 65}",
        f"aiaas/api/v1/runs/{RUN}/job",
        "aiaas/api/v1/usage",
        "aiaas/api/v1/datasets/eve/flowers/data",
        "aiaas/api/v1/datasets/%2e%2e/flowers",
        "aiaas/api/v1/datasets/../me/flowers",
        "aiaas/api/v1/datasets/eve%2fflowers/..%2f..%2fme",
        "aiaas/api/v1/datasets/a%2f..%2fb/flowers",
        "aiaas/api/v1/datasets/eve%00/flowers",
        "aiaas/api/v1/models/eve/flowers/onnx",
        "aiaas/api/v1/endpoints/eve/flowers/token",
        "aiaas/api/v1/endpoints/eve/flowers/keys/%2e%2e",
        "aiaas/api/v1/endpoints/eve/flowers/keys/a/b",
        "aiaas/api/v1/endpoints/eve/flowers/publish",
        "aiaas/api/v1/http://example.org/x",
        "aiaas",
    ],
)
def test_no_other_path_reaches_the_service(
    visitor: httpx.Client, service: TestService, path: str
) -> None:
    assert as_it_stands(visitor, path).status_code == 404
    assert not service.asked


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("DELETE", f"runs/{RUN}"),
        ("PUT", f"runs/{RUN}"),
        ("PATCH", f"runs/{RUN}"),
        ("POST", f"runs/{RUN}"),
        ("GET", f"runs/{RUN}/cancel"),
        ("POST", f"runs/{RUN}/events"),
        ("POST", "runs"),
        ("POST", "me"),
        ("DELETE", "datasets/eve/flowers"),
        ("DELETE", "models/eve/flowers"),
        ("POST", "endpoints/eve/flowers"),
        ("GET", "endpoints/eve/flowers/rollback"),
        ("GET", "endpoints/eve/flowers/traffic"),
        ("DELETE", "endpoints/eve/flowers/keys"),
        ("GET", "endpoints/eve/flowers/keys/0a1b2c"),
        ("GET", f"runs/{RUN}/resume"),
        ("PUT", "endpoints/eve/flowers/trial"),
    ],
)
def test_no_other_method_reaches_the_service(
    visitor: httpx.Client, service: TestService, method: str, path: str
) -> None:
    assert visitor.request(method, f"aiaas/api/v1/{path}").status_code == 405
    assert not service.asked


def test_who_is_not_signed_in_gets_nothing(visitor: httpx.Client, service: TestService) -> None:
    for headers in ({}, {"Authorization": "token wrong"}):
        for method, path in (
            ("GET", f"runs/{RUN}"),
            ("POST", f"runs/{RUN}/cancel"),
            ("GET", "datasets"),
            ("DELETE", "endpoints/eve/flowers"),
            ("POST", "endpoints/eve/flowers/keys"),
            ("POST", "endpoints/eve/flowers/trial"),
            ("GET", "endpoints/eve/flowers/trial"),
        ):
            url = f"{visitor.base_url}aiaas/api/v1/{path}"
            assert httpx.request(method, url, headers=headers).status_code == 403
    assert not service.asked


def test_a_cookie_alone_does_not_cancel(visitor: httpx.Client, service: TestService) -> None:
    with httpx.Client(base_url=visitor.base_url, follow_redirects=True) as browser:
        browser.get("login").raise_for_status()
        token = browser.cookies["_xsrf"]
        form = {"password": SERVER_TOKEN, "_xsrf": token}
        browser.post("login?next=" + BASE + "api", data=form).raise_for_status()
        assert browser.get(f"aiaas/api/v1/runs/{RUN}").is_success
        service.asked.clear()

        assert browser.post(f"aiaas/api/v1/runs/{RUN}/cancel").status_code == 403
        assert not service.asked
        headers = {"X-XSRFToken": browser.cookies["_xsrf"]}
        sent = b"a body that nobody asked for"
        answer = browser.post(f"aiaas/api/v1/runs/{RUN}/cancel", headers=headers, content=sent)
    assert answer.json() == {"state": "cancelled"}
    [(method, path, passed_on, body)] = service.asked
    assert (method, path, body) == ("POST", f"/api/v1/runs/{RUN}/cancel", b"")
    assert "Cookie" not in passed_on


def test_events_arrive_while_the_stream_is_open(
    visitor: httpx.Client, service: TestService
) -> None:
    path = f"aiaas/api/v1/runs/{RUN}/events?metrics_since=3&log_offset=7"
    with visitor.stream("GET", path) as answer:
        assert answer.headers["content-type"] == "text/event-stream"
        lines = answer.iter_lines()
        assert [next(lines), next(lines)] == ["event: run", "data: 1"]
        # Only now does the service say more: had the first been held back, this were never seen.
        service.go_on.set()
        assert [line for line in lines if line] == ["event: end", "data: 2"]
    assert service.last_path == f"/api/v1/runs/{RUN}/events?log_offset=7&metrics_since=3"


def test_a_page_that_is_closed_ends_the_stream_of_the_service(
    visitor: httpx.Client, service: TestService
) -> None:
    with visitor.stream("GET", "aiaas/api/v1/runs/run-endless/events") as answer:
        assert next(answer.iter_lines()) == ": still here"
    assert service.left.wait(PATIENCE)


def test_errors_keep_their_shape(visitor: httpx.Client, service: TestService) -> None:
    absent = visitor.get("aiaas/api/v1/runs/run-absent")
    assert absent.status_code == 404
    assert error_of(absent)["message"] == "There is no such run."
    assert error_of(absent)["remedy"] == "Look."
    # A redirect leads to a login page: it is not followed, and not handed to the browser.
    elsewhere = visitor.get("aiaas/api/v1/runs/run-elsewhere")
    assert elsewhere.status_code == 401
    assert "location" not in elsewhere.headers
    assert "token" in error_of(elsewhere)["message"]


def test_a_service_that_is_down_and_one_that_is_nowhere(tmp_path: Path) -> None:
    nobody = f"http://127.0.0.1:{free_ports(1)[0]}"
    with notebook_server(tmp_path, AIAAS_URL=nobody) as client:
        for path in (f"runs/{RUN}", f"runs/{RUN}/events"):
            answer = client.get(f"aiaas/api/v1/{path}")
            assert (answer.status_code, error_of(answer)["code"]) == (503, "unavailable")
            assert HUB_TOKEN not in answer.text
    # Plain JupyterLab, of somebody who has only installed us.
    with notebook_server(tmp_path) as client:
        answer = client.get("aiaas/api/v1/me")
    assert (answer.status_code, error_of(answer)["code"]) == (503, "unavailable")
    assert "AIAAS_URL is not set" in error_of(answer)["message"]
    for way in ("{hub}/services/aiaas", "JUPYTERHUB_API_TOKEN", "aiaas up", "make up"):
        assert way in error_of(answer)["remedy"]


def test_somebody_whom_the_owner_lets_in_does_not_get_the_owners_runs(
    served: TestService, tmp_path: Path
) -> None:
    served.asked.clear()
    with notebook_server(tmp_path, AIAAS_URL=served.url, JUPYTERHUB_USER="eve") as client:
        for path in (
            *(f"runs/{RUN}", "runs", "me", "datasets/eve/flowers"),
            *("endpoints/eve/flowers/keys", "endpoints/eve/flowers/trial"),
        ):
            answer = client.get(f"aiaas/api/v1/{path}")
            assert (answer.status_code, error_of(answer)["code"]) == (403, "forbidden")
        answer = client.delete("aiaas/api/v1/endpoints/eve/flowers")
        assert answer.status_code == 403
    assert not served.asked


def test_a_page_that_reads_keeps_no_server_and_keys_do(tmp_path: Path) -> None:
    environ = {"AIAAS_URL": "http://127.0.0.1:9", "AIAAS_IDLE_SECONDS": "600"}
    with notebook_server(tmp_path, AIAAS_WARN_SECONDS="60", **environ) as visitor:

        def left() -> float:
            answer = visitor.get("aiaas/ending").raise_for_status().json()
            assert (answer["why"], answer["warn_seconds"]) == ("idle", 60)
            return float(answer["seconds_left"])

        time.sleep(1.5)
        visitor.get("api/contents").raise_for_status()
        visitor.get("api/sessions").raise_for_status()
        assert left() < 599
        assert visitor.post("aiaas/ending").status_code == 204
        assert left() > 599.5
        time.sleep(1.5)
        visitor.put("api/contents/new.txt", json={"type": "file", "format": "text", "content": ""})
        assert left() > 599.5

        stranger = httpx.Client(base_url=visitor.base_url)
        with stranger:
            assert stranger.get("aiaas/ending").status_code == 403
            assert stranger.post("aiaas/ending").status_code == 403


def test_a_visitors_keys_do_not_keep_somebody_elses_server(tmp_path: Path) -> None:
    environ = {"AIAAS_URL": "http://127.0.0.1:9", "JUPYTERHUB_USER": "somebody-else"}
    with notebook_server(tmp_path, **environ) as visitor:
        assert visitor.post("aiaas/ending").status_code == 403
        assert visitor.get("aiaas/ending").json() == {"seconds_left": None}
