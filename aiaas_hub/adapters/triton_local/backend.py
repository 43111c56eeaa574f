"""The files of the backend that we ship, as they lie together where they serve."""

from __future__ import annotations

from importlib import resources

SHARED = ("chat_template", "input_bins", "pixels")


def files() -> dict[str, bytes]:
    """Name → content. What is the notebook's as well is of the schemas."""
    ours = resources.files(__package__).joinpath("onnxruntime_backend")
    shared = [resources.files("aiaas_hub.schemas").joinpath(f"{name}.py") for name in SHARED]
    found = [one for one in ours.iterdir() if one.name.endswith(".py")]
    return {one.name: one.read_bytes() for one in (*found, *shared)}
