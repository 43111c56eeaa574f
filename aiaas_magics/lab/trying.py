"""What the notebook's own library makes of an endpoint for a page: programs that call it, and its
answer to rows or a text that somebody typed, or to a picture.

The key for that call stays in this server, as the hub's token does.
"""

from __future__ import annotations

import asyncio
import re
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import APIHandler
from jupyter_server.utils import url_path_join
from pydantic import Base64Bytes, BaseModel, Field, model_validator
from tornado import web

from aiaas_hub.schemas.errors import AiaasError, InternalError, InvalidInput, to_body
from aiaas_hub.schemas.models import Signature
from aiaas_magics.client import Client
from aiaas_magics.lab.proxy import LONGEST_BODY, Route, read_body, refuse_visitors
from aiaas_magics.panels.pictures import MOST_BYTES, Scale, picture_of, see
from aiaas_magics.snippets import LANGUAGES, snippet

if TYPE_CHECKING:
    from aiaas_magics.endpoint import Endpoint

_TRIAL = Route("POST", "/endpoints/{owner}/{name}/trial")


# Base64 is a third longer than what it stands for.
_LONGEST_PICTURE = MOST_BYTES * 4 // 3 + 4


class Given(BaseModel):
    """A picture's file, and what becomes of its pixels."""

    content: Base64Bytes = Field(max_length=_LONGEST_PICTURE)
    scale: Scale
    invert: bool = False


class Question(BaseModel):
    """What somebody typed, or a picture; and which version they ask; None: as any caller."""

    text: str | None = Field(default=None, max_length=LONGEST_BODY)
    picture: Given | None = None
    version: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if (self.text is None) == (self.picture is None):
            raise ValueError("send a text or a picture")
        return self


class Trial(APIHandler):
    """GET: `{takes, takes_text, sample, picture, programs}`. POST `Question`: `{titles, lines,
    said, seen}`, all of it text; `seen`: the picture as it was sent, as a `data:` address."""

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
            question = (
                None if body is None else read_body(Question, body, _LONGEST_PICTURE + LONGEST_BODY)
            )
            # The client waits, and must not keep the server's other pages waiting.
            answer = await asyncio.to_thread(_of_endpoint, owner, name, question)
        except AiaasError as error:
            self.set_status(error.status)
            await self.finish(to_body(error, error.request_id).model_dump_json())
            return
        self.set_header("Cache-Control", "no-store")
        await self.finish(answer)


def _of_endpoint(owner: str, name: str, question: Question | None) -> dict[str, Any]:
    """Raises `AiaasError`."""
    from aiaas_magics.endpoint import Endpoint
    from aiaas_magics.panels import rows as typed

    client = Client.from_environment()
    try:
        record = client.endpoints.get(owner, name)
        if question is not None:
            return _answer(Endpoint(client, record), question)
        signature = record.signature
        if signature is None or not record.traffic:
            return {
                "takes": "", "takes_text": False, "sample": "", "picture": None, "programs": {}
            }  # fmt: skip
        picture = picture_of(signature)
        return {
            "takes": typed.takes(signature),
            "takes_text": typed.takes_text(signature),
            "sample": typed.example_rows(signature),
            "picture": picture
            and {
                "takes": picture.takes,
                "scales": picture.scales,
                "is_likely": picture.is_likely,
                "most_bytes": MOST_BYTES,
            },
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


def _answer(endpoint: Endpoint, question: Question) -> dict[str, Any]:
    from aiaas_magics.panels import rows as typed

    seen = ""
    if question.picture is not None:
        picture = picture_of(endpoint.signature) if endpoint.signature is not None else None
        if picture is None:
            raise InvalidInput("The model takes no picture.", remedy="Type what it takes.")
        given = question.picture
        shown = see(given.content, picture, given.scale, invert=given.invert)
        seen = shown.address
        inputs = {picture.name: shown.array}
        answer = typed.ask(endpoint, lambda _: inputs, question.version)
    else:
        read = partial(typed.parse_rows, question.text or "")
        answer = typed.ask(endpoint, read, question.version)
    return {"titles": answer.titles, "lines": answer.lines, "said": answer.said, "seen": seen}


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
