"""The transport: repeats, errors, pages. The network is replaced, as it is what is under test."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from aiaas_hub.schemas import errors
from aiaas_hub.schemas.datasets import DatasetVersionCreate
from aiaas_hub.schemas.endpoints import KeyCreate
from aiaas_hub.schemas.runs import Run
from aiaas_magics.client import Client, Connection, Transport
from aiaas_magics.client.endpoints import EndpointsClient
from aiaas_magics.client.runs import Disconnected, RunsClient
from aiaas_magics.client.transport import Event

Handler = Callable[[httpx.Request], httpx.Response]


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tenacity.nap.time.sleep", lambda _: None)


@pytest.fixture
def client() -> Iterator[Callable[[Handler], Client]]:
    made: list[Transport] = []

    def make(handler: Handler) -> Client:
        connection = Connection("http://hub/services/aiaas", "secret-canary")
        made.append(Transport(connection, transport=httpx.MockTransport(handler)))
        return Client(made[-1])

    yield make
    for transport in made:
        transport.close()


Make = Callable[[Handler], Client]
ME = {
    "user": "al/ice",
    "admin": False,
    "gateway": "http://gateway",
    "engines": [],
    "live_runs": 0,
    "serving_endpoints": 0,
    "version": "1",
    "python": "3.11",
}


def test_who_asks_is_in_the_header_and_nowhere_else(client: Make) -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        assert request.headers["Authorization"] == "Bearer secret-canary"
        assert str(request.url) == "http://hub/services/aiaas/api/v1/me"
        return httpx.Response(200, json=ME)

    made = client(handler)
    assert made.me().user == made.user == "al/ice"
    assert "secret-canary" not in repr(Connection("http://hub", "secret-canary"))


def test_names_stay_one_segment_of_the_path(client: Make) -> None:
    paths: list[bytes] = []

    def handler(request: httpx.Request) -> httpx.Response:
        paths.append(request.url.raw_path)
        return httpx.Response(200, json={"items": [], "next_cursor": None})

    list(client(handler).endpoints.keys("o'<&\"> /../x", "digits"))
    assert paths == [b"/services/aiaas/api/v1/endpoints/o%27%3C%26%22%3E%20%2F..%2Fx/digits/keys"]


@pytest.mark.parametrize("trouble", [httpx.ConnectError("refused"), 502, 503, 504])
def test_a_post_is_repeated_with_one_key(client: Make, trouble: Any) -> None:
    keys: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        keys.append(request.headers["Idempotency-Key"])
        if len(keys) < 3:
            if isinstance(trouble, Exception):
                raise trouble
            return httpx.Response(trouble, text="<html>from a proxy</html>")
        return httpx.Response(200, json={"token": "t", "expires_at": "2026-01-01T00:00:00Z"})

    made = client(handler)
    made.endpoints.token("alice", "digits")
    assert len(keys) == 3
    assert len(set(keys)) == 1
    made.endpoints.token("alice", "digits")
    assert len(set(keys)) == 2


def test_an_uploaded_file_is_sent_again_from_its_start(client: Make, tmp_path: Path) -> None:
    bodies: list[bytes] = []
    file = tmp_path / "data"
    file.write_bytes(b"rows")

    def handler(request: httpx.Request) -> httpx.Response:
        bodies.append(request.read())
        if len(bodies) == 1:
            raise httpx.ReadError("reset")
        return httpx.Response(200, json={"digest": "0" * 64, "size": 4})

    assert client(handler).upload(file).size == 4
    assert bodies == [b"rows", b"rows"]


def test_the_services_own_word_is_not_repeated(client: Make) -> None:
    calls: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        calls.append(request.method)
        detail = {"code": "unavailable", "message": "Ray is down.", "remedy": "Wait.",
                  "request_id": "abc"}  # fmt: skip
        return httpx.Response(503, json={"error": detail})

    with pytest.raises(errors.Unavailable, match=r"Ray is down\. Wait\."):
        client(handler).me()
    assert len(calls) == 1


def test_a_slow_answer_is_waited_for_and_never_asked_for_twice(client: Make) -> None:
    waits: dict[str, float] = {}

    def handler(request: httpx.Request) -> httpx.Response:
        path = request.url.path.removeprefix("/services/aiaas/api/v1")
        assert path not in waits
        waits[path] = request.extensions["timeout"]["read"]
        raise httpx.ReadTimeout("slow")

    made = client(handler)
    for call in (
        made.me,
        lambda: made.upload(b"rows"),
        lambda: made.datasets.create_version("a", "d", DatasetVersionCreate(uri="file:///x")),
        lambda: made.datasets.download("a", "d", Path("nowhere")),
    ):
        with pytest.raises(errors.Unavailable, match="did not answer in time"):
            call()
    assert waits == {
        "/me": 30,
        "/blobs": 600,
        "/datasets/a/d/versions": 600,
        "/datasets/a/d/data": 600,
    }


class Clock:
    """The time module of a watcher: only what is said to take time does."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Line:
    """A transport whose streams are written by the test: each is a list of events or errors."""

    def __init__(self, clock: Clock, streams: list[list[Any]]) -> None:
        self._clock = clock
        self._streams = iter(streams)

    @contextmanager
    def events(self, path: str, *, query: object = None) -> Iterator[Iterator[Event]]:
        stream = next(self._streams)
        if stream[:1] == ["down"]:
            raise errors.Unavailable("refused")
        yield self._read(stream)

    def _read(self, stream: list[Any]) -> Iterator[Event]:
        for item in stream:
            if isinstance(item, float):
                self._clock.now += item
            elif item == "cut":
                raise errors.Unavailable("reset")
            else:
                yield item

    def call(self, method: str, path: str, answer: Any) -> Any:
        return answer.model_validate_json(ENDPOINT.replace("serving", "staging"))


