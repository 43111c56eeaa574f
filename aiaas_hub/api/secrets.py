"""Users' own credentials for storage: they are set, used and deleted, and never answered."""

from __future__ import annotations

from fastapi import APIRouter

from aiaas_hub.api.identity import Caller, DataWriter, Scope
from aiaas_hub.api.services import DEFAULT_LIMIT, Api, Cursor, Limit
from aiaas_hub.schemas.paging import Page
from aiaas_hub.schemas.secrets import Secret, SecretPut

router = APIRouter(tags=["secrets"])


@router.get("/secrets")
def list_secrets(
    caller: Caller, api: Api, cursor: Cursor = None, limit: Limit = DEFAULT_LIMIT
) -> Page[Secret]:
    """The caller's own, by name, without their values."""
    caller.require(Scope.READ, caller.user)
    return api.secrets.page(caller.user, cursor, limit)


@router.put("/secrets/{owner}/{name}")
def put_secret(owner: str, name: str, body: SecretPut, _: DataWriter, api: Api) -> Secret:
    """Set it, or set it anew."""
    return api.secrets.put(owner, name, body)


@router.delete("/secrets/{owner}/{name}")
def delete_secret(owner: str, name: str, _: DataWriter, api: Api) -> Secret:
    return api.secrets.delete(owner, name)
