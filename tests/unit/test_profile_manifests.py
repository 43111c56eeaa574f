"""Profiles as KubeSpawner takes them, whole, and as limits of one machine."""

from __future__ import annotations

import ctypes
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from aiaas_hub.schemas.errors import Forbidden
from aiaas_hub.spawner import gpus as gpus_module
from aiaas_hub.spawner.kubernetes import claim_name, profile_list
from aiaas_hub.spawner.limits import Held, Limits, confine, local_limits, memory_group
from aiaas_hub.spawner.profiles import Profile, Profiles

SMALL: dict[str, Any] = {
    "slug": "small",
    "name": "<Small>",
    "description": "For a start.",
    "cpus": 1,
    "memory": "2G",
    "default": True,
}
EVERYTHING: dict[str, Any] = {
    "slug": "gpu",
    "name": "GPU",
    "section": "GPUs",
    "description": "For more.",
    "cpus": 4,
    "memory": "16G",
    "gpus": 2,
    "gpu_kind": "mig",
    "mig_slice": "1g.10gb",
    "image": "registry.example/singleuser:1.2",
    "node_selector": {"gpu": "a100"},
    "tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}],
    "groups": ["research", "teachers"],
    "max_lifetime": "8h",
    "idle_limit": "90m",
    "price_per_hour": 2.5,
    "options": [
        {
            "slug": "image",
            "name": "Image",
            "sets": "image",
            "pattern": r"\Aregistry\.example/[a-z]+:[0-9.]+\Z",
            "choices": [
                {"slug": "torch", "name": "PyTorch", "value": "i/torch:1", "default": True},
                {"slug": "jax", "name": "<JAX>", "value": "i/jax:1"},
            ],
        },
        {
            "slug": "mode",
            "name": "Mode",
            "sets": "MODE",
            "choices": [{"slug": "fast", "name": "Fast", "value": "1", "default": True}],
        },
    ],
    "volumes": [
        {"kind": "home", "path": "/home/jovyan"},
        {"kind": "group", "path": "/shared", "groups": ["research", "x"], "read_only": True},
    ],
}
THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "POLARS_MAX_THREADS",
)


def profiles(*entries: dict[str, Any]) -> Profiles:
    return Profiles.model_validate({"profiles": list(entries)})


def profile(**changes: Any) -> Profile:
    return Profile.model_validate({**SMALL, **changes})


def test_the_plain_profile_whole() -> None:
    assert profile_list(profiles(SMALL, EVERYTHING)) == [
        {
            "slug": "small",
            "display_name": "&lt;Small&gt;",
            "description": "1 CPU · 2G memory. For a start.",
            "default": True,
            "kubespawner_override": {
                "cpu_limit": 1,
                "mem_limit": "2G",
                "mem_guarantee": "2G",
                "environment": dict.fromkeys(THREADS, "1")
                | {"AIAAS_PROFILE": "small", "CUDA_VISIBLE_DEVICES": ""},
            },
        }
    ]


def test_the_fullest_profile_whole() -> None:
    group = claim_name("research")
    [_, made] = profile_list(profiles(SMALL, EVERYTHING), frozenset({"research"}))
    assert made == {
        "slug": "gpu",
        "display_name": "GPU",
        "description": "4 CPUs · 16G memory · 2 GPU slices (1g.10gb). For more. "
        "2.5 per hour · stops after 8 hours · stops when idle for 90 minutes.",
        "default": False,
        "kubespawner_override": {
            "cpu_limit": 4,
            "mem_limit": "16G",
            "mem_guarantee": "16G",
            "environment": dict.fromkeys(THREADS, "4") | {"AIAAS_PROFILE": "gpu"},
            "extra_resource_limits": {"nvidia.com/mig-1g.10gb": "2"},
            "image": "registry.example/singleuser:1.2",
            "node_selector": {"gpu": "a100"},
            "tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}],
            "volumes": [
                {"name": "home", "persistentVolumeClaim": {"claimName": "claim-{user_server}"}},
                {"name": group, "persistentVolumeClaim": {"claimName": group}},
            ],
            "volume_mounts": [
                {"name": "home", "mountPath": "/home/jovyan"},
                {"name": group, "mountPath": "/shared/research", "readOnly": True},
            ],
        },
        "profile_options": {
            "image": {
                "display_name": "Image",
                "choices": {
                    "torch": {
                        "display_name": "PyTorch",
                        "default": True,
                        "kubespawner_override": {"image": "i/torch:1"},
                    },
                    "jax": {
                        "display_name": "&lt;JAX&gt;",
                        "default": False,
                        "kubespawner_override": {"image": "i/jax:1"},
                    },
                },
                "unlisted_choice": {
                    "enabled": True,
                    "display_name": "Image",
                    "display_name_in_choices": "Other…",
                    "validation_regex": r"\Aregistry\.example/[a-z]+:[0-9.]+\Z",
                    "validation_message": r"It must match \Aregistry\.example/[a-z]+:[0-9.]+\Z",
                    "kubespawner_override": {"image": "{value}"},
                },
            },
            "mode": {
                "display_name": "Mode",
                "choices": {
                    "fast": {
                        "display_name": "Fast",
                        "default": True,
                        "kubespawner_override": {"environment": {"MODE": "1"}},
                    }
                },
            },
        },
    }


