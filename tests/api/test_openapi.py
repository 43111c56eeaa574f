"""Whatever openapi.json allows, and what it does not, is answered and never a server error."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from api_world import PREFIX, World, serving
from hypothesis import HealthCheck, Phase, settings

from aiaas_hub.home import Home

CASES = int(os.environ.get("AIAAS_OPENAPI_CASES", "4"))
"""Of each operation; 10,000 in all take `AIAAS_OPENAPI_CASES=220` some minutes."""


@pytest.fixture(scope="module")
def stocked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    directory = tmp_path_factory.mktemp("openapi")
    with serving(Home(directory / "home"), f"sqlite:///{directory / 'r.sqlite'}") as world:
        world.published("thing")
        world.dataset("thing")
        yield world


@pytest.mark.filterwarnings("ignore")  # of the libraries that make the requests
def test_no_request_is_a_server_error(stocked: World) -> None:
    described = stocked.client.get(f"{PREFIX}api/v1/openapi.json").json()
    schema = schemathesis.openapi.from_dict(described)
    wrong: list[str] = []
    asked = 0
    run = stocked.submit()
    job = stocked.run_token(run)
    for result in schema.get_all_operations():
        operation = result.ok()
        if operation.path.endswith("/events") and operation.method.lower() == "get":
            continue  # a stream, which does not end

        @settings(
            max_examples=CASES, deadline=None, database=None, derandomize=True,
            suppress_health_check=list(HealthCheck), phases=[Phase.generate],
        )  # fmt: skip
        def ask(case: Any) -> None:
            nonlocal asked
            # Of those things that exist: what is done to the absent ends early.
            for name, value in (("owner", "alice"), ("name", "thing"), ("run_id", run["id"])):
                if name in (case.path_parameters or {}) and asked % 2:
                    case.path_parameters[name] = value
            token = job if "/job" in case.path else "user:alice"
            case.headers = {**(case.headers or {}), "Authorization": f"Bearer {token}"}
            answer = case.call(base_url=str(stocked.client.base_url).rstrip("/"), timeout=30)
            asked += 1
            # 501 and 503 are sentences of ours; what is unforeseen is a 500.
            if answer.status_code == 500:
                wrong.append(f"{case.method} {case.path} {case.as_curl_command()}")

        import hypothesis

        hypothesis.given(case=operation.as_strategy())(ask)()
    assert asked >= 30 * CASES
    assert not wrong, "\n".join(wrong[:10])


def test_the_descriptions_file_is_what_is_served(stocked: World) -> None:
    file = Path(__file__).parents[2] / "docs" / "openapi.json"
    served = stocked.client.get(f"{PREFIX}api/v1/openapi.json").text
    assert '"/services/aiaas/api/v1/audit"' in file.read_text()
    assert "/audit" in served
