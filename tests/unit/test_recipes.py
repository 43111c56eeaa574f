"""Recipes as a run executes them: the real context in one process, and in two joined by gloo."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import text_models
import torch
from contexts import LocalRun, local_run
from sklearn.datasets import load_diabetes, load_digits
from torch import nn
from two_workers import in_two_workers

from aiaas_hub.schemas.errors import InvalidInput
from aiaas_hub.schemas.models import Signature
from aiaas_hub.schemas.runs import EarlyStop
from aiaas_magics.runtime import causal_models
from aiaas_magics.runtime.context import Context
from aiaas_magics.runtime.recipes import RECIPES, find, optimisers, schedules
from aiaas_magics.runtime.recipes.evaluation import Confusion, Perplexity, Residuals
from aiaas_magics.runtime.recipes.parameters import OPTIMIZERS, SCHEDULES, Parameters
from aiaas_magics.runtime.recipes.rows import Shard, split


@pytest.fixture(scope="module")
def digits() -> pd.DataFrame:
    data = load_digits()
    return pd.DataFrame({"pixels": data.data.tolist(), "label": data.target})[:600]


def execute(run: LocalRun, recipe: str, **changes: Any) -> None:
    with run.attempt(**changes) as ctx:
        find(recipe).train(ctx)


def test_parameters_are_known_without_torch() -> None:
    code = (
        "import sys; from aiaas_magics.runtime.recipes import find; "
        "find('text-classifier').check({'model': 'x'}); print(find('causal-lm').help()); "
        "sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


@pytest.mark.parametrize("name", RECIPES)
def test_help_tells_every_parameter_with_its_type_and_default(name: str) -> None:
    recipe = find(name)
    text = recipe.help()
    for parameter, field in recipe.parameters.model_fields.items():
        assert f"\n  {parameter} " in text
        assert field.description
    assert f"--recipe {name}" in text
    assert max(map(len, text.splitlines())) <= 100


@pytest.mark.parametrize(
    ("recipe", "params", "says"),
    [
        ("tabular", {"target": "y", "learning_rate": 1}, "no parameter 'learning_rate'"),
        ("tabular", {"target": "y", "optimiser": "sgd"}, "did you mean 'optimizer'"),
        ("tabular", {}, "needs the parameter 'target'"),
        ("tabular", {"target": "y", "lr": "fast"}, "lr='fast' does not suit"),
        ("tabular", {"target": "y", "epochs": 2.5}, "a whole number ≥ 1"),
        ("tabular", {"target": "y", "optimizer": "lbfgs"}, "one of gd, sgd, momentum"),
        ("causal-lm", {"eval_split": 1.0}, "a number > 0, < 1"),
        ("text-classifier", {}, "needs the parameter 'model'"),
    ],
)
def test_parameters_are_refused_before_anything_is_sent(
    recipe: str, params: dict[str, Any], says: str
) -> None:
    with pytest.raises(InvalidInput, match=says) as refusal:
        find(recipe).check(params)
    assert "--param" in refusal.value.remedy or "%aiaas help recipe" in refusal.value.remedy


def test_an_unknown_recipe_says_which_there_are() -> None:
    with pytest.raises(InvalidInput, match="did you mean 'tabular'") as refusal:
        find("tabulr")
    assert "causal-lm" in refusal.value.remedy


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_descends(name: str) -> None:
    rates = {"adam": 0.1, "adamw": 0.1, "rmsprop": 0.05, "adagrad": 0.5}
    parameters = Parameters(optimizer=name, lr=rates.get(name, 0.2), weight_decay=0.001)
    torch.manual_seed(0)
    model, x = nn.Linear(3, 1), torch.randn(64, 3)
    y = x @ torch.tensor([[1.0], [-2.0], [0.5]])
    optimizer = optimisers.make(parameters, model.parameters())
    first = nn.functional.mse_loss(model(x), y).item()
    for _ in range(40):
        loss = nn.functional.mse_loss(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < first / 4
    assert {len(group["params"]) for group in optimizer.param_groups} == {1}
    assert optimizer.param_groups[1]["weight_decay"] == 0


def test_gradient_descent_takes_one_update_per_epoch() -> None:
    assert optimisers.batches_per_update(Parameters(optimizer="gd"), 17) == 17
    assert optimisers.batches_per_update(Parameters(optimizer="sgd", accumulate=4), 17) == 4


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_rise_in_the_warm_up_and_end_as_they_say(name: str) -> None:
    factors = [schedules.factor(name, update, 100, warmup=0.1) for update in range(101)]
    assert factors[:11] == sorted(factors[:11])
    assert max(factors) == factors[10] == 1
    ends = {"constant": 1.0, "cosine": 0.0, "linear": 0.0, "step": 0.01}
    assert factors[100] == pytest.approx(ends[name], abs=1e-9)
    assert factors[10:] == sorted(factors[10:], reverse=True)


def test_shards_cover_every_row_once_and_are_equally_long() -> None:
    training, held = split(103, 0.2, seed=1)
    assert sorted([*training, *held]) == list(range(103))
    shards = [Shard(training, 8, rank, 3, seed=1) for rank in range(3)]
    batches = [list(shard.in_order()) for shard in shards]
    assert {len(each) for each in batches} == {len(shards[0])}
    counted = [int(row) for each in batches for rows, first in each for row in rows[first]]
    assert sorted(counted) == sorted(training)
    orders = [
        [int(row) for rows in shards[0].shuffled(epoch) for row in rows] for epoch in (1, 2, 1)
    ]
    assert orders[0] == orders[2] != orders[1]
    with pytest.raises(InvalidInput, match="2 rows cannot be split"):
        split(2, 0.1, seed=0)


def test_measures_are_those_of_their_formulas() -> None:
    confusion = Confusion(["cat", "dog"])
    logits = torch.tensor([[2.0, 0], [0, 2.0], [0, 2.0], [2.0, 0]])
    confusion.add(logits, torch.tensor([0, 0, 1, 0]), torch.tensor([True, True, True, False]))
    assert confusion.counts == [[1, 1], [0, 1]]
    metrics = confusion.metrics()
    assert metrics["accuracy"] == pytest.approx(2 / 3)
    assert metrics["f1"] == pytest.approx(2 / 3)
    assert confusion.cells()["confusion/cat/dog"] == 1
    table = confusion.table().splitlines()
    assert table[1].split() == ["cat", "1", "1", "0.500"]
    assert table[3].split() == ["precision", "1.000", "0.500"]
    residuals = Residuals()
    residuals.add(torch.tensor([1.0, 4.0]), torch.tensor([1.0, 2.0]), torch.tensor([True, True]))
    assert residuals.metrics() == pytest.approx({"rmse": 2**0.5, "mae": 1.0, "r2": -7.0})
    perplexity = Perplexity()
    perplexity.add(
        torch.zeros(2, 5, 7), torch.ones(2, 5, dtype=torch.int64), torch.tensor([True] * 2)
    )
    assert perplexity.metrics()["perplexity"] == pytest.approx(7.0)


def test_tabular_classifies_numbers_and_texts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    random = np.random.default_rng(0)
    size, colour = random.random(400) * 1000, random.choice(["red", "green", "blue"], 400)
    kind = np.where((size > 500) ^ (colour == "red"), "large", "small")
    frame = pd.DataFrame({"size (cm)": size, "colour": colour, "kind": kind})
    frame.loc[:5, "size (cm)"] = np.nan
    frame.loc[6:9, "colour"] = None
    params = {"target": "kind", "epochs": 12, "lr": 0.01, "schedule": "cosine", "warmup": 0.1}
    with local_run(tmp_path, {"things": frame}, params) as run:
        execute(run, "tabular")
        assert run.values("accuracy")[-1] > 0.85
        assert len(run.values("eval_loss")) == 12
        assert run.recorded.progress is not None
        assert run.recorded.progress.step == run.recorded.progress.total
        model = run.model()
        assert [(i.name, i.type) for i in model.get_inputs()] == [
            ("size_cm", "tensor(float)"),
            ("colour", "tensor(int64)"),
        ]
        (logits,) = model.run(
            None, {"size_cm": np.float32([[900], [900]]), "colour": np.int64([[1], [3]])}
        )
        signature = run.recorded.model["signature"] if run.recorded.model else {}
        assert signature["labels"] == ["large", "small"]
        assert logits.argmax(1).tolist() == [0, 1]
        assert (
            sum(
                run.values(f"confusion/{a}/{b}")[0]
                for a in ("large", "small")
                for b in ("large", "small")
            )
            == 80
        )
    out = capsys.readouterr().out
    assert "codes of colour: blue=1, green=2, red=3" in out
    assert "true / predicted" in out


def test_tabular_regression_and_a_run_that_goes_on(tmp_path: Path) -> None:
    data = load_diabetes(as_frame=True)
    params = {"target": "target", "epochs": 4, "lr": 0.01, "width": 32}
    with local_run(tmp_path, {"diabetes": data.frame}, params) as run:
        execute(run, "tabular")
        steps = run.points[-1][0]
        execute(run, "tabular", params=params | {"epochs": 8})
        assert run.points[-1][0] == 2 * steps
        assert [int(epoch) for epoch in run.values("epoch")] == [1, 2, 3, 4, 5, 6, 7, 8]
        assert run.values("r2")[-1] > 0.3
        (answer,) = run.model().run(
            None, {name: np.zeros((3, 1), np.float32) for name in data.feature_names}
        )
        assert 100 < answer[0, 0] < 250


@pytest.mark.parametrize("network", ["cnn", "resnet"])
def test_images_are_classified(tmp_path: Path, digits: pd.DataFrame, network: str) -> None:
    params = {"epochs": 6, "lr": 0.01, "network": network, "width": 8, "batch_size": 32}
    with local_run(tmp_path, {"digits": digits}, params) as run:
        execute(run, "image-classifier")
        assert run.values("accuracy")[-1] > 0.8
        pixels = np.array(digits["pixels"].tolist(), np.float32).reshape(-1, 1, 8, 8)
        (logits,) = run.model().run(None, {"pixels": pixels[:100]})
        assert (logits.argmax(1) == digits["label"][:100]).mean() > 0.8


def test_images_of_one_column_per_pixel_and_early_stop(
    tmp_path: Path, digits: pd.DataFrame
) -> None:
    flat = pd.DataFrame(digits["pixels"].tolist()).add_prefix("p")
    flat["label"] = digits["label"]
    rule = EarlyStop(metric="accuracy", mode="max", threshold=0.05)
    with local_run(tmp_path, {"digits": flat}, {"epochs": 50}) as run:
        execute(run, "image-classifier", early_stop=rule)
        assert run.values("epoch") == [1]
        assert run.recorded.model is not None


@pytest.mark.parametrize(
    ("recipe", "params", "says"),
    [
        ("tabular", {"target": "price"}, "no column 'price'"),
        ("tabular", {"target": "label", "columns": "pixel"}, "no column 'pixel'"),
        ("image-classifier", {"height": 7}, "make no image of height 7"),
        ("image-classifier", {"stages": 6}, "cannot be halved 6 times"),
        ("image-classifier", {"pixels": "label"}, "dimensions a row"),
        ("text-classifier", {"model": "/no/such", "text": "label"}, "no folder '/no/such'"),
        ("causal-lm", {"text": "label", "model": "gpt2"}, "no folder 'gpt2'"),
        ("causal-lm", {"text": "label", "block": 32000}, "fewer than one block"),
        ("causal-lm", {"text": "label", "heads": 5}, "does not divide among 5 heads"),
    ],
)
def test_data_that_does_not_fit_is_said_with_a_remedy(
    tmp_path: Path, digits: pd.DataFrame, recipe: str, params: dict[str, Any], says: str
) -> None:
    with local_run(tmp_path, {"digits": digits}, params) as run:
        with pytest.raises(InvalidInput, match=says) as refusal:
            execute(run, recipe)
        assert refusal.value.remedy
        assert run.recorded.model is None


TOPICS = {
    "food": ["soup", "bread", "cheese", "butter", "apple", "rice"],
    "music": ["guitar", "piano", "violin", "drum", "song", "choir"],
}


def sentences(rows: int = 96) -> pd.DataFrame:
    random = np.random.default_rng(0)
    topics = random.choice(list(TOPICS), rows)
    texts = [f"i like {random.choice(TOPICS[t])} and {random.choice(TOPICS[t])}" for t in topics]
    return pd.DataFrame({"text": texts, "label": topics})


@pytest.fixture
def tiny_bert(tmp_path: Path) -> Path:
    return text_models.tiny_bert(tmp_path / "bert", sentences()["text"])


def test_texts_are_classified_from_token_ids(tmp_path: Path, tiny_bert: Path) -> None:
    from transformers import AutoTokenizer

    params = {"model": str(tiny_bert), "epochs": 6, "lr": 0.005, "batch_size": 16, "frozen": 1}
    with local_run(tmp_path, {"likes": sentences()}, params) as run:
        execute(run, "text-classifier")
        assert run.values("accuracy")[-1] > 0.8
        handed_over = run.recorded.model
        assert handed_over is not None
        # The endpoint takes texts; the model in the file takes what the tokenizer makes of them.
        signature = Signature.model_validate(handed_over["signature"])
        assert signature.takes_text
        assert [spec.kind for spec in signature.outputs] == [None, "label"]
        tokens = AutoTokenizer.from_pretrained(tiny_bert)(
            ["i like violin and choir", "i like rice"], padding=True, return_tensors="np"
        )
        (logits,) = run.model().run(
            None, {"input_ids": tokens.input_ids, "attention_mask": tokens.attention_mask}
        )
        assert logits.argmax(1).tolist() == [1, 0]


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_language_model_learns_the_bytes_of_texts(tmp_path: Path, method: str) -> None:
    params = {"epochs": 4, "lr": 0.01, "block": 32, "width": 32, "batch_size": 8, "method": method}
    with local_run(tmp_path, {"likes": sentences(160)}, params) as run:
        execute(run, "causal-lm")
        perplexity = run.values("perplexity")
        assert perplexity[-1] < (20 if method == "full" else 256)
        assert perplexity[-1] < perplexity[0]
        handed_over = run.recorded.model
        assert handed_over is not None
        # Its endpoint goes on with texts.
        signature = Signature.model_validate(handed_over["signature"])
        assert signature.generates
        assert [spec.shape for spec in signature.outputs] == [[256], [1]]


def test_what_no_endpoint_could_serve_is_refused_before_it_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(causal_models, "_MAX_WEIGHT_BYTES", 1000)
    with local_run(tmp_path, {"likes": sentences(160)}, {"block": 32}) as run:
        with pytest.raises(InvalidInput, match="of weights, and the one ONNX file"):
            execute(run, "causal-lm")
        assert run.values("perplexity") == []
    nothing = pd.DataFrame({"text": [""] * 400})
    empty = local_run(tmp_path / "empty", {"likes": nothing}, {"block": 8})
    with empty as run, pytest.raises(InvalidInput, match="held out are all empty"):
        execute(run, "causal-lm")


def test_two_workers_train_a_sharded_language_model_and_classify_together(tmp_path: Path) -> None:
    language = {
        "epochs": 2,
        "lr": 0.01,
        "block": 32,
        "batch_size": 4,
        "strategy": "fsdp",
        "precision": "bf16",
        "accumulate": 2,
    }
    table = {"target": "label", "columns": "x", "epochs": 4, "lr": 0.02, "optimizer": "momentum"}
    frame = sentences(303)
    frame["x"] = np.where(frame["label"] == "food", 1.0, -1.0) + np.linspace(-0.5, 0.5, 303)
    with local_run(tmp_path, {"likes": frame}) as run:
        jobs = [run.recorded.job.model_copy(update={"params": each}) for each in (language, table)]

        def train(ctx: Context) -> None:
            find("tabular" if "target" in ctx.params else "causal-lm").train(ctx)

        in_two_workers(run, jobs, train)

        assert run.values("perplexity")[-1] < 60
        assert run.values("accuracy")[-1] > 0.95
        cells = [f"confusion/{true}/{predicted}" for true in TOPICS for predicted in TOPICS]
        # No held-out row is counted twice, although the workers' shares are equally long.
        assert sum(run.values(cell)[0] for cell in cells) == 61
