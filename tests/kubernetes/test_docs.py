"""docs/kubernetes.md as an administrator would follow it, as far as there is no registry here."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from bed.api import CORE
from bed.control_plane import ControlPlane
from manifests import as_the_bed_has_it

from aiaas_hub.spawner.cluster_settings import ClusterSettings
from aiaas_hub.spawner.kubernetes import profile_list
from aiaas_hub.spawner.profiles import load_profiles

ROOT = Path(__file__).parents[2]
DOCS = (ROOT / "docs" / "kubernetes.md").read_text()


def block(kind: str) -> str:
    found = re.findall(rf"^```{re.escape(kind)}\n(.*?)^```", DOCS, re.DOTALL | re.MULTILINE)
    assert len(found) == 1, kind
    return str(found[0])


@pytest.fixture
def overlay(tmp_path: Path) -> Path:
    (tmp_path / "aiaas-hub").mkdir()
    (tmp_path / "aiaas-hub" / "hub_config").symlink_to(ROOT / "hub_config")
    for name in ("kustomization.yaml", "hub.yaml", "profiles.yaml"):
        (tmp_path / name).write_text(block(f"yaml {name}"))
    return tmp_path


def test_the_settings_are_what_the_hub_reads(overlay: Path) -> None:
    settings = ClusterSettings.model_validate(yaml.safe_load((overlay / "hub.yaml").read_text()))
    assert settings.storage_class == "standard"
    found = profile_list(load_profiles(overlay / "profiles.yaml"), frozenset({"research"}))
    limits = found[1]["kubespawner_override"]["extra_resource_limits"]
    assert limits == {"nvidia.com/mig-1g.10gb": "1"}


def test_the_overlay_replaces_settings_and_images(
    overlay: Path, platform_objects: ControlPlane
) -> None:
    done = platform_objects.kubectl("kustomize", str(overlay))
    assert done.returncode == 0, done.stderr
    manifests = [as_the_bed_has_it(one) for one in yaml.safe_load_all(done.stdout)]
    named = {(one["kind"], one["metadata"]["name"]): one for one in manifests}
    data = named["ConfigMap", "hub-settings"]["data"]
    assert "https://aiaas.example" in data["hub.yaml"]
    hub = named["Deployment", "hub"]["spec"]["template"]["spec"]["containers"][0]
    assert hub["image"] == "registry.example/aiaas-hub/hub:0.1.0"
    done = platform_objects.kubectl(
        "apply",
        "--validate=true",
        "--dry-run=server",
        "-f-",
        stdin=yaml.safe_dump_all(manifests),
    )
    assert done.returncode == 0, done.stderr


def test_the_secrets_hold_what_hub_and_service_ask_for(platform_objects: ControlPlane) -> None:
    commands = block("bash").replace("kubectl create namespace aiaas\n", "")
    environ = {**os.environ, "KUBECONFIG": str(platform_objects.kubeconfig)}
    subprocess.run(["bash", "-euc", commands], check=True, env=environ, timeout=60)  # noqa: S607 - the reader's own
    secrets = f"{CORE}/namespaces/aiaas/secrets"
    config = (ROOT / "hub_config" / "kubernetes" / "jupyterhub_config.py").read_text()
    asked = set(re.findall(r'settings\.secret\("(\w+)"\)', config))
    assert set(platform_objects.api.get(f"{secrets}/hub")["data"]) == asked
    assert set(platform_objects.api.get(f"{secrets}/service")["data"]) == {"records_url"}
    for name in ("hub", "service"):
        platform_objects.api.delete(f"{secrets}/{name}")
