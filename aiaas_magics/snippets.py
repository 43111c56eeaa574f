"""Programs to copy that call an endpoint, in the languages of those who call.

Each reads its key from the environment variable AIAAS_KEY, sends one row, of zeros, a text or a
file beside it, and prints which version answered and what. Needs nothing but what comes with the
language.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable

from aiaas_hub.schemas.errors import InvalidInput
from aiaas_hub.schemas.models import Signature, TensorSpec
from aiaas_magics import file_snippets, generation_snippets
from aiaas_magics import snippet_answers as answers

_TYPES = {
    "bool": "BOOL",
    "uint8": "UINT8",
    **{f"int{bits}": f"INT{bits}" for bits in (8, 16, 32, 64)},
    **{f"float{bits}": f"FP{bits}" for bits in (16, 32, 64)},
    "string": "BYTES",
}
_MOST_VALUES = 2000
"""A shell takes no longer command."""


def snippet(language: str, url: str, name: str, signature: Signature) -> str:
    """Raises `InvalidInput` for a language that there is none in."""
    write = LANGUAGES.get(language.lower())
    if write is None:
        raise InvalidInput(
            f"There is no snippet in {language!r}.", remedy=f"There are {', '.join(LANGUAGES)}."
        )
    if signature.generates:
        return generation_snippets.PROGRAMS[language.lower()](f"{url}/v1", name)
    address = f"{url}/v2/models/{name}/infer"
    if signature.takes_image:
        return file_snippets.PROGRAMS[language.lower()](address, signature.inputs[0].name)
    return write(address, signature.inputs)


def _shape(spec: TensorSpec) -> list[int]:
    """Of one row; a free dimension is 1."""
    return [1, *(dim or 1 for dim in spec.shape)]


def _zero(spec: TensorSpec) -> str:
    """As JSON."""
    return {"bool": "false", "string": '"I loved it"'}.get(spec.dtype, "0")


def _head(spec: TensorSpec) -> str:
    """The tensor's JSON up to its data."""
    fields = {"name": spec.name, "shape": _shape(spec), "datatype": _TYPES[spec.dtype]}
    return f'{json.dumps(fields)[:-1]}, "data": ['


def _python(address: str, inputs: list[TensorSpec]) -> str:
    tensors = "\n".join(
        f'        {{"name": {json.dumps(spec.name)}, "shape": {_shape(spec)}, '
        f'"datatype": "{_TYPES[spec.dtype]}",\n'
        f'         "data": [{json.loads(_zero(spec))!r}] * {math.prod(_shape(spec))}}},'
        for spec in inputs
    )
    return f'''import json
import os
import urllib.request

body = {{
    "inputs": [
{tensors}
    ]
}}
request = urllib.request.Request(
    "{address}",
    json.dumps(body).encode(),
    {{"Authorization": f"Bearer {{os.environ['AIAAS_KEY']}}", "Content-Type": "application/json"}},
)
{answers.PYTHON}'''


def _curl(address: str, inputs: list[TensorSpec]) -> str:
    count = sum(math.prod(_shape(spec)) for spec in inputs)
    if count > _MOST_VALUES:
        raise InvalidInput(
            f"One row has {count} values, too many for a command line.",
            remedy="Take python or javascript, or send the body from a file.",
        )
    tensors = ", ".join(
        _head(spec) + ", ".join([_zero(spec)] * math.prod(_shape(spec))) + "]}" for spec in inputs
    )
    return f"""curl --silent --show-error --include "{address}" \\
  --header "Authorization: Bearer $AIAAS_KEY" --header "Content-Type: application/json" \\
  --data-binary @- <<'JSON'
{{"inputs": [{tensors}]}}
JSON
"""


def _javascript(address: str, inputs: list[TensorSpec]) -> str:
    tensors = "\n".join(
        f"    {{name: {json.dumps(spec.name)}, shape: {_shape(spec)}, datatype: "
        f'"{_TYPES[spec.dtype]}", data: Array({math.prod(_shape(spec))}).fill({_zero(spec)})}},'
        for spec in inputs
    )
    return f"""const body = {{
  inputs: [
{tensors}
  ],
}};
(async () => {{
  const response = await fetch("{address}", {{
    method: "POST",
    headers: {{
      Authorization: `Bearer ${{process.env.AIAAS_KEY}}`,
      "Content-Type": "application/json",
    }},
    body: JSON.stringify(body),
  }});
{answers.JAVASCRIPT}"""


def _joined(inputs: list[TensorSpec], zeros: Callable[[str, int], str]) -> str:
    """The body as string literals of C's kind, joined with `+`."""
    parts = [json.dumps('{"inputs": [')]
    for position, spec in enumerate(inputs):
        parts.append(json.dumps(("" if position == 0 else ", ") + _head(spec)))
        parts.append(zeros(_zero(spec), math.prod(_shape(spec))))
        parts.append(json.dumps("]}"))
    return " +\n            ".join([*parts, json.dumps("]}")])


def _java(address: str, inputs: list[TensorSpec]) -> str:
    body = _joined(
        inputs,
        lambda zero, count: f'String.join(",", Collections.nCopies({count}, {json.dumps(zero)}))',
    )
    return answers.java_posting(address, f"\n            {body}", "java.util.Collections")


def _go(address: str, inputs: list[TensorSpec]) -> str:
    body = _joined(
        inputs,
        lambda zero, count: (
            f"strings.Repeat({json.dumps(zero + ',')}, {count - 1}) + {json.dumps(zero)}"
        ),
    ).replace("\n            ", "\n\t\t")
    return answers.go_posting(address, body)


LANGUAGES: dict[str, Callable[[str, list[TensorSpec]], str]] = {
    "python": _python,
    "curl": _curl,
    "javascript": _javascript,
    "java": _java,
    "go": _go,
}
"""Language → its program, from the address and the inputs."""
