"""Displays: nothing that a user or a log wrote becomes markup, and there is always a plain text."""

from __future__ import annotations

import base64
import math
from datetime import UTC, datetime
from typing import Any

import pytest

from aiaas_hub.schemas import datasets, endpoints, lineage, models, platform, runs
from aiaas_hub.schemas.lineage import DatasetLineage, LineageStep
from aiaas_magics import dataset_lineage, display, plot
from aiaas_magics.curves import MOST_POINTS, Curves, spans_decades
from aiaas_magics.dataset import Dataset
from aiaas_magics.display import Column, Listing, Note, Rich, Text
from aiaas_magics.endpoint import Endpoint
from aiaas_magics.keys import Key
from aiaas_magics.lineage import Lineage
from aiaas_magics.model import Model
from aiaas_magics.preview import Preview
from aiaas_magics.publishing import PublishView
from aiaas_magics.run import MIME_TYPE, Run
from aiaas_magics.run_view import RunView

EVIL = "<img src=x onerror=alert(1)>'\"&\x1b[31m\x1b]0;title\x07\u202e"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
CLIENT: Any = None
DIGEST = "0" * 64


def a_run() -> runs.Run:
    return runs.Run.model_validate(
        {
            "id": "run-1",
            "owner": EVIL,
            "name": "cnn",
            "state": "failed",
            "reason": EVIL,
            "attempt": 2,
            "snapshot": {"digest": DIGEST, "source": EVIL, "python": "3.11", "client": EVIL},
            "datasets": [{"owner": EVIL, "name": "d", "version": 1}],
            "params": {EVIL: EVIL},
            "resources": {},
            "retries": 0,
            "created_at": NOW,
            "started_at": NOW,
            "finished_at": NOW,
            "error": {"message": EVIL, "remedy": EVIL, "traceback": EVIL},
            "last_metrics": {EVIL: 1.0},
        }
    )


def a_signature() -> models.Signature:
    spec = models.TensorSpec(name=EVIL, dtype="float32", shape=[None, 8])
    return models.Signature(inputs=[spec], outputs=[spec], labels=[EVIL])


def an_endpoint() -> endpoints.Endpoint:
    pinned = models.PinnedModel(owner=EVIL, name="m", version=1)
    version = endpoints.EndpointVersion(
        version=1,
        model=pinned,
        state=endpoints.EndpointState.FAILED,
        created_at=NOW,
        created_by=EVIL,
        parity=endpoints.Parity(max_abs=1e-7, rows=3, batches=[1, 3], p50_ms=1, p99_ms=2),
        error=EVIL,
    )
    return endpoints.Endpoint(
        owner=EVIL,
        name="e",
        state=version.state,
        traffic={1: 100},
        versions=[version],
        signature=a_signature(),
        url=f"http://g/{EVIL}/e",
        created_at=NOW,
        updated_at=NOW,
    )


def a_run_view() -> RunView:
    view = RunView(a_run())
    view.take(runs.LogChunk(text=f"{EVIL}\nrest {EVIL}", next_offset=1, complete=False))
    point = runs.MetricPoint(step=1, time=0, values={EVIL: 1.0, "$x_": float("nan")})
    view.take(runs.Metrics(points=[point], next_since=1))
    return view


def things() -> list[Any]:
    columns = [datasets.Column(name=EVIL, type=EVIL)]
    dataset = datasets.Dataset(
        owner=EVIL,
        name="d",
        created_at=NOW,
        updated_at=NOW,
        latest=datasets.DatasetVersion(
            version=1, created_at=NOW, format="csv", digest=DIGEST, size=1, rows=1,
            columns=columns, source=EVIL,
        ),
    )  # fmt: skip
    preview = datasets.Preview(
        columns=columns, rows=[[EVIL], [None], [1.5], [[EVIL]]], total_rows=9, truncated=True
    )
    model = models.Model(
        owner=EVIL,
        name="m",
        created_at=NOW,
        updated_at=NOW,
        latest=models.ModelVersion(
            owner=EVIL, name="m", version=1, created_at=NOW, signature=a_signature(),
            onnx=DIGEST, size=1, export_max_abs=0, framework=EVIL, run_id=EVIL,
            card=models.Card(description=EVIL, licence=EVIL, metrics={EVIL: 1.0}),
        ),
        aliases={EVIL: 1},
    )  # fmt: skip
    card = Model(CLIENT, model)
    card._run = a_run()
    key = endpoints.Key(
        id=EVIL, endpoint=EVIL, note=EVIL, created_at=NOW, expires_at=NOW, token="canary"
    )
    told = lineage.Lineage(endpoint=EVIL, endpoint_version=1, run=a_run(), datasets=[])
    made_of = DatasetLineage(
        steps=[
            LineageStep(
                dataset=runs.PinnedDataset(owner=EVIL, name="d", version=1),
                source=EVIL,
                origin=datasets.Origin(kind="query", by=EVIL, sql=EVIL),
            )
        ]
    )
    column: Column[str] = Column(EVIL, str)
    return [
        Dataset(CLIENT, dataset),
        Preview(EVIL, preview),
        Run(CLIENT, a_run()),
        card,
        Key(key),
        Lineage(told),
        dataset_lineage.DatasetLineage(made_of),
        Note(EVIL),
        Text(EVIL),
        Listing([EVIL], [column], empty=EVIL),
        Listing([], [column], empty=EVIL),
    ]


