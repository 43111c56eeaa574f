"""A Jupyter server extension: the way of JupyterLab's pages to the platform's service.

The page asks its own notebook server, which asks the service with the server's own hub token: no
token ever reaches a browser, and no page calls the service by cookie.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jupyter_server.serverapp import ServerApp


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "aiaas_magics.lab"}]


def _load_jupyter_server_extension(server: ServerApp) -> None:
    from aiaas_magics.lab.activity import Activity, count_work_only
    from aiaas_magics.lab.ending import add_ending
    from aiaas_magics.lab.proxy import add_handlers
    from aiaas_magics.lab.trying import add_trial

    upstream = add_handlers(server.web_app)
    add_trial(server.web_app)
    activity = Activity(server.web_app.settings, lambda: upstream.streams)
    add_ending(server, activity)
    activity.watch()
    count_work_only()
    # What the hub calls this server's profile is said in the page's status bar.
    page_config = server.web_app.settings.setdefault("page_config_data", {})
    page_config["aiaasProfile"] = os.environ.get("AIAAS_PROFILE", "")
