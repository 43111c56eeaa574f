"""`{server}/aiaas/ending`: when this server is stopped for want of work, and that somebody works.

GET `{seconds_left, warn_seconds, why}`: `why` is `idle` or `lifetime`; where it is never stopped by
itself, `seconds_left` is null and there is nothing else. POST: somebody is at work. A page says so
when keys are pressed in it: it also asks for lists by itself, which is nobody's work.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import APIHandler
from jupyter_server.utils import url_path_join
from tornado import web

from aiaas_hub.schemas.errors import AiaasError, to_body
from aiaas_magics.ending import Limits
from aiaas_magics.lab.activity import Activity
from aiaas_magics.lab.proxy import refuse_visitors

if TYPE_CHECKING:
    from jupyter_server.serverapp import ServerApp

Tell = Callable[[], Awaitable[None]]


class Ending(APIHandler):
    auth_resource = "aiaas"
    _track_activity = False

    def initialize(self, activity: Activity, tell: Tell | None) -> None:
        super().initialize()
        self._activity = activity
        self._tell = tell

    @web.authenticated
    @authorized
    async def get(self) -> None:
        self._activity.note()
        application: Any = self.application  # jupyter_server's own kind, which knows this
        end = Limits.from_environment().end(application.last_activity())
        self.set_header("Cache-Control", "no-store")
        if end is None:
            await self.finish({"seconds_left": None})
            return
        await self.finish(
            {
                "seconds_left": end.left(datetime.now(UTC)).total_seconds(),
                "warn_seconds": end.warning.total_seconds(),
                "why": end.why,
            }
        )

    @web.authenticated
    @authorized
    async def post(self) -> None:
        try:
            # A visitor's keys do not keep somebody else's server.
            refuse_visitors(self)
        except AiaasError as error:
            self.set_status(error.status)
            await self.finish(to_body(error, error.request_id).model_dump_json())
            return
        self._activity.note_work()
        if self._tell is not None:
            # At once: the hub may be about to stop the server.
            await self._tell()
        self.set_status(204)
        await self.finish()


def add_ending(server: ServerApp, activity: Activity) -> None:
    """Serve it on a Jupyter server."""
    app: web.Application = server.web_app
    path = url_path_join(re.escape(app.settings["base_url"]), "aiaas/ending")
    app.add_handlers(".*$", [(path, Ending, {"activity": activity, "tell": _teller(server)})])


def _teller(server: ServerApp) -> Tell | None:
    """JupyterHub's own way to tell it of activity; None where no hub started this server."""
    for app in server.extension_manager.extension_apps.get("jupyterhub.singleuser", ()):
        if hasattr(app, "notify_activity"):
            return app.notify_activity  # type: ignore[no-any-return]  # jupyterhub has no types
    return None
