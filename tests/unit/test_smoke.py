"""Smokes: real first steps in a process of their own, which cannot hurt the kernel."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from aiaas_magics import snapshot
from aiaas_magics.errors import SmokeFailed
from aiaas_magics.request import Request, early_stop
from aiaas_magics.smoke_report import SETTLE, Smoke, smoke


def smoked(cell: str, limit: float = 60, settle: float = SETTLE, **options: object) -> Smoke:
    request = Request("net", **options)  # type: ignore[arg-type]
    return smoke(snapshot.of_cell(cell), request, limit, settle)


def test_first_steps_to_the_exported_model(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUPYTERHUB_API_TOKEN", "secret")
    seen = smoked(
        "import os, torch\n"
        "def train(ctx):\n"
        "    print('token' if 'JUPYTERHUB_API_TOKEN' in os.environ else 'no token', os.getpid())\n"
        "    model = ctx.prepare(torch.nn.Linear(3, 2))\n"
        "    for step in range(10**9):\n"
        "        ctx.report(step=step, loss=float(step) + ctx.params.lr)\n"
        "        if ctx.should_stop:\n            break\n"
        "    ctx.checkpoint(model=model)\n"
        "    ctx.save_model(model, torch.zeros(2, 3))\n",
        params={"lr": 0.5},
        workers=4,
        early_stop=early_stop("accuracy>0.9", None),
    )
    assert seen.metrics == {"loss": 0.5}
    assert seen.report.finished
    assert seen.report.checkpointed
    assert seen.report.model == "input float32[3] → output float32[2]"
    assert "no token" in capsys.readouterr().out
    assert "with one worker" in repr(seen)
    assert "no report had 'accuracy', the metric to stop early by" in repr(seen)
    assert "Smoke of net" in seen._repr_mimebundle_()["text/html"]


def test_a_loop_without_an_end_is_ended_while_it_goes_well() -> None:
    seen = smoked(
        "import time\n"
        "def train(ctx):\n"
        "    while True:\n"
        "        try:\n            ctx.report(loss=1.0)\n            time.sleep(0.01)\n"
        "        except Exception:\n            pass\n",
        settle=0.2,
    )
    assert not seen.report.finished
    assert "ended while it went well" in repr(seen)
    assert "ctx.save_model was not reached" in repr(seen)


@pytest.mark.parametrize(
    ("cell", "says", "line"),
    [
        ("import nothing_of_it\ndef train(ctx): ...\n", "nothing_of_it", "cell.py, line 1"),
        (
            "import torch\ndef train(ctx):\n    net = torch.nn.Linear(3, 2)\n"
            "    return net(torch.ones(2, 4))\n",
            "shapes",
            "cell.py, line 4",
        ),
        ("def train(ctx):\n    open('data.csv')\n", "data.csv", "cell.py, line 2"),
        ("def train(ctx):\n    ctx.params.depth\n", "depth", "cell.py, line 2"),
        ("import sys\ndef train(ctx):\n    sys.exit(2)\n", "ended the process", "cell.py, line 3"),
    ],
)  # fmt: skip
def test_what_would_fail_in_a_worker_shows_by_the_users_line(
    cell: str, says: str, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SmokeFailed, match=says) as failure:
        smoked(cell)
    assert failure.value.remedy
    assert capsys.readouterr().out.lstrip().startswith(line)


def test_what_the_kernel_would_not_survive() -> None:
    for cell, says in (
        ("import os\ndef train(ctx):\n    os._exit(7)\n", "status 7"),
        ("import ctypes\ndef train(ctx):\n    ctypes.string_at(0)\n", "SIGSEGV"),
    ):
        with pytest.raises(SmokeFailed, match=says) as failure:
            smoked(cell)
        assert failure.value.remedy


def test_text_that_is_none_is_written_for_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SmokeFailed, match=r"ValueError: bad \\udc81"):
        smoked(
            "def train(ctx):\n    print('half \\udc80', flush=True)\n"
            "    raise ValueError('bad \\udc81')\n"
        )
    assert "half \\udc80" in capsys.readouterr().out


def test_a_loop_without_a_step_is_found() -> None:
    with pytest.raises(SmokeFailed, match=r"No step .* within 8 s: it is at cell\.py, line 3"):
        smoked("def train(ctx):\n    while True:\n        sum(range(10**8))\n", limit=8)


def test_what_the_code_has_started_ends_with_it(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    smoked(
        "import subprocess\n"
        "def train(ctx):\n"
        "    child = subprocess.Popen(['sleep', '300'])\n"
        f"    open({str(file)!r}, 'w').write(str(child.pid))\n"
        "    ctx.report(loss=1)\n"
    )
    child = int(file.read_text())
    deadline = time.monotonic() + 10
    while _alive(child):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    # Whoever adopted it may not have looked yet.
    return state != "Z"


def test_a_function_is_smoked_by_its_pickle() -> None:
    class Unfriendly:
        def __reduce__(self) -> tuple[object, ...]:
            return (os.listdir, ("/nonexistent",))

    thing = Unfriendly()
    with pytest.raises(SmokeFailed, match="nonexistent"):
        smoke(snapshot.of_function(lambda ctx: thing), Request("x"))


def test_a_plain_script_is_smoked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = tmp_path / "main.py"
    script.write_text(
        "import sys\nfrom aiaas_magics.runtime.context import current\n"
        "if __name__ == '__main__':\n"
        "    current().report(loss=1)\n    print('args', sys.argv[1:])\n"
    )
    seen = smoke(snapshot.of_script(script, ["--fast"]), Request("x"))
    assert seen.report.finished
    assert seen.metrics == {"loss": 1}
    assert "args ['--fast']" in capsys.readouterr().out


def test_plain_ray_train_needs_no_ray_here() -> None:
    seen = smoked(
        "import ray.train\n"
        "def train(ctx):\n"
        "    assert ray.train.get_context().get_world_size() == 1\n"
        "    ray.train.report({'loss': 2.5})\n"
    )
    assert seen.metrics == {"loss": 2.5}


LOOPS = {
    "sklearn": (
        "import numpy as np\nfrom sklearn.linear_model import LogisticRegression\n"
        "def train(ctx):\n"
        "    x = np.random.default_rng(0).normal(size=(64, 3)).astype('float32')\n"
        "    model = LogisticRegression().fit(x, x[:, 0] > 0)\n"
        "    ctx.report(accuracy=model.score(x, x[:, 0] > 0))\n"
        "    ctx.save_model(model, x[:8])\n"
    ),
    "keras": (
        "import os\nos.environ['KERAS_BACKEND'] = 'torch'\nimport keras\nimport numpy as np\n"
        "def train(ctx):\n"
        "    x = np.random.default_rng(0).normal(size=(64, 3)).astype('float32')\n"
        "    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])\n"
        "    model.compile(optimizer='adam', loss='mse')\n"
        "    fitted = model.fit(x, x[:, :2], epochs=1, verbose=0)\n"
        "    ctx.report(loss=fitted.history['loss'][-1])\n"
        "    ctx.save_model(model, x[:8])\n"
    ),
    "tensorflow": (
        "import numpy as np\nimport tensorflow as tf\n"
        "def train(ctx):\n"
        "    x = np.random.default_rng(0).normal(size=(64, 3)).astype('float32')\n"
        "    weights = tf.Variable(tf.zeros((3, 1)))\n"
        "    with tf.GradientTape() as tape:\n"
        "        loss = tf.reduce_mean((x @ weights - x[:, :1]) ** 2)\n"
        "    weights.assign_sub(0.1 * tape.gradient(loss, weights))\n"
        "    ctx.report(loss=loss)\n"
        "    ctx.save_model(tf.function(lambda features: features @ weights), x[:8])\n"
    ),
}


@pytest.mark.parametrize("library", LOOPS)
def test_loops_of_other_libraries_hand_over_a_model(library: str) -> None:
    if library == "tensorflow":
        pytest.importorskip(library, reason="TensorFlow is not here: make test-tensorflow")
        pytest.importorskip("tf2onnx", reason="tf2onnx is not here: make test-tensorflow")
    seen = smoked(LOOPS[library], limit=120, settle=60)
    assert seen.report.finished
    assert seen.report.reports == 1
    assert "float32[3] → " in seen.report.model
    assert seen.report.model_max_abs < 1e-4
