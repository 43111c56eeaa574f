"""Serving on this machine: the real tritonserver from PyPI, without Docker or a GPU."""

from aiaas_hub.adapters.triton_local.server import TritonLocal

__all__ = ["TritonLocal"]
