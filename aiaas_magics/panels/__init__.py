"""`aiaas.panel`: forms and tables in a notebook, over the same client as the verbs.

Each panel is a view-model that takes the client and knows no page, and a widget that shows it.
"""

from __future__ import annotations

from aiaas_hub.schemas.errors import InvalidInput
from aiaas_magics.client import current_client
from aiaas_magics.panels.background import AtOnce
from aiaas_magics.panels.output import Panel


def panel(kind: str) -> Panel:
    """`"datasets"`: look for one, at its schema, versions, profile and rows. `"runs"`: watch,
    cancel and go on. `"deploy"`: publish a model, split its traffic, try it, roll back.

    Where there is no page for a widget it is a text that names the verbs. Raises `InvalidInput`
    for another kind, `Unavailable` where no platform is known.
    """
    make = _MAKERS.get(kind)
    if make is None:
        raise InvalidInput(
            f"There is no panel {kind!r}.", remedy=f"There are {', '.join(map(repr, _MAKERS))}."
        )
    return make()


def _datasets() -> Panel:
    from aiaas_magics.panels.dataset_browser import DatasetBrowser

    def widget(model: DatasetBrowser) -> object:
        from aiaas_magics.panels.dataset_browser_widget import dataset_browser

        return dataset_browser(model)

    browser = DatasetBrowser(current_client(), AtOnce())
    browser.search()
    return Panel(browser, widget)


def _runs() -> Panel:
    from aiaas_magics.panels.run_monitor import RunMonitor

    def widget(model: RunMonitor) -> object:
        from aiaas_magics.panels.run_monitor_form import run_monitor_form

        return run_monitor_form(model)

    monitor = RunMonitor(current_client(), AtOnce())
    monitor.refresh()
    return Panel(monitor, widget)


def _deploy() -> Panel:
    from aiaas_magics.panels.deployment import Deployment

    def widget(model: Deployment) -> object:
        from aiaas_magics.panels.deployment_form import deployment_form

        return deployment_form(model)

    deployment = Deployment(current_client(), AtOnce())
    deployment.refresh()
    return Panel(deployment, widget)


_MAKERS = {"datasets": _datasets, "runs": _runs, "deploy": _deploy}
