"""Plays KServe's controller on the bed, without Knative: an InferenceService becomes a Deployment,
as `pkg/controller/v1beta1/inferenceservice` of KServe's sources has it."""

from __future__ import annotations

import threading
from typing import Any

from bed.api import KubeApi, Object

GROUP = "/apis/serving.kserve.io/v1beta1/namespaces/{}/inferenceservices"
DEPLOYMENTS = "/apis/apps/v1/namespaces/{}/deployments"
CONTAINER = "kserve-container"
MODE = "serving.kserve.io/deploymentMode"
AUTOSCALER = "serving.kserve.io/autoscalerClass"
PERIOD_SECONDS = 0.3
OF_THE_COMPONENT = {"minReplicas", "maxReplicas", "deploymentStrategy", "canaryTrafficPercent"}


class KServeOperator:
    """Use as a context manager; it watches one namespace."""

    def __init__(self, api: KubeApi, namespace: str) -> None:
        self._api = api
        self._services = GROUP.format(namespace)
        self._deployments = DEPLOYMENTS.format(namespace)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, daemon=True)
        self._done: dict[str, int] = {}
        self.failures: list[str] = []

    def __enter__(self) -> KServeOperator:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join(30)

    def _loop(self) -> None:
        while not self._stop.wait(PERIOD_SECONDS):
            # As a controller does: whatever went wrong is tried again.
            try:
                for one in self._api.items(self._services):
                    self._reconcile(one)
            except Exception as error:
                self.failures.append(repr(error))

    def _reconcile(self, service: Object) -> None:
        generation = service["metadata"]["generation"]
        if self._done.get(service["metadata"]["uid"]) == generation:
            return
        wanted = deployment(service)
        path = f"{self._deployments}/{wanted['metadata']['name']}"
        if self._api.find(path) is None:
            self._api.create(self._deployments, wanted)
        else:
            self._api.patch(path, {"spec": wanted["spec"]})
        self._done[service["metadata"]["uid"]] = generation


def deployment(service: Object) -> Object:
    """What KServe makes of it in its mode without Knative."""
    metadata, predictor = service["metadata"], service["spec"]["predictor"]
    annotations = metadata.get("annotations", {})
    assert annotations.get(MODE) in ("RawDeployment", "Standard"), "Knative is not on the bed"
    pod: dict[str, Any] = {k: v for k, v in predictor.items() if k not in OF_THE_COMPONENT}
    # Without one of this name KServe's controller fails.
    assert pod["containers"][0]["name"] == CONTAINER
    variable = {"name": "INFERENCE_SERVICE_NAME", "value": metadata["name"]}
    pod["containers"] = [
        {**one, "env": [*one.get("env", []), variable]} for one in pod["containers"]
    ]
    name = f"{metadata['name']}-predictor"
    labels = {
        **metadata.get("labels", {}),
        "serving.kserve.io/inferenceservice": metadata["name"],
        "component": "predictor",
    }
    app = {"app": f"isvc.{name}"}
    spec: dict[str, Any] = {
        "selector": {"matchLabels": app},
        "strategy": predictor.get("deploymentStrategy") or {"type": "RollingUpdate"},
        "template": {
            "metadata": {"labels": {**labels, **app}, "annotations": annotations},
            "spec": pod,
        },
    }
    if annotations.get(AUTOSCALER) == "none" and "minReplicas" in predictor:
        spec["replicas"] = predictor["minReplicas"]
    owner = {
        "apiVersion": service["apiVersion"],
        "kind": service["kind"],
        "name": metadata["name"],
        "uid": metadata["uid"],
        "controller": True,
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": name,
            "labels": labels,
            "annotations": annotations,
            "ownerReferences": [owner],
        },
        "spec": spec,
    }
