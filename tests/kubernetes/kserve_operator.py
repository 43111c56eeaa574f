"""Plays KServe's controller on the bed, without Knative: an InferenceService becomes a Deployment,
as `pkg/controller/v1beta1/inferenceservice` of KServe's sources has it."""

from __future__ import annotations

from typing import Any

from bed.api import KubeApi, Object
from bed.controller import Controller

GROUP = "/apis/serving.kserve.io/v1beta1/namespaces/{}/inferenceservices"
DEPLOYMENTS = "/apis/apps/v1/namespaces/{}/deployments"
CONTAINER = "kserve-container"
MODE = "serving.kserve.io/deploymentMode"
AUTOSCALER = "serving.kserve.io/autoscalerClass"
OF_THE_COMPONENT = {"minReplicas", "maxReplicas", "deploymentStrategy", "canaryTrafficPercent"}


class KServeOperator(Controller):
    def __init__(self, api: KubeApi, namespace: str) -> None:
        super().__init__(api, GROUP.format(namespace))
        self._deployments = DEPLOYMENTS.format(namespace)
        self._done: dict[str, int] = {}

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
