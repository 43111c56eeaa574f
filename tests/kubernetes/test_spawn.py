"""Servers of the real hub on the real control plane: started, refused in words, lost and found."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from api_world import serving
from bed.api import CORE, KubeApi, Object
from bed.control_plane import ControlPlane
from cluster_hub import USERS, ClusterHub, cluster_hub, until
from manifests import rights

from aiaas_hub.adapters.hub_events import HubEvent, HubEvents
from aiaas_hub.adapters.records.usage import SqlUsageRecords
from aiaas_hub.home import Home
from aiaas_hub.housekeeping import Housekeeping, chores
from aiaas_hub.local.hub_session import HubSession
from aiaas_hub.page.sessions import OAuthClient
from aiaas_hub.spawner.telling import Sending

PODS = f"{CORE}/namespaces/{USERS}/pods"
START_SECONDS = 25
OUTAGE_SECONDS = 65
SMALL: dict[str, Any] = {"description": "d", "cpus": 1, "memory": "1G"}
GPU_NODE = {"tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}]}
MODE = {
    "slug": "mode",
    "name": "Mode",
    "sets": "MODE",
    "pattern": r"\A[a-z{}]+\Z",
    "choices": [{"slug": "fast", "name": "Fast", "value": "fast", "default": True}],
}
PROFILES: list[dict[str, Any]] = [
    {"slug": "small", "name": "Small", **SMALL, "default": True, "options": [MODE]},
    {"slug": "gpu", "name": "GPU", **SMALL, "gpus": 2, **GPU_NODE},
    {"slug": "huge", "name": "Huge", **SMALL, "gpus": 16, **GPU_NODE},
    {"slug": "lost", "name": "No image", **SMALL, "image": "registry.example/does-not-exist:1"},
    {"slug": "staff", "name": "Staff", **SMALL, "groups": ["staff"]},
    {
        "slug": "home",
        "name": "Home",
        **SMALL,
        "volumes": [{"kind": "home", "path": "/run/aiaas-bed-home", "size": "1G"}],
    },
]


@pytest.fixture(scope="module")
def hub(
    platform_objects: ControlPlane, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ClusterHub]:
    root = tmp_path_factory.mktemp("hub") / "hub"
    with cluster_hub(platform_objects, root, PROFILES, START_SECONDS) as running:
        yield running


def pod_of(api: KubeApi, user: str) -> Object:
    pods = api.items(PODS, labelSelector=f"hub.jupyter.org/username={user}")
    assert len(pods) == 1, [pod["metadata"]["name"] for pod in pods]
    return pods[0]


def claims_of(api: KubeApi, user: str) -> list[Object]:
    return [
        claim
        for claim in api.items(f"{CORE}/namespaces/{USERS}/persistentvolumeclaims")
        if claim["metadata"]["annotations"].get("hub.jupyter.org/username") == user
    ]


def test_a_server_runs_in_a_pod_of_its_profile_and_ends_with_it(
    hub: ClusterHub, api: KubeApi
) -> None:
    hub.spawn("ada", profile="small", mode="slow{}")
    pod = pod_of(api, "ada")
    # By these the network policies and the disruption budget know it.
    labels = pod["metadata"]["labels"]
    assert labels["app.kubernetes.io/part-of"] == "aiaas-hub"
    assert labels["app.kubernetes.io/component"] == "server"
    container = pod["spec"]["containers"][0]
    assert container["resources"]["limits"] == {"cpu": "1", "memory": "1073741824"}
    environ = {one["name"]: one.get("value") for one in container["env"]}
    assert (environ["AIAAS_PROFILE"], environ["MODE"]) == ("small", "slow{}")
    # Set and empty, which the API server leaves out.
    assert environ["CUDA_VISIBLE_DEVICES"] is None
    assert pod["spec"]["automountServiceAccountToken"] is False
    assert container["securityContext"]["runAsNonRoot"] is True
    answer = httpx.get(
        f"{hub.url}/user/ada/api/status",
        headers={"Authorization": f"token {hub.token}"},
        trust_env=False,
        follow_redirects=True,
    )
    assert answer.status_code == 200
    assert "kernels" in answer.json()
    hub.stop_server("ada")
    until(lambda: not api.items(PODS, labelSelector="hub.jupyter.org/username=ada"), 30)


def volume_of(hub: ClusterHub, name: str) -> None:
    """Room for one home."""
    spec = {
        "capacity": {"storage": "5Gi"},
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": "bed",
        "persistentVolumeReclaimPolicy": "Retain",
        "hostPath": {"path": str(hub.root / name)},
    }
    hub.plane.api.create(f"{CORE}/persistentvolumes", {"metadata": {"name": name}, "spec": spec})


def test_a_home_is_claimed_once_and_outlives_its_server(hub: ClusterHub, api: KubeApi) -> None:
    volume_of(hub, "bed-home")
    hub.spawn("grace", profile="home")
    (claim,) = claims_of(api, "grace")
    assert claim["spec"]["resources"]["requests"] == {"storage": "1Gi"}
    hub.stop_server("grace")
    assert [one["metadata"]["uid"] for one in claims_of(api, "grace")] == [claim["metadata"]["uid"]]


def test_a_home_that_the_hub_forgot_is_found_where_a_quota_allows_no_more(
    hub: ClusterHub, api: KubeApi
) -> None:
    """As after the loss of its database: a quota refuses before it is known that one is there."""
    volume_of(hub, "bed-home-of-before")
    claims = f"{CORE}/namespaces/{USERS}/persistentvolumeclaims"
    spec = {
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": "bed",
        "resources": {"requests": {"storage": "1Gi"}},
    }
    claim = api.create(claims, {"metadata": {"name": "claim-edsger"}, "spec": spec})
    quota = hub.plane.quota(USERS, "homes", {"persistentvolumeclaims": "1"})
    try:
        hub.spawn("edsger", profile="home")
        hub.stop_server("edsger")
    finally:
        api.delete(quota)
    found = api.get(f"{claims}/claim-edsger")
    assert found["metadata"]["uid"] == claim["metadata"]["uid"]
    assert found["status"]["phase"] == "Bound"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"profile": "staff"}, "There is no profile 'staff'"),
        ({"profile": "small", "image": "evil"}, "Unknown spawn option: image"),
        ({"profile": "small", "mode": "$(id)"}, "is no choice of 'Mode'"),
        ({"kubespawner_override": {"privileged": True}}, "Unknown spawn option"),
    ],
)
def test_tampered_options_start_nothing(
    hub: ClusterHub, api: KubeApi, options: dict[str, Any], says: str
) -> None:
    answer = hub.ask("mallory", **options)
    assert answer.status_code in (400, 403)
    assert says in answer.json()["message"]
    assert not api.items(PODS, labelSelector="hub.jupyter.org/username=mallory")


def test_a_quota_refuses_in_words(
    hub: ClusterHub, api: KubeApi, control_plane: ControlPlane
) -> None:
    quota = control_plane.quota(USERS, "gpus", {"requests.nvidia.com/gpu": "1"})
    try:
        answer = hub.ask("ada", profile="gpu")
        assert answer.status_code == 403, answer.text
        assert answer.json()["message"] == (
            "The cluster's quota gpus leaves no room: GPUs: 2 asked for, 0 of 1 in use. Choose a "
            "smaller profile, stop a server that you no longer need, or try again later."
        )
        with HubSession(hub.url, "ada") as session:
            session.sign_in(hub.password)
            page = session.request_server("gpu")
        assert "GPUs: 2 asked for, 0 of 1 in use" in page.text
    finally:
        api.delete(quota)


def test_a_gpu_profile_gets_its_gpus(hub: ClusterHub, api: KubeApi) -> None:
    hub.spawn("grace", profile="gpu")
    pod = pod_of(api, "grace")
    assert pod["spec"]["nodeName"] == "gpu-1"
    assert pod["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "2"
    hub.stop_server("grace")


def test_what_fits_no_node_is_explained_while_it_waits_and_when_it_ends(hub: ClusterHub) -> None:
    assert hub.ask("linus", profile="huge").status_code == 202
    said = list(hub.progress("linus"))
    waiting = [one for one in said if one.startswith("Waiting for a place: of the cluster's 3")]
    assert waiting, said
    assert "3 machines without enough free GPUs" in waiting[0]
    assert "Your server found no place: of the cluster's 3 machines" in said[-1]


def test_an_image_that_cannot_be_pulled_is_told_at_once(hub: ClusterHub) -> None:
    begun = time.monotonic()
    answer = hub.ask("linus", profile="lost")
    assert answer.status_code == 503
    assert "The image registry.example/does-not-exist:1 cannot be pulled." in answer.text
    assert time.monotonic() - begun < START_SECONDS / 2


def test_a_restarted_hub_finds_its_servers(hub: ClusterHub, api: KubeApi) -> None:
    hub.spawn("ada", profile="small")
    before = pod_of(api, "ada")["metadata"]["uid"]
    hub.stop("hub")
    hub.start_hub()
    assert hub.server("ada")["ready"]
    assert pod_of(api, "ada")["metadata"]["uid"] == before
    hub.stop_server("ada")


def test_servers_are_told_to_the_service_for_audit_and_usage(
    hub: ClusterHub, tmp_path: Path
) -> None:
    """Those of the tests before too: the service was not there, and is now."""
    begun = len(told(hub))
    hub.spawn("metered", profile="gpu")
    hub.stop_server("metered")
    until(lambda: len(told(hub)) >= begun + 2, 20, hub.logs)
    events = [event for event in told(hub) if event.owner == "metered" and event.span is not None]
    assert [event.act for event in events] == ["server start", "server stop"]
    token = (hub.root / "secrets" / "service_token").read_text()
    client = OAuthClient("service-aiaas", token, "/", "http://127.0.0.1:9", "/")
    with serving(Home(tmp_path / "home"), f"sqlite:///{tmp_path / 'r.sqlite'}", client) as world:
        origin = str(world.client.base_url).partition("/services/")[0]
        sending = Sending(HubEvents(hub.root / "hub-events"), f"{origin}/services/aiaas", token)
        with httpx.Client(headers={"Authorization": f"Bearer {token}"}) as http:
            sending.send(http)
        usage = SqlUsageRecords(world.database)
        made = chores(world.services, usage, HubEvents(world.home.hub_events), None)
        Housekeeping(made).tidy()
        since = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
        query = {"by": "server", "since": since}
        lines = world.ok("GET", "/usage", "admin", params=query)["lines"]
        [line] = [line for line in lines if line["key"] == "metered"]
        # Two GPUs, for some seconds of this test.
        assert line["gpu_hours"] == pytest.approx(2 * line["hours"])
        assert 0 < line["hours"] < 0.1
        entries = world.ok("GET", "/audit?object=servers/metered", "admin")["items"]
        assert [entry["act"] for entry in entries] == ["server stop", "server start"]


def told(hub: ClusterHub) -> list[HubEvent]:
    return [event for _, event in HubEvents(hub.root / "hub-events").told()]


def test_a_lost_node_is_told_and_the_server_starts_elsewhere(hub: ClusterHub, api: KubeApi) -> None:
    hub.spawn("ada", profile="small")
    lost = pod_of(api, "ada")["spec"]["nodeName"]
    hub.plane.lose_node(lost)
    try:
        until(lambda: not hub.server("ada"), 90, hub.logs)
        with HubSession(hub.url, "ada") as session:
            session.sign_in(hub.password)
            page = session.spawn_page()
        assert "Your last server ended: the machine that it ran on was lost." in page
        hub.spawn("ada", profile="small")
        assert pod_of(api, "ada")["spec"]["nodeName"] != lost
        hub.stop_server("ada")
    finally:
        hub.plane.find_node(lost)


def test_an_outage_of_the_api_ends_no_server_and_passes(hub: ClusterHub, api: KubeApi) -> None:
    """KubeSpawner's watches give up after 51 s without it."""
    hub.spawn("ada", profile="small")
    before = pod_of(api, "ada")["metadata"]["uid"]
    hub.plane.stop("kube-apiserver")
    down = time.monotonic()
    refused = hub.ask("grace", profile="small")
    assert refused.status_code == 503, refused.text
    assert refused.json()["message"].startswith("The cluster's API does not answer.")
    while time.monotonic() - down < OUTAGE_SECONDS:
        assert hub.server("ada")["ready"]
        time.sleep(1)
    assert "giving up" in (hub.root / "hub.log").read_text()
    hub.plane.start("kube-apiserver")
    # Scheduler and nodes come back in their own time.
    probe = f"{CORE}/namespaces/default/pods"
    container = {"name": "main", "image": "any", "command": ["true"]}
    spec = {"restartPolicy": "Never", "containers": [container]}
    api.create(probe, {"metadata": {"name": "probe"}, "spec": spec})
    until(lambda: api.get(f"{probe}/probe")["status"].get("phase") == "Succeeded", 180)
    hub.spawn("linus", profile="small")
    assert pod_of(api, "ada")["metadata"]["uid"] == before
    for user in ("ada", "linus"):
        hub.stop_server(user)


def test_every_right_that_the_hub_has_is_used(control_plane: ControlPlane) -> None:
    """By this module, whose hub has the shipped role and no other."""
    assert rights("base") - set(control_plane.asked("aiaas:hub")) == set()
