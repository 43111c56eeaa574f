"""Canaries, comparisons and rollbacks as they are typed in a notebook."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from api_world import World
from notebook_shell import Notebook

import aiaas_magics
from aiaas_hub.domain.ports import ConvertedModel
from aiaas_hub.schemas.endpoints import CanaryPlan, ModelFigures, Sleep
from aiaas_hub.schemas.errors import InvalidInput
from aiaas_hub.schemas.statistics import Sample
from aiaas_magics.commands.command import duration
from aiaas_magics.endpoint_statistics import Statistics
from aiaas_magics.publishing import canary_plan, follow, publish
from aiaas_magics.served import reports
from aiaas_magics.version_comparison import VersionComparison, _binned


@pytest.fixture
def two(working: World, notebook: Notebook) -> None:
    """An endpoint with a version that serves and a canary."""
    working.model(onnx=b"one")
    notebook.run("%aiaas publish digits --model cnn")
    working.model(onnx=b"two")
    notebook.run("%aiaas publish digits --model cnn --canary 20")


@pytest.mark.usefixtures("two")
def test_a_canary_is_published_promoted_and_rolled_back(notebook: Notebook) -> None:
    endpoint = notebook.run("%aiaas endpoint digits")
    assert endpoint.traffic == {1: 80, 2: 20}
    shown = endpoint._repr_mimebundle_()
    text = str(shown["text/plain"])
    assert "Endpoint alice/digits [canary]" in text
    assert "waits for %aiaas promote or %aiaas rollback" in text
    assert "rollback: leads to version 1: 100 %" in text
    assert "canary: version 2" in str(shown["text/html"])
    assert "still being" not in notebook.refuses("%aiaas publish digits --model cnn")
    assert notebook.run("%aiaas promote digits --why better").traffic == {2: 100}
    assert notebook.run("%aiaas rollback digits").traffic == {1: 100}
    assert notebook.run("%aiaas traffic digits 1=70 2=30").traffic == {1: 70, 2: 30}
    first = endpoint.history()[0]
    assert (first.action, first.by, first.after) == ("traffic", "alice", {1: 70, 2: 30})
    assert [change.why for change in endpoint.history()][2] == "better"
    assert "better" in repr(endpoint.history())
    kept = notebook.run("%aiaas traffic digits 1=70 2=30 --sticky")
    assert "version 2: 30 %; each caller stays with one" in repr(kept)
    assert "sticky to a canary only" in notebook.refuses(
        "%aiaas publish digits --model cnn --sticky"
    )


@pytest.mark.usefixtures("two")
def test_a_canary_that_is_rolled_back_before_it_was_seen_was_published(notebook: Notebook) -> None:
    endpoint = notebook.run("%aiaas endpoint digits")
    endpoint.rollback("it was judged within a moment")
    assert follow(endpoint).traffic == {1: 100}
    assert "judged within a moment" in repr(endpoint)


@pytest.mark.usefixtures("two")
def test_what_cannot_be_meant_is_said(notebook: Notebook) -> None:
    assert "add up to 130 %" in notebook.refuses("%aiaas traffic digits 1=70 2=60")
    assert "named twice" in notebook.refuses("%aiaas traffic digits 1=50 1=50")
    assert "as in 2=10" in notebook.refuses("%aiaas traffic digits 50")
    assert "has no version 7" in notebook.refuses("%aiaas traffic digits 7=100")
    with pytest.raises(InvalidInput, match="'speed' is no limit"):
        canary_plan(10, 60, {"speed": 1})
    assert "Add bake=SECONDS" in notebook.refuses(
        "%aiaas publish digits --model cnn --max-slowdown 3"
    )
    notebook.run("%aiaas rollback digits")
    assert "no former version" in notebook.refuses("%aiaas rollback digits")
    assert "no canary" in notebook.refuses("%aiaas promote digits")
    assert "no endpoint" in notebook.refuses("%aiaas rollback nothing")


def test_a_shadow_is_published_and_seen_beside_what_serves(
    working: World, notebook: Notebook
) -> None:
    working.model(onnx=b"one")
    notebook.run("%aiaas publish digits --model cnn")
    working.model(onnx=b"two")
    endpoint = notebook.run("%aiaas publish digits --model cnn --shadow")
    assert endpoint.traffic == {1: 100}
    working.tick()
    text = str(endpoint._repr_mimebundle_()["text/plain"])
    assert "gets a copy of 100 % of the requests; waits for %aiaas promote" in text
    assert "0.0% of 4 held-out rows answered otherwise than by version 1" in text
    assert "shadow" in text.partition("requests")[2]
    shown = notebook.run("%aiaas endpoint digits --statistics")
    assert "copy of 100 %" in repr(shown)
    assert notebook.run("%aiaas rollback digits --why 'too slow'").traffic == {1: 100}
    assert "has no share" in notebook.refuses(
        "%aiaas publish digits --model cnn --shadow 50 --canary 10"
    )
    assert "give 1 to 100" in notebook.refuses("%aiaas publish digits --model cnn --shadow 0")
    endpoint = publish(aiaas_magics.models.get("cnn"), name="digits", shadow=30, bake=600)
    assert endpoint.refresh().versions[0].plan == CanaryPlan(
        percent=30, shadow=True, bake_seconds=600
    )


def test_options_of_serving(working: World, notebook: Notebook) -> None:
    working.model()
    endpoint = notebook.run(
        "%aiaas publish digits --model cnn --instances 2 --max-batch 3 --warm-up --timeout 2.5"
    )
    said = "in 2 instances, at most 3 rows a request, at most 2.5 s a request, warmed up"
    assert f"served: {said}" in repr(endpoint)
    assert "190.7 MiB of memory" in repr(endpoint)
    assert endpoint._record.largest_batch == 3
    same = {"instances": 2, "max_batch": 3, "warm_up": True, "timeout": 2.5}
    again = publish(aiaas_magics.models.get("cnn"), name="digits", **same)
    first, second = again._record.versions
    assert first.options == second.options
    assert "instances" in notebook.refuses("%aiaas publish digits --model cnn --instances 0")
    with pytest.raises(InvalidInput, match="max_batch"):
        publish(aiaas_magics.models.get("cnn"), name="digits", max_batch=1000)


def test_a_precision_is_told_with_what_it_changed(
    working: World, notebook: Notebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = [
        ModelFigures(size_bytes=size, p50_ms=ms, rows_per_second=rate)
        for size, ms, rate in ((4 << 20, 2.0, 800), (1 << 20, 1.5, 1000))
    ]

    @contextmanager
    def converted(onnx: Path, *_: object) -> Iterator[ConvertedModel]:
        yield ConvertedModel(onnx, *figures)

    monkeypatch.setattr(working.reconciler._publisher._converter, "converted", converted)
    working.model()
    endpoint = notebook.run("%aiaas publish digits --model cnn --precision int8")
    assert "served: in int8" in repr(endpoint)
    assert (
        "int8: 1.0 MiB instead of 4.0 MiB, 1.50 ms a row instead of 2.00, 1,000 rows a second "
        "instead of 800; 0.0% of 4 held-out rows answered otherwise, at most 2% allowed"
    ) in repr(endpoint)


def test_a_bake_is_shown_and_waited_for(working: World, notebook: Notebook) -> None:
    working.model(onnx=b"one")
    notebook.run("%aiaas publish digits --model cnn")
    working.model(onnx=b"two")
    endpoint = notebook.run("%aiaas publish digits --model cnn --bake 1 --max-disagreement 0.5")
    assert endpoint.wait(60).traffic == {2: 100}
    text = repr(endpoint)
    assert "promoted: It got no requests" in text
    assert "former" in text
    (version,) = [v for v in endpoint.refresh().versions if v.version == 2]
    assert version.plan is not None
    assert (version.plan.percent, version.plan.limits.max_disagreement) == (10, 0.5)
    assert "promoted: version 2" in repr(endpoint.history())
    assert "the platform" in repr(endpoint.history())


@pytest.mark.usefixtures("two", "gateway")
def test_compare(notebook: Notebook) -> None:
    rows = pd.DataFrame(
        {
            "a": [0.0, 0, 1, 2],
            "b": [5.0, 1, 1, 1],
            "c": [1.0, 2, 3, 4],
            "country": ["be", "be", "nl", "nl"],
        }
    )
    notebook.shell.user_ns["rows"] = rows
    seen: VersionComparison = notebook.run("%aiaas compare digits 1 2 rows --by country")
    # Version 2 negates the first two rows, whose largest values are then others.
    assert seen.same.tolist() == [False, False, True, True]
    assert seen.agreement == 0.5
    assert [(s.value, s.rows, s.agreement) for s in seen.slices] == [("be", 2, 0.0), ("nl", 2, 1.0)]
    worst = seen.largest[0]
    assert (worst.row, worst.first, worst.second, worst.distance) == (0, 1, 0, 20.0)
    assert [latency.rows for latency in seen.latency[1]] == [1, 4]
    text = repr(seen)
    assert "agreement: 50.0%: 2 of 4 rows answered alike" in text
    assert "be" in text
    assert "latency, 1 row: version 1: p50" in text
    # The same without a DataFrame.
    endpoint = notebook.run("%aiaas endpoint digits")
    x = rows[["a", "b", "c"]].to_numpy(np.float32)
    again = endpoint.compare(1, 2, x, by=np.array([1, 1, 2, 2]))
    assert [s.value for s in again.slices] == ["1", "2"]
    assert endpoint.last_version == 2
    assert (endpoint.predict(x, version=2)[0] == -2 * x[0]).all()
    assert "one version" in notebook.refuses("%aiaas compare digits 1 1 rows")
    assert "has no version 9" in notebook.refuses("%aiaas compare digits 1 9 rows")
    assert "no column 'town'" in notebook.refuses("%aiaas compare digits 1 2 rows --by town")
    assert "country" not in rows.drop(columns="country")


def test_a_column_of_many_numbers_is_cut_into_parts() -> None:
    parts = _binned(list(range(100)))
    assert len(set(parts)) == 4
    assert parts[0] == parts[24] == "0 to 24.75"
    assert parts[99] == "74.25 to 99"
    assert _binned([1, 2, 1]) == ["1", "2", "1"]
    assert _binned([float("nan"), *range(50)])[0] == "not a number"


def test_a_key_says_what_it_opens(working: World, notebook: Notebook) -> None:
    working.model()
    notebook.run("%aiaas publish digits --model cnn")
    key = notebook.run("key = %aiaas keys digits create --scope metadata --rate 5\nkey")
    assert (key.scope, key.rate) == ("metadata", 5)
    (route,) = working.gateway.routes
    assert route.rates == {key.id: 5}
    listed: Any = notebook.run("%aiaas keys digits")
    assert "5 a second" in repr(listed)
    notebook.run(f"%aiaas keys digits revoke {key.id}")
    (route,) = working.gateway.routes
    assert (route.rates, list(route.revoked)) == ({}, [key.id])


def test_a_plan_says_what_would_happen_and_does_nothing(working: World, notebook: Notebook) -> None:
    working.model(onnx=b"one")
    first = notebook.run("%aiaas publish digits --model cnn --plan")
    assert (first.ok, first.version, first.model) == (True, 1, "alice/cnn@1")
    text = repr(first)
    assert "version 1: 100 %, as the first one" in text
    assert "Triton loads 3 B of ONNX" in text
    assert "serves now" not in text
    assert not list(aiaas_magics.endpoints.list())
    assert not working.serving.calls

    endpoint = notebook.run("%aiaas publish digits --model cnn")
    working.model(onnx=b"two")
    line = "%aiaas publish digits --model cnn --canary 20 --sticky --bake 600 --instances 2 --plan"
    second = notebook.run(line)
    text = repr(second)
    assert "serves now: version 1 from alice/cnn@1: at most 0 apart on 4 held-out rows" in text
    assert "20 % for version 2, until its numbers decide, after 10 min" in text
    assert "the same caller always" in text
    assert "at most 1.0% more errors" in text
    assert "in 2 instances" in text
    assert "same without --plan" in text
    assert "<script" not in str(second._repr_mimebundle_()["text/html"])
    shadow = repr(notebook.run("%aiaas publish digits --model cnn@1 --shadow 30 --plan"))
    assert "stays version 1: 100 %; version 2 gets a copy of 30 %" in shadow
    assert "it took 95.4 MiB of memory at an earlier publish" in shadow
    assert endpoint.refresh().versions[0].version == 1

    notebook.run("%aiaas publish digits --model cnn --canary 20")
    refused = notebook.run("%aiaas publish digits --model cnn --plan")
    assert not refused.ok
    assert "a canary that nobody has judged" in repr(refused)
    assert "still being" not in repr(refused)
    assert "has a version" in notebook.refuses("%aiaas publish digits@1 --model cnn --plan")
    assert "no model" in notebook.refuses("%aiaas publish digits --model absent --plan")


def test_a_versions_report_stands_beside_the_formers(working: World, notebook: Notebook) -> None:
    working.model(onnx=b"one")
    endpoint = notebook.run("%aiaas publish digits --model cnn")
    assert reports(endpoint.refresh()) == []
    working.model(onnx=b"two")
    endpoint = notebook.run("%aiaas publish digits --model cnn --canary 20 --instances 2")
    (new, old) = reports(endpoint.refresh())
    assert (new[:2], old[:2]) == (["2", "alice/cnn@2"], ["1", "alice/cnn@1"])
    assert (new[-1], old[-1]) == ("190.7 MiB", "95.4 MiB")
    shown = endpoint._repr_mimebundle_()
    for part in ("apart", "rows a second", "190.7 MiB", "95.4 MiB"):
        assert part in str(shown["text/html"])
        assert part in str(shown["text/plain"])
    # The same when it has all requests, and when it is rolled back.
    notebook.run("%aiaas promote digits")
    assert [row[0] for row in reports(endpoint.refresh())] == ["2", "1"]
    notebook.run("%aiaas rollback digits")
    assert [row[0] for row in reports(endpoint.refresh())] == ["2", "1"]


def test_the_history_says_who_changed_what_and_why(working: World, notebook: Notebook) -> None:
    working.model(onnx=b"one")
    endpoint = notebook.run("%aiaas publish digits --model cnn --why 'for the shop'")
    working.model(onnx=b"two")
    model = aiaas_magics.models.get("cnn")
    publish(model, name="digits", canary=20, why="trained on June")
    notebook.run("%aiaas rollback digits --why 'not better'")
    working.model(onnx=b"three")
    notebook.run("%aiaas publish digits --model cnn --shadow --why 'to see'")
    notebook.run("%aiaas retire digits --why 'the shop closed'")
    history = list(endpoint.history())
    assert [(str(change.action), change.by, change.why) for change in reversed(history)] == [
        ("published", "alice", "for the shop"),
        ("canary", "alice", "trained on June"),
        ("rolled back", "alice", "not better"),
        ("shadow", "alice", "to see (It gets a copy of 100 % of the requests.)"),
        ("retired", "alice", "the shop closed"),
    ]
    assert "the shop closed" in repr(endpoint.history())
    with pytest.raises(InvalidInput, match="1000"):
        publish(model, name="digits", why="x" * 1001)


def test_a_models_card_and_its_aliases(working: World, notebook: Notebook) -> None:
    working.model(onnx=b"one")
    working.model(onnx=b"two")
    model = notebook.run("%aiaas model cnn@1 --alias champion --licence MIT --description 'A <b>'")
    assert (model.version, model.aliases, model.card.licence) == (1, ["champion"], "MIT")
    shown = model._repr_mimebundle_()
    assert "called: @champion" in str(shown["text/plain"])
    assert "A &lt;b&gt;" in str(shown["text/html"])
    assert notebook.run("%aiaas model cnn@champion").version == 1
    assert "@champion is 1" in repr(notebook.run("%aiaas models"))
    endpoint = notebook.run("%aiaas publish digits --model cnn@champion")
    assert endpoint.refresh().versions[0].model.version == 1
    assert notebook.run("%aiaas lineage cnn@champion").model == "alice/cnn@1"
    model.describe(metrics={"f1": 0.5})
    assert (model.card.licence, model.card.metrics) == ("MIT", {"f1": 0.5})
    assert "f1 0.5" in repr(model)
    assert notebook.run("%aiaas model cnn@champion --no-alias champion").aliases == []
    assert "is called champion" in notebook.refuses("%aiaas model cnn@champion")
    assert "cannot be an alias" in notebook.refuses("%aiaas model cnn --alias 7")


def test_how_long_a_request_waits_for_others(working: World, notebook: Notebook) -> None:
    working.model()
    endpoint = notebook.run("%aiaas publish digits --model cnn --batch-delay 2.5")
    assert endpoint.refresh().versions[0].options.batch_delay == 2.5
    assert "a request waits 2.5 ms for others" in repr(endpoint)
    endpoint = publish(aiaas_magics.models.get("cnn"), name="digits", batch_delay="off")
    assert endpoint.refresh().versions[0].options.batch_delay == "off"
    assert "each request a run of its own" in repr(endpoint)
    line = "%aiaas publish digits --model cnn --batch-delay"
    assert "neither milliseconds nor off" in notebook.refuses(f"{line} never")
    assert "1000" in notebook.refuses(f"{line} 2000")
    assert "as long as a request may take" in notebook.refuses(f"{line} 500 --timeout 0.5")


def test_an_endpoint_that_nobody_calls_sleeps(working: World, notebook: Notebook) -> None:
    working.model()
    endpoint = notebook.run("%aiaas publish digits --model cnn --idle 30m")
    assert endpoint.refresh().versions[0].options.idle_seconds == 1800
    assert "unloaded after 30 min without a call" in repr(endpoint)
    records = working.services.endpoint_records
    assert records.set_sleep("alice", "digits", None, Sleep.ASLEEP)
    assert "no: asleep, until somebody calls" in str(endpoint._repr_mimebundle_()["text/plain"])
    assert "version 1: 100 %; asleep" in repr(notebook.run("%aiaas endpoints"))
    assert endpoint.state == "serving"
    assert "'soon' is not a time such as 90s" in notebook.refuses(
        "%aiaas publish digits --model cnn --idle soon"
    )
    assert "greater than or equal to 1" in notebook.refuses(
        "%aiaas publish digits --model cnn --idle 0"
    )
    assert [duration(text) for text in ("90", "1.5m", "8h", "7d")] == [90, 90, 28_800, 604_800]


def test_statistics_are_a_table_and_curves(working: World, notebook: Notebook) -> None:
    working.model()
    endpoint = notebook.run("%aiaas publish digits --model cnn")
    seen = notebook.run("%aiaas endpoint digits --statistics")
    text = str(seen._repr_mimebundle_()["text/plain"])
    assert "not asked yet" in text
    assert "4.0 of at most 4" in text
    record = working.services.watching.of("alice", "digits")
    moments = [datetime(2030, 1, 1, 0, 0, second, tzinfo=UTC) for second in (0, 15, 30)]
    record.versions[0].samples = [
        Sample(
            at=at,
            requests_per_second=rate,
            errors_per_second=0,
            p50_ms=rate / 2,
            p99_ms=rate * 2,
            queue_ms=rate / 4,
        )
        for at, rate in zip(moments, (1, 5, 3), strict=True)
    ]
    record.versions[0].batch_sizes = {1: 5, 4: 3}
    drawn = Statistics(str(endpoint), record)
    rates, errors, *times, batches = drawn._panels()
    assert rates.title == "requests per second"
    assert rates.curves["version 1"].steps == [-30, -15, 0]
    assert rates.curves["version 1"].values == [1, 5, 3]
    assert errors.title == "errors per second"
    assert [(panel.title, panel.curves["version 1"].values) for panel in times] == [
        ("p50 in ms", [0.5, 2.5, 1.5]),
        ("p99 in ms", [2, 10, 6]),
        ("ms in the queue", [0.25, 1.25, 0.75]),
    ]
    assert batches.curves["version 1"].values == [5, 3]
    assert "requests per second" in str(drawn._repr_mimebundle_()["text/plain"])
    for sample in record.versions[0].samples:
        sample.p95_ms = sample.p50_ms
    html = str(Statistics(str(endpoint), record)._repr_mimebundle_()["text/html"])
    # All seven.
    assert "runs of the model by step" in html
    assert "not drawn" not in html


@pytest.mark.usefixtures("gateway")
def test_labels_out(working: World, notebook: Notebook) -> None:
    body = working.hand_over()
    body["signature"] = {**body["signature"], "labels": ["cat", "dog", "eel"]}
    working.ok("POST", "/models/alice/cnn/versions", json=body)
    endpoint = notebook.run("%aiaas publish animals --model cnn")
    x = np.array([[1, 0, 0], [0, 0, 3], [0, 2, 0]], np.float32)
    assert endpoint.classify(x) == ["cat", "eel", "dog"]
    working.model(onnx=b"none")
    notebook.run("%aiaas publish nameless --model cnn")
    nameless = notebook.run("%aiaas endpoint nameless")
    with pytest.raises(InvalidInput, match="has no labels"):
        nameless.classify(x)
