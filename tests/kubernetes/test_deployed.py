"""The shipped manifests, applied: hub, proxy, service, servers and runs are pods of the bed. Each
is deleted under the others, and nothing is lost.

One run, the *survivor*, is submitted in the first test and ends in the last but one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import nbformat
import pytest
from bed.api import CORE
from bed.control_plane import ControlPlane
from cluster_hub import USERS
from deployed_platform import PLATFORM, DeployedPlatform, deployed_platform
from nbformat.v4 import new_code_cell, new_notebook
from service_calls import ServiceCalls

from aiaas_hub.local.hub_session import HubSession
from aiaas_hub.local.remote_kernel import RemoteKernel

pytestmark = [pytest.mark.engines, pytest.mark.long, pytest.mark.timeout(600)]

LONG = 300
"""Seconds, in which a head that did not start in time is made once more."""
TRAIN = """%%aiaas train --name survivor --workers 1 --retries 3 --param until={until} --detach
import time
from pathlib import Path

import torch

class Double(torch.nn.Module):
    def forward(self, x):
        return 2 * x

def train(ctx):
    state = ctx.restore()
    step = state["step"] + 1 if state else 0
    print("begins at", step, flush=True)
    while not Path(ctx.params["until"]).exists():
        ctx.report(step=step, loss=1 / (step + 1))
        ctx.checkpoint(step=step)
        time.sleep(0.2)
        step += 1
    example = torch.arange(12, dtype=torch.float32).reshape(4, 3)
    ctx.save_model(Double(), example_input=example, eval_input=example)
"""


@pytest.fixture(scope="module")
def platform(
    crds: ControlPlane,
    platform_objects: ControlPlane,
    postgresql: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[DeployedPlatform]:
    root = tmp_path_factory.mktemp("deployed")
    began = time.monotonic()
    with deployed_platform(platform_objects, root, postgresql) as found:
        found.until_it_answers()
        healed("applied: hub, proxy and service answer", began)
        yield found


@pytest.fixture(scope="module")
def calls(platform: DeployedPlatform) -> ServiceCalls:
    return ServiceCalls.of(platform, "ada")


@pytest.fixture(scope="module")
def end(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The survivor ends once this file is there."""
    return tmp_path_factory.mktemp("ends") / "survivor"


@pytest.fixture(scope="module")
def survivor(platform: DeployedPlatform, calls: ServiceCalls, end: Path) -> str:
    """Submitted from a notebook in a pod."""
    with platform.session("ada") as session:
        session.spawn("small")
        began = time.monotonic()
        said(session, "%load_ext aiaas_magics", TRAIN.format(until=end))
    (run,) = calls.ok("GET", "/runs")["items"]
    healed("a notebook is opened and a run submitted in it", began)
    return str(run["id"])


def healed(what: str, since: float) -> None:
    print(f"{what}: {time.monotonic() - since:.1f} s")


def said(session: HubSession, *sources: str) -> str:
    """What the cells print, in the kernel of a notebook of the user's server."""
    notebook = new_notebook(cells=[new_code_cell(source) for source in sources])
    # By the page the server, which may have been there before this visit, knows who it is.
    session.http.get(f"{session.server_path}/lab").raise_for_status()
    with RemoteKernel(session, directory=".") as kernel:
        kernel.run(
            notebook,
            cell_timeout=120,
            stop_requested=lambda: False,
            progress=lambda text: None,
        )
    return nbformat.writes(notebook)


def points(calls: ServiceCalls, run: str) -> list[int]:
    """The steps of all its metrics."""
    steps: list[int] = []
    since = 0
    while page := (answer := calls.ok("GET", f"/runs/{run}/metrics?since={since}"))["points"]:
        steps += [point["step"] for point in page]
        since = answer["next_since"]
    return steps


def until_it_steps(platform: DeployedPlatform, calls: ServiceCalls, run: str) -> None:
    platform.until(lambda: calls.ok("GET", f"/runs/{run}")["state"] == "running", LONG)
    before = len(points(calls, run))
    platform.until(lambda: len(points(calls, run)) > before + 3)


def assert_it_was_not_touched(calls: ServiceCalls, run: str) -> None:
    found = calls.ok("GET", f"/runs/{run}")
    assert found["state"] in ("starting", "running"), found
    assert found["attempt"] == 1
    steps = points(calls, run)
    assert steps == list(range(len(steps)))


def test_a_person_signs_in_and_has_a_server_that_reaches_the_service(
    platform: DeployedPlatform, survivor: str
) -> None:
    pod = platform.pod("server", USERS)
    assert pod["metadata"]["annotations"]["hub.jupyter.org/username"] == "ada"
    assert not pod["spec"]["automountServiceAccountToken"]
    with platform.session("ada") as session:
        text = said(session, "%load_ext aiaas_magics", "%aiaas runs")
    assert survivor in text


