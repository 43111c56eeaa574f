"""The shipped manifests, rendered as an administrator renders them."""

from __future__ import annotations

import functools
import subprocess
from pathlib import Path
from typing import Any

import yaml
from bed.control_plane import ControlPlane

DIRECTORY = Path(__file__).parents[2] / "hub_config" / "kubernetes"
OPTIONS = sorted(f"options/{path.name}" for path in (DIRECTORY / "options").iterdir())


@functools.cache
def _text(name: str) -> str:
    command = ["kubectl", "kustomize", str(DIRECTORY / name)]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


def rendered(*names: str) -> list[dict[str, Any]]:
    """What `kubectl kustomize` makes of these directories."""
    return [one for name in names for one in yaml.safe_load_all(_text(name))]


def rights(*names: str) -> set[tuple[str, str]]:
    """Verb and resource of all that the roles in these directories allow."""
    rules = [rule for one in rendered(*names) if one["kind"] == "Role" for rule in one["rules"]]
    return {
        (verb, resource)
        for rule in rules
        for verb in rule["verbs"]
        for resource in rule["resources"]
    }


def pods(manifests: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The pod template of each workload, by the workload's name."""
    return {
        one["metadata"]["name"]: one["spec"]["template"]
        for one in manifests
        if "template" in one.get("spec", {})
    }


BED_VERSIONS = {
    "PodDisruptionBudget": "policy/v1beta1",
    "HorizontalPodAutoscaler": "autoscaling/v2beta2",
}


def apply(plane: ControlPlane, manifests: list[dict[str, Any]]) -> None:
    done = plane.kubectl("apply", "--validate=true", "-f-", stdin=yaml.safe_dump_all(manifests))
    assert done.returncode == 0, done.stderr


def without_pods() -> list[dict[str, Any]]:
    """What the shipped manifests make, but for the platform's own pods."""
    manifests = [as_the_bed_has_it(one) for one in rendered("base")]
    for manifest in manifests:
        if manifest["kind"] in ("Deployment", "StatefulSet"):
            manifest["spec"]["replicas"] = 0
    return manifests


def as_the_bed_has_it(manifest: dict[str, Any]) -> dict[str, Any]:
    """Kubernetes 1.20 has these kinds, of the same fields, in older versions only."""
    version = BED_VERSIONS.get(manifest["kind"], manifest["apiVersion"])
    return {**manifest, "apiVersion": version}
