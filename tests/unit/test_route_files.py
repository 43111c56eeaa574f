"""The gateway's routes on their way into a pod."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from zlib import crc32

import pytest
from onnx_models import SCALE_SIGNATURE
from tenacity import retry, stop_after_delay, wait_fixed

from aiaas_hub.adapters import route_files
from aiaas_hub.adapters.envoy_kubernetes import MAX_BYTES
from aiaas_hub.adapters.route_files import packed, put, unpacked
from aiaas_hub.domain.ports import Route, RouteTarget
from aiaas_hub.domain.serving_names import serving_name
from aiaas_hub.gateway.clusters import pods_configuration
from aiaas_hub.gateway.files import to_text
from aiaas_hub.gateway.routes import route_configuration

FILES = {"endpoints.json": '{"é": 1}', "clusters.json": "{}"}


class Mounted:
    """A ConfigMap's directory, which is replaced as the kubelet does it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir()

    def hold(self, files: dict[str, bytes]) -> None:
        fresh = self.path / f"..{len(list(self.path.iterdir()))}"
        fresh.mkdir()
        for name, content in files.items():
            (fresh / name).write_bytes(content)
            link = self.path / name
            if not link.is_symlink():
                link.symlink_to(Path("..data") / name)
        (self.path / "..tmp").symlink_to(fresh.name)
        (self.path / "..tmp").rename(self.path / "..data")


@pytest.fixture
def mounted(tmp_path: Path) -> Mounted:
    return Mounted(tmp_path / "mounted")


def contents(directory: Path) -> dict[str, str]:
    return {file.name: file.read_text() for file in directory.iterdir()}


def until(holds: Callable[[], bool]) -> None:
    @retry(stop=stop_after_delay(20), wait=wait_fixed(0.05))
    def check() -> None:
        assert holds()

    check()


def test_what_is_packed_comes_out_and_is_always_the_same() -> None:
    assert unpacked(packed(FILES)) == FILES
    assert packed(FILES) == packed(FILES)


def test_what_was_changed_on_its_way_is_an_error_of_one_kind() -> None:
    content = packed(FILES)["endpoints.json.gz"]
    wrong = 0
    for index in range(len(content)):
        changed = bytearray(content)
        changed[index] ^= 0x55
        try:
            assert unpacked({"endpoints.json.gz": bytes(changed)}) == {
                "endpoints.json": FILES["endpoints.json"]
            }
        except ValueError:
            wrong += 1
    # All but what says when and where it was packed.
    assert wrong >= len(content) - 10
    with pytest.raises(ValueError, match="end-of-stream"):
        unpacked({"endpoints.json.gz": content[:-5]})


def test_a_config_map_holds_the_routes_of_thousands_of_endpoints() -> None:
    def route(index: int) -> Route:
        owner, endpoint = f"owner{index // 5}", f"endpoint-{crc32(b'%d' % index):x}"
        model = serving_name(owner, endpoint, SCALE_SIGNATURE)
        targets = [RouteTarget(model, 1, 90), RouteTarget(model, 2, 10)]
        return Route(owner, endpoint, targets, f"{owner}/{endpoint}")

    routes = [route(index) for index in range(2000)]
    hosts = {route.owner: f"triton-{route.owner}.aiaas-serving.example" for route in routes}
    where = Path("/run/envoy")
    documents = {
        "endpoints.json": route_configuration(routes),
        "clusters.json": pods_configuration(hosts, 8000, 64, translator=where, mirror=where),
    }
    content = packed({name: to_text(one) for name, one in documents.items()})
    assert sum(map(len, content.values())) < MAX_BYTES


def test_a_file_is_replaced_by_a_rename_and_only_if_it_is_another(
    mounted: Mounted, tmp_path: Path
) -> None:
    mounted.hold(packed(FILES))
    routes = tmp_path / "routes"
    assert put(mounted.path, routes) == set(FILES)
    before = {name: (routes / name).stat().st_ino for name in FILES}
    mounted.hold(packed({**FILES, "endpoints.json": "{}"}))
    put(mounted.path, routes)
    assert contents(routes) == {**FILES, "endpoints.json": "{}"}
    after = {name: (routes / name).stat().st_ino for name in FILES}
    assert after["clusters.json"] == before["clusters.json"]
    assert after["endpoints.json"] != before["endpoints.json"]


def test_it_waits_for_routes_follows_them_and_keeps_them(mounted: Mounted, tmp_path: Path) -> None:
    routes = tmp_path / "routes"
    program = [sys.executable, "-m", route_files.__name__]
    begun = tmp_path / "begun"
    first = subprocess.Popen(
        [*program, mounted.path, begun, *FILES], stderr=subprocess.PIPE, text=True
    )
    follower = subprocess.Popen([*program, mounted.path, routes], stderr=subprocess.PIPE, text=True)
    try:
        # Of another release, and not all of them: not enough to begin with.
        for some in ({"endpoints.json": b"{}"}, packed({"clusters.json": "{}"})):
            mounted.hold(some)
            with pytest.raises(subprocess.TimeoutExpired):
                first.wait(1)
        mounted.hold(packed(FILES))
        assert first.wait(20) == 0
        assert contents(begun) == FILES
        until(lambda: contents(routes) == FILES)
        mounted.hold({"endpoints.json.gz": b"cut"})
        mounted.hold(packed({**FILES, "endpoints.json": "2"}))
        until(lambda: contents(routes) == {**FILES, "endpoints.json": "2"})
        mounted.hold({"endpoints.json.gz": packed(FILES)["endpoints.json.gz"][:-9]})
        with pytest.raises(subprocess.TimeoutExpired):
            follower.wait(1)
        assert contents(routes) == {**FILES, "endpoints.json": "2"}
    finally:
        for process in (first, follower):
            process.terminate()
        assert "cannot be read" in follower.communicate(timeout=20)[1]
        assert "Waiting for the service to write endpoints.json" in first.communicate()[1]
    assert follower.returncode == 0
