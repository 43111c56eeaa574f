"""The CustomResourceDefinitions of KubeRay and KServe, which install as they are."""

from __future__ import annotations

import time
from pathlib import Path

from .api import Object
from .control_plane import ControlPlane

CRDS = Path(__file__).parents[1] / "crds"
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


def define(plane: ControlPlane) -> None:
    """Make them, and wait until the server checks objects against them."""
    # Created: an applied object carries itself in an annotation, which these are too large for.
    # Not validated: a 1.20 server does not know their CEL rules.
    done = plane.kubectl("create", "--validate=false", "--filename", str(CRDS))
    assert done.returncode == 0, done.stderr
    end = time.monotonic() + 180
    while not all(map(_established, plane.api.items(DEFINITIONS))):
        assert time.monotonic() < end, "the definitions were not established"
        time.sleep(0.2)
    # kubectl checks against what the server publishes, which comes some seconds later.
    end = time.monotonic() + 180
    while '"io.ray.v1.RayJob"' not in plane.api.text("/openapi/v2"):
        assert time.monotonic() < end, "the definitions' schemas were not published"
        time.sleep(1)


def _established(definition: Object) -> bool:
    # A new one has no conditions at all, on which `kubectl wait` fails.
    conditions = definition.get("status", {}).get("conditions") or []
    return any(one["type"] == "Established" and one["status"] == "True" for one in conditions)
