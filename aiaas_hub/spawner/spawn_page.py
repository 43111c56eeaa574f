"""The spawn page's form: profiles by section, each with what it costs and whether it is free.

Native radio buttons, fieldsets and labels, so that keyboards and screen readers work as they do
everywhere; colours are those of the hub's own style sheet, light or dark.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from aiaas_hub.schemas.usage import Allowance
from aiaas_hub.spawner.profiles import Offer, Option, Profile, resources_text, terms_text

_STYLE = (
    "<style>"
    # A profile's options belong to whoever chose it; without :has all of them are shown.
    "@supports selector(:has(a)){.aiaas-options{display:none}"
    ".aiaas-profile:has(>input:checked)>.aiaas-options{display:block}}"
    "</style>"
)


def options_form(
    offered: Sequence[Offer],
    allowances: Sequence[Allowance] = (),
    expected_seconds: float | None = None,
) -> str:
    """The form's content, all text escaped. `expected_seconds`: how long servers took of late."""
    chosen = _preselected(offered)
    parts = [_STYLE, _now(allowances, expected_seconds)]
    # Sections in the order of the file; a section that comes again is gone on with.
    order = list(dict.fromkeys(offer.profile.section for offer in offered))
    ordered = sorted(offered, key=lambda offer: order.index(offer.profile.section))
    for section, members in groupby(ordered, key=lambda offer: offer.profile.section):
        rows = "".join(_row(offer, offer.profile.slug == chosen) for offer in members)
        parts.append(
            f'<fieldset class="mb-3"><legend class="fs-5">{html.escape(section)}</legend>'
            f"{rows}</fieldset>"
        )
    return "".join(parts)


def form_options(form: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """A sent form as spawn options: the profile and its own options; `choose` judges them."""
    sent = {
        name: values[0] if len(values) == 1 else list(values)
        for name, values in form.items()
        if not name.startswith("_")  # the form's own _xsrf
    }
    profile = sent.get("profile")
    options: dict[str, Any] = {}
    for name, value in sent.items():
        owner, marker, option = name.partition("--")
        if not marker:
            options[name] = value
        elif owner == profile:
            typed = sent.get(f"{owner}--{option}--text")
            if not option.endswith("--text"):
                options[option] = typed or value
    return options


def _preselected(offered: Sequence[Offer]) -> str:
    available = [offer.profile for offer in offered if not offer.unavailable]
    for profile in available:
        if profile.default:
            return profile.slug
    return available[0].slug if available else ""


def _now(allowances: Sequence[Allowance], expected_seconds: float | None) -> str:
    lines = []
    if expected_seconds is not None:
        lines.append(f"Servers of late were ready in about {max(1, round(expected_seconds))} s.")
    for one in allowances:
        left = max(0.0, one.limit - one.used)
        unit = f" {one.unit}" if one.unit else ""
        whose = f" shared by {one.group}" if one.group else ""
        lines.append(f"Left of your {one.name}{whose}: {left:.4g}{unit} of {one.limit:.4g}{unit}.")
    if not lines:
        return ""
    items = "".join(f"<li>{html.escape(line)}</li>" for line in lines)
    return f'<ul class="list-unstyled text-body-secondary" aria-label="Right now">{items}</ul>'


def _row(offer: Offer, checked: bool) -> str:
    profile = offer.profile
    key = f"profile-{profile.slug}"
    state = "disabled" if offer.unavailable else "checked" if checked else ""
    about = [html.escape(profile.description)]
    terms = " · ".join([*terms_text(profile), *([offer.note] if offer.note else [])])
    if terms:
        about.append(html.escape(f"{terms[0].upper()}{terms[1:]}."))
    if offer.unavailable:
        about.append(f"<strong>Not available: {html.escape(offer.unavailable)}.</strong>")
    return (
        f'<div class="form-check mb-3 aiaas-profile">'
        f'<input class="form-check-input" type="radio" name="profile" required'
        f' id="{key}" value="{profile.slug}" aria-describedby="{key}-about" {state}>'
        f'<label class="form-check-label" for="{key}"><strong>{html.escape(profile.name)}'
        f"</strong> — {html.escape(resources_text(profile))}</label>"
        f'<div id="{key}-about" class="form-text">{" ".join(about)}</div>'
        f"{_options(profile)}</div>"
    )


def _options(profile: Profile) -> str:
    if not profile.options:
        return ""
    return (
        '<div class="aiaas-options mt-2">'
        + "".join(_option(profile, option) for option in profile.options)
        + "</div>"
    )


def _option(profile: Profile, option: Option) -> str:
    name = f"{profile.slug}--{option.slug}"
    choices = "".join(
        f'<option value="{choice.slug}"{" selected" if choice.default else ""}>'
        f"{html.escape(choice.name)}</option>"
        for choice in option.choices
    )
    free = ""
    if option.pattern is not None:
        free = (
            f'<label class="form-label mt-1" for="{name}--text">or your own</label>'
            f'<input class="form-control form-control-sm" type="text" id="{name}--text"'
            f' name="{name}--text" maxlength="300" autocomplete="off"'
            f' aria-describedby="{name}--rule"><div class="form-text" id="{name}--rule">'
            f"It must match {html.escape(option.pattern)}</div>"
        )
    return (
        f'<div class="mb-2"><label class="form-label" for="{name}">{html.escape(option.name)}'
        f'</label><select class="form-select form-select-sm" id="{name}" name="{name}">{choices}'
        f"</select>{free}</div>"
    )
