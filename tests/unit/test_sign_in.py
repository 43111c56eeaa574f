"""The hub's sign-in as environment variables set it up."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from tornado.httpclient import HTTPClientError
from traitlets.config import Config

from aiaas_hub.schemas.errors import InvalidInput, Unavailable
from aiaas_hub.spawner import sign_in
from aiaas_hub.spawner.sign_in import configure, discover, surviving

KEY = "ab" * 32
BASE = {
    "AIAAS_SIGN_IN_CLIENT_ID": "id",
    "AIAAS_SIGN_IN_CLIENT_SECRET": "canary-secret",
    "AIAAS_SIGN_IN_ALLOWED_GROUPS": "research, ops",
    "AIAAS_SIGN_IN_ADMIN_GROUPS": "ops",
}
ADDRESSES = {
    "authorization_endpoint": "https://id.example/a",
    "token_endpoint": "https://id.example/t",
    "userinfo_endpoint": "https://id.example/u",
}
KINDS: dict[str, dict[str, str]] = {
    "oidc": {"AIAAS_SIGN_IN_ISSUER": "https://id.example"},
    "github": {},
    "google": {"AIAAS_SIGN_IN_HOSTED_DOMAIN": "example.org"},
    "azuread": {"AIAAS_SIGN_IN_TENANT": "tenant"},
    "gitlab": {"AIAAS_SIGN_IN_URL": "https://git.example"},
}


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the provider answers; `down` makes it unreachable."""
    state: dict[str, Any] = {"down": False, "told": dict(ADDRESSES)}

    def get(address: str, **_: Any) -> httpx.Response:
        request = httpx.Request("GET", address)
        if state["down"]:
            raise httpx.ConnectError("refused", request=request)
        told = {"issuer": address.partition("/.well-known")[0], **state["told"]}
        return httpx.Response(200, json=told, request=request)

    monkeypatch.setattr(sign_in.httpx, "get", get)
    return state


def configured(tmp_path: Path, kind: str, **more: str) -> tuple[Config, Any]:
    c = Config()
    environ = {"AIAAS_SIGN_IN": kind, **BASE, **KINDS[kind], **more}
    assert configure(c, environ, "http://127.0.0.1:8000", tmp_path / "kept.json", KEY)
    return c, c.JupyterHub.authenticator_class(config=c)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_each_provider_is_set_up_by_variables_alone(
    kind: str, tmp_path: Path, provider: dict[str, Any]
) -> None:
    c, made = configured(tmp_path, kind)
    assert made.client_id == "id"
    assert made.client_secret == "canary-secret"
    assert made.oauth_callback_url == "http://127.0.0.1:8000/hub/oauth_callback"
    assert made.enable_pkce
    assert made.enable_auth_state
    assert made.manage_groups
    assert made.allowed_groups == {"research", "ops"}
    assert made.admin_groups == {"ops"}
    assert not made.allow_all
    assert made.authorize_url.startswith("https://")
    assert c.CryptKeeper["keys"] == [bytes.fromhex(KEY)]


def test_without_a_provider_nothing_is_set(tmp_path: Path) -> None:
    c = Config()
    assert not configure(c, {"AIAAS_SIGN_IN_CLIENT_ID": "x"}, "", tmp_path / "k", KEY)
    assert not c


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"AIAAS_SIGN_IN": "facebook"}, "not known"),
        ({"AIAAS_SIGN_IN_CLIENT_ID": ""}, "CLIENT_ID is missing"),
        ({"AIAAS_SIGN_IN_CLIENT_SECRET": ""}, "CLIENT_SECRET is missing"),
        ({"AIAAS_SIGN_IN_CLIENT_SECRET_FILE": "/nowhere"}, "cannot be read"),
        ({"AIAAS_SIGN_IN_ALLOWED_GROUPS": ""}, "Nobody could sign in"),
        ({"AIAAS_SIGN_IN_ALLOWED_GROUPS": "", "AIAAS_SIGN_IN_ALLOW_ALL": "yes"}, "Nobody could"),
        ({"AIAAS_SIGN_IN_ISSUER": ""}, "ISSUER is missing"),
    ],
)
def test_what_cannot_be_meant_keeps_the_hub_from_starting(
    changes: dict[str, str], says: str, tmp_path: Path, provider: dict[str, Any]
) -> None:
    environ = {"AIAAS_SIGN_IN": "oidc", **BASE, **KINDS["oidc"], **changes}
    with pytest.raises(InvalidInput, match=says) as refusal:
        configure(Config(), environ, "http://127.0.0.1:8000", tmp_path / "kept", KEY)
    assert "canary-secret" not in str(refusal.value)


