"""What the notebook's own library makes of an endpoint for a page: programs that call it, and its
answer to rows that somebody typed.

The key for that call stays in this server, as the hub's token does.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any

from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import APIHandler
from jupyter_server.utils import url_path_join
from pydantic import BaseModel, Field
from tornado import web

from aiaas_hub.schemas.errors import AiaasError, InternalError, InvalidInput, to_body
from aiaas_hub.schemas.models import Signature
from aiaas_magics.client import Client
from aiaas_magics.lab.proxy import LONGEST_BODY, Route, read_body, refuse_visitors
from aiaas_magics.snippets import LANGUAGES, snippet

_TRIAL = Route("POST", "/endpoints/{owner}/{name}/trial")


class Rows(BaseModel):
    """What somebody typed, and which version they ask; None: as any caller."""

    text: str = Field(max_length=LONGEST_BODY)
    version: int | None = Field(default=None, ge=1)


class Trial(APIHandler):
    """GET: `{takes, sample, programs}`. POST `Rows`: `{titles, lines, said}`, all of it text."""

    auth_resource = "aiaas"
    _track_activity = False

    @web.authenticated
    @authorized
    async def get(self, owner: str, name: str) -> None:
        await self._answer(owner, name, None)

    @web.authenticated
    @authorized
    async def post(self, owner: str, name: str) -> None:
        await self._answer(owner, name, self.request.body)

    async def _answer(self, owner: str, name: str, body: bytes | None) -> None:
        try:
            refuse_visitors(self)
            _TRIAL.path_of({"owner": owner, "name": name})
            rows = None if body is None else read_body(Rows, body)
            # The client waits, and must not keep the server's other pages waiting.
            answer = await asyncio.to_thread(_of_endpoint, owner, name, rows)
        except AiaasError as error:
            self.set_status(error.status)
            await self.finish(to_body(error, error.request_id).model_dump_json())
            return
        self.set_header("Cache-Control", "no-store")
        await self.finish(answer)


def _of_endpoint(owner: str, name: str, rows: Rows | None) -> dict[str, Any]:
    """Raises `AiaasError`."""
    from aiaas_magics.endpoint import Endpoint
    from aiaas_magics.panels import rows as typed

    client = Client.from_environment()
    try:
        record = client.endpoints.get(owner, name)
        if rows is not None:
            answer = typed.ask(Endpoint(client, record), rows.text, rows.version)
            return {"titles": answer.titles, "lines": answer.lines, "said": answer.said}
        signature = record.signature
        if signature is None or not record.traffic:
            return {"takes": "", "sample": "", "programs": {}}
        return {
            "takes": typed.takes(signature),
            "sample": typed.example_rows(signature),
            "programs": {
                language: _program(language, record.url, record.name, signature)
                for language in LANGUAGES
            },
        }
    except ImportError as error:
        raise InternalError(
            f"This server cannot call an endpoint: {error.name} is missing.",
            remedy="Install it beside JupyterLab: pip install aiaas-hub.",
        ) from error
    finally:
        client.transport.close()


def _program(language: str, url: str, name: str, signature: Signature) -> str:
    """Or, as a comment, why there is none."""
    try:
        return snippet(language, url, name, signature)
    except InvalidInput as error:
        return f"# {error.message} {error.remedy}"


def add_trial(app: web.Application) -> None:
    """Serve it on a Jupyter server, beside the service's own paths."""
    base = re.escape(app.settings["base_url"])
    app.add_handlers(".*$", [(url_path_join(base, "aiaas/api/v1", _TRIAL.pattern), Trial)])
