"""Envoy before Triton: who gets through, to what, and what happens when either dies."""

from __future__ import annotations

import base64
import contextlib
import gzip
import http.client
import http.server
import json
import os
import re
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jwt
import numpy as np
import onnx_models
import psutil
import pytest
import tritonclient.http
from cryptography.hazmat.primitives.asymmetric import ec
from gateway_world import (
    AUDIENCE,
    BASE,
    BODY,
    INFER,
    MODEL,
    OWNER,
    SIGNATURE,
    Answer,
    World,
    error_of,
    route,
    wait_ready,
)
from tritonclient.utils import InferenceServerException

from aiaas_hub.adapters import run_directory
from aiaas_hub.domain.ports import Route, RouteTarget
from aiaas_hub.gateway.bootstrap import MAX_REQUEST_BYTES
from aiaas_hub.gateway.names import ROUTES_FILE
from aiaas_hub.schemas.errors import Unavailable
from aiaas_hub.schemas.platform import EngineState

pytestmark = pytest.mark.engines


def test_what_the_protocol_needs_is_there(world: World) -> None:
    for path in (
        "/v2",
        "/v2/health/live",
        "/v2/health/ready",
        "/v2/models/scale",
        "/v2/models/any/versions/99",
        "/v2/models/scale/ready",
        "/v2/models/any/versions/99/ready",
    ):
        answer = world.call("GET", BASE + path)
        assert answer.status == 200, (path, answer)
        assert answer.headers["x-aiaas-model-version"] == "1"
    assert world.call("GET", f"{BASE}/v2/models/scale").json["versions"] == ["1"]


def test_the_version_is_pinned_whatever_the_caller_names(world: World) -> None:
    world.envoy.apply([route((2, 100))])
    for path in ("models/scale/infer", "models/x/versions/3/infer", f"models/{MODEL}/infer"):
        answer = world.call("POST", f"{BASE}/v2/{path}", BODY)
        assert (answer.status, answer.headers["x-aiaas-model-version"]) == (200, "2")
        assert answer.json["outputs"][0]["data"] == [2, 4, 6]


def test_plain_tritonclient_with_binary_tensors(world: World) -> None:
    address = world.envoy.url.removeprefix("http://") + BASE
    headers = {"Authorization": f"Bearer {world.key()}"}
    rows = np.arange(6, dtype=np.float32).reshape(2, 3)
    with tritonclient.http.InferenceServerClient(address) as client:
        assert client.is_server_live(headers=headers)
        assert client.is_model_ready("scale", headers=headers)
        tensor = tritonclient.http.InferInput("x", [2, 3], "FP32")
        tensor.set_data_from_numpy(rows, binary_data=True)
        answer = client.infer("scale", [tensor], headers=headers)
        np.testing.assert_allclose(answer.as_numpy("y"), rows)
        wanted = [tritonclient.http.InferRequestedOutput("total", binary_data=True)]
        answer = client.infer("scale", [tensor], outputs=wanted, headers=headers)
        assert answer.as_numpy("y") is None
        np.testing.assert_allclose(answer.as_numpy("total").ravel(), rows.sum(axis=1))
        # Its own errors can be read: the protocol's error is a string.
        with pytest.raises(InferenceServerException, match="needs a valid key"):
            client.infer("scale", [tensor])


def test_traffic_is_split_by_weight(world: World) -> None:
    world.envoy.apply([route((1, 50), (2, 30), (3, 20))])
    key = world.key()
    seen = Counter(
        world.call("POST", INFER, BODY, key=key).headers["x-aiaas-model-version"]
        for _ in range(600)
    )
    # Four standard deviations of 600 draws.
    for version, share in (("1", 0.5), ("2", 0.3), ("3", 0.2)):
        assert abs(seen[version] / 600 - share) < 4 * (share * (1 - share) / 600) ** 0.5


def _unsigned(claims: dict[str, Any]) -> str:
    parts = [json.dumps(part).encode() for part in ({"alg": "none", "typ": "JWT"}, claims)]
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts) + "."


