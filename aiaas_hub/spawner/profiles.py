"""Profiles: the sizes of notebook servers, read from one file by every spawner.

`hub_config/profiles.yaml` says what there is. `load_profiles` reads it strictly, `offers` says
what of it this place can give, `choose` resolves a request. Whatever goes wrong in them means
that nothing is spawned.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from aiaas_hub.schemas.errors import Forbidden, InvalidInput

Slug = Annotated[str, StringConstraints(pattern=r"^[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?$")]
Memory = Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]{0,6}[MGT]$")]
Line = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]


class Profile(BaseModel):
    """One size of notebook server."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    slug: Slug
    name: Line
    description: Line
    cpus: float = Field(gt=0, le=1024)
    memory: Memory
    gpus: int = Field(default=0, ge=0, le=64)
    price_per_hour: float = Field(default=0.0, ge=0, le=1e6, allow_inf_nan=False)
    default: bool = False


class Profiles(BaseModel):
    """The whole file: unique slugs, exactly one default."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    profiles: tuple[Profile, ...] = Field(min_length=1, max_length=100)

    @model_validator(mode="after")
    def _consistent(self) -> Profiles:
        slugs = [profile.slug for profile in self.profiles]
        twice = sorted({slug for slug in slugs if slugs.count(slug) > 1})
        if twice:
            raise ValueError(f"slug used twice: {', '.join(twice)}")
        defaults = [profile.slug for profile in self.profiles if profile.default]
        if len(defaults) != 1:
            raise ValueError(
                f"exactly one profile must say `default: true`; these do: "
                f"{', '.join(defaults) or 'none'}"
            )
        return self


@dataclass(frozen=True)
class Capacity:
    """What the place that spawns can give."""

    gpus: int


@dataclass(frozen=True)
class Offer:
    """A profile, and why it cannot be had here (empty: it can)."""

    profile: Profile
    unavailable: str = ""


def load_profiles(path: Path) -> Profiles:
    """Read and check a profiles file; `InvalidInput` says what is wrong and where."""
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidInput(
            f"The profiles file {path} cannot be read: {error.strerror}.",
            remedy="Restore it, or point the hub at another one.",
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidInput(
            f"The profiles file {path} is not YAML: {error}.", remedy="Correct the file."
        ) from error
    try:
        return Profiles.model_validate(data)
    except ValidationError as error:
        raise InvalidInput(
            f"The profiles file {path} is not valid: {_explain(error)}.",
            remedy="Correct the file; its first lines explain the fields.",
        ) from error


def _explain(error: ValidationError) -> str:
    return "; ".join(
        f"{'.'.join(map(str, item['loc'])) or 'the file'}: {item['msg']}" for item in error.errors()
    )


def offers(profiles: Profiles, capacity: Capacity) -> list[Offer]:
    """Every profile, in the file's order, with the reason why it cannot be had here."""
    return [Offer(profile, _unavailable(profile, capacity)) for profile in profiles.profiles]


def _unavailable(profile: Profile, capacity: Capacity) -> str:
    if profile.gpus <= capacity.gpus:
        return ""
    if capacity.gpus == 0:
        return "no NVIDIA GPU on this machine"
    return f"needs {profile.gpus} NVIDIA GPUs, this machine has {capacity.gpus}"


def choose(offered: Sequence[Offer], options: Mapping[str, Any]) -> Profile:
    """The profile that a spawn request means; no request at all means the default.

    `options` is whatever a user sent. `InvalidInput`: it has another shape than
    `{"profile": slug}`. `Forbidden`: there is no such profile, or it cannot be had here.
    """
    unknown = sorted(str(key) for key in options if key != "profile")
    if unknown:
        raise InvalidInput(
            f"Unknown spawn option: {', '.join(unknown)[:200]}.",
            remedy="The only option is `profile`.",
        )
    slug = options.get("profile")
    if slug is None:
        slug = next(offer.profile.slug for offer in offered if offer.profile.default)
    if not isinstance(slug, str):
        raise InvalidInput(
            "The spawn option `profile` must be one name.", remedy=_names_of(offered)
        )
    for offer in offered:
        if offer.profile.slug == slug:
            if offer.unavailable:
                raise Forbidden(
                    f"The profile {slug!r} is not available: {offer.unavailable}.",
                    remedy=_names_of(offered),
                )
            return offer.profile
    raise Forbidden(f"There is no profile {slug[:64]!r}.", remedy=_names_of(offered))


