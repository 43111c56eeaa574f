"""Every name that the contract promises is there: it works, or it says `NotYet`."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import pytest
from IPython.core.error import UsageError

import aiaas_magics
from aiaas_hub.schemas.errors import NotYet
from aiaas_magics import not_yet
from aiaas_magics.commands import COMMANDS
from aiaas_magics.commands.train import parameter
from aiaas_magics.parsing import find, help_of, overview, parsers, split

# As in the contract, verb by verb; written out here so that nothing can vanish unnoticed.
VERBS = [
    *("help", "datasets", "register", "preview", "profile", "load", "sql", "train", "sweep"),
    *("runs", "run", "logs", "metrics", "cancel", "resume", "attach", "models", "model"),
    *("publish", "endpoints", "endpoint", "predict", "compare", "traffic", "promote"),
    *("rollback", "retire", "keys", "lineage", "panel", "usage"),
    *("dataset", "tag", "diff", "transform", "secret", "secrets"),
]

OPTIONS = {
    "register": ["--format"],
    "preview": ["-n", "--columns", "--where", "--sort", "--offset"],
    "load": ["--into", "--columns", "--where", "--limit"],
    "sql": ["--into", "--save", "--limit", "--engine"],
    "train": [
        "--name", "--dataset", "--workers", "--profile", "--gpus-per-worker",
        "--cpus-per-worker", "--param", "--retries", "--plan", "--smoke", "--detach", "--recipe",
    ],
    "transform": [
        "--from", "--to", "--batch-format", "--batch-size", "--split", "--seed", "--stratify",
        "--workers", "--profile", "--plan", "--smoke", "--detach",
    ],
    "sweep": ["--name", "--param", "--trials", "--metric", "--mode", "--dataset", "--detach"],
    "run": ["--mlflow", "--tensorboard"],
    "logs": ["-f"],
    "publish": ["--run", "--model", "--canary", "--bake"],
    "predict": ["--into"],
}  # fmt: skip

NAMES = {
    "datasets": ["list", "get", "put", "register", "upload"],
    "Dataset": ["name", "owner", "version", "schema", "to_pandas", "preview", "profile"],
    "runs": ["list", "get"],
    "Run": [
        "id", "name", "state", "logs", "metrics", "wait", "cancel", "resume", "model",
    ],
    "Sweep": ["best", "trials", "to_pandas", "model"],
    "models": ["list", "get", "register"],
    "Model": [],
    "endpoints": ["list", "get"],
    "Endpoint": ["name", "traffic", "predict", "rollback", "promote", "retire"],
    "train": [],
    "sweep": [],
    "plan": [],
    "smoke": [],
    "publish": [],
    "panel": [],
    "pixels": [],
    "Usage": ["to_pandas", "to_csv", "plot"],
    "usage": [],
    "secrets": ["list", "set", "delete"],
}  # fmt: skip


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_is_known(verb: str) -> None:
    works, promised = verb in COMMANDS, verb in not_yet.VERBS
    assert works != promised
    assert verb in overview()
    if promised:
        with pytest.raises(NotYet) as refusal:
            find(verb)
        assert refusal.value.remedy


def test_no_verb_is_known_that_the_contract_lacks() -> None:
    assert {*COMMANDS, *not_yet.VERBS} == set(VERBS)


@pytest.mark.parametrize(("verb", "option"), [(v, o) for v, os in OPTIONS.items() for o in os])
def test_every_option_is_known(verb: str, option: str) -> None:
    known = {o for action in parsers()[verb].actions for o in action.option_strings}
    assert option in known


@pytest.mark.parametrize(("name", "attribute"), [(n, a) for n, many in NAMES.items() for a in many])
def test_every_python_name_is_there(name: str, attribute: str) -> None:
    assert hasattr(getattr(aiaas_magics, name), attribute)


def test_the_lazy_names_are_the_public_ones() -> None:
    assert set(aiaas_magics.__all__) == set(aiaas_magics._HOME) == set(NAMES)
    assert set(NAMES) <= set(dir(aiaas_magics))
    for name in NAMES:
        assert getattr(aiaas_magics, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        aiaas_magics.nothing  # noqa: B018 - the access is the test


def test_help_tells_of_every_argument() -> None:
    for verb, parser in parsers().items():
        text = parser.format_help()
        for action in parser.actions:
            if action.help is argparse.SUPPRESS:
                continue
            assert action.help, f"{verb} {action.dest} has no help"
            assert action.help in " ".join(text.split())


@pytest.mark.parametrize("verb", COMMANDS)
def test_help_has_examples_that_can_be_typed(verb: str) -> None:
    examples = COMMANDS[verb].examples
    assert examples
    for example in examples:
        assert example.split("\n")[0] in help_of(parsers()[verb])
        head, _, cell = example.partition("\n")
        begun, _, line = head.partition("%aiaas ")
        assert begun.endswith("%") == bool(cell)
        words = split(line, {})
        assert words[0] == verb
        args = parsers()[verb].parse(words[1:])
        assert vars(args) is not None
        if cell and verb != "sql":
            compile(cell, verb, "exec")


def test_an_unknown_verb_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'datasets'"):
        find("datasts")


def test_an_unknown_option_names_the_nearest_and_is_never_guessed() -> None:
    with pytest.raises(UsageError, match="did you mean '--columns'"):
        parsers()["preview"].parse(["x", "--colums", "a"])
    with pytest.raises(UsageError, match="not known here"):
        parsers()["train"].parse(["--name", "x", "--work", "2"])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (".01", 0.01), ("1.", 1.0), ("1_000", 1000), ("-1e-3", -0.001), ("3", 3), ("true", True),
        ("False", False), ("null", None), ("None", None), ('"3"', "3"), ("adam", "adam"),
        ("007", "007"), ("1__0", "1__0"), ("[1]", "[1]"), ("a=b", "a=b"), ("", ""),
    ],
)  # fmt: skip
def test_a_parameter_is_what_it_looks_like(text: str, value: object) -> None:
    name, parsed = parameter(f"lr={text}")
    assert name == "lr"
    assert (parsed, type(parsed)) == (value, type(value))


def test_texts_name_only_commands_that_work() -> None:
    package = Path(aiaas_magics.__file__).parent
    for file in package.rglob("*.py"):
        text = file.read_text()
        # "%aiaas has …" and "%%aiaas needs …" speak of the magic itself.
        assert set(re.findall(r"%aiaas ([a-z]+)", text)) <= {*COMMANDS, "has", "needs"}, file
