"""All benchmarks, one after the other, into one file: `python tests/benchmarks/run.py FILE`.

Each is a script that prints one line of JSON; run it by itself to measure one thing alone.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SCRIPTS = (
    "import_time",
    "plot_metrics",
    "log_flood",
    "side_panel",
    "data",
    "serving",
    "hub_load",
    "training",
)


def main(target: Path) -> int:
    """Run them, write their results by name, and return how many failed."""
    results = {}
    failed = 0
    for name in SCRIPTS:
        sys.stderr.write(f"{name} …\n")
        done = subprocess.run(
            [sys.executable, str(Path(__file__).with_name(f"{name}.py"))],
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        lines = done.stdout.splitlines()
        results[name] = json.loads(lines[-1]) if lines else None
        # Beyond its limits is as bad as broken, whatever a script ends with.
        failed += done.returncode != 0 or not (results[name] or {}).get("ok", True)
    target.write_text(json.dumps(results, indent=2) + "\n")
    sys.stdout.write(target.read_text())
    return failed


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
