"""The deploy panel's view-model on the real service, with no page before it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import ipywidgets as widgets
import numpy as np
import pytest
from api_world import World
from notebook_shell import Notebook
from run_reports import JobSide, submit

import aiaas_magics as aiaas
from aiaas_hub.schemas.errors import Unavailable
from aiaas_hub.schemas.models import DType, Kind, Signature, TensorSpec
from aiaas_magics.client.endpoints import EndpointsClient
from aiaas_magics.panels import attention
from aiaas_magics.panels.attention import PATIENCE
from aiaas_magics.panels.background import AtOnce
from aiaas_magics.panels.deployment import Deployment
from aiaas_magics.panels.deployment_form import deployment_form
from aiaas_magics.panels.operation import BUSY_SECONDS, Operation

HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture
def deployment(working: World) -> Deployment:
    working.model(onnx=b"one")
    working.model(onnx=b"two")
    model: Deployment = aiaas.panel("deploy").model
    return model


def test_a_plan_before_anything_is_done(deployment: Deployment) -> None:
    publication = deployment.publication
    assert publication.models == [("alice/cnn", "alice/cnn")]
    assert [number for _, number in publication.versions] == [2, 1]
    assert (publication.model, publication.version, publication.name) == ("alice/cnn", 2, "cnn")
    assert publication.ready
    for said in ("alice/cnn@2", "3 B of ONNX", "held-out rows", "version 1: 100 %, as the first"):
        assert said in publication.plan
    publication.name = "no good/name"
    assert not publication.ready
    assert "not yet" in publication.plan
    publication.name = "  "
    assert "has no name" in publication.plan
    publication.publish()
    assert publication.progress == ""
    publication.name = "digits"
    publication.bake = -1
    assert not publication.ready
    publication.bake = 60
    assert publication.ready


def test_publish_canary_promote_roll_back_and_retire(deployment: Deployment) -> None:
    publication, operation = deployment.publication, deployment.operation
    assert "publish a model above" in operation.empty
    publication.name = "digits"
    publication.version = 1
    publication.publish()
    assert not publication.publishing
    assert "serving" in publication.progress
    assert "rows a second</th>" not in publication.progress
    assert operation.chosen == "digits"
    assert "version 1: 100 %" in operation.card
    assert (operation.can_split, operation.can_roll_back, operation.can_promote) == (
        False, False, False,
    )  # fmt: skip

    publication.version = 2
    publication.canary = 20
    assert "20 % for version 2, until you promote it or roll it back" in publication.plan
    assert "serves now" in publication.plan
    publication.publish()
    # The reports of both.
    for said in ("rows a second</th>", "<td", "alice/cnn@2", "alice/cnn@1"):
        assert said in publication.progress
    assert "version 1: 80 %, version 2: 20 %" in operation.card
    assert operation.can_split
    assert operation.share == 20

    operation.set_share(60)
    assert "version 1: 40 %, version 2: 60 %" in operation.question
    assert operation._record is not None
    assert operation._record.traffic == {1: 80, 2: 20}
    operation.confirm()
    assert operation._record.traffic == {1: 40, 2: 60}
    assert operation.share == 60
    operation.promote()
    operation.decline()
    assert operation._record.traffic == {1: 40, 2: 60}
    operation.promote()
    operation.confirm()
    assert operation._record.traffic == {2: 100}
    # What is said elsewhere in the panel is so as well.
    assert "from version 2: 100 %" in publication.plan
    assert publication.progress == ""
    assert operation.endpoints == [("digits · serving · version 2: 100 %", "digits")]
    operation.roll_back()
    assert "Roll digits back from version 2: 100 %" in operation.question
    operation.confirm()
    assert operation._record.traffic != {2: 100}
    assert "deploy panel" in operation.card
    operation.retire()
    assert "gets no answer any more" in operation.question
    operation.confirm()
    assert operation._record.state == "retired"
    assert not operation.can_retire
    operation.retire()
    assert operation.question == ""


def test_all_requests_of_a_live_endpoint_move_only_for_who_says_so_twice(
    deployment: Deployment,
) -> None:
    publication, operation = deployment.publication, deployment.operation
    publication.version = 1
    publication.publish()
    # A new endpoint has no callers.
    assert publication.question == ""
    assert operation._record is not None
    assert operation._record.traffic == {1: 100}

    publication.version = 2
    publication.publish()
    asked = "Traffic of cnn: from version 1: 100 % to version 2: 100 %"
    assert publication.question.startswith(asked)
    publication.decline()
    publication.publish()
    # It was asked of another wish.
    publication.canary = 20
    assert publication.question == ""
    publication.confirm()
    publication.canary = 0
    assert len(operation._record.versions) == 1
    assert not publication.publishing
    publication.publish()
    publication.confirm()
    assert operation._record.traffic == {2: 100}
    publication.refresh()
    publication.canary = 20
    publication.publish()
    assert publication.question == ""
    assert operation._record.traffic == {2: 80, 3: 20}


def test_a_platform_that_is_away_is_not_published_to(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    publication = deployment.publication

    def away(*_: object) -> object:
        raise Unavailable("The platform is away.", remedy="Try again.")

    monkeypatch.setattr(EndpointsClient, "get", away)
    publication.publish()
    assert "away" in publication.error
    assert not publication.publishing
    assert publication.progress == ""


def test_a_version_that_fails_says_why(working: World) -> None:
    working.model(offset=1.0)
    publication = aiaas.panel("deploy").model.publication
    publication.publish()
    assert "was not published" in publication.progress
    assert "differ" in publication.progress
    assert not publication.publishing
    publication.publish()
    assert "was not published" in publication.progress


def test_a_line_that_breaks_says_that_it_goes_on(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    publication = deployment.publication

    def broken(*_: object) -> Iterator[object]:
        raise Unavailable("The platform is away.", remedy="Try again.")

    with monkeypatch.context() as broken_line:
        broken_line.setattr(EndpointsClient, "watch", broken)
        publication.publish()
    assert "away" in publication.error
    assert "What was begun goes on: '%aiaas endpoint cnn'" in publication.error
    assert not publication.publishing
    publication.refresh()
    assert publication.error == ""


def test_a_run_and_the_name_that_was_typed(working: World, notebook: Notebook) -> None:
    run = submit(notebook)
    job = JobSide(working, run)
    job.event("started")
    working.ok("PUT", f"/runs/{run.id}/job/model", job._token, json=working.hand_over())
    job.event("succeeded")
    publication = aiaas.panel("deploy").model.publication
    ((text, run_id),) = publication.runs
    assert run_id == run.id
    assert "cnn" in text
    publication.name = "mine"
    publication.source = "run"
    assert publication.ready
    publication.publish()
    assert publication.published == "mine"
    endpoint = aiaas.endpoints.get("mine")
    assert endpoint.traffic == {1: 100}
    # The model that is chosen changes, and the name that somebody typed stays.
    publication.model = ""
    publication.model = "alice/cnn"
    assert publication.name == "mine"


@pytest.mark.usefixtures("gateway")
def test_rows_are_tried_and_labels_shown(working: World, notebook: Notebook) -> None:
    body = working.hand_over()
    body["signature"] = {**body["signature"], "labels": ["cat", HOSTILE, "eel"]}
    working.ok("POST", "/models/alice/cnn/versions", json=body)
    notebook.run("%aiaas publish animals --model cnn")
    operation = aiaas.panel("deploy").model.operation
    assert operation.chosen == "animals"
    assert operation.sample == "0 0 0"
    assert "3 numbers" in operation.takes
    operation.try_rows("1 5 3\n9 0 0")
    assert "2, 10, 6" in operation.answer
    assert "<b>cat</b>" in operation.answer
    assert "&lt;img" in operation.answer
    assert HOSTILE not in operation.answer
    assert "answered by version 1" in operation.answer
    operation.try_rows("1 5")
    assert "has 3 numbers" in operation.answer
    operation.try_rows("[[1, 2, 3]]", 1)
    assert "2, 4, 6" in operation.answer
    assert not operation.asking_model
    assert "AIAAS_KEY" in operation.snippet
    # Three numbers are no picture.
    assert not operation.takes_text
    assert (operation.picture_takes, operation.by_picture) == ("", False)
    operation.try_picture(b"", invert=False)
    operation.language = "curl"
    assert operation.snippet.startswith("curl")


@pytest.mark.parametrize(
    ("spec", "label", "by_picture", "by_rows"),
    [
        (("float32", [1, 8, 8], None), "rows", True, False),
        (("float32", [64], None), "rows", False, True),
        (("string", [1], "text"), "text", False, False),
        (("string", [1], "image"), "rows", True, False),
    ],
)
def test_the_form_is_what_the_signature_takes(
    working: World,
    spec: tuple[DType, list[int], Kind | None],
    label: str,
    by_picture: bool,
    by_rows: bool,
) -> None:
    panel = aiaas.panel("deploy")
    operation = panel.model.operation
    dtype, shape, kind = spec
    taken = TensorSpec.model_construct(name="x", dtype=dtype, shape=shape, kind=kind)
    output = TensorSpec(name="y", dtype="float32", shape=[2])
    operation._test_of(Signature.model_construct(inputs=[taken], outputs=[output], labels=None))
    (typed,) = [one for one in controls_of(panel.widget) if isinstance(one, widgets.Textarea)]
    (file,) = [one for one in controls_of(panel.widget) if isinstance(one, widgets.FileUpload)]
    assert typed.description == label
    assert typed.value == operation.sample
    assert bool(typed.value) is (kind != "image")
    assert operation.by_picture is by_picture
    # Both ways are offered where the model may take both.
    assert bool(operation.picture_takes) is (by_picture or by_rows)
    assert file.accept == "image/*"
    # The likeliest way to make numbers of a picture is chosen, and another may be.
    lists = [one for one in controls_of(panel.widget) if isinstance(one, widgets.Dropdown)]
    (scale,) = [one for one in lists if one.description == "numbers"]
    likeliest = "endpoint" if kind == "image" else "unit"
    assert operation.scale == (likeliest if operation.picture_takes else "")
    assert scale.value == (operation.scale or None)
    if operation.picture_takes and kind is None:
        scale.value = "byte"
        assert operation.scale == "byte"
    panel.close()


def controls_of(widget: widgets.Widget) -> Iterator[widgets.Widget]:
    yield widget
    for child in getattr(widget, "children", ()):
        yield from controls_of(child)


def test_no_platform_and_no_models(
    world: World, notebook: Notebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    panel = aiaas.panel("deploy")
    assert "ctx.save_model" in panel.model.publication.empty
    assert "%aiaas publish NAME" in repr(panel)
    assert not panel.model.publication.ready
    monkeypatch.setenv("AIAAS_URL", "http://127.0.0.1:9/services/aiaas")
    assert "cannot be reached" in repr(aiaas.panel("deploy"))


def test_the_form_is_the_model(deployment: Deployment) -> None:
    publication, operation = deployment.publication, deployment.operation
    form = deployment_form(deployment)
    found = {w.description: w for w in _all(form) if getattr(w, "description", "")}
    assert found["model"].value == "alice/cnn"
    found["version"].value = 1
    assert publication.version == 1
    found["canary %"].value = 30
    assert publication.canary == 30
    assert not found["Publish"].disabled
    assert found["Roll back"].disabled
    found["Publish"].click()
    assert operation.chosen == "cnn"
    assert "serving" in publication.progress
    assert found["rows"].value == "0 0 0"
    publication.version = 2
    found["Publish"].click()
    assert publication.question == ""
    assert not found["Roll back"].disabled
    assert found["share"].value == 30
    found["Roll back"].click()
    assert "Roll cnn back" in operation.question
    found["Yes, do it"].click()
    assert operation._record is not None
    assert operation._record.traffic == {1: 100}
    found["Retire"].click()
    found["No"].click()
    assert operation.question == ""
    assert operation._record.state != "retired"


def _all(widget: Any) -> list[Any]:
    return [widget, *(one for child in getattr(widget, "children", ()) for one in _all(child))]


class Waiting(AtOnce):
    """Keeps what is to be called later until the test calls it."""

    def __init__(self) -> None:
        self.timers: dict[str, tuple[float, Callable[[], None]]] = {}

    def later(self, slot: str, seconds: float, call: Callable[[], None]) -> None:
        self.timers[slot] = seconds, call

    def go_off(self) -> None:
        """The timer of the endpoint that is looked at."""
        _, call = self.timers.pop("endpoint")
        call()


def test_a_canary_is_looked_at_again_only_while_somebody_looks(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    publication = deployment.publication
    publication.version = 1
    publication.publish()
    publication.version, publication.canary, publication.bake = 2, 20, 3600
    publication.publish()
    asked: list[str] = []
    get = EndpointsClient.get

    def counted(client: EndpointsClient, owner: str, name: str) -> Any:
        asked.append(name)
        return get(client, owner, name)

    monkeypatch.setattr(EndpointsClient, "get", counted)
    beside = Waiting()
    operation = Operation(deployment.operation._client, beside)
    operation.refresh()
    assert asked == ["cnn"]
    assert beside.timers["endpoint"][0] == BUSY_SECONDS
    beside.go_off()
    assert asked == ["cnn"] * 2

    # The page says that it is hidden: the next time nothing is asked, and no timer is set.
    operation.seen(False)
    beside.go_off()
    assert (asked, beside.timers, operation.paused) == (["cnn"] * 2, {}, True)
    # Somebody comes back: at once, and again after a while.
    operation.seen(True)
    assert len(asked) == 3
    assert not operation.paused
    assert "endpoint" in beside.timers
    # A page that was closed says nothing any more.
    late = SimpleNamespace(monotonic=lambda: time.monotonic() + PATIENCE + 1)
    monkeypatch.setattr(attention, "time", late)
    beside.go_off()
    assert (len(asked), beside.timers, operation.paused) == (3, {}, True)


def test_an_endpoint_where_nothing_happens_is_not_looked_at_again(deployment: Deployment) -> None:
    deployment.publication.publish()
    beside = Waiting()
    operation = Operation(deployment.operation._client, beside)
    operation.refresh()
    assert operation.chosen == "cnn"
    assert beside.timers == {}


class Classifier:
    """An endpoint whose model says of a text whether it is good."""

    name = "moods"
    last_version = 1

    def __init__(self, signature: Signature) -> None:
        self.signature = signature
        self.asked: list[tuple[list[Any], int | None]] = []

    def _signature_of(self, version: int) -> Signature:
        return self.signature

    def predict(self, inputs: dict[str, Any], *, version: int | None) -> Any:
        self.asked.append((inputs["text"].tolist(), version))
        return np.array([[0.1, 0.9]])


def test_a_text_is_asked_about_by_the_form(world: World) -> None:
    panel = aiaas.panel("deploy")
    operation = panel.model.operation
    taken = TensorSpec.model_construct(name="text", dtype="string", shape=[1], kind="text")
    output = TensorSpec(name="y", dtype="float32", shape=[2])
    signature = Signature.model_construct(
        inputs=[taken], outputs=[output], labels=["bad", HOSTILE], generates=False
    )
    endpoint = operation._endpoint = Classifier(signature)
    operation._test_of(signature)
    (typed,) = [one for one in controls_of(panel.widget) if isinstance(one, widgets.Textarea)]
    (ask,) = [one for one in controls_of(panel.widget) if getattr(one, "description", "") == "Ask"]
    typed.value = "so far\nso good"
    ask.click()
    _until(lambda: operation.answer)
    # With all its lines, and as it was typed.
    assert endpoint.asked == [([["so far\nso good"]], None)]
    assert "&lt;img" in operation.answer
    assert HOSTILE not in operation.answer
    typed.value = " "
    ask.click()
    _until(lambda: "no text to send" in operation.answer)
    assert len(endpoint.asked) == 1
    panel.close()


def _until(test: Callable[[], object]) -> None:
    ends = time.monotonic() + 60
    while not test():
        assert time.monotonic() < ends
        time.sleep(0.01)
