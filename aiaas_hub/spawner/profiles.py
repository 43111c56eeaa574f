"""Profiles: the sizes of notebook servers, read from one file by every spawner.

`hub_config/profiles.yaml` says what there is. `load_profiles` reads it strictly, `offers` says
what of it a person can have here, `choose` resolves a request. Whatever goes wrong in them means
that nothing is spawned.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)

from aiaas_hub.adapters.yaml_file import read_yaml
from aiaas_hub.schemas.errors import Forbidden, InvalidInput

_UNITS = {"m": 60, "h": 3600, "d": 86400}
MAX_FREE_TEXT = 300
LEAST_IDLE_LIMIT = timedelta(minutes=5)
"""A busy kernel is noted once a minute, told to the hub once a minute, and looked at once a minute:
with less, a server that is at work would be taken for an idle one."""


def _seconds(value: object) -> object:
    """`90m`, `8h`, `7d` as seconds."""
    match = re.fullmatch(r"([1-9][0-9]{0,4})([mhd])", value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("write a time as 90m, 8h or 7d")
    return timedelta(seconds=int(match[1]) * _UNITS[match[2]])


def _anchored(pattern: str) -> str:
    # KubeSpawner uses `re.match`, and `$` also matches before a last line break.
    if not (pattern.startswith(r"\A") and pattern.endswith(r"\Z")):
        raise ValueError(r"a pattern begins with \A and ends with \Z")
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"it is no regular expression: {error}") from None
    return pattern


Slug = Annotated[str, StringConstraints(pattern=r"^[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?$")]
Memory = Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]{0,6}[MGT]$")]
Line = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
Duration = Annotated[timedelta, BeforeValidator(_seconds)]
Pattern = Annotated[str, StringConstraints(max_length=300), AfterValidator(_anchored)]
Image = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-zA-Z0-9._:/@-]{0,254}$")]
Variable = Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Z0-9_]{0,63}$")]
MountPath = Annotated[str, StringConstraints(pattern=r"^(?:/[a-zA-Z0-9_][a-zA-Z0-9._-]*)+$")]
MigSlice = Annotated[str, StringConstraints(pattern=r"^[1-7]g\.[0-9]{1,3}gb(?:\.me)?$")]

_RESERVED = ("AIAAS_", "JUPYTER", "PATH", "HOME", "USER", "LD_", "PYTHON")
"""Beginnings of variables that the platform or the system sets."""


class GpuKind(StrEnum):
    WHOLE = "whole"
    MIG = "mig"
    """A hardware slice of an NVIDIA GPU."""
    TIME_SLICED = "time-sliced"
    """A whole GPU that several servers use by turns, without isolation of its memory."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Choice(_Strict):
    """One value that an option may have."""

    slug: Slug
    name: Line
    value: str = Field(max_length=300)
    default: bool = False


class Option(_Strict):
    """Something more that people choose: an image, or an environment variable's value."""

    slug: Slug
    name: Line
    sets: Literal["image"] | Variable
    choices: tuple[Choice, ...] = Field(min_length=1, max_length=50)
    pattern: Pattern | None = None
    """People may type a value of their own, if it matches; None: only the choices."""

    @model_validator(mode="after")
    def _consistent(self) -> Option:
        if self.sets.startswith(_RESERVED):
            raise ValueError(f"{self.sets} is the platform's own")
        _unique("choice", [choice.slug for choice in self.choices])
        if sum(choice.default for choice in self.choices) != 1:
            raise ValueError("exactly one choice must say `default: true`")
        return self

    @property
    def default(self) -> Choice:
        return next(choice for choice in self.choices if choice.default)


class Toleration(_Strict):
    """As Kubernetes has it: a taint on which pods of this profile may be."""

    key: Line
    operator: Literal["Equal", "Exists"] = "Equal"
    value: str | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None


class Volume(_Strict):
    """A directory that outlives the server."""

    kind: Literal["home", "group"]
    """`home`: the user's own. `group`: one for each of the user's groups that is named here."""
    path: MountPath
    size: Memory = "10G"
    groups: tuple[Line, ...] = ()
    read_only: bool = False