def check_html(html: str) -> None:
    assert "<img src=x" not in html
    assert "onerror=alert(1)>'" not in html
    assert "\x1b" not in html
    assert "\u202e" not in html
    assert "<script" not in html


@pytest.mark.parametrize(
    "sequence", ["\x1b[1;31m", "\x1b(B", "\x1b]0;title\x07", "\x1b]8;;http://x\x1b\\", "\x1bM"]
)
def test_escape_sequences_leave_nothing(sequence: str) -> None:
    assert display.clean(f"a{sequence}b") == "ab"


@pytest.mark.parametrize("thing", things(), ids=lambda thing: type(thing).__name__)
def test_what_others_wrote_is_text(thing: Rich) -> None:
    bundle = thing._repr_mimebundle_()
    assert set(bundle) - {MIME_TYPE} == {"text/html", "text/plain"}
    check_html(str(bundle["text/html"]))
    assert "\x1b" not in str(bundle["text/plain"]) + repr(thing)
    assert "canary" not in str(bundle) + repr(thing)


def test_what_is_followed_is_text_too() -> None:
    endpoint = Endpoint(CLIENT, an_endpoint())
    check_html(endpoint._html())
    for view in (a_run_view(), PublishView(an_endpoint(), 1)):
        check_html(view.html())
        assert "\x1b" not in view.text() + view.line()


@pytest.mark.parametrize("reason", ["starting workers", "Job has not started yet."])
def test_a_run_that_starts_says_what_goes_on(reason: str) -> None:
    record = a_run().model_copy(update={"state": runs.RunState.STARTING, "reason": reason})
    view = RunView(record)
    for said in (view.line(), view.html(), Run(CLIENT, record)._html()):
        assert "Ray is starting the workers" in said
        assert "waits for" not in said
        assert reason not in said
    queued = {"state": runs.RunState.QUEUED, "reason": "waits for one of your 4 runs to end"}
    assert "now: waits for one" in repr(Run(CLIENT, record.model_copy(update=queued)))
    view.take(record.model_copy(update={"reason": "cancelling"}))
    assert "cancelling" in view.line()
    view.take(record.model_copy(update={"state": runs.RunState.RUNNING, "reason": ""}))
    assert "Ray" not in view.line()


def test_an_active_picture_is_an_image_that_runs_nothing() -> None:
    html = plot.html(panels({"loss": [1, 0.5, 0.25]}))
    assert html.startswith("<img alt=")
    assert 'src="data:image/svg+xml;base64,' in html


def test_the_counts_of_a_table_are_no_curves() -> None:
    counts = {f"confusion/{a}/{b}": [3.0] for a in "xyz" for b in "xyz"}
    assert [panel.title for panel in panels({**counts, "loss": [1, 0.5]})] == ["loss"]


def test_a_plot_falls_back_to_text(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: object) -> bytes:
        raise ImportError("matplotlib")

    monkeypatch.setattr(plot, "_svg", missing)
    assert "loss: 1 █▂▁ 0.3333" in plot.html(panels({"loss": [1, 1 / 2, 1 / 3]}))
    assert plot.html([]) == ""


@pytest.mark.parametrize("values", [[1.0, float("nan")], [float("nan")] * 3, [float("inf"), -1.0]])
def test_a_loss_that_is_no_number_is_shown(values: list[float]) -> None:
    points = [runs.MetricPoint(step=s, time=0, values={"loss": v}) for s, v in enumerate(values)]
    first, last = (display.number(value) for value in (values[0], values[-1]))
    shown = panels({"loss": values})
    assert plot.text(shown).startswith(f"loss: {first} ")
    assert plot.text(shown).endswith(f" {last}")
    picture = plot.html(shown).partition("base64,")[2].rstrip('">')
    title = "loss (nan)" if last == "nan" else "loss"
    assert f">{title}<" in base64.b64decode(picture).decode()
    view = RunView(a_run())
    view.take(runs.Metrics(points=points, next_since=9))
    assert f"loss {last}" in view.line()


