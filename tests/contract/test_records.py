"""What the records keep to when several callers come at once, on each kind of database."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from itertools import pairwise
from typing import Any

import pytest

from aiaas_hub.adapters.records import datasets
from aiaas_hub.adapters.records.database import Database
from aiaas_hub.adapters.records.datasets import SqlDatasetRecords
from aiaas_hub.adapters.records.endpoints import SqlEndpointRecords
from aiaas_hub.adapters.records.runs import SqlRunRecords
from aiaas_hub.domain import traffic
from aiaas_hub.domain.records import Deployment
from aiaas_hub.domain.runs import new_run_id
from aiaas_hub.schemas.datasets import Column, DatasetVersion
from aiaas_hub.schemas.endpoints import CanaryPlan, EndpointState, EndpointVersion, Sleep
from aiaas_hub.schemas.errors import Conflict
from aiaas_hub.schemas.models import PinnedModel
from aiaas_hub.schemas.runs import Resources, Run, RunState, Snapshot

NOW = datetime.now(UTC)
ROUNDS = 12
LIVE = [RunState.QUEUED, RunState.STARTING]


@pytest.fixture
def database(records_url: str) -> Iterator[Database]:
    database = Database(records_url)
    database.migrate()
    yield database
    database.close()


def at_once(*calls: Callable[[], Any]) -> list[Any]:
    """What each call gave, all of them started at the same moment."""
    barrier = threading.Barrier(len(calls))
    results: list[Any] = [None] * len(calls)

    def run(position: int) -> None:
        barrier.wait()
        try:
            results[position] = calls[position]()
        except Exception as error:
            results[position] = error

    threads = [threading.Thread(target=run, args=(position,)) for position in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def a_run() -> Run:
    return Run(
        id=new_run_id(),
        owner="ada",
        name="cnn",
        state=RunState.QUEUED,
        attempt=1,
        snapshot=Snapshot(digest="0" * 64, python="3.11", client="0"),
        datasets=[],
        params={},
        resources=Resources(),
        retries=0,
        created_at=NOW,
    )


def test_a_run_ends_once(database: Database) -> None:
    records = SqlRunRecords(database)
    for _ in range(ROUNDS):
        run = records.add(a_run(), None)
        records.transition(run.id, 1, LIVE, RunState.STARTING)
        ended = at_once(
            lambda run=run: records.transition(run.id, 1, LIVE, RunState.SUCCEEDED),
            lambda run=run: records.transition(run.id, 1, LIVE, RunState.CANCELLED),
        )
        (winner,) = [found for found in ended if found is not None]
        found = records.get(run.id)
        assert found is not None
        assert found.state == winner.state


def test_one_key_submits_once(database: Database) -> None:
    records = SqlRunRecords(database)
    for number in range(ROUNDS):
        added = at_once(*[lambda n=number: records.add(a_run(), f"key-{n}")] * 2)
        assert added[0].id == added[1].id


def test_one_of_two_judges_is_heard(database: Database) -> None:
    """A promotion and a rollback at the same moment: the second sees what the first did."""
    records = SqlEndpointRecords(database)
    for number in range(ROUNDS):
        name = f"e{number}"
        for version in (1, 2):
            added = records.add_version(
                "ada",
                name,
                EndpointVersion(
                    version=1,
                    model=PinnedModel(owner="ada", name="cnn", version=1),
                    state=EndpointState.STAGING,
                    created_at=NOW,
                    created_by="ada",
                    plan=CanaryPlan(percent=10),
                ),
                "cnn-1",
                None,
            )
            assert added.version == version
            for state, new in pairwise(
                (EndpointState.STAGING, EndpointState.VERIFYING, EndpointState.CANARY)
            ):
                records.transition(added, state, new)
            begun = records.change("ada", name, lambda e, v=version: traffic.begin(e, v), by="ada")
            assert begun
            if version == 1:
                records.transition(added, EndpointState.CANARY, EndpointState.SERVING)
        changed = at_once(
            lambda name=name: records.change(
                "ada", name, lambda e: traffic.promote(e, "good"), by="ada"
            ),
            lambda name=name: records.change(
                "ada", name, lambda e: traffic.roll_back(e, "ada", "bad"), by="ada"
            ),
        )
        endpoint = records.get("ada", name)
        assert endpoint is not None
        page = records.changes("ada", name, None, 10)
        if changed[0] is True:
            # The rollback came second, and took back the promotion.
            assert [change.action for change in page.items[:2]] == ["rolled back", "promoted"]
            assert endpoint.versions[0].state is EndpointState.SERVING
        else:
            assert isinstance(changed[0], Conflict)
            assert endpoint.versions[0].state is EndpointState.FAILED
        assert endpoint.traffic == {1: 100}
        assert [change.action for change in page.items[-2:]] == ["canary", "published"]


def test_an_endpoint_is_put_to_sleep_once_and_not_while_anything_is_on_its_way(
    database: Database,
) -> None:
    records = SqlEndpointRecords(database)
    sleep = partial(records.set_sleep, "ada", "sleeper")

    def add(plan: CanaryPlan | None = None) -> Deployment:
        return records.add_version(
            "ada",
            "sleeper",
            EndpointVersion(
                version=1,
                model=PinnedModel(owner="ada", name="cnn", version=1),
                state=EndpointState.STAGING,
                created_at=NOW,
                created_by="ada",
                plan=plan,
            ),
            "cnn-1",
            None,
        )

    def state() -> Sleep | None:
        endpoint = records.get("ada", "sleeper")
        assert endpoint is not None
        return endpoint.sleep

    def serve(added: Deployment) -> None:
        for old, new in pairwise(
            (EndpointState.STAGING, EndpointState.VERIFYING, EndpointState.CANARY)
        ):
            assert not sleep(None, Sleep.ASLEEP)
            records.transition(added, old, new)
        records.change("ada", "sleeper", lambda e: traffic.begin(e, added.version), by="ada")

    first = add()
    serve(first)
    records.transition(first, EndpointState.CANARY, EndpointState.SERVING)
    assert state() is None
    assert sorted(map(bool, at_once(*[lambda: sleep(None, Sleep.ASLEEP)] * 2))) == [False, True]
    assert state() is Sleep.ASLEEP
    assert not sleep(Sleep.WAKING, None)
    assert sleep(Sleep.ASLEEP, Sleep.WAKING)
    assert sleep(Sleep.WAKING, None)
    # Who publishes to it or changes its traffic wakes it; a canary that is not judged keeps it so.
    assert sleep(None, Sleep.ASLEEP)
    serve(add(CanaryPlan(percent=10)))
    assert state() is Sleep.WAKING
    assert sleep(Sleep.WAKING, None)
    assert not sleep(None, Sleep.ASLEEP)
    records.change("ada", "sleeper", lambda e: traffic.promote(e, "good"), by="ada")
    assert sleep(None, Sleep.ASLEEP)
    records.change("ada", "sleeper", lambda e: traffic.roll_back(e, "ada", "bad"), by="ada")
    assert state() is Sleep.WAKING
    records.retire("ada", "sleeper", "ada")
    assert state() is None
    assert not sleep(None, Sleep.ASLEEP)


def test_a_run_that_holds_nul_does_not_keep_the_queue_from_being_read(database: Database) -> None:
    records = SqlRunRecords(database)
    nasty = {"a": "\0", "b": "\\u0000", "c": "\\\0", "\0": 1}
    run = records.add(a_run().model_copy(update={"params": nasty}), None)
    assert [contender.id for contender in records.contenders()] == [run.id]
    found = records.get(run.id)
    assert found is not None
    assert found.params == {"a": "\ufffd", "b": "\\u0000", "c": "\\\ufffd", "\ufffd": 1}


def test_one_content_is_one_version(database: Database) -> None:
    records = SqlDatasetRecords(database)
    for number in range(ROUNDS):
        version = DatasetVersion(
            version=1,
            created_at=NOW,
            format="parquet",
            digest=f"{number:064}",
            size=1,
            rows=1,
            columns=[Column(name="x", type="int64")],
            source="upload",
        )
        added = at_once(
            *[lambda n=number, v=version: records.add_version("ada", f"d{n}", "", v, None)] * 3
        )
        assert [dataset.latest.version for dataset in added] == [1, 1, 1]


def test_versions_of_several_datasets_are_added_all_or_none(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = SqlDatasetRecords(database)
    version = DatasetVersion(
        version=1, created_at=NOW, format="parquet", digest="0" * 64, size=1, rows=1,
        columns=[Column(name="x", type="int64")], source="run",
    )  # fmt: skip
    add, calls = datasets._add, []

    def broken(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 2:
            raise OSError("the power fails")
        return add(*arguments)

    monkeypatch.setattr(datasets, "_add", broken)
    both = {"train": version, "test": version}
    with pytest.raises(OSError, match="power"):
        records.add_versions("ada", both, "run/run-1")
    assert records.get("ada", "train") is None
    for _ in range(2):
        made = records.add_versions("ada", both, "run/run-1")
        assert [(one.name, one.latest.version) for one in made] == [("train", 1), ("test", 1)]
