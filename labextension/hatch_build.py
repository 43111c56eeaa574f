"""Put the built JupyterLab extension into the wheel, where JupyterLab looks for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class LabextensionHook(BuildHookInterface):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        # An editable installation gets a link to what is built, from `.ci/labextension.py`.
        if version == "editable":
            return
        source = Path(self.root, "labextension")
        built = source / "built"
        if not (built / "package.json").is_file():
            self.app.display_warning("labextension/built is missing: type 'make labextension'.")
            return
        name = json.loads((source / "package.json").read_text())["name"]
        target = f"share/jupyter/labextensions/{name}"
        build_data["shared_data"] |= {
            str(built): target,
            str(source / "install.json"): f"{target}/install.json",
        }
