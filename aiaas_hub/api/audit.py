"""Reading the audit log."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query

from aiaas_hub.api.identity import Caller, Scope
from aiaas_hub.api.services import DEFAULT_LIMIT, Api, Cursor, Limit
from aiaas_hub.domain.auditing import AuditFilter
from aiaas_hub.schemas.audit import AuditEntry, Outcome
from aiaas_hub.schemas.errors import InvalidInput
from aiaas_hub.schemas.paging import Page

router = APIRouter(tags=["audit"])

Text = Annotated[str | None, Query(max_length=300)]
Moment = Annotated[datetime | None, Query(description="ISO 8601 with its time zone")]


@router.get("/audit")
def list_audit(
    caller: Caller,
    api: Api,
    owner: Text = None,
    actor: Text = None,
    act: Text = None,
    object: Annotated[  # noqa: A002 - the entry's field
        str | None, Query(max_length=300, description="Its beginning, such as `runs/`")
    ] = None,
    outcome: Outcome | None = None,
    since: Moment = None,
    until: Moment = None,
    cursor: Cursor = None,
    limit: Limit = DEFAULT_LIMIT,
) -> Page[AuditEntry]:
    """Newest first: of everything for administrators, for others of what was done to their own
    objects."""
    if owner is None and not caller.reads_all:
        owner = caller.user
    if owner is not None:
        caller.require(Scope.READ, owner)
    for moment in (since, until):
        if moment is not None and moment.tzinfo is None:
            raise InvalidInput("A moment needs its time zone.", remedy="2026-01-31T12:00:00Z")
    for text in (owner, actor, act, object):
        if text is not None and "\0" in text:
            raise InvalidInput("No entry holds such a character.", remedy="Leave it out.")
    which = AuditFilter(
        owner=owner,
        actor=actor,
        act=act,
        object=object,
        outcome=outcome,
        since=since,
        until=until,
    )
    return api.audit.page(which, cursor, limit)
