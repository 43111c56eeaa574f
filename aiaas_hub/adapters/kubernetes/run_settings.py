"""What an operator says of the pods of runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Object = dict[str, Any]


@dataclass(frozen=True)
class Nodes:
    """Where workers go."""

    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: Sequence[Object] = ()


@dataclass(frozen=True)
class GpuNodes(Nodes):
    """Where workers with GPUs go, and what a GPU is called there."""

    resource: str = "nvidia.com/gpu"
    """Or a slice's: `nvidia.com/mig-1g.10gb`."""


@dataclass(frozen=True)
class RunPods:
    """What an operator says of the pods of runs."""

    namespace: str
    platform: str
    """A label's value: two platforms may share a namespace."""
    image: str
    ray_version: str
    """Of the image; KubeRay wants to know."""
    api_url: str
    """The service as pods reach it, up to …/api/v1."""
    storage_claim: str
    """A ReadWriteMany claim for checkpoints, in the same namespace."""
    worker_memory: str = "4Gi"
    head_cpus: float = 1
    head_memory: str = "4Gi"
    keep_seconds: int = 3600
    """How long a RayJob that is over is kept."""
    queue: str = ""
    """A LocalQueue of Kueue; empty: none."""
    gpus: GpuNodes | None = None
    others: Nodes = field(default_factory=Nodes)
    """Where workers without GPUs go; never heads, which outlive a spot node that is taken away."""
    autoscaled: bool = False
    """Whether a sweep's workers come and go as its trials need them; else they are there for as
    long as it is."""
    idle_seconds: int = 60
    """After which such a worker goes."""
    pull_secrets: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    node_patience_seconds: int = 60
    """After so long a silence of their node pods are given up, and others take their place."""
