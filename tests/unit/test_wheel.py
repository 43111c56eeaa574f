"""What an installation without a clone gets."""

from __future__ import annotations

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
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    shared = f"aiaas_hub-{__version__}.data/data/share/aiaas-hub"
    triton = "aiaas_hub/adapters/triton_local"
    for name in (
        f"{shared}/examples/quickstart.ipynb",
        f"{shared}/hub_config/jupyterhub_config.py",
        f"{shared}/hub_config/profiles.yaml",
        f"{shared}/hub_config/proxy/package.json",
        f"{shared}/hub_config/proxy/package-lock.json",
        "aiaas_hub/adapters/records/migrations/env.py",
        "aiaas_hub/adapters/records/migrations/versions/0001_the_first_schema.py",
        f"{triton}/serving.lock",
        f"{triton}/golden.onnx",
        f"{triton}/onnxruntime_backend/model.py",
    ):
        assert name in names
    assert not [name for name in names if name.startswith(("tests/", ".ci/", "tools/"))]