def test_hub_and_proxy_deleted(
    platform: DeployedPlatform, calls: ServiceCalls, survivor: str
) -> None:
    server = platform.pod("server", USERS)["metadata"]["uid"]
    with platform.session("ada") as session:
        deleted = platform.delete_pod("hub", gracePeriodSeconds=1)
        # The server goes on, and the way to it.
        answer = session.http.get(f"{session.server_path}/api")
        assert answer.is_success, answer.text
        platform.until_it_answers()
        healed("hub deleted: another answers", deleted)
        deleted = platform.delete_pod("proxy", gracePeriodSeconds=1)
        platform.until_it_answers()
        platform.until(lambda: session.http.get(f"{session.server_path}/api").is_success)
        healed("proxy deleted: another knows all routes", deleted)
    assert platform.pod("server", USERS)["metadata"]["uid"] == server
    assert_it_was_not_touched(calls, survivor)


def test_a_notebook_pod_deleted_under_a_run(
    platform: DeployedPlatform, calls: ServiceCalls, survivor: str
) -> None:
    until_it_steps(platform, calls, survivor)
    before = platform.pod("server", USERS)["metadata"]["uid"]
    deleted = platform.delete_pod("server", USERS, gracePeriodSeconds=1)
    until_it_steps(platform, calls, survivor)
    with platform.session("ada") as session:

        def is_gone() -> bool:
            answer = session.http.get(
                "/hub/api/user", headers={"X-XSRFToken": session.xsrf("/hub/")}
            )
            return not answer.json()["server"]

        session.http.get("/hub/home").raise_for_status()
        platform.until(is_gone)
        healed("notebook pod deleted: the hub knows", deleted)
        session.spawn("small")
        healed("notebook pod deleted: there is another", deleted)
        assert platform.pod("server", USERS)["metadata"]["uid"] != before
        assert survivor in said(session, "%load_ext aiaas_magics", f"%aiaas run {survivor}")
    assert_it_was_not_touched(calls, survivor)


def test_the_service_deleted(
    platform: DeployedPlatform, calls: ServiceCalls, survivor: str
) -> None:
    volume = {one["name"]: one for one in platform.pod("service")["spec"]["volumes"]}["state"]
    deleted = platform.delete_pod("service", gracePeriodSeconds=0)
    platform.until(lambda: not platform.is_ready("service"))
    platform.until_it_answers()
    healed("service deleted: another answers", deleted)
    until_it_steps(platform, calls, survivor)
    assert volume in platform.pod("service")["spec"]["volumes"]
    # What the run told nobody meanwhile it told the next one.
    assert_it_was_not_touched(calls, survivor)


def test_a_notebook_attaches_and_sees_the_end(
    platform: DeployedPlatform, calls: ServiceCalls, survivor: str, end: Path
) -> None:
    threading.Timer(5, end.touch).start()
    with platform.session("ada") as session:
        text = said(session, "%load_ext aiaas_magics", f"%aiaas attach {survivor}")
    assert "succeeded" in text
    calls.run_until(survivor, "succeeded", timeout=60)
    model = calls.ok("GET", "/models/ada/survivor")["latest"]
    assert (model["version"], model["run_id"]) == (1, survivor)
    assert calls.ok("GET", "/me")["quota"]["runs"]["used"] == 0


def test_the_service_deleted_in_the_middle_of_a_publish(
    platform: DeployedPlatform, calls: ServiceCalls, survivor: str
) -> None:
    before = platform.pod("service")["metadata"]["uid"]
    calls.ok("POST", "/endpoints/ada/doubles/publish", json={"model": "survivor"})
    deleted = platform.delete_pod("service", gracePeriodSeconds=0)
    platform.until(lambda: platform.pod("service").get("metadata", {}).get("uid") != before)
    platform.until_it_answers()
    found = calls.endpoint_until("doubles", "serving")
    healed("service deleted while it published: the endpoint serves", deleted)
    # Neither lost nor done twice.
    assert (found["traffic"], len(found["versions"])) == ({"1": 100}, 1)
    answer = calls.predict("doubles")
    assert answer.json()["outputs"][0]["data"] == [2, 4, 6]
    assert answer.headers["x-aiaas-model-version"] == "1"


def test_the_accounts_have_no_more_rights_than_the_roles(platform: DeployedPlatform) -> None:
    """The servers, the runs and the proxy have none at all."""
    api = platform.plane.api
    for component, namespace in (("proxy", PLATFORM), ("server", USERS)):
        volumes = platform.pod(component, namespace)["spec"].get("volumes", [])
        assert not [one for one in volumes if "token" in one["name"]]
    account = api.as_account(PLATFORM, "service")
    try:
        for method, path, code in (
            ("GET", f"/apis/ray.io/v1/namespaces/{USERS}/rayjobs", httpx.codes.OK),
            ("GET", f"{CORE}/namespaces/{USERS}/secrets", httpx.codes.FORBIDDEN),
            ("POST", f"{CORE}/namespaces/{USERS}/pods", httpx.codes.FORBIDDEN),
            ("GET", f"{CORE}/namespaces/{PLATFORM}/secrets", httpx.codes.FORBIDDEN),
            ("GET", f"{CORE}/nodes", httpx.codes.FORBIDDEN),
        ):
            assert account.code(method, path) == code, path
    finally:
        account.close()