RUN = json.dumps(
    {"id": "run-1", "owner": "a", "name": "cnn", "state": "succeeded", "attempt": 1,
     "snapshot": {"digest": "0" * 64, "python": "3.11", "client": "0"}, "datasets": [],
     "params": {}, "resources": {}, "retries": 0, "created_at": "2026-01-01T00:00:00Z"}
)  # fmt: skip
ENDPOINT = json.dumps(
    {"owner": "a", "name": "e", "state": "serving", "traffic": {}, "url": "http://g/a/e",
     "versions": [{"version": 1, "model": {"owner": "a", "name": "m", "version": 1},
                   "state": "serving", "created_at": "2026-01-01T00:00:00Z", "created_by": "a"}],
     "created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z"}
)  # fmt: skip


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    for module in ("runs", "endpoints"):
        monkeypatch.setattr(f"aiaas_magics.client.{module}.time", made)
    return made


def test_a_quiet_run_survives_a_restart_of_the_service(clock: Clock) -> None:
    streams: list[list[Any]] = [[400.0, "cut"], ["down"], ["down"], [Event("end", RUN)]]
    line: Any = Line(clock, streams)
    *before, end = RunsClient(line).watch("run-1")
    assert [type(update) for update in before] == [Disconnected] * 3
    assert isinstance(end, Run)


def test_a_quiet_publication_survives_one_too(clock: Clock) -> None:
    streams: list[list[Any]] = [[400.0, "cut"], ["down"], [Event("endpoint", ENDPOINT)]]
    line: Any = Line(clock, streams)
    *_, end = EndpointsClient(line).watch("a", "e", 1)
    assert end.state == "serving"


def test_a_service_that_stays_away_is_given_up(clock: Clock) -> None:
    line: Any = Line(clock, [["down"]] * 1000)
    with pytest.raises(errors.Unavailable):
        list(RunsClient(line).watch("run-1"))
    assert 120 < clock.now < 130


def test_nobody_answers(client: Make) -> None:
    calls: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        calls.append(request.method)
        raise httpx.ConnectError("refused")

    with pytest.raises(errors.Unavailable, match="cannot be reached") as error:
        client(handler).me()
    assert len(calls) == 4
    assert error.value.remedy
    assert "secret-canary" not in str(error.value)


@pytest.mark.parametrize(
    ("response", "kind"),
    [
        (httpx.Response(302, headers={"location": "/hub/login"}), errors.Unauthenticated),
        (httpx.Response(401, text="no"), errors.Unauthenticated),
        (httpx.Response(403, text="no"), errors.Forbidden),
        (httpx.Response(404, text="no"), errors.NotFound),
        (httpx.Response(413, text="no"), errors.TooLarge),
        (httpx.Response(200, text="<html>a login page</html>"), errors.InternalError),
        (httpx.Response(500, json={"detail": "?"}), errors.InternalError),
        (httpx.Response(400, json={"error": {"code": "newer", "message": "m"}}),
         errors.InternalError),
    ],
)  # fmt: skip
def test_every_answer_that_is_not_ours_is_an_error(
    client: Make, response: httpx.Response, kind: type
) -> None:
    with pytest.raises(errors.AiaasError) as error:
        client(lambda _: response).me()
    assert type(error.value) is kind


def test_every_code_of_the_service_is_its_exception(client: Make) -> None:
    for code, kind in errors._BY_CODE.items():
        body = {"error": {"code": code, "message": "m", "remedy": "r", "request_id": "i"}}
        response = httpx.Response(kind.status, json=body)
        with pytest.raises(kind) as error:
            client(lambda _, r=response: r).me()  # type: ignore[misc]
        assert (error.value.message, error.value.remedy) == ("m", "r")


def test_pages_are_fetched_as_they_are_needed(client: Make) -> None:
    asked: list[str | None] = []

    def key(number: int) -> dict[str, Any]:
        moment = "2026-01-01T00:00:00Z"
        return {"id": str(number), "endpoint": "a/b", "note": "", "created_at": moment,
                "expires_at": moment}  # fmt: skip

    def handler(request: httpx.Request) -> httpx.Response:
        cursor = request.url.params.get("cursor")
        asked.append(cursor)
        page = int(cursor or 0)
        items = [key(page * 2), key(page * 2 + 1)]
        return httpx.Response(
            200, json={"items": items, "next_cursor": str(page + 1) if page < 2 else None}
        )

    keys = client(handler).endpoints.keys("a", "b")
    assert [next(keys).id, next(keys).id] == ["0", "1"]
    assert asked == [None]
    assert [k.id for k in keys] == ["2", "3", "4", "5"]
    assert asked == [None, "1", "2"]


def test_bodies_are_the_wire_models(client: Make) -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        assert json.loads(request.content) == {
            "expires_in_days": 1.0,
            "note": "n",
            "scope": "infer",
            "rate": None,
        }
        return httpx.Response(403, text="")

    with pytest.raises(errors.Forbidden):
        client(handler).endpoints.create_key("a", "b", KeyCreate(expires_in_days=1, note="n"))


@pytest.mark.parametrize("url", ["", "ftp://hub", "hub:8000", "http://[::1", "http://h:1services"])
def test_an_address_that_is_none(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIAAS_URL", url)
    monkeypatch.setenv("JUPYTERHUB_API_TOKEN", "secret-canary")
    with pytest.raises(errors.AiaasError) as error:
        Connection.from_environment()
    assert "AIAAS_URL" in error.value.message
    assert error.value.remedy
