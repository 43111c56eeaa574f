"""What `import aiaas_magics` and `%load_ext aiaas_magics` cost over a bare IPython.

    python tests/benchmarks/import_time.py [REPEATS]

Each measurement is a fresh interpreter with a shell in it, as a kernel has. Figures are medians;
`slowest_modules` are from `python -X importtime`, in milliseconds of their own.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from typing import Any

LIMIT_SECONDS = 0.25
LIMIT_MIB = 30.0

_PROBE = """
import json, resource, sys, time
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell()

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 2**20

before, started = resident(), time.perf_counter()
{code}
seconds, mib = time.perf_counter() - started, resident() - before
heavy = sorted({{"torch", "ray", "pandas", "pydantic", "numpy", "matplotlib"}} & set(sys.modules))
print(json.dumps({{"seconds": seconds, "mib": mib, "heavy": heavy}}))
"""

_CASES = {
    "import": "import aiaas_magics",
    "load_ext": 'shell.run_line_magic("load_ext", "aiaas_magics")',
}


def main(repeats: int = 7) -> dict[str, Any]:
    """Measure, print and return `{"import": …, "load_ext": …, "slowest_modules": …, "ok": …}`."""
    result: dict[str, Any] = {name: _measure(code, repeats) for name, code in _CASES.items()}
    result["slowest_modules"] = _slowest()
    result["limits"] = {"seconds": LIMIT_SECONDS, "mib": LIMIT_MIB}
    result["ok"] = all(
        result[name]["seconds"] <= LIMIT_SECONDS and result[name]["mib"] <= LIMIT_MIB
        for name in _CASES
    )
    sys.stdout.write(json.dumps(result) + "\n")
    return result


def _measure(code: str, repeats: int) -> dict[str, Any]:
    samples = [json.loads(_python("-c", _PROBE.format(code=code)).stdout) for _ in range(repeats)]
    return {
        "seconds": round(statistics.median(sample["seconds"] for sample in samples), 4),
        "mib": round(statistics.median(sample["mib"] for sample in samples), 2),
        "heavy_modules": samples[0]["heavy"],
        "samples": repeats,
    }


def _slowest(count: int = 5) -> dict[str, float]:
    """Own milliseconds of the modules that the extension adds to IPython, slowest first."""
    bare = _import_times("import IPython.core.interactiveshell")
    ours = _import_times("import IPython.core.interactiveshell, aiaas_magics, aiaas_magics.magics")
    added = {name: own for name, own in ours.items() if name not in bare}
    slowest = sorted(added.items(), key=lambda item: -item[1])[:count]
    return {name: round(own / 1000, 2) for name, own in slowest}


def _import_times(code: str) -> dict[str, int]:
    """Module → its own microseconds, read from lines `import time: own | cumulative | name`."""
    times = {}
    for line in _python("-X", "importtime", "-c", code).stderr.splitlines():
        own, _, name = line.removeprefix("import time:").split("|")
        if own.strip().isdecimal():
            times[name.strip()] = int(own)
    return times


def _python(*arguments: str) -> subprocess.CompletedProcess[str]:
    # Compiled modules are kept, as in any installation.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
        env=environment,
    )


if __name__ == "__main__":
    sys.exit(0 if main(*map(int, sys.argv[1:]))["ok"] else 1)
