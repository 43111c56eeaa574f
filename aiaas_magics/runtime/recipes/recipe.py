"""What a built-in recipe is made of."""

from __future__ import annotations

import difflib
import importlib
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from aiaas_hub.schemas.errors import InvalidInput
from aiaas_magics.runtime.recipes.parameters import Parameters

if TYPE_CHECKING:
    from aiaas_magics.runtime.context import Context

_WORDS: dict[Any, str] = {int: "a whole number", float: "a number", str: "a text"}


@dataclass(frozen=True)
class Recipe:
    """Known to the notebook by its parameters; its training code is imported in the run."""

    name: str
    summary: str
    parameters: type[Parameters]
    data: str
    """What the dataset holds."""
    predict: str
    """How to ask a published model."""
    module: str
    """Where `train(ctx, parameters)` is."""

    def check(self, params: Mapping[str, Any]) -> Parameters:
        """The parameters with their defaults.

        Raises `InvalidInput` for one that the recipe does not have, that is missing or of
        another type.
        """
        known = self.parameters.model_fields
        unknown = next((name for name in params if name not in known), None)
        if unknown is not None:
            raise InvalidInput(
                f"The recipe {self.name} has no parameter {unknown!r}{_near(unknown, known)}.",
                remedy=f"'%aiaas help recipe {self.name}' lists them.",
            )
        try:
            return self.parameters.model_validate(dict(params))
        except ValidationError as error:
            first = error.errors()[0]
            name = str(first["loc"][0])
            if first["type"] == "missing":
                raise InvalidInput(
                    f"The recipe {self.name} needs the parameter {name!r}: "
                    f"{known[name].description}.",
                    remedy=f"Add '--param {name}=…'.",
                ) from None
            raise InvalidInput(
                f"{name}={first['input']!r} does not suit the recipe {self.name}: it is "
                f"{type_of(known[name])} ({known[name].description}).",
                remedy=f"Correct '--param {name}=…'.",
            ) from None

    def check_datasets(self, datasets: Sequence[str]) -> None:
        """Raise `InvalidInput` unless there is the one that it trains on."""
        if len(datasets) != 1:
            raise InvalidInput(
                f"The recipe {self.name} trains on one dataset, and was given "
                f"{len(datasets) or 'none'}: {self.data}",
                remedy="Add '--dataset NAME'." if not datasets else "Give '--dataset' once.",
            )

    def train(self, ctx: Context) -> None:
        """Train as the run's parameters say; each worker calls it once."""
        parameters = self.check(ctx.params)
        importlib.import_module(self.module).train(ctx, parameters)

    def help(self) -> str:
        """The recipe with its parameters, for a reader."""
        fields = self.parameters.model_fields
        required = [name for name, field in fields.items() if field.is_required()]
        shown = "".join(f" --param {name}=…" for name in required)
        width = max(map(len, fields))
        lines = [
            f"{self.name}: {self.summary}",
            "",
            f"  %aiaas train --recipe {self.name} --name NAME --dataset DATASET{shown}",
            "",
            *_filled(f"Dataset: {self.data}"),
            *_filled(f"Predict: {self.predict}"),
            "",
            "Parameters (--param NAME=VALUE):",
        ]
        # What is this recipe's own first, then what all have.
        shared = Parameters.model_fields
        for name in sorted(fields, key=lambda name: (name in shared, name not in required)):
            lines += _described(name, fields[name], width)
        return "\n".join(lines)


def type_of(field: FieldInfo) -> str:
    """A parameter's type and bounds in words."""
    kinds = [field.annotation, *get_args(field.annotation)]
    choice = next((kind for kind in kinds if get_origin(kind) is Literal), None)
    if choice is not None:
        return "one of " + ", ".join(str(value) for value in get_args(choice))
    words = next(_WORDS[kind] for kind in kinds if kind in _WORDS)
    limits = []
    for rule in field.metadata:
        for attribute, sign in (("ge", "≥"), ("gt", ">"), ("le", "≤"), ("lt", "<")):
            limit = getattr(rule, attribute, None)
            if limit is not None:
                limits.append(f"{sign} {limit:g}")
    return " ".join([words, *limits]) if len(limits) < 2 else f"{words} {', '.join(limits)}"


def _described(name: str, field: FieldInfo, width: int) -> list[str]:
    default = "needed" if field.is_required() else f"default {field.default}"
    if not field.is_required() and field.default is None:
        default = "may be left out"
    text = f"{field.description} ({type_of(field)}; {default})"
    return textwrap.wrap(
        text, 96, initial_indent=f"  {name:<{width}}  ", subsequent_indent=" " * (width + 4)
    )


def _filled(text: str) -> list[str]:
    return textwrap.wrap(text, 96, subsequent_indent="  ")


def _near(word: str, known: Iterable[str]) -> str:
    found = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean {found[0]!r}?)" if found else ""
