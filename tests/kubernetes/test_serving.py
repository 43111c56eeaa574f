"""Models served by pods: Triton of the wheel, the gateway of the manifests, real requests."""

from __future__ import annotations

import base64
import contextlib
import gzip
import json
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event, Thread
from typing import Any
from urllib.parse import quote

import httpx
import language_models
import onnx_models
import openai
import psutil
import pytest
from bed.api import CORE
from bed.control_plane import ControlPlane
from manifests import rights
from object_store import object_store
from serving_pods import Serving, gateway_of, server_pods, serving
from tritonclient.utils import InferenceServerException

from aiaas_hub.adapters.envoy_kubernetes import ROUTES
from aiaas_hub.adapters.kubernetes import client
from aiaas_hub.adapters.kubernetes.client import Cluster
from aiaas_hub.adapters.route_files import unpacked
from aiaas_hub.adapters.triton_kubernetes.catalogue import Catalogue
from aiaas_hub.adapters.triton_kubernetes.engine import TritonKubernetes
from aiaas_hub.adapters.triton_kubernetes.manifests import group_of_owner
from aiaas_hub.adapters.triton_kubernetes.servers import Server
from aiaas_hub.adapters.triton_local.client import TritonClient
from aiaas_hub.domain.endpoints import PROMPT_BATCH
from aiaas_hub.domain.ports import Route, RouteTarget
from aiaas_hub.domain.serving_names import serving_name
from aiaas_hub.gateway.keys import GatewayKeys
from aiaas_hub.gateway.names import ONWARD_HEADER, VERSION_HEADER
from aiaas_hub.home import Home
from aiaas_hub.schemas.endpoints import ServingOptions
from aiaas_hub.schemas.errors import Unavailable
from aiaas_hub.schemas.platform import EngineState
from aiaas_magics.runtime.sources import export

pytestmark = [pytest.mark.engines, pytest.mark.timeout(600)]

OWNER = "testuser<'&\">"
AUDIENCE = f"{OWNER}/scale"
SIGNATURE = onnx_models.SCALE_SIGNATURE
MODEL = serving_name(OWNER, "scale", SIGNATURE)
BODY = json.dumps(
    {"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}]}
)


@dataclass
class World:
    serving: Serving
    keys: GatewayKeys
    directory: Path

    def publish(self, version: int) -> None:
        onnx = onnx_models.scale(self.directory / f"{version}.onnx", float(version))
        engine = self.serving.triton
        engine.install(engine.stage(MODEL, version, SIGNATURE, onnx))

    def route(self, *shares: tuple[int, int]) -> None:
        targets = [RouteTarget(MODEL, version, percent) for version, percent in shares]
        self.serving.envoy.apply([Route(OWNER, "scale", targets, AUDIENCE)])

    def key(self, endpoint: str = "scale") -> str:
        expires = datetime.now(UTC) + timedelta(minutes=10)
        return self.keys.sign(f"{OWNER}/{endpoint}", "k", "ann", expires)

    def address(self, endpoint: str = "scale") -> str:
        """At one of the gateway's pods."""
        pod = self.serving.gateways()[0]["status"]["podIP"]
        return f"http://{pod}:8080/{quote(OWNER, safe='')}/{endpoint}"

    def call(self, client: httpx.Client | None = None, path: str = "infer") -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.key()}"}
        post = client.post if client else httpx.post
        url = f"{self.address()}/v2/models/scale/{path}"
        return post(url, content=BODY, headers=headers, timeout=30)

    def predict(self, **headers: str) -> httpx.Response:
        """TensorFlow Serving's call."""
        headers |= {"Authorization": f"Bearer {self.key()}"}
        url = f"{self.address()}/v1/models/scale:predict"
        rows = {"instances": [[1, 2, 3]]}
        return httpx.post(url, json=rows, headers=headers, timeout=30, trust_env=False)

    def factor(self) -> float:
        answer = self.call()
        assert answer.status_code == 200, answer.text
        return float(answer.json()["outputs"][0]["data"][0])


