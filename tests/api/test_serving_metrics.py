"""What Prometheus reads of each version beside the gateway's own counts."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from api_world import PREFIX, World
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from aiaas_hub.domain.ports import DoesNotAnswer
from aiaas_hub.schemas.endpoints import Sleep

# What differs between the databases is in tests/contract/test_records.py.
pytestmark = pytest.mark.parametrize("records_url", ["sqlite"], indirect=True)

DASHBOARD = Path(__file__).parents[2] / "hub_config" / "grafana" / "serving.json"


def text(world: World) -> str:
    token = world.home.secret("metrics_token")
    answer = world.client.get(f"{PREFIX}metrics", headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 200
    return answer.text


def samples(world: World) -> dict[str, list[Sample]]:
    found: dict[str, list[Sample]] = {}
    for family in text_string_to_metric_families(text(world)):
        for sample in family.samples:
            if sample.name.startswith("aiaas_endpoint_"):
                found.setdefault(sample.name.removeprefix("aiaas_endpoint_"), []).append(sample)
    return found


def test_a_versions_batches_queue_and_health(world: World) -> None:
    world.published()
    world.reconciler._check_health()
    found = samples(world)
    (healthy,) = found["healthy"]
    version = healthy.labels["version"]
    assert re.fullmatch(r"digits-[0-9a-f]+-v1", version)
    assert healthy.value == 1
    # The stand-in's three runs of four rows, for four requests that waited 2 ms together.
    within = {sample.labels["le"]: sample.value for sample in found["batch_rows_bucket"]}
    assert (within["1.0"], within["2.0"], within["4.0"], within["256.0"]) == (0, 0, 3, 3)
    assert within["+Inf"] == 3
    assert [s.value for s in found["batch_rows_sum"]] == [12]
    assert [s.value for s in found["queue_seconds_count"]] == [4]
    assert [s.value for s in found["queue_seconds_sum"]] == [0.002]
    assert [s.value for s in found["compute_seconds_sum"]] == [0.009]
    assert {sample.labels["version"] for many in found.values() for sample in many} == {version}
    assert "alice" not in version


def test_a_version_that_does_not_answer_is_not_healthy(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(*_: object) -> None:
        raise DoesNotAnswer("it is gone")

    world.published()
    assert not samples(world).get("healthy")
    monkeypatch.setattr(world.serving, "infer", dies)
    world.reconciler._check_health()
    assert [sample.value for sample in samples(world)["healthy"]] == [0]


def test_of_a_server_that_is_away_and_an_endpoint_that_sleeps_nothing_is_counted(
    world: World,
) -> None:
    world.published()
    world.reconciler._check_health()
    world.published("letters")
    world.published("digits", "user:bob")
    world.serving.ready = False
    world.serving.asked_counts = 0
    found = samples(world)
    assert "batch_rows_sum" not in found
    assert len(found["healthy"]) == 1
    # Once for each owner, not for each model: each time might take as long as a call may.
    assert world.serving.asked_counts == 2
    world.serving.ready = True
    assert len(samples(world)["batch_rows_sum"]) == 3
    assert world.services.endpoint_records.set_sleep("alice", "digits", None, Sleep.ASLEEP)
    assert len(samples(world)["batch_rows_sum"]) == 2
    assert "healthy" not in samples(world)


def test_the_serving_dashboard_asks_for_metrics_that_there_are(world: World) -> None:
    there = set(re.findall(r"^(?:# TYPE )?(aiaas_[a-z_]+)", text(world), re.M))
    world.published()
    world.reconciler._check_health()
    there |= set(re.findall(r"^(aiaas_[a-z_]+)", text(world), re.M))
    dashboard = json.loads(DASHBOARD.read_text())
    asked = {
        name
        for panel in dashboard["panels"]
        for target in panel["targets"]
        for name in re.findall(r"aiaas_[a-z_]+", target["expr"])
    }
    assert {"aiaas_endpoint_healthy", "aiaas_endpoint_batch_rows_bucket"} <= asked
    assert asked <= there
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in dashboard["panels"]]
    assert len(set(places)) == len(places) == len({panel["id"] for panel in dashboard["panels"]})
