"""A run's parameters, as its code reads them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from aiaas_hub.schemas.runs import ParamValue
from aiaas_magics.errors import MissingParam


class Params(Mapping[str, ParamValue]):
    """The run's parameters: `ctx.params["lr"]`, `ctx.params.lr`, `ctx.params.get("lr", 0.1)`."""

    def __init__(self, values: Mapping[str, ParamValue]) -> None:
        self._values = dict(values)

    def __getitem__(self, name: str) -> ParamValue:
        try:
            return self._values[name]
        except KeyError:
            known = ", ".join(sorted(self._values)) or "none"
            raise MissingParam(
                f"The run has no parameter {name!r}; it has: {known}.",
                remedy=f"Add `--param {name}=…`, or write ctx.params.get({name!r}, default).",
            ) from None

    def __getattr__(self, name: str) -> ParamValue:
        if name.startswith("_"):
            raise AttributeError(name)
        try:
            return self[name]
        except MissingParam as error:
            raise AttributeError(str(error)) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Params({self._values})"
