"""What Envoy counts of each version, who may choose one, and limits between callers."""

from __future__ import annotations

import json
import re
import threading
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import pytest
from gateway_world import (
    AUDIENCE,
    BASE,
    BODY,
    INFER,
    MODEL,
    OWNER,
    World,
    error_of,
    route,
)

from aiaas_hub.domain.ports import Route, RouteTarget

pytestmark = pytest.mark.engines

HUB_CONFIG = Path(__file__).parents[2] / "hub_config"


def test_each_version_is_counted(world: World) -> None:
    world.envoy.apply([route((1, 50), (2, 50))])
    before = world.envoy.traffic()
    mine = world.key()
    seen = Counter(
        world.call("POST", INFER, BODY, key=mine).headers["x-aiaas-model-version"]
        for _ in range(60)
    )
    # Triton's word for a body that it cannot read is 500: callers can make errors, and so a canary
    # is judged by how many more it has than the version beside it.
    broken = world.call("POST", INFER, "{}", key=mine)
    assert broken.status == 500
    missing = json.loads(BODY)
    missing["inputs"][0]["name"] = "z"
    refused = world.call("POST", INFER, json.dumps(missing), key=mine)
    assert refused.status == 400
    for answer in (broken, refused):
        seen[answer.headers["x-aiaas-model-version"]] += 1
    # The routes are read anew; the counters go on.
    world.envoy.apply([route((1, 50), (2, 50), revoked=("k9",))])
    after = world.envoy.traffic()
    for version in (1, 2):
        former = before.get((MODEL, version))
        new = after[MODEL, version].requests - (former.requests if former else 0)
        assert new == seen[str(version)]
    for what in ("errors", "refused"):
        assert sum(getattr(t, what) for t in after.values()) == 1 + sum(
            getattr(t, what) for t in before.values()
        )
    # Latencies are merged every few seconds.
    deadline = time.monotonic() + 60
    while True:
        found = world.envoy.traffic()[MODEL, 1]
        if max(found.latencies.values()) == found.requests:
            break
        assert time.monotonic() < deadline, found
        time.sleep(0.5)


def test_an_exact_version_is_for_who_may_choose(world: World) -> None:
    world.envoy.apply([route((1, 100), (2, 0))])
    chooses = world.key(scope="versions")
    counted = world.envoy.traffic()[MODEL, 1].requests
    for version, factor in ((1, 1), (2, 2)):
        headers = {"x-aiaas-version": str(version)}
        answer = world.call("POST", INFER, BODY, key=chooses, headers=headers)
        assert (answer.status, answer.headers["x-aiaas-model-version"]) == (200, str(version))
        assert answer.json["outputs"][0]["data"] == [factor, 2 * factor, 3 * factor]
    # What is asked by number is no part of what the callers met.
    assert world.envoy.traffic()[MODEL, 1].requests == counted
    for other in ("3", "x", "01", ""):
        answer = world.call("POST", INFER, BODY, key=chooses, headers={"x-aiaas-version": other})
        # Nor is another version taken for it.
        assert (answer.status, error_of(answer)) == (404, "not_found"), other
    plain = world.call("POST", INFER, BODY, headers={"x-aiaas-version": "2"})
    assert (plain.status, error_of(plain)) == (403, "forbidden")
    assert "x-aiaas-model-version" not in plain.headers
    stranger = world.key(scope="versions", audience="bob/scale")
    answer = world.call("POST", INFER, BODY, key=stranger, headers={"x-aiaas-version": "2"})
    assert answer.status == 403


def test_the_same_caller_comes_to_the_same_version(world: World) -> None:
    """By the header that names a caller, and by the key where there is none."""

    def versions(share: int, names: list[str], **headers: str) -> dict[str, str]:
        split = replace(route((1, 100 - share), (2, share)), sticky=True)
        # Another endpoint's routes are in the same list, as this owner's name is quoted.
        other = Route(OWNER, "scale2", split.targets, f"{OWNER}/scale2")
        world.envoy.apply([split, other])
        found = {}
        for name in names:
            sent = {"x-aiaas-sticky": name} if headers else {}
            mine = world.key(jti="k" if headers else name)
            answers = {
                world.call("POST", INFER, BODY, key=mine, headers=sent).headers[
                    "x-aiaas-model-version"
                ]
                for _ in range(3)
            }
            (found[name],) = answers
            if not headers:
                # Until its key is another one.
                continue
            ready = world.call("GET", f"{BASE}/v2/health/ready", key=mine, headers=sent)
            assert ready.headers["x-aiaas-model-version"] == found[name]
        return found

    callers = [f"caller {number}" for number in range(150)]
    few = versions(20, callers, by="header")
    # Four standard deviations of 150 callers.
    assert abs(Counter(few.values())["2"] / 150 - 0.2) < 4 * (0.2 * 0.8 / 150) ** 0.5
    more = versions(50, callers, by="header")
    assert Counter(more.values())["2"] > Counter(few.values())["2"]
    # Who has met the new version stays with it while its share grows.
    assert all(more[caller] == "2" for caller in callers if few[caller] == "2")
    assert set(versions(50, [f"k{number}" for number in range(20)]).values()) == {"1", "2"}
    # An exact version is what it was; and so is who may ask for one.
    chosen = {"x-aiaas-version": "2", "x-aiaas-sticky": callers[0]}
    answer = world.call("POST", INFER, BODY, key=world.key(scope="versions"), headers=chosen)
    assert answer.headers["x-aiaas-model-version"] == "2"
    assert world.call("POST", INFER, BODY, headers=chosen).status == 403
    for path, mine, status in (
        (INFER, None, 401),
        (INFER, world.key(audience="bob/scale"), 403),
        (INFER.replace("infer", "trace"), "", 404),
        (INFER.replace("/scale/", "/scale2/", 1), world.key(audience=f"{OWNER}/scale2"), 200),
    ):
        sent = {"x-aiaas-sticky": "me"}
        assert world.call("POST", path, BODY, key=mine, headers=sent).status == status


