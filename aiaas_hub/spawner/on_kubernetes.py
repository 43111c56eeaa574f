"""The spawner of a cluster: a pod per server, of the sizes in the profiles file.

KubeSpawner does the work. Here a request is checked, its profile becomes the pod's settings, what
goes wrong is said in words, and watches that an outage of the API ended are begun anew.
"""

from __future__ import annotations

import asyncio
import html
import time
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

from aiohttp import ClientError
from kubernetes_asyncio.client.rest import ApiException
from kubespawner import KubeSpawner
from tornado import web
from traitlets import Int, Unicode

from aiaas_hub.schemas.errors import AiaasError, Forbidden, Unavailable
from aiaas_hub.spawner import pod_troubles
from aiaas_hub.spawner.choosing import chosen, offered
from aiaas_hub.spawner.ending import ending_environment
from aiaas_hub.spawner.kubernetes import CLUSTER, overrides
from aiaas_hub.spawner.profiles import Chosen, Offer, choose, load_profiles, offers
from aiaas_hub.spawner.refusing import refusal
from aiaas_hub.spawner.spawn_page import form_options, options_form
from aiaas_hub.spawner.telling import tell_of_server

_FOLLOWED_SECONDS = 4.0
_LOOK_SECONDS = 1.0
_SPARE_SECONDS = 5
"""Before the hub's own limit, whose text says nothing of the reason."""
_WATCH_SECONDS = 20
"""How long a new watch may take until it has seen the cluster."""
_JOINED = ("environment", "volumes", "volume_mounts", "tolerations", "node_selector")
"""Settings to which a profile adds; it replaces the others."""
_PER_PROFILE = (
    *_JOINED,
    "cpu_limit",
    "mem_limit",
    "mem_guarantee",
    "extra_resource_limits",
    "image",
    "storage_pvc_ensure",
    "storage_capacity",
)