def test_no_key_or_a_false_one(world: World) -> None:
    good = world.key()
    claims = jwt.decode(good, options={"verify_signature": False})
    stranger = ec.generate_private_key(ec.SECP256R1())
    public = world.keys.jwks()["keys"][0]["x"].encode()
    header, payload, signature = good.split(".")
    flipped = ("A" if signature[0] != "A" else "B") + signature[1:]
    false = {
        "none": None,
        "rubbish": "rubbish",
        "unsigned": _unsigned(claims),
        "another's signature": jwt.encode(claims, stranger, algorithm="ES256"),
        "the public key as a secret": jwt.encode(claims, public, algorithm="HS256"),
        "changed signature": f"{header}.{payload}.{flipped}",
        "expired": world.key(minutes=-1),
        "another issuer": jwt.encode({**claims, "iss": "x"}, world.keys._key, algorithm="ES256"),
        "never expires": jwt.encode(
            {name: value for name, value in claims.items() if name != "exp"},
            world.keys._key,
            algorithm="ES256",
        ),
    }
    for name, key in false.items():
        for method, path in (("GET", f"{BASE}/v2"), ("POST", INFER), ("GET", "/nobody/none/v2")):
            answer = world.call(method, path, BODY, key=key)
            assert (answer.status, error_of(answer)) == (401, "unauthenticated"), name
            # Nor is it said whether such an endpoint exists.
            assert "x-aiaas-model-version" not in answer.headers
    # A key in the address would end up in logs.
    assert world.call("GET", f"{BASE}/v2?access_token={good}", key=None).status == 401
    assert world.call("GET", f"{BASE}/v2", key=good).status == 200


def test_another_endpoints_key(world: World) -> None:
    for audience in (f"{OWNER}/other", "bob/scale", "scale", AUDIENCE + "x", ""):
        answer = world.call("POST", INFER, BODY, key=world.key(audience))
        assert (answer.status, error_of(answer)) == (403, "forbidden")
        assert "x-aiaas-model-version" not in answer.headers


def test_nobody_says_themselves_what_their_key_is_for(world: World) -> None:
    """The claims of a key become headers, and callers can send headers."""
    claims = jwt.decode(world.key(), options={"verify_signature": False})
    del claims["scope"]
    signed = {"algorithm": "ES256", "headers": {"kid": world.keys._id}}
    old = jwt.encode(claims, world.keys._key, **signed)
    # Nobody signs one like that; and if, it opens nothing.
    nothing = {name: claims[name] for name in ("iss", "sub", "exp")}
    without = jwt.encode(nothing, world.keys._key, **signed)
    world.envoy.apply([route((1, 100), (2, 0), revoked=("k9",))])
    stranger, revoked = world.key(f"{OWNER}/other"), world.key(jti="k9")
    metadata = world.key(jti="k2", scope="metadata")
    # Twice: the second time Envoy knows the key already.
    for _ in range(2):
        for key, told in (
            (without, {"x-aiaas-audience": AUDIENCE, "x-aiaas-scope": "infer"}),
            (stranger, {"x-aiaas-audience": AUDIENCE}),
            (stranger, {"X-AIAAS-AUDIENCE": AUDIENCE, "x-aiaas-scope": "versions"}),
            (revoked, {"x-aiaas-key": "k1"}),
            (metadata, {"x-aiaas-scope": "infer"}),
            (world.key(), {"x-aiaas-scope": "versions", "x-aiaas-version": "2"}),
            (old, {"x-aiaas-scope": "versions", "x-aiaas-version": "2"}),
        ):
            answer = world.call("POST", INFER, BODY, key=key, headers=told)
            assert (answer.status, error_of(answer)) == (403, "forbidden"), told
        assert world.call("POST", INFER, BODY, key=old).status == 200
        assert world.call("POST", INFER, BODY, headers={"x-aiaas-audience": "x"}).status == 200


