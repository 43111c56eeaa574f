"""Refusals in words: what the spawn page and REST answers show instead of a bare number."""

from __future__ import annotations

from typing import Any

from tornado import web

from aiaas_hub.schemas.errors import AiaasError, Forbidden, Unavailable
from aiaas_hub.spawner.quota_left import gpu_hours_used_up


def refusal(error: AiaasError) -> web.HTTPError:
    """Show the sentence on the spawn page and in REST answers."""
    shown = web.HTTPError(error.status, "%s", str(error), reason=type(error).__name__)
    # Where JupyterHub looks for text that may be shown.
    shown.jupyterhub_message = str(error)  # type: ignore[attr-defined]
    return shown


def require_gpu_hours(allowances: Any) -> None:
    """Raise if these say that no GPU-hour is left, or if nobody knows."""
    if allowances is None:
        raise Unavailable(
            "It is not known right now what is left of your GPU-hours.",
            remedy="Choose a profile without GPUs, or try again in a moment.",
        )
    empty = gpu_hours_used_up(allowances)
    if empty is not None:
        raise Forbidden(
            f"You have used {empty.used:.4g} of {empty.limit:.4g} GPU-hours.",
            remedy=f"They renew on {empty.renews_at:%d %B}. Choose a profile without GPUs.",
        )
