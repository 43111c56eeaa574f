"""What the service does now and then beside runs and endpoints, one step after the other.

Each step may be repeated: a service that was killed in the middle of one goes on with the next.
"""

from __future__ import annotations

import logging
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from aiaas_hub.adapters.hub_events import HubEvent, HubEvents, ServerSpan, take_in
from aiaas_hub.adapters.hub_members import ask_hub
from aiaas_hub.adapters.records.usage import SqlUsageRecords
from aiaas_hub.api.services import Services
from aiaas_hub.enforcing import enforce_quotas
from aiaas_hub.schemas.errors import AiaasError

log = logging.getLogger(__name__)

_PAUSE = 1.0


@dataclass(frozen=True)
class Hub:
    api_url: str
    token: str
    tls: ssl.SSLContext | bool = True
    """How both prove who they are."""


@dataclass(frozen=True)
class Chore:
    name: str
    seconds: float
    """Between the end of one time and the next."""
    step: Callable[[], None]


class Housekeeping:
    def __init__(self, chores: Sequence[Chore]) -> None:
        self._chores = chores
        self._due = {chore.name: 0.0 for chore in chores}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="housekeeping", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(timeout=10)

    def tidy(self) -> None:
        """Do what is due; one chore that fails does not keep the others from being done."""
        for chore in self._chores:
            if time.monotonic() < self._due[chore.name]:
                continue
            try:
                chore.step()
            except AiaasError as error:
                log.warning("%s waits: %s", chore.name, error.message)
            except Exception:
                log.exception("%s failed", chore.name)
            self._due[chore.name] = time.monotonic() + chore.seconds

    def _run(self) -> None:
        while not self._stop.wait(_PAUSE):
            self.tidy()


def chores(
    services: Services,
    usage: SqlUsageRecords,
    events: HubEvents,
    hub: Hub | None,
) -> list[Chore]:
    """What there is to do; without a hub nothing is asked of it."""

    def keep(span: ServerSpan, event: HubEvent) -> None:
        if span.ended:
            usage.close_server(span.server, event.at)
        else:
            usage.open_server(
                span.server,
                event.owner,
                span.profile,
                span.cpus,
                span.gpus,
                span.price_per_hour,
                event.at,
            )

    def ask() -> None:
        if hub is None:
            return
        found = ask_hub(hub.api_url, hub.token, hub.tls)
        services.members.replace(found.groups)
        usage.note_servers(found.servers, datetime.now(UTC))

    return [
        Chore("Taking in what the hub told", 1, lambda: take_in(events, services.audit, keep)),
        Chore("Asking the hub for groups", 30, ask),
        Chore(
            "Holding runs to their quotas",
            10,
            lambda: enforce_quotas(
                services.run_records, services.budgets, services.audit, services.wake
            ),
        ),
    ]
