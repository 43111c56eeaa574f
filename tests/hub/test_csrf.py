"""A visitor's browser, made to send what its owner did not mean."""

from __future__ import annotations

import httpx
import pytest
from running_platform import RunningPlatform

from aiaas_hub.local.hub_session import HubSession

pytestmark = pytest.mark.platform


def changing(session: HubSession, headers: dict[str, str]) -> list[httpx.Response]:
    """The hub's changing routes, by REST and by form, with the visitor's cookies."""
    name = session.user
    return [
        session.http.post(f"/hub/api/users/{name}/server", headers=headers),
        session.http.post(f"/hub/api/users/{name}/tokens", headers=headers, json={"note": "x"}),
        session.http.post(
            "/hub/spawn",
            params={"_xsrf": headers.get("X-XSRFToken", "")},
            data={"profile": "small", "_xsrf": headers.get("X-XSRFToken", "")},
        ),
    ]


def test_a_request_without_its_users_own_token_changes_nothing(platform: RunningPlatform) -> None:
    with platform.session("victim") as victim, platform.session("mallory") as mallory:
        for session in (victim, mallory):
            session.http.get("/hub/home").raise_for_status()
        theirs = mallory.xsrf("/hub/")
        assert theirs
        assert theirs != victim.xsrf("/hub/")
        for headers in ({}, {"X-XSRFToken": "nonsense"}, {"X-XSRFToken": theirs}):
            for answer in changing(victim, headers):
                assert answer.status_code in (403, 404), (answer.url, answer.status_code)
        own = {"X-XSRFToken": victim.xsrf("/hub/")}
        user = victim.http.get("/hub/api/user", headers=own).raise_for_status().json()
        assert not user["servers"]
        listed = victim.http.get("/hub/api/users/victim/tokens", headers=own).json()
        assert not [one for one in listed["api_tokens"] if one["note"] == "x"]
        # With their own it works: what was refused above was refused for this alone.
        made = victim.http.post("/hub/api/users/victim/tokens", headers=own, json={"note": "x"})
        assert made.status_code == 201
