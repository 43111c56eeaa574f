"""AIaaS in a notebook: data, training on Ray and serving on Triton from Python and magics.

    %load_ext aiaas_magics
    import aiaas_magics as aiaas

Everything is loaded at its first use, so that the two lines above cost next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from aiaas_magics.catalogue import datasets as datasets
    from aiaas_magics.consumption import Usage as Usage
    from aiaas_magics.consumption import usage as usage
    from aiaas_magics.dataset import Dataset as Dataset
    from aiaas_magics.endpoint import Endpoint as Endpoint
    from aiaas_magics.endpoint import endpoints as endpoints
    from aiaas_magics.image_pixels import pixels as pixels
    from aiaas_magics.model import Model as Model
    from aiaas_magics.model import models as models
    from aiaas_magics.panels import panel as panel
    from aiaas_magics.publishing import publish as publish
    from aiaas_magics.run import Run as Run
    from aiaas_magics.run import runs as runs
    from aiaas_magics.secret import secrets as secrets
    from aiaas_magics.submission import plan as plan
    from aiaas_magics.submission import smoke as smoke
    from aiaas_magics.submission import train as train
    from aiaas_magics.sweeping import Sweep as Sweep
    from aiaas_magics.sweeping import sweep as sweep

__version__ = "0.1.0"

_HOME = {
    "Dataset": "dataset",
    "datasets": "catalogue",
    "Endpoint": "endpoint",
    "endpoints": "endpoint",
    "Model": "model",
    "models": "model",
    "panel": "panels",
    "pixels": "image_pixels",
    "plan": "submission",
    "publish": "publishing",
    "Run": "run",
    "runs": "run",
    "secrets": "secret",
    "smoke": "submission",
    "Sweep": "sweeping",
    "sweep": "sweeping",
    "train": "submission",
    "Usage": "consumption",
    "usage": "consumption",
}
"""Public name → the module that it lives in."""

__all__ = [
    "Dataset",
    "Endpoint",
    "Model",
    "Run",
    "Sweep",
    "Usage",
    "datasets",
    "endpoints",
    "models",
    "panel",
    "pixels",
    "plan",
    "publish",
    "runs",
    "secrets",
    "smoke",
    "sweep",
    "train",
    "usage",
]


def __getattr__(name: str) -> Any:
    module = _HOME.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"{__name__}.{module}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})


def load_ipython_extension(shell: InteractiveShell) -> None:
    """`%load_ext aiaas_magics`"""
    from aiaas_magics.magics import register

    register(shell)


def unload_ipython_extension(shell: InteractiveShell) -> None:
    """`%unload_ext aiaas_magics`"""
    from aiaas_magics.magics import unregister

    unregister(shell)
