"""Wire models, names and errors.

The only part of the control plane that the notebook's client imports, so nothing here may
import the rest of `aiaas_hub`, a web framework or an engine.
"""
