"""Secrets are planted wherever a request can carry one, and then searched for."""

from __future__ import annotations

import logging

import pytest
from api_world import World
from sqlalchemy import text

from aiaas_hub.adapters.records.tables import Base

BEARER = "user:canary-of-a-token"


def test_no_secret_reaches_a_log_a_record_or_an_error(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for client in ("httpx", "httpcore"):  # the test's own
        caplog.set_level(logging.WARNING, logger=client)
    # Keys that the platform makes, and tokens that requests bring.
    world.published()
    made = [
        world.ok("POST", "/endpoints/alice/digits/keys", json={})["token"],
        world.ok("POST", "/endpoints/alice/digits/token")["token"],
        world.run_token(world.submit()),
    ]
    answers = [
        world.call("POST", "/runs", BEARER, content=b"{broken"),
        world.call("GET", "/runs/canary", "nonsense-canary-of-a-token"),
        world.call("GET", "/runs?token=canary-in-a-query"),
        world.call("POST", "/endpoints/x/y/keys", "user:bob", json={"note": 1}),
        world.call("DELETE", "/endpoints/alice/none", headers={"Cookie": "x=canary-in-a-cookie"}),
    ]
    secrets = [
        *made,
        "canary-of-a-token",
        "canary-in-a-query",
        "canary-in-a-cookie",
        world.home.secret("jobs_key"),
        world.home.secret("metrics_token"),
    ]
    said = caplog.text + "".join(answer.text for answer in answers)
    records = []
    with world.database.engine.connect() as connection:
        for table in Base.metadata.sorted_tables:
            # An act's own name is on record: BEARER names its user so.
            rows = connection.execute(text(f'SELECT * FROM "{table.name}"'))  # noqa: S608 - ours
            records += [f"{table.name}: {row}" for row in rows]
    for secret in secrets:
        assert secret not in said, secret
        if secret != "canary-of-a-token":
            assert not [row for row in records if secret in row], secret
    assert not [row for row in records if BEARER in row]
