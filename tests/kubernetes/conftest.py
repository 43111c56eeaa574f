"""The control plane that these tests share, and what each of them makes on it."""

from __future__ import annotations

import signal
import uuid
from collections.abc import Iterator

import pytest
from bed.api import KubeApi
from bed.control_plane import ControlPlane, missing
from bed.definitions import define
from manifests import apply, without_pods


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A real control plane with nodes that run pods as processes; skipped where there is none."""
    if reason := missing():
        pytest.skip(reason)
    plane = ControlPlane(tmp_path_factory.mktemp("control_plane"))
    # Tests that are ended end their bed too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        plane.up()
        yield plane
    finally:
        plane.down()


@pytest.fixture(scope="session")
def crds(control_plane: ControlPlane) -> ControlPlane:
    """The control plane with the definitions of KubeRay and KServe."""
    define(control_plane)
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
    apply(control_plane, without_pods())
    control_plane.wait_for_account("aiaas", "hub")
    control_plane.wait_for_account("aiaas-users", "default")
    return control_plane