class ProfileSpawner(KubeSpawner):  # type: ignore[misc]  # kubespawner has no types
    """`KubeSpawner` with profiles from a file and reasons in words."""

    profiles_file = Unicode(config=True, help="The profiles.yaml to offer and to check against.")
    service_api_url = Unicode(config=True, help="Of the service, which knows quotas; or empty.")
    events_directory = Unicode(config=True, help="Where the service is told of servers; or empty.")
    warning_seconds = Int(
        600, min=0, config=True, help="How long before a server's end JupyterLab tells of it."
    )
    node_patience_seconds = Int(
        60,
        min=1,
        config=True,
        help="After a node was silent for so long, its servers count as ended and can be started "
        "elsewhere.",
    )

    reflectors: ClassVar[dict[Any, Any]] = {}
    last_words: ClassVar[dict[tuple[str, str], str]] = {}
    """Why each server ended, until it is started again."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Configuration must not replace these: they are what refuses a tampered request.
        self.options_form = _form
        self.options_from_form = form_options
        self.apply_user_options = _apply
        self.profile_list: list[dict[str, Any]] = []
        self._chosen: Chosen | None = None
        self._base = {name: getattr(self, name) for name in _PER_PROFILE}
        self._ending_task: asyncio.Future[None] | None = None

    @property
    def _key(self) -> tuple[str, str]:
        return (str(self.user.name), str(self.name))

    def _groups(self) -> frozenset[str]:
        return frozenset(str(group.name) for group in self.user.groups)

    def offers(self) -> list[Offer]:
        """What this user may choose now; the file is read each time, so its changes count at once.
        Raises `Forbidden` if that is nothing."""
        return offers(load_profiles(Path(self.profiles_file)), CLUSTER, self._groups())

    async def load_user_options(self) -> None:
        """The chosen profile as settings; KubeSpawner calls this at each start."""
        if self._chosen is None:
            # Only `_apply` sets it: whoever comes here without a checked profile is refused.
            raise refusal(Forbidden("No profile was chosen.", remedy="Use the spawn page."))
        for name, value in self._settings(self._chosen).items():
            setattr(self, name, value)

    def _settings(self, chosen: Chosen) -> dict[str, Any]:
        found = dict(self._base)
        own = overrides(chosen.profile, self._groups())
        own["environment"] |= ending_environment(
            chosen.profile,
            self.orm_spawner.started,
            timedelta(seconds=self.warning_seconds),
        )
        for option, value in chosen.values.items():
            if option == "image":
                own["image"] = value
            else:
                # KubeSpawner formats these; what people typed is not a template.
                text = value.replace("{", "{{").replace("}", "}}")
                own["environment"] = {**own["environment"], option: text}
        own["tolerations"] = [*own.get("tolerations", ()), *self._node_tolerations()]
        homes = [volume for volume in chosen.profile.volumes if volume.kind == "home"]
        if homes:
            own |= {"storage_pvc_ensure": True, "storage_capacity": f"{homes[0].size}i"}
        for name, value in own.items():
            found[name] = _join(found[name], value) if name in _JOINED else value
        return found

    def _node_tolerations(self) -> list[dict[str, Any]]:
        # Without them Kubernetes waits five minutes.
        return [
            {
                "key": f"node.kubernetes.io/{state}",
                "operator": "Exists",
                "effect": "NoExecute",
                "tolerationSeconds": self.node_patience_seconds,
            }
            for state in ("not-ready", "unreachable")
        ]

    async def _start(self) -> Any:
        self.last_words.pop(self._key, None)
        began = time.monotonic()
        starting = asyncio.ensure_future(super()._start())
        try:
            address = await self._watched(starting)
        except ApiException as error:
            self.log.error("The API server refuses a server of %s: %s", self.user.name, error.body)
            raise refusal(pod_troubles.api_refusal(error.status, str(error.body))) from error
        except ClientError as error:
            raise refusal(_silent()) from error
        except AiaasError as error:
            self.log.error("A server of %s does not start: %s", self.user.name, error)
            # After a second the hub leads the person to a page that follows the start. What fails
            # before that page listens is shown there as a start that goes on for ever.
            await asyncio.sleep(began + _FOLLOWED_SECONDS - time.monotonic())
            raise refusal(error) from error
        finally:
            if not starting.done():
                starting.cancel()
        self._tell(ended=False)
        return address

    async def _watched(self, starting: asyncio.Future[Any]) -> Any:
        """What `starting` gives; raises why as soon as it is known that it never will."""
        end = time.monotonic() + max(1, self.start_timeout - _SPARE_SECONDS)
        while True:
            done, _ = await asyncio.wait([starting], timeout=_LOOK_SECONDS)
            if done:
                return starting.result()
            pod = self._pod()
            if (error := pod_troubles.hopeless(pod)) is not None:
                raise error
            if time.monotonic() > end:
                raise pod_troubles.too_slow(pod, self.events, self.start_timeout)

    def _pod(self) -> Mapping[str, Any] | None:
        if self.pod_reflector is None:
            return None
        pod: Mapping[str, Any] | None = self.pod_reflector.pods.get(
            f"{self.namespace}/{self.pod_name}"
        )
        return pod

    async def progress(self) -> AsyncIterator[dict[str, Any]]:
        """The cluster's events in words, each once."""
        said = ""
        async for step in super().progress():
            if "raw_event" in step:
                step = {**step, "message": pod_troubles.told(step["raw_event"])}
            if step["message"] != said:
                said = step["message"]
                yield {**step, "html_message": html.escape(said)}

    async def poll(self) -> int | None:
        before = self._pod()
        try:
            status: int | None = await super().poll()
        except (ApiException, ClientError, web.HTTPError) as error:
            # Nothing is known to have changed; asked again soon.
            self.log.warning("Whether %s runs is not known: %r", self.pod_name, error)
            return None
        pod = self._pod() or before
        if status is None and pod is not None and "deletionTimestamp" in pod["metadata"]:
            # Its node may never confirm it: where that is lost, the pod stays "running" for ever.
            status = 1
        if status is not None:
            why = pod_troubles.ended(pod, self.events)
            if why:
                self.last_words[self._key] = why
                self.log.warning("The server of %s ended: %s", self.user.name, why)
            return status
        if self._ending_task is None and self._is_over_lifetime():
            self.log.info("The server of %s has reached its profile's lifetime", self.user.name)
            # Not awaited: the hub looks for the server's end by this very method.
            self._ending_task = asyncio.ensure_future(self.user.stop(self.name))
        return None

    def run_post_stop_hook(self) -> Any:
        # However it ended: stopped by somebody, or found dead.
        self._tell(ended=True)
        return super().run_post_stop_hook()

    def _tell(self, *, ended: bool) -> None:
        if self._chosen is not None:
            user, name = self._key
            tell_of_server(self.events_directory, user, name, self._chosen.profile, ended=ended)

    def _is_over_lifetime(self) -> bool:
        started = self.orm_spawner.started
        if self._chosen is None or self._chosen.profile.max_lifetime is None or started is None:
            return False
        age = datetime.now(UTC) - started.replace(tzinfo=UTC)
        return bool(age >= self._chosen.profile.max_lifetime)

    def load_state(self, state: dict[str, Any]) -> None:
        """After a restart of the hub: what the server was started as."""
        super().load_state(state)
        try:
            every = load_profiles(Path(self.profiles_file))
            open_to_all = [Offer(profile) for profile in every.profiles]
            self._chosen = choose(open_to_all, self.user_options or {})
        except AiaasError as error:
            # The server goes on; what it was started as is not to be had any more.
            self.log.warning("The profile of a server of %s is gone: %s", self.user.name, error)

    async def _start_reflector(
        self, kind: str, reflector_class: Any, replace: bool = False, **kwargs: Any
    ) -> Any:
        """KubeSpawner 7.1 gives a watch up after about a minute without the API, and for ever: one
        that ended is begun anew. Remove this when its reflectors come back by themselves."""
        known = self.reflectors.get(self._get_reflector_key(kind))
        if known is not None and (known.watch_task is None or known.watch_task.done()):
            replace = True
        try:
            return await asyncio.wait_for(
                super()._start_reflector(kind, reflector_class, replace=replace, **kwargs),
                _WATCH_SECONDS,
            )
        except TimeoutError as error:
            raise refusal(_silent()) from error


def _silent() -> Unavailable:
    return Unavailable(
        "The cluster's API does not answer.",
        remedy="Try again in a moment; running servers are not touched.",
    )


def _join(base: Any, more: Any) -> Any:
    if isinstance(base, Mapping) and isinstance(more, Mapping):
        return {**base, **more}
    return [*base, *more]


async def _form(spawner: ProfileSpawner) -> str:
    offers, allowances = await offered(spawner)
    why = spawner.last_words.get(spawner._key)
    alert = f"Your last server ended: {why}. Files in your home are kept." if why else ""
    shown = f'<div class="alert alert-warning" role="status">{html.escape(alert)}</div>'
    return (shown if alert else "") + options_form(offers, allowances)


async def _apply(spawner: ProfileSpawner, options: Mapping[str, Any]) -> None:
    """Check spawn options, wherever they come from, and keep what they mean."""
    spawner._chosen = None
    spawner._chosen = await chosen(spawner, options)
