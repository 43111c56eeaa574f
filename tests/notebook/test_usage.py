"""`%aiaas usage` in a shell, against the real service."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from api_world import World
from notebook_shell import Notebook

import aiaas_magics as aiaas
from aiaas_hub.adapters.records.usage import SqlUsageRecords


@pytest.fixture
def used(world: World) -> World:
    """Alice had a server for two hours, on two days."""
    usage, now = SqlUsageRecords(world.database), datetime.now(UTC)
    usage.open_server("<b>alice", "alice", "small", 1, 0, 1.5, now - timedelta(hours=2))
    usage.close_server("<b>alice", now)
    (world.home.root / "quotas.yaml").write_text("default: {gpu_hours: 10, endpoints: 2}\n")
    return world


def since() -> str:
    return f"{datetime.now(UTC) - timedelta(days=1):%Y-%m-%d}"


def test_usage_as_table_bars_frame_and_csv(used: World, notebook: Notebook, tmp_path: Path) -> None:
    shown = notebook.run(f"%aiaas usage --by server --since {since()} --csv {tmp_path / 'u.csv'}")
    assert "<b>alice" in repr(shown)
    assert "3.00" in repr(shown)
    assert "GPU-hours 0 of 10, renews 1 " in repr(shown)
    html = shown._repr_mimebundle_()["text/html"]
    assert "<b>alice" not in html
    assert "&lt;b&gt;alice" in html
    frame = shown.to_pandas()
    assert frame.loc["<b>alice", "cost"] == pytest.approx(3, rel=0.01)
    assert frame.index.name == "server"
    assert (tmp_path / "u.csv").read_text().startswith("server,hours")
    bars = notebook.run(f"%aiaas usage --by profile --since {since()} --plot")
    assert "█" in repr(bars)
    assert 'role="progressbar"' in bars._repr_mimebundle_()["text/html"]
    assert len(aiaas.usage("day", since=since()).lines) in (1, 2)


def test_nothing_used_is_an_empty_table(world: World, notebook: Notebook) -> None:
    assert "all together  0.00" in repr(notebook.run("%aiaas usage"))
    assert len(aiaas.usage().to_pandas()) == 0
    notebook.run("%aiaas usage --plot")


def test_the_status_tells_what_is_left(used: World, notebook: Notebook) -> None:
    assert "endpoints 0 of 2" in repr(notebook.run("%aiaas"))


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("--since yesterday", "2026-01-31"),
        ("--since 2030-01-01", "later than"),
        ("--owner bob", "no such object"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    used: World, notebook: Notebook, line: str, says: str
) -> None:
    assert says in notebook.refuses(f"%aiaas usage {line}")


def test_a_report_is_json_as_the_service_sends_it(used: World) -> None:
    assert json.loads(aiaas.usage().record.model_dump_json())["by"] == "run"
