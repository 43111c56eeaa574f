"""A panel in a cell's output: a widget where there is a page for it, else a text."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

from aiaas_magics import display
from aiaas_magics.panels.background import Background, KernelLoop
from aiaas_magics.screen import in_kernel

if TYPE_CHECKING:
    from ipywidgets import Widget

_WIDGET = "application/vnd.jupyter.widget-view+json"
_AGAIN = "After a restart of the kernel run this cell again."


class Model(Protocol):
    """What a panel knows and can do; it asks the service by way of `beside`."""

    beside: Background

    def html(self) -> str: ...

    def text(self) -> str: ...


class Panel(display.Rich):
    """Shows itself where a cell ends with it. `.model` is what it knows and can do."""

    def __init__(self, model: Model, make: Callable[[Any], Widget]) -> None:
        self.model = model
        self._make = make
        self._widget: Widget | None = None

    @property
    def widget(self) -> Widget:
        """The ipywidget, to be laid out among others; made at its first use."""
        if self._widget is None:
            self._go_on_beside()
            self._widget = self._make(self.model)
            # What it read for its first look it read once; from now on it goes on.
            if hasattr(self.model, "refresh"):
                self.model.refresh()
        return self._widget

    def close(self) -> None:
        """Take it off the page; nothing is asked for any more."""
        self.model.beside.close()
        if self._widget is not None:
            _close(self._widget)

    def _go_on_beside(self) -> None:
        """What it shows first was asked for by its cell, which waits as for any verb. From now on
        nothing that is done in it may block the kernel."""
        # A script, or a terminal, has no loop, and no page either.
        with suppress(RuntimeError):
            self.model.beside = KernelLoop()

    def _html(self) -> str:
        return self.model.html()

    def _text(self) -> str:
        return self.model.text()

    def _repr_mimebundle_(
        self, include: object = None, exclude: object = None
    ) -> dict[str, object]:
        bundle = super()._repr_mimebundle_()
        if in_kernel():
            model_id = self.widget.model_id
            bundle[_WIDGET] = {"version_major": 2, "version_minor": 0, "model_id": model_id}
        return bundle

    def _ipython_display_(self) -> None:
        from IPython.display import publish_display_data

        publish_display_data(self._repr_mimebundle_())
        if in_kernel():
            # A page that is opened again has no widget any more, and says no word of what to do.
            note = {"text/html": display.muted(_AGAIN), "text/plain": ""}
            publish_display_data(note)


def _close(widget: Any) -> None:
    for child in getattr(widget, "children", ()):
        _close(child)
    widget.close()