@pytest.mark.parametrize(
    ("changes", "resource_name"),
    [
        ({"gpus": 1}, "nvidia.com/gpu"),
        ({"gpus": 1, "gpu_kind": "time-sliced"}, "nvidia.com/gpu.shared"),
        ({"gpus": 1, "gpu_kind": "mig", "mig_slice": "3g.40gb"}, "nvidia.com/mig-3g.40gb"),
    ],
)
def test_each_kind_of_gpu_has_its_resource(changes: dict[str, Any], resource_name: str) -> None:
    [made] = profile_list(profiles({**SMALL, **changes}))
    assert made["kubespawner_override"]["extra_resource_limits"] == {resource_name: "1"}


def test_nobody_without_a_profile_gets_the_base_configuration() -> None:
    closed = profiles({**SMALL, "groups": ["staff"]})
    with pytest.raises(Forbidden, match="No profile is open to you"):
        profile_list(closed, frozenset({"students"}))
    assert profile_list(closed, frozenset({"staff"}))


def test_who_may_not_have_the_default_gets_another_one() -> None:
    both = profiles({**SMALL, "groups": ["staff"]}, {**EVERYTHING, "groups": []})
    assert [one["default"] for one in profile_list(both)] == [True]


def test_kubespawner_takes_the_list_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own checks of a profile list and of what a user sends."""
    from kubespawner import KubeSpawner

    # No cluster is asked for anything.
    monkeypatch.setattr("kubespawner.spawner.load_config", lambda **_: None)
    monkeypatch.setattr("kubespawner.spawner.shared_client", lambda _: None)

    made = profile_list(profiles(SMALL, EVERYTHING), frozenset({"research"}))
    spawner = KubeSpawner(_mock=True)
    spawner.profile_list = made
    initialized = spawner._get_initialized_profile_list(made)
    spawner.user_options = {"profile": "gpu", "image": "jax", "mode": "fast"}
    spawner._validate_user_options(initialized)
    for sent in ("evil/x:1", "registry.example/a:1\n", "x registry.example/a:1"):
        spawner.user_options = {"profile": "gpu", "image--unlisted-choice": sent}
        with pytest.raises(ValueError, match="validation regex"):
            spawner._validate_user_options(initialized)


def test_group_claims_have_names_that_kubernetes_takes_and_never_meet() -> None:
    names = [claim_name(group) for group in ("a b", "a-b", "A-B", "ä" * 90, "../x", "")]
    assert len(set(names)) == len(names)
    for name in names:
        assert len(name) <= 63
        assert name.replace("-", "").isalnum()
        assert name.isascii()


def test_cores_are_the_least_used_and_threads_follow() -> None:
    held = [Held(frozenset({0, 1}), ()), Held(frozenset({0}), ())]
    limits = local_limits(profile(cpus=2), [0, 1, 2, 3], [], held)
    assert limits.cores == {2, 3}
    assert local_limits(profile(cpus=3), [0, 1, 2, 3], [], held).cores == {1, 2, 3}
    few = local_limits(profile(cpus=8), [0, 1], [], held)
    assert few.cores == {0, 1}
    assert few.environment["OMP_NUM_THREADS"] == "2"
    assert limits.memory == 2 << 30
    assert limits.environment["CUDA_VISIBLE_DEVICES"] == ""


def test_whole_gpus_are_never_shared_and_sliced_ones_evenly() -> None:
    gpus = ["GPU-a", "GPU-b", "GPU-c"]
    held = [Held(frozenset(), ("GPU-a",))]
    assert local_limits(profile(gpus=1), [0], gpus, held).gpus == ("GPU-b",)
    two = local_limits(profile(gpus=2), [0], gpus, held)
    assert two.environment["CUDA_VISIBLE_DEVICES"] == "GPU-b,GPU-c"
    with pytest.raises(Forbidden, match=r"needs 3 of this machine's 3 GPUs, and 2 of them are"):
        local_limits(profile(gpus=3), [0], gpus, held)
    sliced = profile(gpus=1, gpu_kind="time-sliced")
    all_held = [Held(frozenset(), (gpu,)) for gpu in ("GPU-a", "GPU-a", "GPU-b")]
    assert local_limits(sliced, [0], gpus, all_held).gpus == ("GPU-c",)
    assert local_limits(sliced, [0], gpus, [*all_held, Held(frozenset(), gpus)]).gpus == ("GPU-c",)


def test_a_confined_process_and_its_children_keep_to_their_limits() -> None:
    core = min(os.sched_getaffinity(0))
    limits = Limits(frozenset({core}), 256 << 20, (), {})
    code = (
        "import os, subprocess, sys\n"
        "own = sys.argv[1:]\n"
        "if not own:\n"
        "    sys.exit(subprocess.call([sys.executable, '-c', sys.orig_argv[2], 'child']))\n"
        f"assert os.sched_getaffinity(0) == {{{core}}}\n"
        "try:\n"
        "    bytearray(512 << 20)\n"
        "except MemoryError:\n"
        "    sys.exit(7)\n"
    )
    child = subprocess.run(
        [sys.executable, "-c", code], preexec_fn=lambda: confine(limits, None), check=False
    )
    assert child.returncode == 7
    assert resource.getrlimit(resource.RLIMIT_DATA) != (256 << 20, 256 << 20)


def test_what_arrow_only_reserves_is_no_memory_of_a_server() -> None:
    limits = local_limits(profile(), [0], [], [])
    code = (
        "import pathlib, re\n"
        "import pyarrow\n"
        "kept = pyarrow.table({'a': [1, 2, 3]})\n"
        "status = pathlib.Path('/proc/self/status').read_text()\n"
        "print(re.search(r'VmData:\\s+(\\d+) kB', status)[1])\n"
    )
    environment = {**os.environ, **limits.environment}
    counted = subprocess.check_output([sys.executable, "-c", code], env=environment)
    assert 0 < int(counted) << 10 < 512 << 20


def test_a_control_group_is_made_only_where_memory_is_handed_out(tmp_path: Path) -> None:
    assert memory_group(tmp_path, "a", 1) is None  # no control group at all
    (tmp_path / "cgroup.subtree_control").write_text("cpu pids\n")
    assert memory_group(tmp_path, "a", 1) is None
    (tmp_path / "cgroup.subtree_control").write_text("cpu memory pids\n")
    group = memory_group(tmp_path, "a", 1 << 30)
    assert group is not None
    assert (group / "memory.max").read_text() == str(1 << 30)


class Nvml:
    """A driver with two GPUs, of which the second has fallen off the bus."""

    def __init__(self, _name: str) -> None: ...

    def nvmlInit_v2(self) -> int:  # noqa: N802 - NVML's names
        return 0

    nvmlShutdown = nvmlInit_v2  # noqa: N815 - likewise

    def nvmlDeviceGetCount_v2(self, count: Any) -> int:  # noqa: N802 - likewise
        ctypes.cast(count, ctypes.POINTER(ctypes.c_uint))[0] = 2
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, index: int, _handle: Any) -> int:  # noqa: N802
        return 0 if index == 0 else 15

    def nvmlDeviceGetUUID(self, _handle: Any, text: Any, _size: int) -> int:  # noqa: N802
        text.value = b"GPU-one"
        return 0


def test_gpus_are_those_of_the_drivers_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpus_module.ctypes, "CDLL", Nvml)
    assert gpus_module.nvidia_gpus() == ["GPU-one"]
