"""The examples, byte for byte, in a kernel of a notebook server that runs in a pod: data, a RayJob,
Triton's pods and the gateway's."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from bed.control_plane import ControlPlane
from cluster_hub import USERS
from cluster_platform import ClusterPlatform, cluster_platform, measured
from serving_pods import SPACE

import aiaas_hub
from aiaas_hub.local.demo import figures_of, judge
from aiaas_hub.local.hub_session import HubSession
from aiaas_hub.local.remote_kernel import RemoteKernel

pytestmark = [pytest.mark.engines, pytest.mark.timeout(1500)]

EXAMPLES = Path(aiaas_hub.__file__).parents[1] / "examples"


@pytest.fixture(scope="module")
def platform(
    crds: ControlPlane, platform_objects: ControlPlane, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ClusterPlatform]:
    with cluster_platform(crds, tmp_path_factory.mktemp("notebooks") / "platform") as found:
        yield found


def executed(platform: ClusterPlatform, user: str, name: str) -> nbformat.NotebookNode:
    notebook = nbformat.read(EXAMPLES / f"{name}.ipynb", as_version=4)
    with HubSession(platform.hub.url, user) as session:
        session.sign_in(platform.hub.password)
        began = time.monotonic()
        session.spawn("small")
        print(f"server after {measured(began)}")
        try:
            with RemoteKernel(session, directory=".") as kernel:
                kernel.run(
                    notebook,
                    cell_timeout=600,
                    stop_requested=lambda: False,
                    progress=lambda text: print(f"  {measured(began)}: {text}"),
                )
        except Exception as error:
            raise AssertionError(f"{error}\n{platform.words()}") from error
    return notebook


def test_the_quickstart_runs_on_pods(platform: ClusterPlatform) -> None:
    figures = figures_of(executed(platform, "ann", "quickstart"))
    print(figures)
    assert judge(figures) == ""
    # It ran where it is said to.
    servers = platform.pods(USERS, **{"app.kubernetes.io/component": "server"})
    assert [pod["status"]["phase"] for pod in servers] == ["Running"]
    jobs = platform.plane.api.items(f"/apis/ray.io/v1/namespaces/{USERS}/rayjobs")
    assert [job["status"]["jobStatus"] for job in jobs] == ["SUCCEEDED"]
    for component in ("triton", "gateway"):
        found = platform.pods(SPACE, **{"app.kubernetes.io/component": component})
        assert len(found) == 2
    assert list(platform.store.directory.glob("artifacts/*/*"))
    assert len(list(platform.store.directory.glob("serving/files/*"))) == 1


@pytest.mark.long
@pytest.mark.parametrize(("user", "name"), [("barbara", "serve"), ("grace", "finetune")])
def test_an_example_runs_unmodified_on_pods(
    platform: ClusterPlatform, user: str, name: str
) -> None:
    """Versions that are split, compared and rolled back; language models, trained and asked. The
    notebook itself says what must be so: a cell that raises ends it."""
    notebook = executed(platform, user, name)
    assert all(cell.get("execution_count") for cell in notebook.cells if cell.cell_type == "code")
