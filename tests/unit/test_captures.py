"""The closure linter: what code takes from the notebook is named, with the edit that fixes it."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest
import torch

from aiaas_hub.schemas.errors import InvalidInput
from aiaas_magics import snapshot
from aiaas_magics.snapshot import captures, functions
from aiaas_magics.snapshot.captures import Capture


def notebook(source: str, **variables: Any) -> Any:
    """The function `fit` of a notebook's cell."""
    namespace = {"__name__": "__main__", **variables}
    exec(source, namespace)  # noqa: S102 - as a kernel does
    return namespace["fit"]


def found(source: str, **variables: Any) -> dict[str, Capture]:
    return {one.name: one for one in captures.of_function(notebook(source, **variables))}


USES = "def fit(ctx):\n    return thing\n"


def test_a_large_table_is_named_with_the_code_to_paste() -> None:
    frame = pd.DataFrame({"x": np.zeros(1_000_000)})
    one = found("def fit(ctx):\n    return df.sum()\n", df=frame)["df"]
    assert one.severity == "warning"
    assert "df (DataFrame, 7.6 MiB)" in one.problem
    assert "aiaas.datasets.put('df', df)" in one.remedy
    assert "ctx.dataset('df').to_pandas()" in one.remedy


def test_a_table_is_stored_under_the_name_that_the_notebook_has() -> None:
    source = (
        "def make(frame):\n    def fit(ctx):\n        return frame\n    return fit\n"
        "fit = make({})\n"
    )
    frame = pd.DataFrame({"x": np.zeros(1_000_000)})
    told = found(source.format("df"), df=frame, _5=frame)["frame"]
    assert told.problem.startswith("frame (DataFrame")
    assert "aiaas.datasets.put('df', df)" in told.remedy
    # Where only the function has it, it is stored from there.
    told = found(source.format("df.copy()"), df=frame)["frame"]
    assert "where it is made: aiaas.datasets.put('frame', frame)" in told.remedy


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (np.zeros(300_000), "ndarray"),
        (torch.zeros(300_000), "Tensor"),
        (pd.Series(np.zeros(300_000)), "Series"),
        ([b"x" * 2_000_000], "list"),
        (torch.nn.Linear(1000, 1000), "Linear"),
    ],
)
def test_large_things_of_every_kind_are_warned_of(value: Any, kind: str) -> None:
    one = found(USES, thing=value)["thing"]
    assert (one.severity, one.type) == ("warning", kind)
    assert one.size is not None
    assert one.size > captures.LARGE
    assert one.remedy


def test_what_is_small_is_listed_with_its_size() -> None:
    one = found(USES, thing=torch.zeros(3))["thing"]
    assert one.severity == "fine"
    assert one.size is not None


def impossible() -> list[Any]:
    return [
        (lambda: threading.Lock(), "is a lock", "inside"),
        (lambda: (n for n in range(3)), "is a generator", "list(thing)"),
        (lambda: sqlite3.connect(":memory:"), "connection to a database", "inside"),
        (lambda: httpx.Client(), "client with open connections", "inside"),
        (lambda: open(__file__), "is an open file", "with open("),
        (lambda: threading.Thread(), "threads", "inside"),
        (lambda: sys._getframe(), "cannot be sent", "inside"),
    ]


@pytest.mark.parametrize(("make", "says", "remedy"), impossible())
def test_what_cannot_travel_is_refused_by_name(make: Any, says: str, remedy: str) -> None:
    thing = make()
    try:
        with pytest.raises(InvalidInput, match=rf"^thing .*{says}.*Nothing was sent") as refusal:
            snapshot.of_function(notebook(USES, thing=thing))
        assert remedy in refusal.value.remedy
    finally:
        if hasattr(thing, "close"):
            thing.close()


def test_the_part_that_cannot_travel_is_found_inside() -> None:
    config = {"lr": 0.1, "sync": {"locks": [1, threading.Lock()]}}
    with pytest.raises(InvalidInput) as refusal:
        snapshot.of_function(notebook(USES, thing=config))
    assert refusal.value.message.startswith("thing['sync']['locks'][1] (lock) is a lock")


def test_all_that_cannot_travel_is_told_at_once() -> None:
    source = "def helper():\n    return a\ndef fit(ctx):\n    return helper(), b\n"
    with pytest.raises(InvalidInput, match=r"Likewise: helper\.a") as refusal:
        snapshot.of_function(notebook(source, a=threading.Lock(), b=threading.Lock()))
    assert refusal.value.message.startswith("b (lock)")


def test_closures_defaults_methods_and_nested_functions_are_looked_into() -> None:
    source = (
        "def make():\n"
        "    inner = big\n"
        "    def fit(ctx, other=big):\n"
        "        def deeper():\n            return table\n"
        "        return inner, [table for _ in range(2)], Net().weight()\n"
        "    return fit\n"
        "class Net:\n"
        "    size = big\n"
        "    def weight(self):\n        return weights\n"
        "fit = make()\n"
    )
    big, table, weights = (np.zeros(200_000) for _ in range(3))
    names = set(found(source, big=big, table=table, weights=weights))
    assert names == {"inner", "default 1", "table", "Net.size", "Net.weights"}


def test_a_secret_is_noticed() -> None:
    one = found("def fit(ctx):\n    return API_KEY\n", API_KEY="abc")["API_KEY"]
    assert one.severity == "warning"
    assert "secret" in one.problem
    assert "abc" not in f"{one}"


def test_a_function_that_is_installed_is_not_looked_into() -> None:
    assert captures.of_function(np.linalg.norm) == []


