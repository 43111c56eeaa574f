"""What a profile means on one machine: processors, memory, GPUs. Pure, but for `confine`."""

from __future__ import annotations

import math
import os
import resource
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from aiaas_hub.schemas.errors import Forbidden
from aiaas_hub.spawner.profiles import GpuKind, Profile

_BYTES = {"M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


@dataclass(frozen=True)
class Held:
    """What another server has now."""

    cores: frozenset[int]
    gpus: Sequence[str]


@dataclass(frozen=True)
class Limits:
    cores: frozenset[int]
    """Processors that the server's processes may run on."""
    memory: int
    """Bytes."""
    gpus: Sequence[str]
    """Ids of whole GPUs."""
    environment: Mapping[str, str]


def local_limits(
    profile: Profile, cores: Sequence[int], gpus: Sequence[str], held: Iterable[Held]
) -> Limits:
    """What a server gets of this machine's `cores` and `gpus`, beside those that others hold.

    Cores are shared where there are too few, the least used ones first; whole GPUs never are.
    Raises `Forbidden` where not enough GPUs are free.
    """
    others = list(held)
    mine = _least_used(profile.cpus, cores, others)
    given = _gpus(profile, gpus, others)
    return Limits(
        cores=mine,
        memory=int(profile.memory[:-1]) * _BYTES[profile.memory[-1]],
        gpus=given,
        environment={
            **thread_environment(profile.cpus, len(cores)),
            # Arrow's allocator reserves a GiB at its first table, and all of it would count as
            # the process's data: half of a small server (microsoft.github.io/mimalloc).
            "MIMALLOC_ARENA_EAGER_COMMIT": "0",
            # Without GPUs in the profile none are visible, however many the machine has.
            "CUDA_VISIBLE_DEVICES": ",".join(given),
            "AIAAS_PROFILE": profile.slug,
        },
    )


def _least_used(cpus: float, cores: Sequence[int], others: Sequence[Held]) -> frozenset[int]:
    count = max(1, min(math.ceil(cpus), len(cores)))
    used = {core: sum(core in one.cores for one in others) for core in cores}
    return frozenset(sorted(cores, key=lambda core: (used[core], core))[:count])


def _gpus(profile: Profile, gpus: Sequence[str], others: Sequence[Held]) -> Sequence[str]:
    if not profile.gpus:
        return ()
    used = {gpu: sum(gpu in one.gpus for one in others) for gpu in gpus}
    if profile.gpu_kind is GpuKind.TIME_SLICED:
        return tuple(sorted(gpus, key=lambda gpu: (used[gpu], gpus.index(gpu)))[: profile.gpus])
    free = [gpu for gpu in gpus if not used[gpu]]
    if len(free) < profile.gpus:
        raise Forbidden(
            f"The profile {profile.slug!r} needs {profile.gpus} of this machine's {len(gpus)} "
            f"GPUs, and {len(free)} of them are free now.",
            remedy="Choose another profile, or wait for somebody to stop their server.",
        )
    return tuple(free[: profile.gpus])


def thread_environment(cpus: float, cores: int) -> dict[str, str]:
    """Environment that keeps numerical libraries within the profile's CPUs.

    `cores` is how many this machine has: more threads than that only get in each other's way.
    """
    threads = str(max(1, min(int(cpus), cores)))
    return {
        "OMP_NUM_THREADS": threads,
        "OPENBLAS_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "NUMEXPR_NUM_THREADS": threads,
        "POLARS_MAX_THREADS": threads,
    }


def confine(limits: Limits, group: Path | None) -> None:
    """Confine this process and all that it will start. Called between fork and exec.

    `group` is a control group (https://docs.kernel.org/admin-guide/cgroup-v2.html) that
    `memory_group` made: its memory is that of all processes together. Without one each process
    by itself may have as much data: less than the profile says, and better than nothing.
    """
    os.sched_setaffinity(0, limits.cores)
    if group is not None:
        (group / "cgroup.procs").write_text(str(os.getpid()))
    else:
        # Not the address space: CUDA and PyTorch reserve much more of that than they use.
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        most = limits.memory if hard == resource.RLIM_INFINITY else min(limits.memory, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (most, hard))


def memory_group(parent: Path, name: str, memory: int) -> Path | None:
    """A control group with this much memory; None where this process may not make one."""
    group = parent / name
    try:
        if "memory" not in (parent / "cgroup.subtree_control").read_text().split():
            return None
        group.mkdir(exist_ok=True)
        (group / "memory.max").write_text(str(memory))
        (group / "memory.swap.max").write_text("0")
    except OSError:
        return None
    return group


def own_control_group() -> Path | None:
    """The control group below which this process may make others, if it was given one.

    A process that has members cannot hand out memory itself, so it is the parent of its own that
    is asked: `systemd-run --user -p Delegate=yes` gives such a tree.
    """
    try:
        line = Path("/proc/self/cgroup").read_text().strip().splitlines()[-1]
    except (OSError, IndexError):
        return None
    path = line.partition("::")[2]
    own = Path("/sys/fs/cgroup") / path.lstrip("/")
    for candidate in (own, own.parent):
        if (candidate / "cgroup.subtree_control").is_file() and os.access(candidate, os.W_OK):
            return candidate
    return None
