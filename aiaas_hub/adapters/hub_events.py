"""What the hub tells the service: a directory that one writes files into and the other empties.

Files, not requests: the hub goes on while the service is down, and nothing that it told is lost
with either of them. A file is written aside, fsynced and renamed; it is removed when its content is
in the records, where its id makes a repeat harmless.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, Field, ValidationError

from aiaas_hub.domain.auditing import Act, AuditRecords
from aiaas_hub.home import write_private
from aiaas_hub.schemas.audit import Outcome, Via
from aiaas_hub.schemas.errors import InvalidInput

log = logging.getLogger(__name__)


class ServerSpan(BaseModel):
    """A notebook server that began or ended."""

    server: str
    """Its user and, for a named one, its name."""
    profile: str
    cpus: float
    gpus: float
    price_per_hour: float
    ended: bool = False


class HubEvent(BaseModel):
    id: str = Field(default_factory=lambda: f"hub-{secrets.token_hex(8)}")
    at: datetime = Field(default_factory=lambda: datetime.now(UTC))
    actor: str
    act: str
    object: str
    owner: str
    outcome: Outcome
    origin: str = ""
    detail: dict[str, str | int] = {}
    span: ServerSpan | None = None


class HubEvents:
    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def tell(self, event: HubEvent) -> None:
        """On disk when this returns; raises `OSError` where that is not possible."""
        # In the order of telling, as far as clocks go.
        name = f"{time.time_ns():020}-{event.id}.json"
        write_private(self._directory / name, event.model_dump_json())

    def keep(self, event: bytes) -> None:
        """One that another machine's hub told, as JSON. Raises `InvalidInput` for what is none."""
        try:
            self.tell(HubEvent.model_validate_json(event))
        except ValidationError as error:
            raise InvalidInput(
                "That is no event of a hub that this service knows.",
                remedy="Hub and service are of the same release.",
            ) from error

    def told(self) -> Iterator[tuple[Path, HubEvent]]:
        """Oldest first, each with the file to remove when it has been taken in."""
        for path in sorted(self._directory.glob("*.json")):
            try:
                yield path, HubEvent.model_validate_json(path.read_bytes())
            except ValidationError:
                # Of a newer release, say: kept for whoever looks, and out of the way.
                log.exception("%s is no event of the hub that this service knows", path)
                path.rename(path.with_suffix(".unknown"))
            except FileNotFoundError:
                continue


def take_in(
    events: HubEvents, audit: AuditRecords, keep: Callable[[ServerSpan, HubEvent], None]
) -> None:
    """Bring what was told into the records. `keep` is given servers that began or ended; it may be
    given one twice."""
    for path, event in events.told():
        if event.span is not None:
            keep(event.span, event)
        audit.append(
            Act(
                actor=event.actor,
                via=Via.HUB,
                act=event.act,
                object=event.object,
                owner=event.owner,
                outcome=event.outcome,
                request_id=event.id,
                origin=event.origin,
                detail={"at": event.at.isoformat(timespec="seconds"), **event.detail},
            ),
            once=True,
        )
        path.unlink(missing_ok=True)
