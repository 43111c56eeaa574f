"""`aiaas.panel`: forms and tables in a notebook, over the same client as the verbs.

Each panel is a view-model that takes the client and knows no page, and a widget that shows it.
"""

from __future__ import annotations

from aiaas_hub.schemas.errors import InvalidInput
from aiaas_magics import not_yet
from aiaas_magics.client import current_client
from aiaas_magics.panels.background import AtOnce
from aiaas_magics.panels.output import Panel

KINDS = ("datasets", "runs", "deploy")


def panel(kind: str) -> Panel:
    """`"datasets"`: look for one, at its schema, versions, profile and rows. `"runs"`: watch,
    cancel and go on. `"deploy"`: publish a model, split its traffic, try it, roll back.

    Where there is no page for a widget it is a text that names the verbs. Raises `InvalidInput`
    for another kind, `Unavailable` where no platform is known.
    """
    make = _MAKERS.get(kind)
    if kind in KINDS and make is None:
        not_yet.refuse(f"The panel {kind!r}", "Use '%aiaas runs' or '%aiaas endpoints'.")
    if make is None:
        raise InvalidInput(
            f"There is no panel {kind!r}.", remedy=f"There are {', '.join(map(repr, KINDS))}."
        )
    return make()


def _datasets() -> Panel:
    from aiaas_magics.panels.dataset_browser import DatasetBrowser

    def widget(model: DatasetBrowser) -> object:
        from aiaas_magics.panels.dataset_browser_widget import DatasetBrowserWidget

        return DatasetBrowserWidget(model)

    browser = DatasetBrowser(current_client(), AtOnce())
    browser.search()
    return Panel(browser, widget)


_MAKERS = {"datasets": _datasets}
