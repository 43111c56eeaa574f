"""Loading the extension costs next to nothing: what is heavy waits for its first use."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

_PROBE = """
import json, sys
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell()
bare = set(sys.modules)
{code}
print(json.dumps(sorted(set(sys.modules) - bare)))
"""
HEAVY = {"torch", "ray", "pandas", "pyarrow", "numpy", "matplotlib", "pydantic", "httpx"}


def added_by(code: str) -> set[str]:
    probe = [sys.executable, "-c", _PROBE.format(code=code)]
    done = subprocess.run(probe, capture_output=True, text=True, check=True, timeout=120)
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize(
    "code",
    [
        "import aiaas_magics",
        'shell.run_line_magic("load_ext", "aiaas_magics")',
        'shell.run_line_magic("load_ext", "aiaas_magics"); shell.run_cell("%aiaas help")',
    ],
)
def test_loading_imports_nothing_heavy(code: str) -> None:
    added = added_by(code)
    assert not added & HEAVY


def test_the_client_imports_no_notebook_and_no_engine() -> None:
    code = "import sys; import aiaas_magics.client; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert not {"IPython", "torch", "ray", "pandas", "matplotlib"} & set(done.stdout.split())


def test_the_public_objects_wait_with_what_they_do_not_need() -> None:
    added = added_by("import aiaas_magics as a; a.datasets, a.runs, a.models, a.endpoints, a.train")
    assert not added & {"torch", "ray", "pandas", "pyarrow", "matplotlib", "tritonclient"}


def test_no_process_of_ray_or_jupyter_builds_a_grammar_when_it_starts() -> None:
    """See the extra `local` in pyproject.toml."""
    code = "import sys; import ray, jupyter_events; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert "jsonschema" in done.stdout.split()
    assert "lark" not in done.stdout.split()
