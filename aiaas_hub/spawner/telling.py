"""What a hub tells the service of notebook servers, and how it gets there from another machine.

Events are files first (`adapters.hub_events`): nothing is lost while the service is down.
"""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import httpx

from aiaas_hub.adapters.hub_events import HubEvent, HubEvents, ServerSpan
from aiaas_hub.schemas.audit import Outcome
from aiaas_hub.spawner.profiles import Profile

log = logging.getLogger(__name__)

_PAUSE = 1.0
_LONGEST_PAUSE = 30.0


def tell_of_server(directory: str, user: str, name: str, profile: Profile, *, ended: bool) -> None:
    """For the audit log and for what the user has used. `name` is empty but for named servers."""
    if not directory:
        return
    server = f"{user}/{name}" if name else user
    event = HubEvent(
        actor=user,
        act="server stop" if ended else "server start",
        object=f"servers/{server}",
        owner=user,
        outcome=Outcome.DONE,
        detail={"profile": profile.slug},
        span=ServerSpan(
            server=server,
            profile=profile.slug,
            cpus=profile.cpus,
            gpus=profile.gpus,
            price_per_hour=profile.price_per_hour,
            ended=ended,
        ),
    )
    try:
        HubEvents(Path(directory)).tell(event)
    except OSError as error:
        log.error("%s of %s is not recorded: %s", event.act, server, error)


class Sending:
    """Takes events to a service on another machine, oldest first, for as long as the hub lives."""

    def __init__(self, events: HubEvents, service_url: str, token: str) -> None:
        """`service_url` is that of the service's root, without a slash at its end."""
        self._events = events
        self._address = f"{service_url}/hub-events"
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        self._ended = threading.Event()

    def start(self) -> None:
        threading.Thread(target=self._run, name="hub-events", daemon=True).start()

    def stop(self) -> None:
        self._ended.set()

    def _run(self) -> None:
        pause = _PAUSE
        # `trust_env` off: an HTTP proxy of the environment does not lead to our service.
        with httpx.Client(timeout=10, trust_env=False, headers=self._headers) as client:
            while not self._ended.wait(pause):
                try:
                    self.send(client)
                    pause = _PAUSE
                except (httpx.HTTPError, OSError) as error:
                    if pause == _PAUSE:
                        log.warning("The service is not told of what happens here: %s", error)
                    pause = min(2 * pause, _LONGEST_PAUSE)

    def send(self, client: httpx.Client) -> None:
        """All there is now. Raises `httpx.HTTPError` where the service does not take one: it stays
        where it is."""
        for path, event in self._events.told():
            client.post(self._address, content=event.model_dump_json()).raise_for_status()
            path.unlink(missing_ok=True)
