"""The first line of a form: it tells whether the form is looked at."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import anywidget

from aiaas_magics.panels.attention import Attended


class Eye(anywidget.AnyWidget):
    """Tells the view-model what the page says; on the page, that the kernel was restarted."""

    _esm = Path(__file__).with_name("eye.js").read_text(encoding="utf-8")
    # Jupyter marks each part that has lost its kernel, empty ones too; here one sentence says so.
    _css = (
        ":is(.aiaas-panel, .aiaas-panel *).jupyter-widgets-disconnected::before { display: none; }"
    )

    def __init__(self, attended: Attended) -> None:
        super().__init__()

        def heard(_: object, content: object, __: object) -> None:
            if isinstance(content, Mapping) and isinstance(content.get("seen"), bool):
                attended.seen(content["seen"])

        self.on_msg(heard)
