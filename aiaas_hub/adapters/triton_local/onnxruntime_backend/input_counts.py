"""Counts what callers send, so that it can be compared with what the model was made from.

Of a value only its bin is kept, never the value. The bins are in `inputs.json` beside the model's
file: a version without it is not counted. None is where `AIAAS_INPUT_COUNTS` names no directory:

    $AIAAS_INPUT_COUNTS/<model>/<version>/<instance>.json     [[rows, …], …], see `InputBins`

Files, and not custom metrics of Triton's: where the instances of a version share one, the first
that is unloaded frees it for all, and the server died of it (2.51).
"""

from __future__ import annotations

import json
import os
import secrets
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

# Beside this file where it serves: see `input_bins.py`.
from input_bins import InputBins

DIRECTORY = "AIAAS_INPUT_COUNTS"
BINS = "inputs.json"
OWN = "aiaas-service"
"""Id of the service's own requests: canary inferences and comparisons are no callers."""
_SECONDS = 2.0
"""Between two files: not one with each request."""
_RUNS = 100
"""So many runs of the model are counted in a second, and as many at once after a pause. Counting
one takes a tenth of its time: where there are many more, so many say as much as all."""


def input_counts(version: str, args: dict[str, str]) -> InputCounts | None:
    """Of the version in this directory. None where nothing is to be counted, or cannot be: a model
    serves without."""
    root, bins = os.environ.get(DIRECTORY), Path(version) / BINS
    if not root or not bins.exists():
        return None
    try:
        features = json.loads(bins.read_bytes())["features"]
        if not features:
            return None
        target = Path(root) / args["model_name"] / args["model_version"]
        target.mkdir(parents=True, exist_ok=True)
        return InputCounts(InputBins((one["tensor"], one["edges"]) for one in features), target)
    except Exception as error:  # a damaged file, a full disk
        _failed(error)
        return None


class InputCounts:
    """Of one instance. Its file stays when it ends: what was counted is no less for that."""

    def __init__(self, bins: InputBins, directory: Path) -> None:
        self._bins = bins
        self._counts = np.zeros(bins.shape, np.int64)
        # Its own for ever: a process's id comes again.
        self._file = directory / f"{secrets.token_hex(8)}.json"
        self._left = float(_RUNS)
        self._seen_at = time.monotonic()
        self._some = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep, daemon=True)
        self._thread.start()

    def add(self, feed: dict[str, Any], requests: list[Any]) -> None:
        """What one run of the model was given, for these requests. A run that the service's own
        request shares is left out: it is one in thousands where there are many."""
        now = time.monotonic()
        self._left = min(_RUNS, self._left + (now - self._seen_at) * _RUNS)
        self._seen_at = now
        if self._left < 1 or any(request.request_id() == OWN for request in requests):
            return
        self._left -= 1
        try:
            self._counts += self._bins.count(feed)
        except Exception as error:  # callers get their answers, whatever is wrong here
            _failed(error)
            return
        self._some.set()

    def _keep(self) -> None:
        while not self._stop.wait(_SECONDS):
            # Without requests it sleeps.
            self._some.wait()
            self._write()

    def _write(self) -> None:
        self._some.clear()
        aside = self._file.with_suffix(".new")
        try:
            aside.write_text(json.dumps(self._counts.tolist()))
            aside.replace(self._file)
        except FileNotFoundError:
            # The version was removed before its instances had ended.
            return
        except OSError as error:
            _failed(error)

    def finalize(self) -> None:
        self._stop.set()
        self._some.set()
        self._thread.join()
        if self._counts.any():
            self._write()


def _failed(error: Exception) -> None:
    pb_utils.Logger.log_error(f"Inputs are not counted: {type(error).__name__}: {error}")
