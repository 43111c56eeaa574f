"""The run monitor as a form."""

from __future__ import annotations

from typing import Any

import ipywidgets as widgets
from traitlets import dlink

from aiaas_hub.schemas.runs import RunState
from aiaas_magics.panels import controls
from aiaas_magics.panels.run_monitor import RunMonitor

_STATES = [("all", ""), *((str(state), str(state)) for state in RunState)]


def run_monitor_form(monitor: RunMonitor) -> Any:
    state = widgets.Dropdown(options=_STATES, description="show", layout={"width": "16em"})
    controls.heard(state, "value", monitor.filter)
    runs = _list(monitor)
    empty = widgets.VBox([controls.note(monitor, "empty")])
    controls.shown_if(monitor, "runs", empty, lambda found: not found)
    cancel = controls.button("Cancel the run", monitor.cancel, style="warning")
    controls.shown_if(monitor, "live", cancel)
    command = widgets.Text(
        description="go on with", disabled=True, style={"description_width": "7em"}
    )
    command.layout.width = "34em"
    dlink((monitor, "command"), (command, "value"))
    controls.shown_if(monitor, "command", command)
    return controls.form(
        monitor,
        widgets.HBox([state, controls.button("Refresh", monitor.refresh)]),
        runs,
        empty,
        controls.card(monitor, "card"),
        controls.note(monitor, "note"),
        widgets.HBox([cancel, command]),
        controls.question(monitor),
    )


def _list(monitor: RunMonitor) -> Any:
    shown = widgets.Select(rows=8, layout={"width": "auto"}, description="runs", tooltip="Runs")

    controls.choices(shown, monitor, "runs", "chosen", lambda run: monitor.choose(run or ""))
    controls.shown_if(monitor, "runs", shown)
    return shown
