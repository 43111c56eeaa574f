"""A model in fewer bits: the `ModelConverter` port, by onnxruntime's own tools."""

from aiaas_hub.adapters.precision.converter import OnnxConverter

__all__ = ["OnnxConverter"]
