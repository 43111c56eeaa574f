"""The bare `%aiaas`: who I am here, what is live and how the engines are."""

from __future__ import annotations

import os
from itertools import islice

from aiaas_hub.schemas import endpoints as wire_endpoints
from aiaas_hub.schemas import runs as wire
from aiaas_hub.schemas.platform import EngineState, Me
from aiaas_magics import __version__, display
from aiaas_magics.client import Client, current_client
from aiaas_magics.consumption import allowance_text
from aiaas_magics.display import Rich
from aiaas_magics.ending import Limits, ending_text
from aiaas_magics.endpoint import Endpoint
from aiaas_magics.run import Run

# Live runs are among the newest; a longer look would cost more than it finds.
_LOOKED_AT = 50


class Status(Rich):
    """The platform from where I stand."""

    def __init__(self, client: Client) -> None:
        self._url = client.transport.url
        self.me: Me = client.me()
        self.runs = [
            Run(client, record)
            for record in islice(client.runs.list(), _LOOKED_AT)
            if not record.state.is_terminal
        ]
        self.endpoints = [
            Endpoint(client, record)
            for record in islice(client.endpoints.list(), _LOOKED_AT)
            if record.state is not wire_endpoints.EndpointState.RETIRED
        ]

    def _facts(self) -> list[tuple[str, str]]:
        me = self.me
        return [
            ("platform", f"{self._url} (aiaas-hub {me.version}, this notebook {__version__})"),
            # The hub tells a server which of its profiles it is.
            ("profile", os.environ.get("AIAAS_PROFILE", "")),
            ("server", ending_text(Limits.from_environment())),
            ("quota", _quota(me.quota)),
            *(("", allowance_text(allowance)) for allowance in me.allowances),
            ("engines", ", ".join(f"{e.name} {e.state}" for e in me.engines)),
            *(
                (engine.name, engine.reason)
                for engine in me.engines
                if engine.state is not EngineState.READY
            ),
            (
                "runs",
                ", ".join(f"{r.name} · {r.id} ({r._record.state})" for r in self.runs)
                or "none live",
            ),
            (
                "endpoints",
                ", ".join(f"{e.name} ({e._record.state})" for e in self.endpoints) or "none",
            ),
            ("next", "%aiaas help"),
        ]

    @property
    def _title(self) -> str:
        return f"{self.me.user}{' (admin)' if self.me.admin else ''}"

    def _html(self) -> str:
        facts = [(label, display.escape(value)) for label, value in self._facts()]
        return display.card(self._title, None, facts)

    def _text(self) -> str:
        return display.text_card(self._title, None, self._facts())


def _quota(quota: wire.Quota | None) -> str:
    if quota is None:
        return ""
    shares = (("runs", quota.runs), ("workers", quota.workers), ("GPUs", quota.gpus))
    return ", ".join(f"{name} {_used(used)}" for name, used in shares)


def _used(used: wire.Used) -> str:
    return f"{used.used:g}" + ("" if used.limit is None else f" of {used.limit:g}")


def status() -> Status:
    return Status(current_client())
