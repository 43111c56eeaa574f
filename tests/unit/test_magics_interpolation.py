"""`{expression}` in a line: filled in, left alone or refused, and never split into words."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from IPython.core.error import UsageError

from aiaas_magics.parsing import split

NAMES: dict[str, Any] = {
    "run": SimpleNamespace(id="run-7k3f"),
    "name": "two words",
    "quote": 'it\'s "quoted"',
    "n": 3,
}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("run {run.id}", ["run", "run-7k3f"]),
        ("x --param lr={n / 2}", ["x", "--param", "lr=1.5"]),
        ("load {name} --into df", ["load", "two words", "--into", "df"]),
        ("x {quote}", ["x", 'it\'s "quoted"']),
        ("x '{name} and more'", ["x", "two words and more"]),
        ("x {unknown}", ["x", "{unknown}"]),
        ("x {}", ["x", "{}"]),
        ("x '{\"a\": 1}'", ["x", '{"a": 1}']),
        ("x {{n}}", ["x", "{n}"]),
        ("x {n", ["x", "{n"]),
        ("x {[i for i in range(n)]}", ["x", "[0, 1, 2]"]),
        ('--where "a > 3"', ["--where", "a > 3"]),
        ("", []),
    ],
)
def test_words(line: str, words: list[str]) -> None:
    assert split(line, NAMES) == words


def test_an_expression_that_fails_is_an_error() -> None:
    with pytest.raises(UsageError, match=r"\{run.idd\} cannot be evaluated: AttributeError"):
        split("run {run.idd}", NAMES)


def test_an_open_quote_is_an_error() -> None:
    with pytest.raises(UsageError, match="not closed"):
        split("run 'x", NAMES)


def test_expressions_do_not_change_the_notebook() -> None:
    names = dict(NAMES)
    split("x {(leaked := 5)}", names)
    assert names.keys() == NAMES.keys()
