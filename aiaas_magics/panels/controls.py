"""What forms are made of: texts that are texts, notes, and a question before something is ended."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ipywidgets as widgets
from traitlets import HasTraits, dlink, link

from aiaas_magics import display
from aiaas_magics.panels.attention import Asking, Attended
from aiaas_magics.panels.eye import Eye

WIDE = {"width": "auto"}
_STYLE = {"description_width": "9em"}


def form(attended: Attended, *parts: Any) -> Any:
    """A panel: whether it is seen, what went wrong, and the parts."""
    box = widgets.VBox([Eye(attended), error(attended), paused(attended), *parts])
    box.add_class("aiaas-panel")
    return box


def error(attended: Attended) -> Any:
    return note(attended, "error", '<div role="alert">⚠ {}</div>')


def paused(attended: Attended) -> Any:
    shown = _html()
    dlink((attended, "paused"), (shown, "value"), lambda yes: display.muted(_PAUSED) if yes else "")
    return shown


_PAUSED = "Paused: nobody looked at it for a while. It goes on once it is seen."


def note(model: HasTraits, trait: str, markup: str = "<div>{}</div>") -> Any:
    """A text of the model's, escaped here; it takes no room while there is none."""
    shown = _html()
    dlink(
        (model, trait),
        (shown, "value"),
        lambda text: markup.format(display.escape(text)) if text else "",
    )
    return shown


def card(model: HasTraits, trait: str) -> Any:
    """Safe HTML of the model's, likewise."""
    shown = _html()
    dlink((model, trait), (shown, "value"))
    return shown


def _html() -> Any:
    shown = widgets.HTML()
    dlink((shown, "value"), (shown.layout, "display"), lambda text: "" if text else "none")
    return shown


def button(label: str, action: Callable[[], None], *, style: str = "", tip: str = "") -> Any:
    made = widgets.Button(
        description=label,
        button_style=style,
        tooltip=tip or label,
        layout={"width": "auto", "align_self": "flex-start"},
    )
    made.on_click(lambda _: action())
    return made


def question(asking: Asking) -> Any:
    """Shown while something is asked back."""
    yes = button("Yes, do it", asking.confirm, style="danger")
    no = button("No", asking.decline)
    text = note(asking, "question", '<div role="alert"><b>{}</b></div>')
    box = widgets.VBox([text, widgets.HBox([yes, no])])
    dlink((asking, "question"), (box.layout, "display"), lambda asked: "" if asked else "none")
    return box


def labelled(kind: Any, label: str, **more: Any) -> Any:
    return kind(description=label, style=_STYLE, layout={"width": "32em"}, **more)


def heard(widget: Any, name: str, action: Callable[[Any], None]) -> None:
    widget.observe(lambda change: action(change["new"]), name)


def shown_if(model: HasTraits, trait: str, widget: Any, test: Callable[[Any], bool] = bool) -> Any:
    """The widget takes no room while the model's trait says no."""
    dlink((model, trait), (widget.layout, "display"), lambda v: "" if test(v) else "none")
    return widget


def choices(
    widget: Any, model: HasTraits, options: str, chosen: str, choose: Callable[[Any], None]
) -> None:
    """Fill a list from one trait of the model and mark the value of another. Both change while one
    looks at them: only what a user chooses is said to the model."""
    filling = False

    def fill(*_: object) -> None:
        nonlocal filling
        listed = [tuple(option) for option in getattr(model, options)]
        filling = True
        try:
            if tuple(listed) != tuple(widget.options):
                widget.options = listed
            value = getattr(model, chosen)
            widget.value = value if any(known == value for _, known in listed) else None
        finally:
            filling = False

    def changed(value: Any) -> None:
        if not filling:
            choose(value)

    model.observe(fill, [options, chosen])
    fill()
    heard(widget, "value", changed)


def entered(widget: Any, model: HasTraits, trait: str) -> Any:
    """What is typed is the model's, and what the model says is shown."""
    link((model, trait), (widget, "value"))
    return widget