def _names_of(offered: Sequence[Offer]) -> str:
    available = [offer.profile.slug for offer in offered if not offer.unavailable]
    if not available:
        return "No profile is available: ask the administrator."
    return f"Choose one of: {', '.join(available)}."


def thread_environment(profile: Profile, cores: int) -> dict[str, str]:
    """Environment that keeps numerical libraries within the profile's CPUs.

    `cores` is how many this machine has: more threads than that only get in each other's way.
    """
    threads = str(max(1, min(int(profile.cpus), cores)))
    return {
        "OMP_NUM_THREADS": threads,
        "OPENBLAS_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "NUMEXPR_NUM_THREADS": threads,
        "POLARS_MAX_THREADS": threads,
        # Without GPUs in the profile none are visible, however many the machine has.
        "CUDA_VISIBLE_DEVICES": ",".join(map(str, range(profile.gpus))),
    }


def resources_text(profile: Profile) -> str:
    """`1 CPU · 2G memory`: what people compare profiles by."""
    parts = [f"{profile.cpus:g} CPU{'s' if profile.cpus != 1 else ''}", f"{profile.memory} memory"]
    if profile.gpus:
        parts.append(f"{profile.gpus} GPU{'s' if profile.gpus != 1 else ''}")
    return " · ".join(parts)


def options_form(offered: Sequence[Offer]) -> str:
    """The spawn page's choice: one radio button per profile, all text escaped."""
    rows = []
    for offer in offered:
        profile = offer.profile
        key = f"profile-{profile.slug}"
        state = "disabled" if offer.unavailable else "checked" if profile.default else ""
        reason = (
            f" <strong>Not available: {html.escape(offer.unavailable)}.</strong>"
            if offer.unavailable
            else ""
        )
        rows.append(
            f'<div class="form-check mb-3">'
            f'<input class="form-check-input" type="radio" name="profile" required'
            f' id="{key}" value="{profile.slug}" aria-describedby="{key}-about" {state}>'
            f'<label class="form-check-label" for="{key}"><strong>{html.escape(profile.name)}'
            f"</strong> — {html.escape(resources_text(profile))}</label>"
            f'<div id="{key}-about" class="form-text">{html.escape(profile.description)}{reason}'
            f"</div></div>"
        )
    return (
        '<fieldset><legend class="fs-5">How large should your notebook server be?</legend>'
        + "".join(rows)
        + "</fieldset>"
    )


def kubespawner_profile_list(profiles: Profiles) -> list[dict[str, Any]]:
    """The same profiles as KubeSpawner's `profile_list`.

    KubeSpawner renders `display_name` as HTML as it stands, hence the escaping.
    """
    listed: list[dict[str, Any]] = []
    for profile in profiles.profiles:
        override: dict[str, Any] = {
            "cpu_limit": profile.cpus,
            "mem_limit": profile.memory,
            "mem_guarantee": profile.memory,
            "environment": thread_environment(profile, cores=max(1, int(profile.cpus))),
        }
        if profile.gpus:
            override["extra_resource_limits"] = {"nvidia.com/gpu": str(profile.gpus)}
            # The device plugin decides which GPUs a pod sees.
            del override["environment"]["CUDA_VISIBLE_DEVICES"]
        listed.append(
            {
                "slug": profile.slug,
                "display_name": html.escape(profile.name),
                "description": html.escape(f"{resources_text(profile)}. {profile.description}"),
                "default": profile.default,
                "kubespawner_override": override,
            }
        )
    return listed
