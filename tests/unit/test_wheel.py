"""What an installation without a clone gets."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

from aiaas_hub import __version__

ROOT = Path(__file__).parents[2]


def test_the_wheel_brings_every_file_that_is_not_python(tmp_path: Path) -> None:
    # Without isolation: what builds it is installed, and no index is needed.
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path)]
    subprocess.run([*build, str(ROOT)], check=True, capture_output=True, timeout=300)
    [wheel] = tmp_path.glob("*.whl")
    data = f"aiaas_hub-{__version__}.data/data"
    labextension = f"{data}/share/jupyter/labextensions/@aiaas-hub/labextension"
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        # Built by `make test`, as by whoever makes a release.
        assert f"{labextension}/package.json" in names, "type 'make labextension' first"
        package = json.loads(archive.read(f"{labextension}/package.json"))
    shared = f"{data}/share/aiaas-hub"
    triton = "aiaas_hub/adapters/triton_local"
    for name in (
        f"{shared}/examples/quickstart.ipynb",
        f"{shared}/hub_config/jupyterhub_config.py",
        f"{shared}/hub_config/profiles.yaml",
        f"{shared}/hub_config/grafana/serving.json",
        f"{shared}/hub_config/proxy/package.json",
        f"{shared}/hub_config/proxy/package-lock.json",
        f"{shared}/hub_config/idle_culler_config.py",
        f"{shared}/hub_config/grafana-dashboard.json",
        "aiaas_hub/page/page.html",
        "aiaas_magics/panels/dataset_browser.js",
        "aiaas_magics/panels/dataset_browser.css",
        "aiaas_magics/panels/eye.js",
        "aiaas_hub/adapters/records/migrations/env.py",
        "aiaas_hub/adapters/records/migrations/versions/0001_the_first_schema.py",
        f"{triton}/serving.lock",
        f"{triton}/golden.onnx",
        f"{triton}/onnxruntime_backend/model.py",
        *(f"{triton}/onnxruntime_backend/{kind}_step.py" for kind in ("text", "image", "label")),
        *(f"{triton}/onnxruntime_backend/{name}.py" for name in ("generation_step", "generating")),
        *(f"{triton}/onnxruntime_backend/{name}.py" for name in ("steps", "reasons")),
        f"{data}/etc/jupyter/jupyter_server_config.d/aiaas_magics.json",
        f"{labextension}/install.json",
        f"{labextension}/{package['jupyterlab']['_build']['load']}",
    ):
        assert name in names
    assert package["version"] == __version__
    assert not [name for name in names if name.startswith(("tests/", ".ci/", "tools/"))]
    assert not [name for name in names if "node_modules" in name]