def test_the_providers_addresses_outlive_its_outage(
    tmp_path: Path, provider: dict[str, Any]
) -> None:
    kept = tmp_path / "kept.json"
    provider["down"] = True
    with pytest.raises(Unavailable, match="does not answer"):
        discover("https://id.example", kept)
    provider["down"] = False
    found = discover("https://id.example", kept)
    provider["down"] = True
    assert discover("https://id.example", kept) == found
    with pytest.raises(Unavailable):
        discover("https://other.example", kept)
    provider["down"] = False
    provider["told"]["issuer"] = "https://evil.example"
    with pytest.raises(InvalidInput, match="calls itself"):
        discover("https://id.example", kept)


class User:
    name = "ada"

    async def get_auth_state(self) -> dict[str, Any]:
        return {
            "token_response": {"access_token": "a", "token_type": "Bearer"},
            "refresh_token": "r",
        }


def refreshed(tmp_path: Path, provider: dict[str, Any], *answers: Any) -> Any:
    """What a refresh gives when the provider answers so, one after the other."""
    _, made = configured(tmp_path, "oidc")
    left = list(answers)

    async def answer(*_: Any, **__: Any) -> Any:
        one = left.pop(0)
        if isinstance(one, Exception):
            raise one
        return one

    base = next(kind for kind in type(made).__mro__ if kind.__name__ == "OAuthenticator")
    real = base.fetch
    base.fetch = answer
    try:
        return asyncio.run(made.refresh_user(User()))
    finally:
        base.fetch = real


def test_a_refresh_survives_the_providers_outage(tmp_path: Path, provider: dict[str, Any]) -> None:
    for outage in (ConnectionRefusedError(), HTTPClientError(599), HTTPClientError(503)):
        assert refreshed(tmp_path, provider, outage) is True
        # Its token has expired, and then it is gone.
        assert refreshed(tmp_path, provider, HTTPClientError(401), outage) is True


def test_a_refresh_that_is_refused_asks_to_sign_in_again(
    tmp_path: Path, provider: dict[str, Any]
) -> None:
    refused = HTTPClientError(401)
    assert refreshed(tmp_path, provider, refused, HTTPClientError(400)) is False


def test_groups_are_the_providers_and_no_group_of_theirs_makes_an_administrator(
    tmp_path: Path, provider: dict[str, Any]
) -> None:
    def model(groups: list[str]) -> Any:
        claims = {"preferred_username": "ada", "groups": groups}
        return refreshed(tmp_path, provider, claims)

    plain = model(["research", "aiaas-admins"])
    assert (plain["groups"], plain["admin"]) == (["research"], False)
    admin = model(["ops"])
    assert (admin["groups"], admin["admin"]) == (["aiaas-admins", "ops"], True)


def test_what_is_kept_holds_addresses_only(tmp_path: Path, provider: dict[str, Any]) -> None:
    configured(tmp_path, "oidc")
    kept = (tmp_path / "kept.json").read_text()
    assert "canary-secret" not in kept
    assert set(json.loads(kept)) == {"https://id.example"}


def test_the_class_keeps_its_name_apart() -> None:
    class Base: ...

    assert surviving(Base).__name__ == "SurvivingBase"