@pytest.fixture(scope="module")
def world(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    directory = tmp_path_factory.mktemp("serving")
    home = Home(directory / "home")
    home.prepare()
    namespace = control_plane.namespace(f"test-{uuid.uuid4().hex[:8]}")
    with (
        object_store(directory / "s3") as store,
        serving(control_plane, home, store, server_pods(namespace, store)) as found,
    ):
        found.triton.start()
        found.envoy.start()
        found.until(lambda: found.triton.health().state is EngineState.READY)
        found.until(lambda: found.envoy.health().state is EngineState.READY)
        yield World(found, GatewayKeys(home), directory)
    control_plane.api.delete(f"/api/v1/namespaces/{namespace}")


def test_a_model_is_served_by_every_pod(world: World) -> None:
    began = time.monotonic()
    world.publish(2)
    world.serving.triton.set_versions(MODEL, SIGNATURE, [2])
    print(f"loaded by both pods after {time.monotonic() - began:.2f} s")
    began = time.monotonic()
    world.route((2, 100))
    print(f"routed after {time.monotonic() - began:.2f} s")
    assert world.factor() == 2
    assert len(world.serving.servers()) == 2


class Callers:
    """Somebody who calls without a pause; `failures` are answers other than 200."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._stop = Event()
        self._thread = Thread(target=self._call)
        self.answers = 0
        self.failures: list[str] = []
        self.factors: set[float] = set()

    def __enter__(self) -> Callers:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join()

    def _call(self) -> None:
        with httpx.Client(trust_env=False) as client:
            while not self._stop.is_set():
                answer = self._world.call(client)
                self.answers += 1
                if answer.status_code != 200:
                    self.failures.append(f"{answer.status_code} {answer.text}")
                else:
                    self.factors.add(answer.json()["outputs"][0]["data"][0])
                time.sleep(0.01)


def test_a_rollback_and_a_publish_lose_no_request(world: World) -> None:
    world.publish(3)
    with Callers(world) as callers:
        world.serving.triton.set_versions(MODEL, SIGNATURE, [2, 3])
        took = []
        for version in (3, 2, 3):
            began = time.monotonic()
            world.route((version, 100), (5 - version, 0))
            took.append(time.monotonic() - began)
            assert world.factor() == version
        print(f"routes changed after {', '.join(f'{one:.2f}' for one in took)} s")
    print(f"{callers.answers} requests")
    assert callers.failures == []
    assert callers.factors == {2, 3}
    # Nobody waits for the kubelet's next look, which may take a minute.
    assert max(took) < 15
    assert world.serving.envoy.traffic()[MODEL, 3].requests > 0
    assert b"vhost" in world.serving.envoy.metrics()


def test_a_pod_comes_back_with_every_model_before_it_counts_as_ready(world: World) -> None:
    engine = world.serving.triton
    before = {pod["metadata"]["uid"] for pod in world.serving.servers()}
    with Callers(world) as callers:
        began = time.monotonic()
        world.serving.delete(world.serving.servers()[0])
        # Whenever one counts as ready, it serves both versions.
        while len(after := ready(world)) < 2 or {uid for uid, _ in after} == before:
            for _, address in after:
                # One that is being ended meanwhile does not answer.
                with contextlib.suppress(Unavailable):
                    found = engine._servers.triton(Server("", address, True)).ready_versions(MODEL)
                    assert found == {2, 3}, world.serving.words()
            assert time.monotonic() - began < 90, world.serving.words()
            time.sleep(0.1)
        print(f"two pods again after {time.monotonic() - began:.1f} s")
        assert engine.ready_versions(MODEL) == {2, 3}
        (fresh,) = [address for uid, address in ready(world) if uid not in before]
        triton = engine._servers.triton(Server("", fresh, True))
        began = time.monotonic()
        # The gateway asks for names again, whatever their answers say of how long they hold.
        world.serving.until(lambda: triton.counts(MODEL)[3].requests > 0, 15)
        print(f"it is called {time.monotonic() - began:.1f} s later")
    print(f"{callers.answers} requests, {len(callers.failures)} failed")
    assert callers.failures == []


def test_a_publish_while_a_pod_is_going_loses_no_request(world: World) -> None:
    """It still answers for some seconds, and knows nothing of the new version."""
    world.publish(5)
    began = time.monotonic()
    world.serving.delete(world.serving.servers()[0])
    world.serving.triton.set_versions(MODEL, SIGNATURE, [2, 3, 5])
    # So long the gateway may lead there.
    assert time.monotonic() - began > 2.5
    world.route((5, 100), (3, 0), (2, 0))
    with Callers(world) as callers:
        time.sleep(4)
    assert callers.failures == []
    assert callers.factors == {5}
    world.route((3, 100), (2, 0))
    world.serving.until(lambda: len(ready(world)) == 2)
    world.serving.triton.set_versions(MODEL, SIGNATURE, [2, 3])


def ready(world: World) -> list[tuple[str, str]]:
    """Uid and address."""
    return [
        (pod["metadata"]["uid"], pod["status"]["podIP"])
        for pod in world.serving.servers()
        for one in pod["status"].get("conditions", ())
        if (one["type"], one["status"]) == ("Ready", "True")
    ]


def test_tensorflow_serving_s_protocol_is_spoken_and_copied(world: World) -> None:
    shadow = RouteTarget(MODEL, 2, 100)
    route = Route(OWNER, "scale", [RouteTarget(MODEL, 3, 100)], AUDIENCE, shadow=shadow)
    world.serving.envoy.apply([route])
    before = world.serving.envoy.traffic()
    # Wherever a caller would have it go.
    answer = world.predict(**{ONWARD_HEADER: "observed"})
    assert answer.status_code == 200, answer.text
    assert answer.json() == {"predictions": [{"y": [3, 6, 9], "total": [18]}]}
    assert answer.headers[VERSION_HEADER] == "3"
    copied = before[MODEL, 2].requests + 1
    world.serving.until(lambda: world.serving.envoy.traffic()[MODEL, 2].requests == copied)
    after = world.serving.envoy.traffic()
    assert after[MODEL, 3].requests == before[MODEL, 3].requests + 1
    world.route((3, 100), (2, 0))


def test_a_language_model_writes_on(world: World) -> None:
    """As OpenAI's own client has it."""
    directory = world.directory / "chat"
    directory.mkdir()
    model = export(
        language_models.cyclic_model(),
        ["The é"],
        tokenizer=language_models.byte_tokenizer(),
        directory=directory,
    )
    engine, options = world.serving.triton, ServingOptions(max_batch=PROMPT_BATCH)
    name = serving_name(OWNER, "chat", model.signature)
    engine.install(engine.stage(name, 1, model.signature, model.onnx_path, options))
    engine.set_versions(name, model.signature, [1], options)
    target = RouteTarget(name, 1, 100)
    scale = Route(OWNER, "scale", [RouteTarget(MODEL, 3, 100)], AUDIENCE)
    world.serving.envoy.apply([scale, Route(OWNER, "chat", [target], f"{OWNER}/chat")])
    with openai.OpenAI(
        base_url=f"{world.address('chat')}/v1", api_key=world.key("chat"), max_retries=0
    ) as client:
        asked: dict[str, Any] = {"model": "m", "prompt": "é", "max_tokens": 9, "temperature": 0}
        assert client.completions.create(**asked).choices[0].text == "→🙂ab"
        with client.completions.create(**asked, stream=True) as stream:
            pieces = [chunk.choices[0].text for chunk in stream]
        assert "".join(pieces) == "→🙂ab"
        assert len(pieces) > 1
    assert world.serving.envoy.traffic()[name, 1].requests == 2
    world.route((3, 100), (2, 0))
    engine.remove(name)


def test_triton_goes_on_while_a_translator_is_ended(world: World) -> None:
    (pod,) = world.serving.gateways()
    directory = world.serving.plane.state / pod["metadata"]["uid"]
    (process,) = [
        one
        for one in psutil.process_iter(["cmdline", "environ"])
        if "aiaas_hub.adapters.translator.server" in (one.info["cmdline"] or ())
        and one.info["environ"].get("HOME") == str(directory)
    ]
    assert is_alive(pod, directory)
    with Callers(world) as callers:
        process.suspend()
        assert not is_alive(pod, directory)
        process.kill()
        world.serving.until(lambda: world.predict().status_code == 200)
    assert is_alive(pod, directory)
    assert callers.failures == []
    assert callers.answers > 0


def is_alive(pod: dict[str, Any], directory: Path) -> bool:
    """What the translator's own probe says; the bed runs those of readiness only."""
    (probe,) = [
        one["livenessProbe"]["exec"]["command"]
        for one in pod["spec"]["containers"]
        if one["name"] == "translator"
    ]
    # From where it lies: a socket's path has 108 bytes at most.
    program, *words = (word.replace("/run/translation/", "") for word in probe)
    assert program == "python"
    done = subprocess.run(
        [sys.executable, *words],
        cwd=directory / "volumes" / "translation",
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0 or "Error" in done.stderr
    return done.returncode == 0


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v2/repository/index"),
        ("POST", f"/v2/repository/models/{MODEL}/unload"),
        ("GET", f"/v2/models/{MODEL}/config"),
        ("POST", "/v2/systemsharedmemory/region/any/register"),
        ("POST", f"/v2/models/{MODEL}/versions/3/infer"),
        ("GET", "/v2/logging"),
    ],
)
def test_whoever_reaches_a_pod_needs_its_secrets(world: World, method: str, path: str) -> None:
    """Where a network plugin enforces no policies, everybody does."""
    address = world.serving.servers()[0]["status"]["podIP"]
    answer = httpx.request(method, f"http://{address}:8000{path}", content="{}", trust_env=False)
    assert answer.status_code in (401, 403), answer.text
    with pytest.raises(InferenceServerException):
        TritonClient(f"{address}:8001")._client.get_model_repository_index()
    url = f"http://{address}:8003/models/{MODEL}"
    for headers in ({}, {"Authorization": "Bearer guessed"}):
        assert httpx.put(url, headers=headers, trust_env=False).status_code == 401
    assert world.serving.triton.ready_versions(MODEL) == {2, 3}


