"""Sign-in with an identity provider, set up by environment variables alone.

    AIAAS_SIGN_IN                    oidc, github, google, azuread or gitlab; without it the local
                                     passwords count
    AIAAS_SIGN_IN_CLIENT_ID          what the provider knows this hub as
    AIAAS_SIGN_IN_CLIENT_SECRET_FILE a file that holds the secret (or …_SECRET, the secret itself)
    AIAAS_SIGN_IN_ISSUER             oidc: the provider's address; the rest is discovered there
    AIAAS_SIGN_IN_URL                github, gitlab: the address of one's own server
    AIAAS_SIGN_IN_TENANT             azuread: the directory's id
    AIAAS_SIGN_IN_HOSTED_DOMAIN      google: whose accounts may sign in
    AIAAS_SIGN_IN_USERNAME_CLAIM     oidc: default preferred_username
    AIAAS_SIGN_IN_GROUPS_CLAIM       oidc: default groups
    AIAAS_SIGN_IN_ALLOWED_GROUPS, …_ALLOWED_USERS, …_ADMIN_GROUPS, …_ADMIN_USERS
                                     names, comma-separated
    AIAAS_SIGN_IN_ALLOW_ALL=1        whoever the provider knows may sign in
    AIAAS_SIGN_IN_REFRESH_SECONDS    how often groups are asked for anew, default 300
    AIAAS_SIGN_IN_PUBLIC_URL         the hub's address as browsers see it, if not the local one

Groups and administrators are the provider's to tell; a hub that cannot reach it goes on with what
was told last, so that its outage ends nobody's work.
"""

from __future__ import annotations

import contextvars
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
from tornado.httpclient import HTTPClientError

from aiaas_hub.home import write_private
from aiaas_hub.schemas.errors import InvalidInput, Unavailable

PREFIX = "AIAAS_SIGN_IN"
ADMIN_GROUP = "aiaas-admins"
"""Its members are administrators here. Nobody is one for a group of this name elsewhere."""
KINDS = ("oidc", "github", "google", "azuread", "gitlab")
_DISCOVERED = ("authorization_endpoint", "token_endpoint", "userinfo_endpoint")

_unreachable: contextvars.ContextVar[list[str] | None] = contextvars.ContextVar(
    "unreachable", default=None
)


def surviving(base: Any) -> Any:
    """An OAuthenticator whose refresh survives an outage of its provider, and that knows
    administrators as a group."""

    class Surviving(base):  # type: ignore[misc]  # oauthenticator has no types
        async def fetch(self, *arguments: Any, **options: Any) -> Any:
            try:
                return await super().fetch(*arguments, **options)
            except Exception as error:
                seen = _unreachable.get()
                refused = isinstance(error, HTTPClientError) and 400 <= error.code < 500
                if seen is not None and not refused:
                    seen.append(str(error))
                raise

        async def refresh_user(self, user: Any, handler: Any = None, **options: Any) -> Any:
            seen: list[str] = []
            marker = _unreachable.set(seen)
            try:
                answer = await super().refresh_user(user, handler, **options)
            except Exception:
                if not seen:
                    raise
                answer = False
            finally:
                _unreachable.reset(marker)
            if answer is False and seen:
                # As if it had answered what it did last: groups and rights stay as they are.
                self.log.warning("The identity provider is out of reach: %s", seen[0])
                return True
            return answer

        async def _apply_managed_groups(self, auth_model: Any) -> Any:
            model = await super()._apply_managed_groups(auth_model)
            groups = {group for group in model.get("groups") or () if group != ADMIN_GROUP}
            if model.get("admin"):
                groups.add(ADMIN_GROUP)
            model["groups"] = sorted(groups)
            return model

    Surviving.__name__ = f"Surviving{base.__name__}"
    return Surviving


def discover(issuer: str, kept: Path) -> dict[str, str]:
    """The provider's addresses (OpenID Connect Discovery 1.0), as it says or, while it cannot be
    reached, as it last said. Raises `Unavailable` if it never said any."""
    address = f"{issuer.rstrip('/')}/.well-known/openid-configuration"
    try:
        answer = httpx.get(address, timeout=10, follow_redirects=True).raise_for_status()
        told = answer.json()
        found = {name: str(told[name]) for name in _DISCOVERED}
        if str(told.get("issuer", "")).rstrip("/") != issuer.rstrip("/"):
            raise InvalidInput(
                f"The provider at {issuer} calls itself {told.get('issuer')!r}.",
                remedy=f"Set {PREFIX}_ISSUER to that, if it is yours.",
            )
        found["end_session_endpoint"] = str(told.get("end_session_endpoint", ""))
    except (httpx.HTTPError, ValueError, KeyError) as error:
        try:
            former: dict[str, dict[str, str]] = json.loads(kept.read_text())
            return former[issuer]
        except (OSError, ValueError, KeyError):
            raise Unavailable(
                f"The identity provider does not answer at {address}.",
                remedy=f"Check {PREFIX}_ISSUER and the network.",
            ) from error
    write_private(kept, json.dumps({issuer: found}))
    return found