def test_a_name_that_nobody_defines_is_told() -> None:
    source = (
        "def helper():\n    global made\n    made = 1\n    return made, len, misspelt\n"
        "def fit(ctx):\n    return helper(), made, display\n"
    )
    told = found(source)
    assert set(told) == {"misspelt", "display"}
    assert told["misspelt"].severity == "warning"
    assert told["misspelt"].problem.startswith("helper uses misspelt, which is defined neither")


CELL = """
import math
from collections import Counter as C

RATE = 1
def helper(x):
    global made
    made = RATE
    return [y for y in x if (n := y)] + [np.zeros(3), made]

class Net:
    size = RATE
    def forward(self, x, *args, **kwargs):
        try:
            return helper(df[x]), print, C
        except ValueError as error:
            return error, __name__

def train(ctx):
    with open("x") as file:
        lr, (a, b) = 1, (2, 3)
    for i in range(lr):
        del i
    return lambda z: z + math.pi + rate + unknown
"""


def test_free_names_of_a_cell() -> None:
    assert captures.free_names(CELL) == ({"np", "df", "rate", "unknown"}, True)
    assert captures.free_names("from math import *\nx = pi\n") == ({"pi"}, False)


def test_a_variable_of_the_notebook_is_named_with_what_to_do(tmp_path: Path) -> None:
    class Config:
        pass

    Config.__module__ = "__main__"
    namespace = {
        "np": np,
        "df": pd.DataFrame({"x": [1]}),
        "rate": 0.1,
        "Linear": torch.nn.Linear,
        "config": Config(),
        "os": ModuleType("os"),
        "display": print,
    }
    cell = "def train(ctx):\n    return np, df, rate, Linear, config, os, display, missing\n"
    told = {one.name: one for one in captures.of_cell(cell, namespace)}
    assert all(one.severity == "error" for one in told.values())
    assert told["np"].remedy == "Add 'import numpy as np' to the cell."
    assert told["os"].remedy == "Add 'import os' to the cell."
    assert "from torch.nn.modules.linear import Linear" in told["Linear"].remedy
    assert told["df"].problem.startswith("df is a variable of the notebook (DataFrame")
    assert "aiaas.datasets.put('df', df)" in told["df"].remedy
    assert "--param rate={rate}" in told["rate"].remedy
    assert "ctx.params['rate']" in told["rate"].remedy
    assert "aiaas.train(train" in told["config"].remedy
    assert "print" in told["display"].remedy
    assert "neither in the cell nor" in told["missing"].problem


def test_a_star_import_may_bring_any_name() -> None:
    assert captures.of_cell("from math import *\ndef train(ctx):\n    return pi\n", {}) == []


CLASSES = {
    "abstract": (
        "import abc\nclass Base(abc.ABC):\n    @abc.abstractmethod\n    def f(self): ...\n"
        "class Thing(Base):\n    def f(self): return 3\n"
    ),
    "named tuple": (
        "from typing import NamedTuple\nclass Row(NamedTuple):\n    x: int = 3\n"
        "class Thing:\n    def f(self): return Row().x\n"
    ),
    "slots": (
        "from dataclasses import dataclass\n@dataclass(slots=True)\nclass Thing:\n    x: int = 3\n"
        "    def f(self): return self.x\n"
    ),
    "enum": (
        "import enum\nclass Thing(enum.Enum):\n    A = 3\n    def f(self): return self.value\n"
        "def Thing(kind=Thing): return kind.A\n"
    ),
    "cached": (
        "import functools\n@functools.cache\ndef count(n): return n and 1 + count(n - 1)\n"
        "class Thing:\n    @functools.cached_property\n    def three(self): return count(3)\n"
        "    def f(self): return self.three\n"
    ),
}


@pytest.mark.parametrize("kind", CLASSES)
def test_a_notebooks_classes_travel(kind: str, tmp_path: Path) -> None:
    fit = notebook(f"{CLASSES[kind]}def fit(ctx):\n    return Thing().f()\n")
    told = captures.of_function(fit)
    assert [one for one in told if one.severity != "fine"] == []
    # What Python notes down about a class is none of what the user wrote.
    assert not [
        one.name for one in told if one.name.startswith(("dict.", "list.", "Thing._member"))
    ]
    (tmp_path / "function.pkl").write_bytes(functions.pickled(fit, told))
    code = "import cloudpickle; print(cloudpickle.load(open('function.pkl', 'rb'))(None))"
    # Another process, whose __main__ has none of it.
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (ran.stdout, ran.stderr) == ("3\n", "")


def test_what_is_used_in_static_methods_and_properties_is_found() -> None:
    source = (
        "class Thing:\n    @staticmethod\n    def a(): return lock\n"
        "    @classmethod\n    def b(cls): return first\n    @property\n    def c(self):\n"
        "        return second\ndef fit(ctx):\n    return Thing\n"
    )
    told = found(source, lock=threading.Lock(), first=1, second=2)
    assert told["Thing.lock"].severity == "error"
    assert {"Thing.first", "Thing.second"} <= told.keys()


@pytest.mark.parametrize("kind", ["", "async "])
def test_a_training_function_that_yields_is_refused(kind: str) -> None:
    fit = notebook(f"{kind}def fit(ctx):\n    yield 1\n")
    with pytest.raises(InvalidInput, match="has a yield"):
        functions.check(fit)
    with pytest.raises(InvalidInput, match=r"yield|async"):
        snapshot.check_cell(f"{kind}def train(ctx):\n    if ctx:\n        yield 1\n")
    snapshot.check_cell("def train(ctx):\n    def rows():\n        yield 1\n    list(rows())\n")