def test_of_the_gateway_s_admin_interface_only_statistics_are_reached(world: World) -> None:
    address = world.serving.gateways()[0]["status"]["podIP"]
    for method, path in (
        ("GET", "/config_dump"),
        ("POST", "/quitquitquit"),
        ("POST", "/stats"),
        ("GET", "/ready/../config_dump"),
    ):
        url = f"http://{address}:8081{path}"
        assert httpx.request(method, url, trust_env=False).status_code == 404


def test_nothing_secret_is_in_what_the_service_writes(world: World) -> None:
    objects = [
        json.dumps(world.serving.api.items(f"{prefix}/namespaces/{world.serving.namespace}/{kind}"))
        for prefix, kind in ((CORE, "configmaps"), (CORE, "pods"), ("/apis/apps/v1", "deployments"))
    ]
    inference = world.serving.api.get(f"{CORE}/namespaces/{world.serving.namespace}/secrets/triton")
    for value in inference["data"].values():
        secret = base64.b64decode(value).decode()
        assert not any(secret in text for text in objects)


def test_pods_begin_with_the_routes_of_a_release_that_did_not_compress_them(world: World) -> None:
    def read() -> dict[str, Any]:
        return cluster.get(client.CONFIG_MAPS, ROUTES) or {}

    world.route((3, 100), (2, 0))
    with contextlib.closing(Cluster(world.serving.namespace, world.serving.kubeconfig)) as cluster:
        former = read()
        packed = {name: base64.b64decode(text) for name, text in former["binaryData"].items()}
        files = unpacked(packed)
        # As docs/kubernetes.md has them read.
        template = '{{index .binaryData "endpoints.json.gz"}}'
        told = world.serving.plane.kubectl(
            f"--namespace={world.serving.namespace}", "get", "configmap", ROUTES,
            f"--output=go-template={template}",
        )  # fmt: skip
        assert gzip.decompress(base64.b64decode(told.stdout)).decode() == files["endpoints.json"]
        old = {key: former[key] for key in ("apiVersion", "kind")} | {
            "metadata": {"name": ROUTES, "namespace": world.serving.namespace},
            "data": files,
        }
        cluster.replace(client.CONFIG_MAPS, ROUTES, old)
        assert "binaryData" not in read()
        upgraded = gateway_of(world.serving)
        try:
            upgraded.start()
        finally:
            upgraded.close()
        assert read()["binaryData"] == former["binaryData"]
        assert "data" not in read()
    assert world.factor() == 3