def configure(c: Any, environ: Mapping[str, str], url: str, kept: Path, key: str) -> bool:
    """Set the hub up for the provider that the environment names; False if it names none.

    `key` (hexadecimal, 32 bytes) encrypts what the hub keeps of the provider's tokens. Raises
    `InvalidInput` for what cannot be meant: nobody signs in by mistake.
    """
    kind = environ.get(PREFIX, "")
    if not kind:
        return False
    if kind not in KINDS:
        raise InvalidInput(f"{PREFIX}={kind} is not known.", remedy=f"One of {', '.join(KINDS)}.")

    def given(name: str) -> str:
        return environ.get(f"{PREFIX}_{name}", "").strip()

    def names(name: str) -> set[str]:
        return {part.strip() for part in given(name).split(",") if part.strip()}

    authenticator = surviving(_classes()[kind]())
    c.JupyterHub.authenticator_class = authenticator
    settings = c[authenticator.__name__]
    settings.client_id = _required(given, "CLIENT_ID")
    settings.client_secret = _secret(given)
    public = (given("PUBLIC_URL") or url).rstrip("/")
    settings.oauth_callback_url = f"{public}/hub/oauth_callback"
    settings.enable_pkce = True
    settings.enable_auth_state = True
    settings.manage_groups = True
    settings.auth_refresh_age = int(given("REFRESH_SECONDS") or 300)
    settings.allow_all = given("ALLOW_ALL") == "1"
    settings.allowed_groups = names("ALLOWED_GROUPS")
    settings.allowed_users = {name.lower() for name in names("ALLOWED_USERS")}
    settings.admin_groups = names("ADMIN_GROUPS")
    settings.admin_users = {name.lower() for name in names("ADMIN_USERS")}
    if not (settings.allow_all or settings.allowed_groups or settings.allowed_users):
        raise InvalidInput(
            "Nobody could sign in.",
            remedy=f"Set {PREFIX}_ALLOWED_GROUPS, {PREFIX}_ALLOWED_USERS or {PREFIX}_ALLOW_ALL=1.",
        )
    c.CryptKeeper.keys = [bytes.fromhex(key)]
    _SETTINGS[kind](settings, given, kept)
    return True


def _oidc(settings: Any, given: Callable[[str], str], kept: Path) -> None:
    found = discover(_required(given, "ISSUER"), kept)
    settings.login_service = "your organisation"
    settings.authorize_url = found["authorization_endpoint"]
    settings.token_url = found["token_endpoint"]
    settings.userdata_url = found["userinfo_endpoint"]
    settings.username_claim = given("USERNAME_CLAIM") or "preferred_username"
    groups = given("GROUPS_CLAIM") or "groups"
    settings.auth_state_groups_key = f"oauth_user.{groups}"
    settings.scope = (given("SCOPES") or "openid profile email").split()


def _github(settings: Any, given: Callable[[str], str], _kept: Path) -> None:
    if given("URL"):
        settings.github_url = given("URL")
    settings.scope = ["read:user", "read:org"]
    settings.populate_teams_in_auth_state = True
    settings.auth_state_groups_key = _github_teams


def _github_teams(auth_state: Mapping[str, Any]) -> set[str]:
    """`organisation:team`."""
    teams = auth_state.get("teams") or ()
    return {f"{team['organization']['login']}:{team['slug']}" for team in teams}


def _google(settings: Any, given: Callable[[str], str], _kept: Path) -> None:
    domains = [part.strip() for part in given("HOSTED_DOMAIN").split(",") if part.strip()]
    settings.hosted_domain = domains
    # Without the rights of a service account Google tells no groups.
    settings.auth_state_groups_key = "google_user.google_groups"


def _azuread(settings: Any, given: Callable[[str], str], _kept: Path) -> None:
    settings.tenant_id = _required(given, "TENANT")
    settings.username_claim = given("USERNAME_CLAIM") or "preferred_username"
    settings.scope = (given("SCOPES") or "openid profile email").split()
    settings.auth_state_groups_key = f"user.{given('GROUPS_CLAIM') or 'groups'}"


def _gitlab(settings: Any, given: Callable[[str], str], kept: Path) -> None:
    # An OpenID provider, which tells groups; its own API has no such claim.
    issuer = given("URL") or "https://gitlab.com"
    _oidc(settings, lambda name: issuer if name == "ISSUER" else given(name), kept)
    settings.login_service = "GitLab"


_SETTINGS: dict[str, Callable[[Any, Callable[[str], str], Path], None]] = {
    "oidc": _oidc,
    "github": _github,
    "google": _google,
    "azuread": _azuread,
    "gitlab": _gitlab,
}


def _classes() -> dict[str, Callable[[], Any]]:
    # Imported late: some of them bring packages of their provider's along.
    def load(module: str, name: str) -> Callable[[], Any]:
        def loaded() -> Any:
            from importlib import import_module

            return getattr(import_module(f"oauthenticator.{module}"), name)

        return loaded

    return {
        "oidc": load("generic", "GenericOAuthenticator"),
        "github": load("github", "GitHubOAuthenticator"),
        "google": load("google", "GoogleOAuthenticator"),
        "azuread": load("azuread", "AzureAdOAuthenticator"),
        "gitlab": load("generic", "GenericOAuthenticator"),
    }


def _required(given: Callable[[str], str], name: str) -> str:
    value = given(name)
    if not value:
        raise InvalidInput(f"{PREFIX}_{name} is missing.", remedy="docs/operate.md explains it.")
    return value


def _secret(given: Callable[[str], str]) -> str:
    file = given("CLIENT_SECRET_FILE")
    if not file:
        return _required(given, "CLIENT_SECRET")
    try:
        return Path(file).read_text().strip()
    except OSError as error:
        raise InvalidInput(
            f"{PREFIX}_CLIENT_SECRET_FILE={file} cannot be read: {error.strerror}.",
            remedy="Name a file that the hub may read.",
        ) from error
