"""What a definition's schema says of an object, as kubectl and newer servers judge it: a field that
is not in it is an error. A 1.20 server drops it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from .api import Object

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
}


def schema_of(definition: Path, version: str) -> Object:
    """The OpenAPI schema of one version of a CustomResourceDefinition."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    versions = yaml.load(definition.read_text(), loader)["spec"]["versions"]  # noqa: S506 - either loader is a safe one
    found: Object = next(one for one in versions if one["name"] == version)
    schema: Object = found["schema"]["openAPIV3Schema"]
    return schema


def faults(value: Any, schema: Object, path: str = "") -> Iterator[str]:
    """Each a path and what is wrong there."""
    if schema.get("x-kubernetes-int-or-string"):
        if not isinstance(value, int | str):
            yield f"{path}: neither a number nor a text"
        return
    kind = schema.get("type", "object")
    wrong = isinstance(value, bool) and kind != "boolean"
    if wrong or not isinstance(value, _TYPES[kind]):
        yield f"{path}: {value!r} is no {kind}"
        return
    if "enum" in schema and value not in schema["enum"]:
        yield f"{path}: {value!r} is none of {schema['enum']}"
    if kind == "array":
        for position, item in enumerate(value):
            yield from faults(item, schema["items"], f"{path}[{position}]")
    if kind == "object":
        yield from _fields(value, schema, path)


def _fields(value: Object, schema: Object, path: str) -> Iterator[str]:
    known, others = schema.get("properties", {}), schema.get("additionalProperties")
    for name in schema.get("required", []):
        if name not in value:
            yield f"{path}.{name}: missing"
    for name, one in value.items():
        if name in known:
            yield from faults(one, known[name], f"{path}.{name}")
        elif isinstance(others, dict):
            yield from faults(one, others, f"{path}.{name}")
        elif (known or others is False) and not schema.get("x-kubernetes-preserve-unknown-fields"):
            yield f"{path}.{name}: unknown field"