def test_why_an_owner_s_servers_do_not_start_is_told(world: World) -> None:
    pods = replace(world.serving.pods, image="registry.example/does-not-exist:1", grouping="owner")
    group = group_of_owner(OWNER, "owner")
    engine = TritonKubernetes(
        Cluster(world.serving.namespace, world.serving.kubeconfig),
        pods,
        Catalogue(f"{pods.store}-other"),
        world.serving.control,
        world.directory / "other",
    )
    try:
        engine.start()
        assert world.serving.servers(group) == []
        assert engine.health().state is EngineState.READY
        onnx = onnx_models.scale(world.directory / "m.onnx", 1)
        engine.install(engine.stage(MODEL, 1, SIGNATURE, onnx))
        with pytest.raises(Unavailable):
            engine.set_versions(MODEL, SIGNATURE, [1])
        world.serving.until(lambda: "does-not-exist:1 cannot be pulled" in engine.health().reason)
        with pytest.raises(Unavailable, match="does-not-exist:1 cannot be pulled"):
            engine.set_versions(MODEL, SIGNATURE, [1])
    finally:
        engine.close()


def test_every_right_that_the_service_has_is_used(world: World) -> None:
    """By this module, whose account has the shipped role and no other."""
    serving = world.serving
    changed = TritonKubernetes(
        Cluster(serving.namespace, serving.kubeconfig),
        replace(serving.pods, memory="900Mi"),
        Catalogue(serving.pods.store),
        serving.control,
        world.directory / "changed",
    )
    try:
        changed.start()
    finally:
        changed.close()
    assert rights("options/serving") == set(serving.plane.asked(f"{serving.namespace}:default"))