def panels(metrics: dict[str, list[float]]) -> list[plot.Panel]:
    return plot.panels(Curves(points_of(metrics)))


def points_of(metrics: dict[str, list[float]]) -> list[runs.MetricPoint]:
    """A metric's values are of the steps 0, 1, …, each reported by itself."""
    return [
        runs.MetricPoint(step=step, time=step, values={name: value})
        for name, values in metrics.items()
        for step, value in enumerate(values)
    ]


def svg(html: str) -> str:
    return base64.b64decode(html.partition("base64,")[2].partition('"')[0]).decode()


def test_many_points_are_thinned_with_what_matters_kept() -> None:
    values = [1.0] * 50_000
    values[12_345], values[23_456], values[34_567] = 99.0, -99.0, float("nan")
    values[-1] = 7.0
    curve = Curves(points_of({"loss": values}))["loss"]
    assert len(curve.values) <= MOST_POINTS
    assert curve.last == 7
    assert curve.steps[-1] == 49_999
    assert curve.best(lowest=True) == (-99, 23_456)
    assert curve.best(lowest=False) == (99, 12_345)
    assert any(math.isnan(value) for value in curve.values)
    assert len(plot.html(plot.panels(Curves(points_of({"loss": values}))))) < 100_000


def test_a_metric_that_is_reported_in_turn_with_another_is_kept() -> None:
    curves = Curves()
    for step in range(5000):
        name = "loss" if step % 2 else "val_loss"
        curves.add([runs.MetricPoint(step=step, time=step, values={name: step})])
    assert len(curves["loss"].values) > 500
    assert len(curves["val_loss"].values) > 500


def test_training_and_validation_share_axes() -> None:
    shown = panels({"train_loss": [2, 1], "val_loss": [3, 2], "loss/test": [4], "lr": [0.1]})
    assert [(panel.title, list(panel.curves)) for panel in shown] == [
        ("loss", ["test", "train", "val"]),
        ("lr", ["lr"]),
    ]
    picture = svg(plot.html(shown))
    assert ">train<" in picture
    assert ">val<" in picture


def test_a_range_of_decades_has_a_logarithmic_axis() -> None:
    falling = [10.0 ** -(step / 3) for step in range(20)]
    assert spans_decades(falling)
    assert not spans_decades([*falling, 0.0])
    assert not spans_decades([3.0, 2.0, 1.0])
    # Its ticks are powers of ten, written as such.
    drawn = svg(plot.html(panels({"loss": falling})))
    assert ">0.0001<" in drawn
    assert "mathdefault" not in drawn
    assert svg(plot.html(panels({"loss": falling}))) != svg(
        plot.html(panels({"loss": [*falling, 0.0]}))
    )


def test_more_metrics_than_are_drawn_are_named() -> None:
    html = plot.html(panels({f"metric{n}": [1.0, 2.0] for n in range(9)}))
    assert "not drawn: metric6, metric7, metric8" in html


def running(**more: Any) -> runs.Run:
    update = {"state": runs.RunState.RUNNING, "error": None, "reason": "", "finished_at": None}
    return runs.Run.model_validate({**a_run().model_dump(), **update, **more})


def test_progress_says_how_long_it_takes_yet() -> None:
    view = RunView(running(progress={"step": 0, "total": 500}))
    assert "step 0 of 500" in view.line()
    assert "left" not in view.line()
    points = [runs.MetricPoint(step=s, time=2.0 * s, values={"loss": 1}) for s in range(101)]
    view.take(runs.Metrics(points=points, next_since=101))
    assert "step 100 of 500 · 2.0 s a step · about 13 min 20 s left" in view.line()
    assert 'aria-valuenow="20"' in view.html()
    # A run that goes on from step 100 is not taken to have made all of them.
    view = RunView(running(progress={"step": 100, "total": 500}))
    points = [runs.MetricPoint(step=s, time=s, values={"loss": 1}) for s in range(100, 111)]
    view.take(runs.Metrics(points=points, next_since=11))
    assert "about 6 min 30 s left" in view.line()
    view.take(running(state="succeeded", progress={"step": 500, "total": 500}))
    assert "left" not in view.line()
    assert "progressbar" not in view.html()
    # Without a total there is no end to tell.
    assert "of" not in RunView(running(name="x", progress={"step": 3}, last_metrics={})).line()


