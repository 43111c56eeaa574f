"""A conversation as the one text that a language model was trained on: by its chat template.

The template is a model's own, and so somebody's input: Jinja's sandbox renders it, with what
transformers gives to such templates and nothing else
(https://huggingface.co/docs/transformers/chat_templating). It is rendered where the model is
served, in that model's own process; the notebook renders it too, to compare with transformers. It
is imported by the serving backend, so it imports nothing of ours.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NoReturn

from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

MAX_TEMPLATE_BYTES = 256 << 10
_MAX_RENDERED = 4 << 20
"""Characters of a conversation: more has no model's context."""

Messages = Sequence[Mapping[str, str]]


class ChatTemplate:
    """Raises `ValueError` for what is no template."""

    def __init__(self, source: str, special_tokens: Mapping[str, str]) -> None:
        """`special_tokens`: what the template calls by names such as `bos_token`."""
        if len(source.encode()) > MAX_TEMPLATE_BYTES:
            raise ValueError(f"the chat template has more than {MAX_TEMPLATE_BYTES >> 10} KiB")
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _refuse
        environment.globals["strftime_now"] = _now
        try:
            self._template = environment.from_string(source)
        except TemplateError as error:
            raise ValueError(f"the chat template does not compile: {error}") from None
        self._special_tokens = dict(special_tokens)

    def render(self, messages: Messages) -> str:
        """The conversation up to where the assistant speaks. Raises `ValueError` where the
        template refuses it, as for roles that do not alternate."""
        try:
            text = ""
            for part in self._template.generate(
                messages=[dict(message) for message in messages],
                tools=None,
                documents=None,
                add_generation_prompt=True,
                **self._special_tokens,
            ):
                text += part
                if len(text) > _MAX_RENDERED:
                    raise ValueError(f"the conversation has more than {_MAX_RENDERED:,} characters")
        except ValueError:
            raise
        except Exception as error:  # whatever an expression of the template runs into
            raise ValueError(f"the chat template refuses the messages: {error}") from None
        return text


def _to_json(value: Any, ensure_ascii: bool = False, indent: int | None = None) -> str:
    """Not Jinja's own, which escapes for HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent)


def _refuse(message: str) -> NoReturn:
    raise TemplateError(message)


def _now(form: str) -> str:
    """By the local clock, as transformers has it."""
    return datetime.now().strftime(form)
