"""Chunks of metric points as they are stored."""

from __future__ import annotations

import subprocess
import sys


def test_storing_metrics_imports_no_pandas() -> None:
    code = (
        "import sys\n"
        "from aiaas_hub.adapters.records.metrics import _chunk, _points, _read, _write\n"
        "from aiaas_hub.schemas.runs import MetricPoint\n"
        "point = MetricPoint(step=1, time=2.5, values={'loss': 0.5})\n"
        "assert _points(_read(_write(_chunk([point]))), 0, 1) == [point]\n"
        "print('pandas' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "False\n", done.stderr