@pytest.mark.parametrize(
    ("position", "said"),
    [(1, "1st"), (2, "2nd"), (3, "3rd"), (4, "4th"), (11, "11th"), (22, "22nd")],
)
def test_a_queued_run_says_what_it_waits_for(position: int, said: str) -> None:
    place = {
        "position": position,
        "blocked_by": "Waits for 2 CPUs, which run-7 holds.",
        "remedy": "with --workers 1 it would start now",
    }
    record = running(state="queued", queue=place)
    sentence = (
        f"{said} in the queue: waits for 2 CPUs, which run-7 holds; "
        "with --workers 1 it would start now"
    )
    for shown in (RunView(record).line(), RunView(record).html(), repr(Run(CLIENT, record))):
        assert sentence in shown
        assert "its turn" not in shown
    record = running(state="queued", queue={**place, "expected_seconds": 240})
    expected = "its turn comes in about 4 min, if the runs before it take as long as runs usually"
    for shown in (RunView(record).line(), RunView(record).html(), repr(Run(CLIENT, record))):
        assert f"{sentence}; {expected}" in " ".join(shown.split())


def test_workers_have_their_resources_and_their_own_logs() -> None:
    usage = [
        {"worker": rank, "host": EVIL, "cpu_percent": 99.6, "memory_bytes": 3 << 30,
         "memory_total_bytes": 12 << 30, "gpu_percent": gpu, "gpu_memory_bytes": 1 << 30}
        for rank, gpu in ((0, None), (1, 55.0))
    ]  # fmt: skip
    record = running(resources={"workers": 2}, usage=usage)
    view = RunView(record)
    for text in ("[0] zero\n[1] o", "ne\n[aiaas] saved\n[12] no\nunsigned\n[1] tail"):
        view.take(runs.LogChunk(text=text, next_offset=1, complete=False))
    html = view.html()
    check_html(html)
    assert "3.0 GiB of 12.0 GiB" in html
    assert "55 % · 1.0 GiB" in html
    # What is known of a GPU does not wait for the rest.
    assert ">1.0 GiB</td>" in html
    alone = RunView(running(usage=[usage[0]])).html()
    assert ">GPU<" in alone
    assert "1.0 GiB" in alone
    without = RunView(running(usage=[{**usage[0], "gpu_memory_bytes": None}])).html()
    assert ">GPU<" not in without
    for box in ("worker 0", "worker 1", "platform"):
        assert box in html
    assert view.log_tail.splitlines() == [
        "[0] zero", "[1] one", "[1] tail", "[12] no", "[platform] saved", "[platform] unsigned",
    ]  # fmt: skip
    one = RunView(record, worker=1)
    one.take(runs.LogChunk(text="[0] zero\n[1] one\n", next_offset=1, complete=False))
    assert one.log_tail == "one"
    # With one worker nothing is taken for a prefix.
    alone = RunView(running())
    alone.take(runs.LogChunk(text="[0] is a list\n", next_offset=1, complete=False))
    assert alone.log_tail == "[0] is a list"


def test_a_display_stays_small_whatever_a_run_writes() -> None:
    view = RunView(running(resources={"workers": 64}))
    for step in range(100):
        lines = "".join(f"[{rank}] {'x' * 1000} {step}\n" for rank in range(64))
        view.take(runs.LogChunk(text=lines, next_offset=1, complete=False))
        points = [
            runs.MetricPoint(step=step * 100 + i, time=i, values={f"m{k}": i for k in range(20)})
            for i in range(100)
        ]
        view.take(runs.Metrics(points=points, next_since=1))
    assert len(view.html()) < 250_000
    assert len(view.text()) < 50_000
    long = Text("".join(f"line {n}\n" for n in range(100_000)))
    assert len(long._html()) < 150_000
    assert "of 100,001 lines" in long._html()
    assert repr(long).endswith("line 99999\n")
    assert "lines;" not in Text("short\n")._html()


def test_a_progress_bar_shows_its_last_state() -> None:
    view = RunView(a_run())
    for text in ("10 %\r50 %\r", "100 %\nnext", " line\n"):
        view.take(runs.LogChunk(text=text, next_offset=1, complete=False))
    assert view.log_tail == "100 %\nnext line"


@pytest.mark.parametrize(
    ("count", "said"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (3 << 40, "3.0 TiB")]
)
def test_sizes(count: int, said: str) -> None:
    assert display.size(count) == said


def test_states_have_names_that_are_shown() -> None:
    for states in (runs.RunState, endpoints.EndpointState, platform.EngineState):
        for state in states:
            assert f">{state}<" in display.badge(state)
