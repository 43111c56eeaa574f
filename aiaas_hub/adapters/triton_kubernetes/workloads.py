"""What a group of servers is made as: a Deployment, or an InferenceService of KServe, which makes
the Deployment. Pure.

Only who makes the pods differs. They are the same, known by the same labels, filled by their
agents, and reached by our gateway, which splits the traffic. KServe's own canaries are not asked
for: without Knative it ignores `canaryTrafficPercent` in silence
(https://github.com/kserve/kserve/issues/5335).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, cast

from aiaas_hub.adapters.kubernetes.client import DEPLOYMENTS, INFERENCE_SERVICES, Kind
from aiaas_hub.adapters.triton_kubernetes.manifests import (
    Object,
    ServerPods,
    WorkloadName,
    deployment,
    marked,
    metadata,
)

# KServe takes the container of this name for the server, and looks for it in the first place:
# pkg/apis/serving/v1beta1/predictor_custom.go of its sources.
_CONTAINER = "kserve-container"
# By its former name, which new releases know too.
_MODE = {"serving.kserve.io/deploymentMode": "RawDeployment"}
# As many pods as the settings say: KServe would scale by processors, of which a batch may use all.
_AUTOSCALER = {"serving.kserve.io/autoscalerClass": "none"}


@dataclass(frozen=True)
class Workload:
    """A kind of object that pods come of."""

    kind: Kind
    make: Callable[[str, ServerPods], Object]
    """Without the number of replicas, so that somebody else may have it."""
    replicas_at: tuple[str, ...]
    lacking: str = ""
    """Where the cluster does not know the kind."""

    def replicas(self, found: Object) -> int | None:
        at: Any = found
        for key in self.replicas_at:
            at = at.get(key) or {}
        return at or None

    def with_replicas(self, made: Object, replicas: int) -> Object:
        return cast("Object", _put(made, self.replicas_at, replicas))


def _put(at: Any, keys: tuple[str, ...], value: int) -> Any:
    if not keys:
        return value
    return {**at, keys[0]: _put(at.get(keys[0]) or {}, keys[1:], value)}


def inference_service(group: str, pods: ServerPods) -> Object:
    """Its labels and annotations are its pods' too."""
    made = deployment(group, pods)["spec"]
    spec = dict(made["template"]["spec"])
    server, *others = spec.pop("containers")
    predictor = {
        **spec,
        "containers": [{**server, "name": _CONTAINER}, *others],
        "deploymentStrategy": made["strategy"],
    }
    found = marked(metadata(group, pods), {"predictor": predictor})
    found["metadata"]["annotations"] |= _MODE | _AUTOSCALER
    return {"apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService", **found}


WORKLOADS: Mapping[WorkloadName, Workload] = MappingProxyType(
    {
        "deployment": Workload(DEPLOYMENTS, deployment, ("spec", "replicas")),
        "inferenceservice": Workload(
            INFERENCE_SERVICES,
            inference_service,
            ("spec", "predictor", "minReplicas"),
            "The cluster has no KServe, whose InferenceServices are to be made: install it, or set "
            'c.ServiceConfig.serving_workload = "deployment"',
        ),
    }
)
