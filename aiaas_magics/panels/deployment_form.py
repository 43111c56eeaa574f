"""The deploy panel as a form."""

from __future__ import annotations

from typing import Any

import ipywidgets as widgets
from traitlets import dlink, link

from aiaas_magics import display
from aiaas_magics.panels import controls
from aiaas_magics.panels.controls import button, card, labelled, note, shown_if
from aiaas_magics.panels.deployment import Deployment
from aiaas_magics.panels.operation import Operation
from aiaas_magics.panels.publication import Publication
from aiaas_magics.snippets import LANGUAGES


def deployment_form(deployment: Deployment) -> Any:
    return controls.form(
        deployment.operation,
        controls.error(deployment.publication),
        _publication(deployment.publication),
        _operation(deployment.operation),
    )


def _publication(publication: Publication) -> Any:
    source = widgets.ToggleButtons(
        options=[("a model", "model"), ("a run's model", "run")],
        style={"button_width": "auto"},
        tooltip="What to publish",
    )
    model = labelled(widgets.Dropdown, "model")
    version = labelled(widgets.Dropdown, "version")
    run = labelled(widgets.Dropdown, "run")
    controls.choices(model, publication, "models", "model", _setter(publication, "model"))
    controls.choices(version, publication, "versions", "version", _setter(publication, "version"))
    controls.choices(run, publication, "runs", "run", _setter(publication, "run"))
    by_model = widgets.VBox([model, version])
    go = button("Publish", publication.publish, style="primary")
    dlink((publication, "ready"), (go, "disabled"), lambda ready: not ready)
    dlink((publication, "publishing"), (go, "disabled"), lambda busy: busy or not publication.ready)
    name = labelled(widgets.Text, "endpoint", continuous_update=False)
    share = labelled(widgets.IntSlider, "canary %", min=0, max=99, continuous_update=False)
    bake = labelled(widgets.BoundedFloatText, "judge after (s)", min=0, max=7 * 24 * 3600)
    return widgets.VBox(
        [
            widgets.HTML("<b>Publish</b>"),
            controls.entered(source, publication, "source"),
            shown_if(publication, "source", by_model, lambda which: which == "model"),
            shown_if(publication, "source", run, lambda which: which == "run"),
            note(publication, "empty"),
            controls.entered(name, publication, "name"),
            controls.entered(share, publication, "canary"),
            controls.entered(bake, publication, "bake"),
            card(publication, "plan"),
            go,
            controls.question(publication),
            card(publication, "progress"),
        ]
    )


def _operation(operation: Operation) -> Any:
    endpoint = labelled(widgets.Dropdown, "endpoint")
    controls.choices(
        endpoint, operation, "endpoints", "chosen", lambda n: operation.choose(n or "")
    )
    return widgets.VBox(
        [
            widgets.HTML("<b>Endpoint</b>"),
            widgets.HBox([endpoint, button("Refresh", operation.refresh)]),
            note(operation, "empty"),
            card(operation, "card"),
            _traffic(operation),
            controls.question(operation),
            shown_if(operation, "takes", _test(operation)),
            shown_if(operation, "snippet", _snippet(operation)),
        ]
    )


def _traffic(operation: Operation) -> Any:
    share = labelled(widgets.IntSlider, "share", min=0, max=100, continuous_update=False)
    link((operation, "share"), (share, "value"))
    move = button("Set", lambda: operation.set_share(share.value))
    promote = button("Promote", operation.promote)
    back = button("Roll back", operation.roll_back)
    retire = button("Retire", operation.retire, style="danger")
    for control, trait in (
        (share, "can_split"),
        (move, "can_split"),
        (promote, "can_promote"),
        (back, "can_roll_back"),
        (retire, "can_retire"),
    ):
        dlink((operation, trait), (control, "disabled"), lambda may: not may)
    box = widgets.VBox(
        [
            widgets.HBox([share, move]),
            note(operation, "split", f"<div>{display.muted('share:')} {{}}</div>"),
            widgets.HBox([promote, back, retire]),
        ]
    )
    return shown_if(operation, "chosen", box)


def _test(operation: Operation) -> Any:
    typed = labelled(widgets.Textarea, "rows", rows=3)
    dlink((operation, "sample"), (typed, "value"))
    dlink((operation, "takes_text"), (typed, "description"), lambda t: "text" if t else "rows")
    picture = _Picture(operation)
    version = labelled(widgets.Dropdown, "ask")
    version.options = [("as the traffic goes", 0)]

    def fill(*_: object) -> None:
        kept = version.value
        version.options = [tuple(one) for one in operation.versions]
        version.value = kept if any(v == kept for _, v in operation.versions) else 0

    operation.observe(fill, "versions")
    if operation.versions:
        fill()

    def send() -> None:
        if operation.by_picture:
            picture.send(version.value or 0)
        else:
            operation.try_rows(typed.value, version.value or 0)

    ask = button("Ask", send)
    dlink((operation, "asking_model"), (ask, "disabled"))
    by_rows = widgets.VBox([note(operation, "takes"), typed])
    return widgets.VBox(
        [
            widgets.HTML("<b>Test</b>"),
            picture.choice,
            shown_if(operation, "by_picture", by_rows, lambda yes: not yes),
            shown_if(operation, "by_picture", picture.box),
            version,
            ask,
            card(operation, "answer"),
        ]
    )


class _Picture:
    """A file to choose or to drop, and what becomes of its pixels."""

    def __init__(self, operation: Operation) -> None:
        self._operation = operation
        self.choice = widgets.ToggleButtons(
            options=[("rows", False), ("a picture", True)],
            style={"button_width": "auto"},
            tooltip="What to send",
        )
        controls.entered(self.choice, operation, "by_picture")
        shown_if(operation, "picture_takes", self.choice)
        self._file = widgets.FileUpload(
            accept="image/*", description="Choose a picture", layout={"width": "auto"}
        )
        self._scale = labelled(widgets.Dropdown, "numbers")
        self._invert = widgets.Checkbox(description="dark becomes bright", indent=False)
        name = widgets.HTML()
        dlink((self._file, "value"), (name, "value"), self._named)
        controls.choices(self._scale, operation, "scales", "scale", _setter(operation, "scale"))
        self.box = widgets.VBox(
            [
                note(operation, "picture_takes"),
                widgets.HBox([self._file, name]),
                self._scale,
                self._invert,
            ]
        )

    @staticmethod
    def _named(files: Any) -> str:
        return display.muted(files[0]["name"]) if files else ""

    def send(self, version: int) -> None:
        chosen = self._file.value
        if not chosen:
            self._operation.answer = '<div role="alert">⚠ Choose a picture first.</div>'
            return
        content = bytes(chosen[0]["content"])
        self._operation.try_picture(content, self._invert.value, version)


def _snippet(operation: Operation) -> Any:
    language = labelled(widgets.Dropdown, "call it from", options=list(LANGUAGES))
    controls.entered(language, operation, "language")
    code = widgets.HTML()
    dlink((operation, "snippet"), (code, "value"), lambda text: display.pre(text) if text else "")
    return widgets.VBox([widgets.HTML("<b>Call it from outside</b>"), language, code])


def _setter(model: Publication | Operation, trait: str) -> Any:
    def choose(value: Any) -> None:
        if value is not None:
            setattr(model, trait, value)

    return choose