class Profile(_Strict):
    """One size of notebook server."""

    slug: Slug
    name: Line
    description: Line
    section: Line = "Profiles"
    cpus: float = Field(gt=0, le=1024)
    memory: Memory
    gpus: int = Field(default=0, ge=0, le=64)
    gpu_kind: GpuKind = GpuKind.WHOLE
    mig_slice: MigSlice | None = None
    image: Image | None = None
    node_selector: Mapping[str, str] = {}
    tolerations: tuple[Toleration, ...] = ()
    groups: tuple[Line, ...] = ()
    """Who may have it; empty: everybody."""
    max_lifetime: Duration | None = None
    idle_limit: Duration | None = None
    price_per_hour: float = Field(default=0.0, ge=0, le=1e6, allow_inf_nan=False)
    options: tuple[Option, ...] = Field(default=(), max_length=10)
    volumes: tuple[Volume, ...] = Field(default=(), max_length=10)
    default: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> Profile:
        if self.idle_limit is not None and self.idle_limit < LEAST_IDLE_LIMIT:
            raise ValueError("`idle_limit` is at least 5m: activity is told once a minute")
        if (self.gpu_kind is GpuKind.MIG) != (self.mig_slice is not None):
            raise ValueError("`gpu_kind: mig` and `mig_slice` go together")
        if self.gpu_kind is not GpuKind.WHOLE and not self.gpus:
            raise ValueError(f"`gpu_kind: {self.gpu_kind}` needs `gpus`")
        slugs = [option.slug for option in self.options]
        _unique("option", slugs)
        if "profile" in slugs:
            raise ValueError("no option may be called `profile`")
        _unique("variable or image set", [option.sets for option in self.options])
        _unique("path", [volume.path for volume in self.volumes])
        return self


class Profiles(_Strict):
    """The whole file: unique slugs, exactly one default."""

    profiles: tuple[Profile, ...] = Field(min_length=1, max_length=100)

    @model_validator(mode="after")
    def _consistent(self) -> Profiles:
        _unique("slug", [profile.slug for profile in self.profiles])
        defaults = [profile.slug for profile in self.profiles if profile.default]
        if len(defaults) != 1:
            raise ValueError(
                f"exactly one profile must say `default: true`; these do: "
                f"{', '.join(defaults) or 'none'}"
            )
        return self


