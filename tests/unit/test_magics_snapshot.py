"""Snapshots: the same code gives the same bytes; what cannot run is refused before it is sent."""

from __future__ import annotations

import io
import json
import sys
import threading
import zipfile
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

from aiaas_hub.schemas.errors import InvalidInput
from aiaas_hub.schemas.runs import Snapshot
from aiaas_magics import __version__, snapshot
from aiaas_magics.runtime import snapshot as runtime_snapshot

CELL = "def train(ctx):\n    return ctx\n"


def files(code: snapshot.Code) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(code.content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_the_same_cell_gives_the_same_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    first = snapshot.of_cell(CELL)
    monkeypatch.setattr("time.localtime", lambda *_: (2040, 1, 1, 0, 0, 0, 0, 1, 0))
    assert snapshot.of_cell(CELL).content == first.content
    assert snapshot.of_cell(CELL.rstrip("\n")).content == first.content
    assert snapshot.of_cell(CELL + "# other").content != first.content


def test_a_cell_is_stored_as_typed_with_its_manifest() -> None:
    code = snapshot.of_cell(CELL)
    assert files(code).keys() == {"cell.py", "manifest.json"}
    assert files(code)["cell.py"].decode() == code.source == CELL
    assert json.loads(files(code)["manifest.json"]) == {
        "kind": "cell",
        "python": f"{sys.version_info.major}.{sys.version_info.minor}",
        "client": __version__,
        "packages": {},
    }


def test_lines_have_the_numbers_that_they_have_in_the_notebook() -> None:
    code = snapshot.of_cell(CELL, "train --name cnn --param note='a\rb'")
    first, rest = code.source.split("\n", 1)
    assert first == "# %%aiaas train --name cnn --param note='a b'"
    assert rest == CELL
    assert files(code)["cell.py"].decode() == code.source
    with pytest.raises(InvalidInput, match=r"at line 3: 'x = \('"):
        snapshot.of_cell("def train(ctx):\n    x = (\n", "train --name cnn")


@pytest.mark.parametrize(
    ("cell", "says"),
    [
        ("def train(ctx):\n    x = (\n", "line 2"),
        ("def f(:\n", r"'def f\(:'"),
        ("x = 1\n", "does not define train"),
        ("class A:\n    def train(self, ctx): ...\n", "does not define train"),
        ("async def train(ctx): ...\n", "async"),
        ("def train(): ...\n", "one argument"),
        ("def train(ctx, other): ...\n", "one argument"),
        ("def train(ctx, *, lr): ...\n", "one argument"),
        ("!pip install x\ndef train(ctx): ...\n", "notebook command"),
        ("def train(ctx): ...\n\n%matplotlib inline\n", "notebook command"),
        ("def train(ctx): '\0'\n", "null"),
        ("", "does not define train"),
    ],
)
def test_a_cell_that_cannot_run_is_refused(cell: str, says: str) -> None:
    with pytest.raises(InvalidInput, match=says) as refusal:
        snapshot.of_cell(cell)
    assert refusal.value.remedy


@pytest.mark.parametrize(
    "cell",
    [
        CELL,
        "def train(context, lr=0.1): ...\n",
        "def train(*args): ...\n",
        "import functools\n@functools.cache\ndef train(ctx): ...\n",
    ],
)
def test_what_can_be_called_with_one_argument_is_taken(cell: str) -> None:
    snapshot.check_cell(cell)


def test_a_function_travels_by_value() -> None:
    factor = 3

    def fit(ctx: int) -> int:
        return ctx * factor

    code = snapshot.of_function(fit)
    assert code.entry == "function.pkl"
    assert code.source.startswith("def fit(ctx: int)")
    assert json.loads(files(code)["manifest.json"])["kind"] == "function"
    assert cloudpickle.loads(files(code)["function.pkl"])(2) == 6


def test_what_a_module_beside_the_notebook_defines_travels_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_layers.py").write_text("SCALE = 5\ndef fit(ctx):\n    return ctx * SCALE\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import my_layers  # type: ignore[import-not-found]

    content = files(snapshot.of_function(my_layers.fit))["function.pkl"]
    monkeypatch.delitem(sys.modules, "my_layers")
    (tmp_path / "my_layers.py").unlink()
    assert cloudpickle.loads(content)(2) == 10


@pytest.mark.parametrize("fit", [3, lambda: None, lambda a, b: None])
def test_what_is_no_training_function_is_refused(fit: Any) -> None:
    with pytest.raises(InvalidInput) as refusal:
        snapshot.of_function(fit)
    assert refusal.value.remedy


def test_what_cannot_be_pickled_is_refused_in_a_sentence() -> None:
    lock = threading.Lock()
    with pytest.raises(InvalidInput, match="cannot be sent"):
        snapshot.of_function(lambda ctx: lock.acquire())


def test_the_runtime_runs_what_the_client_sends(tmp_path: Path) -> None:
    import hashlib

    for code in (snapshot.of_cell(CELL), snapshot.of_function(lambda ctx: ctx)):
        digest = hashlib.sha256(code.content).hexdigest()
        runtime_snapshot.unpack(code.content, digest, tmp_path / digest)
        described = Snapshot(
            digest=digest,
            entry=code.entry,
            source=code.source,
            python=snapshot.PYTHON,
            client=__version__,
        )
        assert runtime_snapshot.load(tmp_path / digest, described).call(7) == 7
