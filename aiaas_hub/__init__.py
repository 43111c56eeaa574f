"""The control plane of AIaaS Hub: a JupyterHub service and what it drives."""

__version__ = "0.1.0"
