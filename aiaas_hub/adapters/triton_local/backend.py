"""The files of the backend that we ship, as they lie together where they serve."""

from __future__ import annotations

from importlib import resources


def files() -> dict[str, bytes]:
    """Name → content. `pixels.py` is the notebook's as well, `input_bins.py` the service's: they
    are of the schemas."""
    ours = resources.files(__package__).joinpath("onnxruntime_backend")
    schemas = resources.files("aiaas_hub.schemas")
    shared = [schemas.joinpath(name) for name in ("pixels.py", "input_bins.py")]
    found = [one for one in ours.iterdir() if one.name.endswith(".py")]
    return {one.name: one.read_bytes() for one in (*found, *shared)}
