"""The bed itself: what the tests here count on."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from bed.api import CORE, KubeApi, Object, Refused
from bed.control_plane import ControlPlane

SLOWEST_SECONDS = 60


def until(find: Callable[[], Object | None]) -> Object:
    end = time.monotonic() + SLOWEST_SECONDS
    while time.monotonic() < end:
        if (found := find()) is not None:
            return found
        time.sleep(0.1)
    raise AssertionError("it never came")


def pod(name: str, script: str, **spec: object) -> Object:
    container = {
        "name": "main",
        "image": "any",
        "command": ["sh", "-c", script],
        "env": [{"name": "WHERE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}],
    }
    return {
        "metadata": {"name": name},
        "spec": {"restartPolicy": "Never", "containers": [container], **spec},
    }


def in_phase(api: KubeApi, path: str, phase: str) -> Callable[[], Object | None]:
    def find() -> Object | None:
        found = api.get(path)
        return found if found["status"].get("phase") == phase else None

    return find


def test_a_pod_runs_and_its_log_is_read(
    control_plane: ControlPlane, api: KubeApi, namespace: str
) -> None:
    pods = f"{CORE}/namespaces/{namespace}/pods"
    api.create(pods, pod("hello", "echo hello from $WHERE"))
    found = until(in_phase(api, f"{pods}/hello", "Succeeded"))
    log = control_plane.kubectl("--namespace", namespace, "logs", "hello")
    assert log.stdout == f"hello from {found['spec']['nodeName']}\n"
    reasons = {event["reason"] for event in api.items(f"{CORE}/namespaces/{namespace}/events")}
    assert {"Scheduled", "Started"} <= reasons


def test_a_failure_is_told_with_its_code_and_last_words(api: KubeApi, namespace: str) -> None:
    pods = f"{CORE}/namespaces/{namespace}/pods"
    api.create(pods, pod("broken", "echo why >&2; exit 3"))
    found = until(in_phase(api, f"{pods}/broken", "Failed"))
    ended = found["status"]["containerStatuses"][0]["state"]["terminated"]
    assert (ended["exitCode"], ended["message"]) == (3, "why\n")


def test_a_deleted_pod_is_gone_with_its_processes(api: KubeApi, namespace: str) -> None:
    pods = f"{CORE}/namespaces/{namespace}/pods"
    api.create(pods, pod("long", "sleep 600"))
    until(in_phase(api, f"{pods}/long", "Running"))
    api.delete(f"{pods}/long", gracePeriodSeconds=1)
    until(lambda: None if api.find(f"{pods}/long") else {"gone": True})


def test_a_quota_refuses_by_name(control_plane: ControlPlane, api: KubeApi, namespace: str) -> None:
    control_plane.quota(namespace, "one-pod", {"pods": "1"})
    pods = f"{CORE}/namespaces/{namespace}/pods"
    api.create(pods, pod("first", "sleep 600"))
    with pytest.raises(Refused, match="exceeded quota: one-pod"):
        api.create(pods, pod("second", "true"))


def test_what_fits_no_node_stays_pending_with_the_reason(api: KubeApi, namespace: str) -> None:
    wanted = pod("eager", "true")
    wanted["spec"]["containers"][0]["resources"] = {"limits": {"nvidia.com/gpu": "8"}}
    api.create(f"{CORE}/namespaces/{namespace}/pods", wanted)

    def told() -> Object | None:
        events = api.items(f"{CORE}/namespaces/{namespace}/events")
        return next((one for one in events if one["reason"] == "FailedScheduling"), None)

    assert "Insufficient nvidia.com/gpu" in until(told)["message"]


def test_secrets_are_mounted_and_gpus_handed_out(api: KubeApi, namespace: str) -> None:
    secret = {"metadata": {"name": "words"}, "stringData": {"word": "open sesame"}}
    api.create(f"{CORE}/namespaces/{namespace}/secrets", secret)
    wanted = pod(
        "mounted",
        "cat /run/aiaas-bed-words/word; echo; echo gpus $NVIDIA_VISIBLE_DEVICES",
        volumes=[{"name": "words", "secret": {"secretName": "words"}}],
        tolerations=[{"key": "nvidia.com/gpu", "operator": "Exists"}],
    )
    container = wanted["spec"]["containers"][0]
    container["volumeMounts"] = [{"name": "words", "mountPath": "/run/aiaas-bed-words"}]
    container["resources"] = {"limits": {"nvidia.com/gpu": "2"}}
    pods = f"{CORE}/namespaces/{namespace}/pods"
    api.create(pods, wanted)
    found = until(in_phase(api, f"{pods}/mounted", "Succeeded"))
    assert found["spec"]["nodeName"] == "gpu-1"
    assert api.text(f"{pods}/mounted/log") == "open sesame\ngpus 0,1\n"


def test_a_services_name_leads_to_its_ready_pods_and_nowhere_without_them(
    api: KubeApi, namespace: str
) -> None:
    ports = [{"name": "http", "port": 80, "targetPort": "http"}]
    service = {"metadata": {"name": "web"}, "spec": {"selector": {"app": "web"}, "ports": ports}}
    api.create(f"{CORE}/namespaces/{namespace}/services", service)
    pods = f"{CORE}/namespaces/{namespace}/pods"
    command = f"curl --silent --retry 60 --retry-all-errors --retry-delay 1 web.{namespace}"
    api.create(pods, pod("asks", f"{command}; echo"))
    wanted = pod("web", "echo hello > index.html; exec python -m http.server --bind 0.0.0.0 8000")
    wanted["metadata"]["labels"] = {"app": "web"}
    container = wanted["spec"]["containers"][0]
    container["ports"] = [{"name": "http", "containerPort": 8000}]
    container["readinessProbe"] = {"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 1}
    api.create(pods, wanted)
    until(in_phase(api, f"{pods}/asks", "Succeeded"))
    assert api.text(f"{pods}/asks/log").split() == ["hello"]
    api.delete(f"{pods}/web", gracePeriodSeconds=1)
    until(lambda: None if api.find(f"{pods}/web") else {"gone": True})
    refused = f"sleep 2; curl --silent web.{namespace}"
    api.create(pods, pod("refused", refused))
    found = until(in_phase(api, f"{pods}/refused", "Failed"))
    code = found["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"]
    assert code == 7, "nothing listens"


def test_kubectl_refuses_fields_that_no_definition_knows(
    crds: ControlPlane, namespace: str
) -> None:
    """A 1.20 API server prunes them: kubectl checks against the definitions' schemas."""
    job = """
apiVersion: ray.io/v1
kind: RayJob
metadata: {name: unknown}
spec: {entrypoint: "true", nonsense: 1, rayClusterSpec: {headGroupSpec: {rayStartParams: {},
  template: {spec: {containers: [{name: head, image: ray}]}}}}}
"""
    done = crds.kubectl("--namespace", namespace, "create", "--validate=true", "-f-", stdin=job)
    assert done.returncode != 0
    assert "nonsense" in done.stderr
    clean = job.replace("nonsense: 1, ", "")
    done = crds.kubectl("--namespace", namespace, "create", "--validate=true", "-f-", stdin=clean)
    assert done.returncode == 0, done.stderr
