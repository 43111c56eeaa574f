"""Ray's autoscaler in the pod of a sweep's head: pure, and with no right that the run gets too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from aiaas_hub.adapters.kubernetes.confinement import confined
from aiaas_hub.adapters.kubernetes.run_settings import RunPods

Object = dict[str, Any]

_ACCOUNT = "autoscaler-account"
_ACCOUNTS = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where clients of the API look for it."""


def account() -> Object:
    """What a pod of an account has mounted in every container; here the autoscaler alone has it."""
    token = {"path": "token", "expirationSeconds": 3600}
    namespace = {"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}
    return {
        "name": _ACCOUNT,
        "projected": {
            "sources": [
                {"serviceAccountToken": token},
                {
                    "configMap": {
                        "name": "kube-root-ca.crt",
                        "items": [{"key": "ca.crt", "path": "ca.crt"}],
                    }
                },
                {"downwardAPI": {"items": [namespace]}},
            ]
        },
    }


def options(pods: RunPods) -> Object:
    """KubeRay puts it into the head's pod, with an account that may change this one cluster. What
    the run does there has no part in that."""
    mount = {"name": _ACCOUNT, "mountPath": str(_ACCOUNTS), "readOnly": True}
    return {
        "version": "v2",
        "idleTimeoutSeconds": pods.idle_seconds,
        "resources": {
            "requests": {"cpu": "100m", "memory": "512Mi"},
            "limits": {"cpu": "500m", "memory": "512Mi"},
        },
        "securityContext": confined(),
        "volumeMounts": [mount],
    }
