"""`aiaas demo`: the quickstart with nobody watching, on a platform of its own.

The last line of its output is one JSON object, whatever happens: `ok`, the figures of the notebook,
and why it failed as `problem`.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat

from aiaas_hub.home import Home
from aiaas_hub.local.hub_session import HubSession
from aiaas_hub.local.platform import Interrupted, LocalPlatform
from aiaas_hub.local.remote_kernel import RemoteKernel
from aiaas_hub.loopback import free_ports
from aiaas_hub.schemas.errors import AiaasError, NotFound

LEAST_ACCURACY = 0.95
LARGEST_DIFFERENCE = 1e-4
_NOTEBOOK = "examples/quickstart.ipynb"
_CELL_SECONDS = 600
_USER = "demo"
_IN_NOTEBOOK = ("submit_to_first_step", "train", "publish", "first_predict")


def run_demo(say: Callable[[str], None], stop_requested: threading.Event, save: Path | None) -> int:
    """Run it; 0 only if every step worked and the figures are good enough."""
    root = Path(tempfile.mkdtemp(prefix="aiaas-demo-"))
    seconds: dict[str, float | None] = dict.fromkeys(("platform_ready", "spawn", *_IN_NOTEBOOK))
    figures: dict[str, Any] = {}
    problem = ""
    try:
        figures = _steps(Home(root), say, stop_requested, save, seconds)
        problem = judge(figures)
    except Interrupted:
        problem = "Stopped."
    except AiaasError as error:
        problem = str(error)
    except Exception as error:
        # Whoever reads the last line by program needs one after a surprise as well.
        say(traceback.format_exc())
        problem = f"{type(error).__name__}: {error}"
    if problem:
        say(f"The demo failed: {problem}")
        say(f"Its logs are in {root / 'logs'}.")
    else:
        shutil.rmtree(root)
    result = {
        "ok": not problem,
        "problem": problem,
        "accuracy": figures.get("accuracy"),
        "parity_max_abs": figures.get("parity_max_abs"),
        "seconds": {
            name: None if value is None else round(value, 3) for name, value in seconds.items()
        },
    }
    say(json.dumps(result))
    return 1 if problem else 0


def _steps(
    home: Home,
    say: Callable[[str], None],
    stop_requested: threading.Event,
    save: Path | None,
    seconds: dict[str, float | None],
) -> dict[str, Any]:
    """Everything between starting and stopping; fills `seconds` as it goes."""
    begun = time.monotonic()
    say(f"Starting a platform in {home.root} …")
    with LocalPlatform(home, free_ports(1)[0], say, stop_requested) as platform:
        seconds["platform_ready"] = time.monotonic() - begun
        say(f"Ready after {seconds['platform_ready']:.1f} s; signing in as {_USER!r} …")
        with HubSession(platform.url, _USER, platform.reach.trusted()) as session:
            session.sign_in(platform.user_password)
            begun = time.monotonic()
            session.spawn("small", stop_requested=stop_requested)
            seconds["spawn"] = time.monotonic() - begun
            say(f"Notebook server after {seconds['spawn']:.1f} s; running {_NOTEBOOK} in it …")
            answer = session.server_request("GET", f"api/contents/{_NOTEBOOK}")
            if answer.status_code != 200:
                raise NotFound(f"The server has no {_NOTEBOOK} (HTTP {answer.status_code}).")
            notebook = nbformat.from_dict(answer.json()["content"])
            try:
                with RemoteKernel(session, directory="examples") as kernel:
                    kernel.run(
                        notebook,
                        cell_timeout=_CELL_SECONDS,
                        stop_requested=stop_requested.is_set,
                        progress=lambda text: say(f"  {text}"),
                    )
            finally:
                # As a user would save it, whether it went well or not.
                session.server_request(
                    "PUT",
                    f"api/contents/{_NOTEBOOK}",
                    json={"type": "notebook", "content": notebook},
                )
                if save is not None:
                    save.parent.mkdir(parents=True, exist_ok=True)
                    nbformat.write(notebook, save)
                    say(f"The executed notebook is {save}.")
            figures = figures_of(notebook)
        for name in _IN_NOTEBOOK:
            value = figures.get("seconds", {}).get(name)
            seconds[name] = float(value) if isinstance(value, int | float) else None
        say("Stopping …")
    return figures


def figures_of(notebook: nbformat.NotebookNode) -> dict[str, Any]:
    """What the notebook measured: the last `application/json` object its cells display."""
    for cell in reversed(notebook.cells):
        for output in reversed(cell.get("outputs", [])):
            shown = output.get("data", {}).get("application/json")
            if isinstance(shown, dict) and "accuracy" in shown:
                return dict(shown)
    raise NotFound("The notebook does not show its figures: no application/json with `accuracy`.")


def judge(figures: dict[str, Any]) -> str:
    """Why these figures are not good enough; empty if they are."""
    accuracy, difference = figures.get("accuracy"), figures.get("parity_max_abs")
    if not isinstance(accuracy, int | float) or not accuracy >= LEAST_ACCURACY:
        return f"the accuracy is {accuracy}, and should be at least {LEAST_ACCURACY}."
    if not isinstance(difference, int | float) or not difference <= LARGEST_DIFFERENCE:
        return (
            f"served and trained model differ by {difference}, and may by "
            f"{LARGEST_DIFFERENCE} at most."
        )
    taken = figures.get("seconds", {})
    missing = [name for name in _IN_NOTEBOOK if not isinstance(taken.get(name), int | float)]
    if missing:
        return f"the notebook does not say how long these took: {', '.join(missing)}."
    return ""