def test_who_is_refused_need_not_send_the_body(world: World) -> None:
    """Nor does the gateway keep it meanwhile."""
    connection = http.client.HTTPConnection(world.envoy.url.removeprefix("http://"), timeout=10)
    with contextlib.closing(connection):
        connection.putrequest("POST", INFER)
        connection.putheader("Authorization", f"Bearer {world.key('bob/scale')}")
        connection.putheader("Content-Length", str(MAX_REQUEST_BYTES))
        connection.endheaders()
        assert connection.getresponse().status == 403


def test_a_revoked_key(world: World) -> None:
    first, second = world.key(jti="k1"), world.key(jti="k2")
    assert world.call("POST", INFER, BODY, key=first).status == 200
    world.envoy.apply([route((1, 100), revoked=("k0", "k1"))])
    answer = world.call("POST", INFER, BODY, key=first)
    assert (answer.status, error_of(answer)) == (403, "forbidden")
    assert world.call("POST", INFER, BODY, key=second).status == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v2/repository/index"),
        ("POST", f"/v2/repository/models/{MODEL}/load"),
        ("POST", f"/v2/repository/models/{MODEL}/unload"),
        ("GET", "/v2/systemsharedmemory/status"),
        ("POST", "/v2/systemsharedmemory/region/x/register"),
        ("GET", "/v2/cudasharedmemory/status"),
        ("GET", "/v2/trace/setting"),
        ("POST", "/v2/trace/setting"),
        ("GET", "/v2/logging"),
        ("POST", "/v2/logging"),
        ("GET", "/v2/models/scale/stats"),
        ("GET", "/v2/models/scale/config"),
        ("POST", "/v2/models/scale/generate"),
        ("GET", "/v2/models/scale/infer"),
        ("POST", "/v2/models/scale"),
        ("PUT", "/v2/models/scale/infer"),
        ("DELETE", "/v2/models/scale"),
        ("POST", "/v2/models/scale/versions/1/2/infer"),
        ("POST", "/v2/models//infer"),
        ("POST", "/v2/models/a/b/infer"),
        ("GET", "/v2/"),
        ("GET", "/v2/health"),
        ("GET", "//v2"),
        ("GET", ""),
        ("GET", "/"),
        ("GET", "/metrics"),
    ],
)
def test_everything_else_is_not_there(world: World, method: str, path: str) -> None:
    """Under the endpoint's address with its key, and at the top where Triton itself has it."""
    for address in (BASE + path, path or "/"):
        answer = world.call(method, address, "{}" if method == "POST" else None)
        assert (answer.status, error_of(answer)) == (404, "not_found"), address


@pytest.mark.parametrize(
    "path",
    [
        "/v2/models/x/../../repository/index",
        "/v2/models/%2e%2e/%2e%2e/v2/repository/index",
        "/v2/models/..%2f..%2frepository%2findex/infer",
        "/v2/models/x%5c..%5c..%5crepository/infer",
        "/v2/models/..\\..\\repository\\index",
        "/v2/./repository/index",
        "/../../v2/repository/index",
        "/%2e%2e/%2e%2e/v2/repository/index",
        "/v2/models/x/infer/../../../repository/index",
        "/v2/models/%00/infer%00",
    ],
)
def test_no_path_leads_elsewhere(world: World, path: str) -> None:
    answer = world.call("POST", BASE + path, BODY)
    assert answer.status in (400, 404), answer
    assert "x-aiaas-model-version" not in answer.headers


def test_a_key_opens_its_own_endpoint_whatever_the_path_looks_like(world: World) -> None:
    """A dot segment leads to another endpoint only where that endpoint's key is shown."""
    other = Route("bob", "his", [RouteTarget(MODEL, 3, 100)], "bob/his")
    world.envoy.apply([route((1, 100)), other])
    for way in ("/../../bob/his/v2", "/%2e%2e/%2E%2E/bob/his/v2"):
        assert world.call("GET", BASE + way).status == 403
    assert world.call("GET", "/bob/his/v2", key=world.key("bob/his")).status == 200