def _unique(what: str, names: Sequence[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{what} used twice: {', '.join(twice)}")


@dataclass(frozen=True)
class Capacity:
    """What the place that spawns can give."""

    gpus: int
    """Whole ones."""
    free_gpus: int | None = None
    """Of them; None: nobody knows."""
    mig: bool = False
    """Whether it hands out slices of GPUs."""
    place: str = "this machine"


@dataclass(frozen=True)
class Offer:
    """A profile, and why it cannot be had here (empty: it can)."""

    profile: Profile
    unavailable: str = ""
    note: str = ""
    """What else there is to say of it now."""


@dataclass(frozen=True)
class Chosen:
    """What a spawn request means."""

    profile: Profile
    values: Mapping[str, str] = field(default_factory=dict)
    """What the options set: `image`, or a variable, and its value."""


def load_profiles(path: Path) -> Profiles:
    """Read and check a profiles file; `InvalidInput` says what is wrong and where."""
    return read_yaml(path, Profiles, "profiles")


def offers(
    profiles: Profiles, capacity: Capacity, groups: frozenset[str] = frozenset()
) -> list[Offer]:
    """The profiles that a member of these groups may have, in the file's order, with the reason
    why one cannot be had here. Raises `Forbidden` if there is none."""
    allowed = [
        profile
        for profile in profiles.profiles
        if not profile.groups or groups & set(profile.groups)
    ]
    if not allowed:
        raise Forbidden(
            "No profile is open to you.",
            remedy="Ask an administrator to put you into a group that has one.",
        )
    return [
        Offer(profile, _unavailable(profile, capacity), _note(profile, capacity))
        for profile in allowed
    ]


def _unavailable(profile: Profile, capacity: Capacity) -> str:
    if not profile.gpus:
        return ""
    if profile.gpu_kind is GpuKind.MIG:
        return "" if capacity.mig else f"{capacity.place} hands out no slices of GPUs"
    if capacity.gpus == 0:
        return f"no NVIDIA GPU on {capacity.place}"
    if profile.gpus > capacity.gpus:
        return f"needs {profile.gpus} NVIDIA GPUs, {capacity.place} has {capacity.gpus}"
    if profile.gpu_kind is GpuKind.TIME_SLICED or capacity.free_gpus is None:
        return ""
    if profile.gpus > capacity.free_gpus:
        free = "none is" if not capacity.free_gpus else f"{capacity.free_gpus} are"
        return f"{free} free of {capacity.gpus} NVIDIA GPUs: others' servers use them"
    return ""


def _note(profile: Profile, capacity: Capacity) -> str:
    if not profile.gpus or profile.gpu_kind is not GpuKind.WHOLE or capacity.free_gpus is None:
        return ""
    return f"{capacity.free_gpus} of {capacity.gpus} GPUs free now" if capacity.gpus else ""


def choose(offered: Sequence[Offer], options: Mapping[str, Any]) -> Chosen:
    """What a spawn request means; no request at all means the default profile.

    `options` is whatever a user sent, now or with an earlier start: `{"profile": slug}`, and for
    each of the profile's options its slug with a choice's slug or, where it takes one, a text.
    `InvalidInput`: it has another shape. `Forbidden`: there is no such profile or choice, or it
    cannot be had here.
    """
    profile = _chosen_profile(offered, options.get("profile"))
    known = {option.slug for option in profile.options}
    unknown = sorted(str(key) for key in options if key != "profile" and key not in known)
    if unknown:
        also = f" and, for {profile.slug}, {', '.join(sorted(known))}" if known else ""
        raise InvalidInput(
            f"Unknown spawn option: {', '.join(unknown)[:200]}.",
            remedy=f"There is `profile`{also}: choose again on the spawn page.",
        )
    return Chosen(
        profile,
        {option.sets: _value(option, options.get(option.slug)) for option in profile.options},
    )


def _chosen_profile(offered: Sequence[Offer], slug: object) -> Profile:
    if slug is None:
        # Of those that one may have: the file's default, or else the first.
        slug = next((one.profile.slug for one in offered if one.profile.default), None)
        slug = slug or offered[0].profile.slug
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
    raise Forbidden(
        f"There is no profile {slug[:64]!r}, or not any more.", remedy=_names_of(offered)
    )


def _value(option: Option, given: object) -> str:
    if given is None or given == "":
        return option.default.value
    if not isinstance(given, str) or len(given) > MAX_FREE_TEXT:
        raise InvalidInput(
            f"The spawn option {option.slug!r} must be one short text.", remedy=_choices_of(option)
        )
    for choice in option.choices:
        if choice.slug == given:
            return choice.value
    if option.pattern is not None and given.isprintable() and re.match(option.pattern, given):
        return given
    raise Forbidden(
        f"{given[:64]!r} is no choice of {option.name!r}, or not any more.",
        remedy=_choices_of(option),
    )


def _choices_of(option: Option) -> str:
    names = ", ".join(choice.slug for choice in option.choices)
    own = f", or give what matches {option.pattern}" if option.pattern else ""
    return f"Choose one of: {names}{own}."


def _names_of(offered: Sequence[Offer]) -> str:
    available = [offer.profile.slug for offer in offered if not offer.unavailable]
    if not available:
        return "No profile is available: ask the administrator."
    return f"Choose one of: {', '.join(available)}."


def resources_text(profile: Profile) -> str:
    """`1 CPU · 2G memory`: what people compare profiles by."""
    parts = [f"{profile.cpus:g} CPU{'s' if profile.cpus != 1 else ''}", f"{profile.memory} memory"]
    if profile.gpus:
        plural = "s" if profile.gpus != 1 else ""
        parts.append(
            {
                GpuKind.WHOLE: f"{profile.gpus} GPU{plural}",
                GpuKind.MIG: f"{profile.gpus} GPU slice{plural} ({profile.mig_slice})",
                GpuKind.TIME_SLICED: f"{profile.gpus} shared GPU{plural}",
            }[profile.gpu_kind]
        )
    return " · ".join(parts)


def terms_text(profile: Profile) -> Iterator[str]:
    """What it costs and how long it may last."""
    if profile.price_per_hour:
        yield f"{profile.price_per_hour:g} per hour"
    if profile.max_lifetime is not None:
        yield f"stops after {_duration(profile.max_lifetime)}"
    if profile.idle_limit is not None:
        yield f"stops when idle for {_duration(profile.idle_limit)}"


def _duration(time: timedelta) -> str:
    seconds = int(time.total_seconds())
    for unit, name in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds % unit == 0:
            count = seconds // unit
            return f"{count} {name}{'' if count == 1 else 's'}"
    return f"{seconds} seconds"
