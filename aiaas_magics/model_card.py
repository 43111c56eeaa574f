"""The card of a model: what its owner says of it."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import ValidationError

from aiaas_hub.schemas.models import Card
from aiaas_magics.errors import invalid


def card(
    description: str | None,
    licence: str | None,
    metrics: Mapping[str, float] | None,
    before: Card | None = None,
) -> Card:
    """What is given, over what was said before. Raises `InvalidInput`."""
    said = {"description": description, "licence": licence, "metrics": metrics}
    given = {name: value for name, value in said.items() if value is not None}
    try:
        return Card.model_validate({**(before or Card()).model_dump(), **given})
    except ValidationError as error:
        raise invalid(error) from error
