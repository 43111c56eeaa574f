"""What both spawners ask before their spawn page and before a start: which profiles there are for
this user, and whether the one that was chosen may be had."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from tornado import web

from aiaas_hub.schemas.errors import AiaasError, Forbidden
from aiaas_hub.spawner.profiles import Chosen, Offer, choose
from aiaas_hub.spawner.quota_left import quota_left
from aiaas_hub.spawner.refusing import refusal, require_gpu_hours


class Offering(Protocol):
    """A JupyterHub spawner with profiles."""

    user: Any
    log: Any

    @property
    def service_api_url(self) -> Any:
        """Where quotas are asked for; empty: nowhere."""

    def offers(self) -> Sequence[Offer]: ...


async def offered(spawner: Offering) -> tuple[Sequence[Offer], Sequence[Any]]:
    """The profiles for the spawn page and what is left of the user's quotas. Raises `HTTPError`."""
    try:
        offers = spawner.offers()
    except Forbidden as error:
        raise refusal(error) from error
    except AiaasError as error:
        spawner.log.error("%s", error)
        raise web.HTTPError(
            503, "The profiles file is broken; the hub's log says where."
        ) from error
    if not spawner.service_api_url:
        return offers, ()
    return offers, await quota_left(spawner.user, spawner.service_api_url) or ()


async def chosen(spawner: Offering, options: Mapping[str, Any]) -> Chosen:
    """What spawn options mean, wherever they come from. Raises `HTTPError` for what may not be had,
    and for GPUs also where nobody knows."""
    try:
        found = choose(spawner.offers(), options)
        if found.profile.gpus and spawner.service_api_url:
            require_gpu_hours(await quota_left(spawner.user, spawner.service_api_url))
    except AiaasError as error:
        raise refusal(error) from error
    return found
