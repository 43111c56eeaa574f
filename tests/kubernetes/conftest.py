"""The control plane that these tests share, and what each of them makes on it."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from bed.api import KubeApi
from bed.control_plane import ControlPlane, missing
from manifests import as_the_bed_has_it, rendered

CRDS = Path(__file__).parent / "crds"


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A real control plane with nodes that run pods as processes; skipped where there is none."""
    if reason := missing():
        pytest.skip(reason)
    plane = ControlPlane(tmp_path_factory.mktemp("control_plane"))
    try:
        plane.up()
        yield plane
    finally:
        plane.down()


@pytest.fixture(scope="session")
def crds(control_plane: ControlPlane) -> ControlPlane:
    """The control plane with the definitions of KubeRay and KServe."""
    # Created: an applied object carries itself in an annotation, which these are too large for.
    # Not validated: a 1.20 server does not know their CEL rules.
    done = control_plane.kubectl("create", "--validate=false", "--filename", str(CRDS))
    assert done.returncode == 0, done.stderr
    done = control_plane.kubectl(
        "wait", "--for=condition=Established", "--timeout=60s", "--filename", str(CRDS)
    )
    assert done.returncode == 0, done.stderr
    # kubectl checks against what the server publishes, which comes some seconds later.
    end = time.monotonic() + 60
    while '"io.ray.v1.RayJob"' not in control_plane.api.text("/openapi/v2"):
        assert time.monotonic() < end, "the definitions' schemas were not published"
        time.sleep(1)
    return control_plane


@pytest.fixture
def api(control_plane: ControlPlane) -> KubeApi:
    """The administrator's view."""
    return control_plane.api


@pytest.fixture
def namespace(control_plane: ControlPlane) -> Iterator[str]:
    """A namespace of the test's own; what it holds goes with it."""
    name = control_plane.namespace(f"test-{uuid.uuid4().hex[:8]}")
    yield name
    control_plane.api.delete(f"/api/v1/namespaces/{name}")


@pytest.fixture(scope="session")
def platform_objects(control_plane: ControlPlane) -> ControlPlane:
    """The control plane with what the shipped manifests make, but for the platform's own pods."""
    manifests = [as_the_bed_has_it(one) for one in rendered("base")]
    for manifest in manifests:
        if manifest["kind"] in ("Deployment", "StatefulSet"):
            manifest["spec"]["replicas"] = 0
    done = control_plane.kubectl(
        "apply", "--validate=true", "-f-", stdin=yaml.safe_dump_all(manifests)
    )
    assert done.returncode == 0, done.stderr
    control_plane.wait_for_account("aiaas", "hub")
    control_plane.wait_for_account("aiaas-users", "default")
    return control_plane