def test_a_key_for_metadata_does_not_infer(world: World) -> None:
    reads = world.key(scope="metadata")
    assert world.call("GET", f"{BASE}/v2/models/scale", key=reads).status == 200
    assert world.call("GET", f"{BASE}/v2/health/ready", key=reads).status == 200
    refused = world.call("POST", INFER, BODY, key=reads)
    assert (refused.status, error_of(refused)) == (403, "forbidden")


def test_a_keys_rate_is_one_for_all_versions(world: World) -> None:
    limited = Route(
        OWNER,
        "scale",
        [RouteTarget(MODEL, 1, 50), RouteTarget(MODEL, 2, 50)],
        AUDIENCE,
        rates={"slow": 5},
    )
    world.envoy.apply([limited])
    slow, free = world.key(jti="slow"), world.key(jti="free")
    began = time.monotonic()
    answers = [world.call("POST", INFER, BODY, key=slow) for _ in range(40)]
    seconds = time.monotonic() - began
    passed = [answer for answer in answers if answer.status == 200]
    # A full bucket, and another one for each second that it took.
    assert 5 <= len(passed) <= 5 * (2 + int(seconds))
    refused = [answer for answer in answers if answer.status != 200]
    assert {(answer.status, error_of(answer)) for answer in refused} == {(429, "too_many")}
    assert {a.headers["x-aiaas-model-version"] for a in passed} <= {"1", "2"}
    # Nobody else's key waits for it.
    assert all(world.call("POST", INFER, BODY, key=free).status == 200 for _ in range(40))


def test_one_owners_callers_do_not_starve_anothers(echo: World) -> None:
    """Four of an owner's requests are at the models, a few wait, the next are refused; another
    owner's are answered meanwhile."""
    other = Route("bob", "his", [RouteTarget("his-1", 1, 100)], "bob/his")
    echo.envoy.apply([route((7, 100)), other])
    mine, bobs = echo.key(), echo.key(audience="bob/his")
    answers = []

    def flood() -> None:
        answers.append(echo.call("POST", INFER, BODY, key=mine, headers={"x-test": "slow"}))

    threads = [threading.Thread(target=flood) for _ in range(40)]
    for thread in threads:
        thread.start()
    path = f"/{quote('bob', safe='')}/his/v2/models/m/infer"
    while not any(answer.status == 429 for answer in answers):
        assert any(thread.is_alive() for thread in threads)
        assert echo.call("POST", path, BODY, key=bobs).status == 200
    for thread in threads:
        thread.join()
    refused = [answer for answer in answers if answer.status == 429]
    assert {error_of(answer) for answer in refused} == {"too_many"}
    assert {answer.status for answer in answers} == {200, 429}
    assert sum(answer.status == 200 for answer in answers) >= 4
    assert len(answers) == 40
    assert json.loads(refused[0].body)["remedy"]


def test_a_rollback_is_one_file_and_no_call_to_triton(world: World) -> None:
    """The former version has all requests at once. The service's own rollback, with Triton's
    control interface away: `test_publishing`."""
    world.envoy.apply([route((1, 0), (2, 100))])
    before = set(world.home.envoy.iterdir())
    clusters = (world.home.envoy / "clusters.json").stat()
    world.envoy.apply([route((1, 100), (2, 0))])
    assert world.call("POST", INFER, BODY).headers["x-aiaas-model-version"] == "1"
    assert set(world.home.envoy.iterdir()) == before
    assert (world.home.envoy / "clusters.json").stat() == clusters


def test_the_dashboard_asks_for_what_envoy_has(echo: World) -> None:
    """Each metric and label that a panel names is among those of a gateway that was called."""
    dashboard = json.loads((HUB_CONFIG / "grafana" / "serving.json").read_text())
    echo.envoy.apply([route((7, 100))])
    assert echo.call("POST", INFER, BODY).status == 200
    wanted = {
        name
        for panel in dashboard["panels"]
        for target in panel["targets"]
        for name in re.findall(r"envoy_[a-z_]+(?=\{)", target["expr"])
    }
    assert len(wanted) >= 8
    deadline = time.monotonic() + 60
    while True:
        text = echo.envoy.metrics().decode()
        found = set(re.findall(r"^(envoy_[a-z_]+)", text, re.M))
        if wanted <= found:
            break
        # Histograms are there after the first merge.
        assert time.monotonic() < deadline, wanted - found
        time.sleep(0.5)
    assert f'envoy_route="{MODEL}-v7"' in text
