"""What the service says that is left of a user's quotas, for the spawn page and for spawning."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import httpx
from pydantic import TypeAdapter, ValidationError

from aiaas_hub.schemas.usage import Allowance

log = logging.getLogger(__name__)

_SECONDS = 3
_ALLOWANCES = TypeAdapter(list[Allowance])


async def quota_left(user: Any, api_url: str) -> list[Allowance] | None:
    """Asked with a token of the user's that may read and soon expires; None: nobody answered."""
    token = user.new_api_token(
        note="what is left of the quotas",
        expires_in=60,
        scopes=["custom:aiaas:read!user", "access:services!service=aiaas"],
    )
    # `trust_env` off: an HTTP proxy of the environment does not lead to our service.
    async with httpx.AsyncClient(timeout=_SECONDS, trust_env=False) as client:
        try:
            answer = await client.get(
                f"{api_url}/quotas", headers={"Authorization": f"Bearer {token}"}
            )
            answer.raise_for_status()
            return _ALLOWANCES.validate_json(answer.content)
        except (httpx.HTTPError, ValidationError, asyncio.CancelledError) as error:
            if isinstance(error, asyncio.CancelledError):
                raise
            log.warning("The service does not say what is left of quotas: %s", error)
            return None


def gpu_hours_used_up(allowances: list[Allowance]) -> Allowance | None:
    for one in allowances:
        if one.name == "GPU-hours" and one.used >= one.limit:
            return one
    return None
