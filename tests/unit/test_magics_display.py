"""Displays: nothing that a user or a log wrote becomes markup, and there is always a plain text."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from typing import Any

import pytest

from aiaas_hub.schemas import datasets, endpoints, models, platform, runs
from aiaas_magics import display, plot
from aiaas_magics.dataset import Dataset, Preview
from aiaas_magics.display import Column, Listing, Note, Rich, Text
from aiaas_magics.endpoint import Endpoint
from aiaas_magics.keys import Key
from aiaas_magics.lineage import Lineage
from aiaas_magics.model import Model
from aiaas_magics.publishing import PublishView
from aiaas_magics.run import Run
from aiaas_magics.watching import RunView

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
    pinned = runs.PinnedModel(owner=EVIL, name="m", version=1)
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
        ),
    )  # fmt: skip
    key = endpoints.Key(
        id=EVIL, endpoint=EVIL, note=EVIL, created_at=NOW, expires_at=NOW, token="canary"
    )
    lineage = runs.Lineage(endpoint=EVIL, endpoint_version=1, run=a_run(), datasets=[])
    column: Column[str] = Column(EVIL, str)
    return [
        Dataset(CLIENT, dataset),
        Preview(EVIL, preview),
        Run(CLIENT, a_run()),
        Model(CLIENT, model),
        Key(key),
        Lineage(lineage),
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


@pytest.mark.parametrize("thing", things(), ids=lambda thing: type(thing).__name__)
def test_what_others_wrote_is_text(thing: Rich) -> None:
    bundle = thing._repr_mimebundle_()
    assert set(bundle) == {"text/html", "text/plain"}
    check_html(bundle["text/html"])
    assert "\x1b" not in bundle["text/plain"] + repr(thing)
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
    html = plot.html([runs.MetricPoint(step=s, time=0, values={"loss": 1 / s}) for s in (1, 2, 3)])
    assert html.startswith("<img alt=")
    assert 'src="data:image/svg+xml;base64,' in html


def test_a_plot_falls_back_to_text(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: object) -> bytes:
        raise ImportError("matplotlib")

    monkeypatch.setattr(plot, "_svg", missing)
    points = [runs.MetricPoint(step=s, time=0, values={"loss": 1 / s}) for s in (1, 2, 3)]
    assert "loss: 1 █▂▁ 0.3333" in plot.html(points)
    assert plot.html([]) == ""


@pytest.mark.parametrize("values", [[1.0, float("nan")], [float("nan")] * 3, [float("inf"), -1.0]])
def test_a_loss_that_is_no_number_is_shown(values: list[float]) -> None:
    points = [runs.MetricPoint(step=s, time=0, values={"loss": v}) for s, v in enumerate(values)]
    first, last = (display.number(value) for value in (values[0], values[-1]))
    assert plot.text(points).startswith(f"loss: {first} ")
    assert plot.text(points).endswith(f" {last}")
    picture = plot.html(points).partition("base64,")[2].rstrip('">')
    title = "loss (nan)" if last == "nan" else "loss"
    assert f">{title}<" in base64.b64decode(picture).decode()
    view = RunView(a_run())
    view.take(runs.Metrics(points=points, next_since=9))
    assert f"loss {last}" in view.line()


def test_many_points_are_thinned_with_the_last_kept() -> None:
    points = [runs.MetricPoint(step=s, time=0, values={"loss": s}) for s in range(50_000)]
    steps, _ = plot.series(points)["loss"]
    thin = plot._thin(steps, 600)
    assert len(thin) <= 601
    assert thin[-1] == 49_999
    assert len(plot.html(points)) < 100_000


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
