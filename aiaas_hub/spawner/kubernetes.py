"""Profiles as KubeSpawner takes them. Pure: whole objects in, whole objects out.

KubeSpawner renders `display_name` as HTML as it stands, hence the escaping. An empty
`profile_list` makes it spawn its base configuration: whoever has no profile is refused instead.
"""

from __future__ import annotations

import hashlib
import html
import re
from collections.abc import Sequence
from typing import Any

from aiaas_hub.spawner.limits import thread_environment
from aiaas_hub.spawner.profiles import (
    Capacity,
    GpuKind,
    Option,
    Profile,
    Profiles,
    Volume,
    offers,
    resources_text,
    terms_text,
)

CLUSTER = Capacity(gpus=64, mig=True, place="this cluster")
"""What a cluster has, its scheduler knows: it explains what fits no node."""


def gpu_resource(profile: Profile) -> str:
    """The extended resource that NVIDIA's device plugin gives for a profile's GPUs
    (https://github.com/NVIDIA/k8s-device-plugin)."""
    if profile.gpu_kind is GpuKind.MIG:
        return f"nvidia.com/mig-{profile.mig_slice}"
    if profile.gpu_kind is GpuKind.TIME_SLICED:
        return "nvidia.com/gpu.shared"
    return "nvidia.com/gpu"


def profile_list(profiles: Profiles, groups: frozenset[str] = frozenset()) -> list[dict[str, Any]]:
    """`KubeSpawner.profile_list` for a member of these groups.

    Raises `Forbidden` if it is empty.
    """
    allowed = [offer.profile for offer in offers(profiles, CLUSTER, groups)]
    has_default = any(profile.default for profile in allowed)
    return [
        _entry(profile, groups, profile.default if has_default else position == 0)
        for position, profile in enumerate(allowed)
    ]


def _entry(profile: Profile, groups: frozenset[str], is_default: bool) -> dict[str, Any]:
    terms = " · ".join(terms_text(profile))
    about = f"{resources_text(profile)}. {profile.description}" + (f" {terms}." if terms else "")
    entry: dict[str, Any] = {
        "slug": profile.slug,
        "display_name": html.escape(profile.name),
        "description": html.escape(about),
        "default": is_default,
        "kubespawner_override": overrides(profile, groups),
    }
    if profile.options:
        entry["profile_options"] = {
            option.slug: _profile_option(option) for option in profile.options
        }
    return entry


def overrides(profile: Profile, groups: frozenset[str] = frozenset()) -> dict[str, Any]:
    """KubeSpawner's settings for one profile."""
    found: dict[str, Any] = {
        "cpu_limit": profile.cpus,
        "mem_limit": profile.memory,
        "mem_guarantee": profile.memory,
        "environment": {
            **thread_environment(profile.cpus, cores=max(1, int(profile.cpus))),
            "AIAAS_PROFILE": profile.slug,
        },
    }
    if profile.gpus:
        # The device plugin decides which GPUs a pod sees.
        found["extra_resource_limits"] = {gpu_resource(profile): str(profile.gpus)}
    else:
        found["environment"]["CUDA_VISIBLE_DEVICES"] = ""
    if profile.image is not None:
        found["image"] = profile.image
    if profile.node_selector:
        found["node_selector"] = dict(profile.node_selector)
    if profile.tolerations:
        found["tolerations"] = [one.model_dump(exclude_none=True) for one in profile.tolerations]
    volumes, mounts = _volumes(profile.volumes, groups)
    if volumes:
        found |= {"volumes": volumes, "volume_mounts": mounts}
    return found


def claim_name(group: str) -> str:
    """The claim of a group's volume: a name that Kubernetes takes, another one for each group."""
    slug = re.sub(r"[^a-z0-9]+", "-", group.lower()).strip("-")[:40]
    return f"group-{slug}-{hashlib.sha256(group.encode()).hexdigest()[:10]}".replace("--", "-")


def _volumes(
    wanted: Sequence[Volume], groups: frozenset[str]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    volumes: list[dict[str, Any]] = []
    mounts: list[dict[str, Any]] = []
    for volume in wanted:
        if volume.kind == "home":
            # KubeSpawner's own templates: a claim per user.
            named = [("home", "claim-{user_server}", volume.path)]
        else:
            named = [
                (name := claim_name(group), name, f"{volume.path}/{group}")
                for group in volume.groups
                if group in groups
            ]
        for name, claim, path in named:
            volumes.append({"name": name, "persistentVolumeClaim": {"claimName": claim}})
            mount: dict[str, Any] = {"name": name, "mountPath": path}
            if volume.read_only:
                mount["readOnly"] = True
            mounts.append(mount)
    return volumes, mounts


def _profile_option(option: Option) -> dict[str, Any]:
    def override(value: str) -> dict[str, Any]:
        return {"image": value} if option.sets == "image" else {"environment": {option.sets: value}}

    found: dict[str, Any] = {
        "display_name": html.escape(option.name),
        "choices": {
            choice.slug: {
                "display_name": html.escape(choice.name),
                "default": choice.default,
                "kubespawner_override": override(choice.value),
            }
            for choice in option.choices
        },
    }
    if option.pattern is not None:
        found["unlisted_choice"] = {
            "enabled": True,
            "display_name": html.escape(option.name),
            "display_name_in_choices": "Other…",
            "validation_regex": option.pattern,
            "validation_message": html.escape(f"It must match {option.pattern}"),
            "kubespawner_override": override("{value}"),
        }
    return found