def test_shared_memory_cannot_be_named(world: World) -> None:
    """Neither to read what others sent, nor to write into it: Triton's own regions among them. None
    is registered, nor can one be: see `test_everything_else_is_not_there`."""
    ours = [path.name for path in Path("/dev/shm").glob(f"{world.triton._region()}*")]  # noqa: S108 - looked at only
    assert ours
    for name in (ours[0], f"/{ours[0]}", "../../etc/passwd", ""):
        region = {"shared_memory_region": name, "shared_memory_byte_size": 12}
        reads, writes = json.loads(BODY), json.loads(BODY)
        del reads["inputs"][0]["data"]
        reads["inputs"][0]["parameters"] = region
        writes["outputs"] = [{"name": "y", "parameters": region}]
        for request in (reads, writes):
            answer = world.call("POST", INFER, json.dumps(request))
            assert answer.status in (400, 404), (name, answer)
            assert list(answer.json) == ["error"]
            assert "shared memory region" in answer.json["error"]
    assert world.call("POST", INFER, BODY).json["outputs"][0]["data"] == [1, 2, 3]


def test_what_callers_do_wrong_is_told_without_paths(world: World) -> None:
    def sent(**changes: Any) -> str:
        tensor = {"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}
        return json.dumps({"inputs": [{**tensor, **changes}]})

    def told(body: str | bytes, **headers: str) -> str:
        answer = world.call("POST", INFER, body, headers=headers)
        # Which of the two is Triton's choice: docs/security.md.
        assert answer.status in (400, 500), answer
        found = {name: value for name, value in answer.headers.items() if name != "content-type"}
        said = f"{answer.json['error']} {found}"
        places = ("/", "\\", "site-packages", "backend", world.home.root.name)
        assert not [place for place in places if place in said], said
        return str(answer.json["error"])

    assert "unexpected shape" in told(sent(shape=[1, 4], data=[1, 2, 3, 4]))
    assert "data-type" in told(sent(datatype="FP64"))
    assert "unexpected inference input 'z'" in told(sent(name="z"))
    assert "Shape does not match" in told(sent(shape=[1, 2]))
    assert told(sent(data=["a", "b", "c"]))
    assert "failed to parse the request JSON" in told(b"\xff\xfe\x00garbage")
    assert told("{}")
    assert told(BODY, **{"Inference-Header-Content-Length": "9999"})
    onnx = onnx_models.lookup(world.home.root / "lookup.onnx")
    world.triton.install(world.triton.stage("lookup-1", 1, onnx_models.LOOKUP_SIGNATURE, onnx))
    world.triton.set_versions("lookup-1", onnx_models.LOOKUP_SIGNATURE, [1])
    world.envoy.apply([Route(OWNER, "scale", [RouteTarget("lookup-1", 1, 100)], AUDIENCE)])
    assert world.call("POST", INFER, sent(data=[0, 1, 2])).status == 200
    # What onnxruntime says, without the names of layers, which look like paths.
    said = told(sent(data=[0, 1, 99]))
    assert "running Gather node. Name:'Gather'" in said
    process = world.supervisor.process("triton")
    assert process is not None
    children = psutil.Process(process.pid).children(recursive=True)
    (stub,) = [child for child in children if "lookup-1" in " ".join(child.cmdline())]
    stub.kill()
    assert "Stub process" in told(sent(data=[0, 1, 2]))
    world.triton.heal("lookup-1")
    assert world.call("POST", INFER, sent(data=[0, 1, 2])).status == 200
    world.triton.set_versions("lookup-1", onnx_models.LOOKUP_SIGNATURE, [])
    world.triton.remove("lookup-1")


def test_a_body_beyond_the_limit(world: World) -> None:
    """Also where its length is not said beforehand."""
    piece = bytes(1 << 20)
    pieces = MAX_REQUEST_BYTES // len(piece) + 1
    connection = http.client.HTTPConnection(world.envoy.url.removeprefix("http://"), timeout=30)
    headers = {"Authorization": f"Bearer {world.key()}", "Transfer-Encoding": "chunked"}
    try:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # refused midway
            body = (piece for _ in range(pieces))
            connection.request("POST", INFER, body, headers, encode_chunked=True)
        answer = connection.getresponse()
        assert (answer.status, json.loads(answer.read())["code"]) == (413, "too_large")
    finally:
        connection.close()


def test_json_is_bounded_and_its_depth_kills_nobody(world: World) -> None:
    """Triton parses JSON recursively: 150,000 levels overflow a stack of ordinary size."""
    levels = (1 << 20) - 1000
    answer = world.call("POST", INFER, '{"inputs":' + "[" * levels)
    assert "failed to parse the request JSON" in answer.json["error"]
    answer = world.call("POST", INFER, "[" * (1 << 21))
    assert (answer.status, answer.json["code"]) == (413, "too_large")
    assert world.call("POST", INFER, BODY).status == 200


def test_nothing_compressed_reaches_triton(world: World) -> None:
    """It would inflate whatever is inside."""
    bomb = gzip.compress(bytes(200 << 20))
    process = world.supervisor.process("triton")
    assert process is not None
    before = psutil.Process(process.pid).memory_info().rss
    answer = world.call("POST", INFER, bomb, headers={"Content-Encoding": "gzip"})
    assert "failed to parse the request JSON" in answer.json["error"]
    assert psutil.Process(process.pid).memory_info().rss - before < 100 << 20
    assert world.call("POST", INFER, BODY).status == 200


def test_the_longest_names_stop_nobody(world: World) -> None:
    """Envoy bounds the size of a pattern and refuses the whole file for one that is larger."""
    long = Route("日" * 85, "x" * 64, [RouteTarget(MODEL, 1, 100)], f"{'日' * 85}/{'x' * 64}")
    world.envoy.apply([route((1, 100)), long])
    assert world.call("POST", INFER, BODY).status == 200
    world.envoy.apply([route((1, 100))])


def test_an_endpoint_that_is_retired(world: World) -> None:
    world.envoy.apply([])
    answer = world.call("POST", INFER, BODY)
    assert (answer.status, error_of(answer)) == (404, "not_found")


def test_applying_is_atomic_and_a_repeat_changes_nothing(world: World) -> None:
    path = world.home.envoy / ROUTES_FILE
    before = path.stat()
    world.envoy.apply([route((1, 100))])
    assert path.stat() == before
    assert before.st_mode & 0o777 == 0o600


def test_requests_go_on_through_changes_of_the_routes(world: World) -> None:
    failures: list[Answer] = []
    stop = threading.Event()
    key = world.key()

    def call() -> None:
        while not stop.is_set():
            answer = world.call("POST", INFER, BODY, key=key)
            if answer.status != 200:
                failures.append(answer)

    threads = [threading.Thread(target=call) for _ in range(3)]
    for thread in threads:
        thread.start()
    for turn in range(20):
        world.envoy.apply([route((1 + turn % 3, 100))])
        # It holds from now on, not a moment later.
        answer = world.call("POST", INFER, BODY)
        assert answer.headers["x-aiaas-model-version"] == str(1 + turn % 3)
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == []


def test_triton_killed(world: World) -> None:
    process = world.supervisor.process("triton")
    assert process is not None
    os.kill(process.pid, 9)
    while world.supervisor.alive("triton"):
        time.sleep(0.01)
    answer = world.call("POST", INFER, BODY)
    assert (answer.status, error_of(answer)) == (503, "unavailable")
    world.triton.start()
    wait_ready(world.triton)
    world.triton.set_versions(MODEL, SIGNATURE, [1, 2, 3])
    assert world.call("POST", INFER, BODY).status == 200


def test_envoy_killed(world: World) -> None:
    url, key = world.envoy.url, world.key()
    process = world.supervisor.process("envoy")
    assert process is not None
    os.kill(process.pid, 9)
    while world.supervisor.alive("envoy"):
        time.sleep(0.01)
    assert world.envoy.health().state is EngineState.UNAVAILABLE
    # Kept, and said to be not in force.
    with pytest.raises(Unavailable):
        world.envoy.apply([route((2, 100))])
    world.envoy.start()
    wait_ready(world.envoy)
    assert world.envoy.url == url
    answer = world.call("POST", INFER, BODY, key=key)
    assert (answer.status, answer.headers["x-aiaas-model-version"]) == (200, "2")


def test_an_envoy_of_before_an_upgrade_is_replaced(world: World) -> None:
    former = world.supervisor.process("envoy")
    world.envoy.start()
    assert world.supervisor.process("envoy") == former
    bootstrap = world.home.envoy / "bootstrap.json"
    bootstrap.write_text(bootstrap.read_text().replace('"30', '"31'))
    world.envoy.start()
    wait_ready(world.envoy)
    assert world.supervisor.process("envoy") != former
    assert world.call("POST", INFER, BODY).status == 200


def test_only_the_gateway_listens_and_only_on_loopback(world: World) -> None:
    listening = set()
    for name in ("envoy", "triton"):
        process = world.supervisor.process(name)
        assert process is not None
        for connection in psutil.Process(process.pid).net_connections(kind="inet"):
            if connection.status == psutil.CONN_LISTEN:
                listening.add((name, connection.laddr.ip, connection.laddr.port))
    port = int(world.envoy.url.rpartition(":")[2])
    assert listening == {("envoy", "127.0.0.1", port)}
    admin = run_directory.path_of(world.home) / "envoy" / "admin"
    assert admin.stat().st_mode & 0o777 == 0o600


def test_what_reaches_triton(echo: World) -> None:
    key = echo.key()
    headers = {
        "Cookie": "session=secret",
        "X-Forwarded-For": "1.2.3.4",
        "x-envoy-original-path": "/v2/repository/index",
        "Inference-Header-Content-Length": "3",
    }
    for sent, arrived in (
        ("/v2/models/x/infer", f"/v2/models/{MODEL}/versions/7/infer"),
        ("/v2/models/x/versions/2/infer", f"/v2/models/{MODEL}/versions/7/infer"),
        ("/v2/models/%2e%2e%3f/infer", f"/v2/models/{MODEL}/versions/7/infer"),
    ):
        answer = echo.call("POST", BASE + sent, BODY, key=key, headers=headers)
        assert (answer.status, answer.json["path"]) == (200, arrived)
        text = json.dumps(answer.json)
        assert key not in text
        assert "session=secret" not in text
        got = {name.lower(): value for name, value in answer.json["headers"].items()}
        assert got["inference-header-content-length"] == "3"
        assert answer.headers["x-aiaas-model-version"] == "7"
    for sent, arrived in (
        ("/v2", "/v2"),
        ("/v2/health/live", "/v2/health/live"),
        ("/v2/health/ready", f"/v2/models/{MODEL}/versions/7/ready"),
        ("/v2/models/x/versions/8", f"/v2/models/{MODEL}/versions/7"),
        ("/v2/models/x/ready", f"/v2/models/{MODEL}/versions/7/ready"),
    ):
        assert echo.call("GET", BASE + sent, key=key).json["path"] == arrived


def test_callers_do_not_set_timeouts_or_retries(echo: World) -> None:
    headers = {"x-envoy-upstream-rq-timeout-ms": "50", "x-test": "slow"}
    assert echo.call("POST", INFER, BODY, headers=headers).status == 200


def test_a_version_has_its_own_time_to_answer(echo: World) -> None:
    headers = {"x-test": "slow"}
    for seconds, status in ((0.1, 504), (20, 200)):
        target = RouteTarget(MODEL, 7, 100, timeout_seconds=seconds)
        echo.envoy.apply([Route(OWNER, "scale", [target], AUDIENCE)])
        # Envoy takes the routes a moment later.
        deadline = time.monotonic() + 60
        while (answer := echo.call("POST", INFER, BODY, headers=headers)).status != status:
            assert time.monotonic() < deadline, answer
    echo.envoy.apply([route((7, 100))])


def test_every_spelling_of_the_owner_that_clients_use(echo: World) -> None:
    spellings = [
        quote(OWNER, safe=""),
        quote(OWNER, safe="'&"),
        re.sub("%..", lambda match: match[0].lower(), quote(OWNER, safe="")),
    ]
    for spelling in spellings:
        assert echo.call("GET", f"/{spelling}/scale/v2").status == 200
    assert echo.call("GET", f"/{quote(OWNER + 'x', safe='')}/scale/v2").status == 404
