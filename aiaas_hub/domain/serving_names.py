"""What a model is called in Triton."""

from __future__ import annotations

import hashlib
import re

from aiaas_hub.schemas.endpoints import ServingOptions
from aiaas_hub.schemas.models import Signature

_MARK = 8
_NOT_TRITON_S = {"warm_up", "idle_seconds"}
"""Options that a model's configuration does not have."""


def serving_name(
    owner: str, endpoint: str, signature: Signature, options: ServingOptions | None = None
) -> str:
    """The Triton model behind an endpoint.

    Triton keeps one configuration for all versions of a model, so each signature has a model of
    its own, and so have other options: the versions before are served as they were. The hash keeps
    owners apart, whatever their names hold, and begins with the owner's mark.
    """
    # Without what is None, which signatures of before did not have.
    tensors = signature.model_dump_json(exclude={"labels"}, exclude_none=True)
    identity = f"{owner}\0{endpoint}\0{tensors}"
    said = options.model_dump_json(exclude=_NOT_TRITON_S, exclude_none=True) if options else "{}"
    if said != "{}":
        identity += f"\0{said}"
    digest = hashlib.sha256(identity.encode()).hexdigest()[:20]
    slug = re.sub(r"[^a-z0-9]+", "-", endpoint.lower()).strip("-")[:40]
    return f"{slug}-{owner_mark(owner)}{digest}"


def owner_mark(owner: str) -> str:
    """By which all models of an owner are known, and no other owner's on purpose."""
    return hashlib.sha256(owner.encode()).hexdigest()[:_MARK]


def owner_mark_of(model: str) -> str:
    """Of the owner of a model with such a name. Names from before marks were in them have none:
    each then counts as another owner's."""
    return model.rpartition("-")[2][:_MARK]
