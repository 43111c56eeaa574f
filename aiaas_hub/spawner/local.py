"""The spawner of a local platform: everybody's server is a process of the operator.

There is NO isolation between users: one user id, one file system, one loopback interface. It is
meant for one person, or for people who trust each other, on one machine; `JupyterHub.bind_url`
must therefore be a loopback address, and the spawner refuses to start a server otherwise.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jupyterhub.spawner import SimpleLocalProcessSpawner
from tornado import web
from traitlets import Unicode

from aiaas_hub.adapters.hub_events import HubEvent, HubEvents, ServerSpan
from aiaas_hub.loopback import is_loopback
from aiaas_hub.schemas.audit import Outcome
from aiaas_hub.schemas.errors import AiaasError, Forbidden
from aiaas_hub.spawner.gpus import nvidia_gpu_count
from aiaas_hub.spawner.notebook_home import directory_name, prepare_directory
from aiaas_hub.spawner.profiles import (
    Capacity,
    Offer,
    Profile,
    choose,
    load_profiles,
    offers,
    options_form,
    thread_environment,
)


class LocalSpawner(SimpleLocalProcessSpawner):  # type: ignore[misc]  # jupyterhub has no types
    """`SimpleLocalProcessSpawner` with profiles, and a directory per user below the home."""

    profiles_file = Unicode(config=True, help="The profiles.yaml to offer and to check against.")
    notebooks = Unicode(config=True, help="Directory with one directory per user.")
    examples = Unicode(config=True, help="Directory that is copied to new users; empty: none.")
    events_directory = Unicode(config=True, help="Where the service is told of servers; or empty.")
    public_url_of_hub = Unicode(
        config=True, help="Address users see; the spawner refuses one beyond loopback."
    )

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        # Configuration must not replace these: they are what refuses a tampered request.
        self.options_form = _form
        self.options_from_form = _from_form
        self.apply_user_options = _apply
        self._profile_environment: dict[str, str] = {}
        self._profile: Profile | None = None

    def _home_dir(self) -> Path:
        return Path(self.notebooks) / directory_name(self.user.name)

    def offers(self) -> list[Offer]:
        """What may be chosen now; the file is read each time, so its changes count at once."""
        return offers(load_profiles(Path(self.profiles_file)), Capacity(gpus=nvidia_gpu_count()))

    def get_env(self) -> dict[str, str]:
        return {**super().get_env(), **self._profile_environment}

    async def start(self) -> tuple[str, int]:
        if not is_loopback(self.public_url_of_hub):
            raise _refuse(
                Forbidden(
                    "This hub listens beyond loopback, and its spawner does not isolate users.",
                    remedy="Bind it to 127.0.0.1, or use a spawner that isolates.",
                )
            )
        if not self._profile_environment:
            # Only `_apply` sets it: whoever comes here without a checked profile is refused.
            raise _refuse(Forbidden("No profile was chosen.", remedy="Use the spawn page."))
        home = self._home_dir()
        prepare_directory(home, Path(self.examples) if self.examples else None)
        self.home_dir = str(home)
        self.notebook_dir = str(home)
        address: tuple[str, int] = await super().start()
        self._tell("server start", ended=False)
        return address

    def run_post_stop_hook(self) -> Any:
        # However it ended: stopped by somebody, or found dead.
        self._tell("server stop", ended=True)
        return super().run_post_stop_hook()

    def _tell(self, act: str, *, ended: bool) -> None:
        """For the audit log and for what the user has used."""
        profile = self._profile
        if profile is None or not self.events_directory:
            return
        user = str(self.user.name)
        server = f"{user}/{self.name}" if self.name else user
        event = HubEvent(
            actor=user,
            act=act,
            object=f"servers/{server}",
            owner=user,
            outcome=Outcome.DONE,
            detail={"profile": profile.slug},
            span=ServerSpan(
                server=server,
                profile=profile.slug,
                cpus=profile.cpus,
                gpus=profile.gpus,
                price_per_hour=profile.price_per_hour,
                ended=ended,
            ),
        )
        try:
            HubEvents(Path(self.events_directory)).tell(event)
        except OSError as error:
            self.log.error("%s of %s is not recorded: %s", act, server, error)


def _refuse(error: AiaasError) -> web.HTTPError:
    """Show the sentence on the spawn page and in REST answers."""
    refusal = web.HTTPError(error.status, "%s", str(error), reason=type(error).__name__)
    # Where JupyterHub looks for text that may be shown.
    refusal.jupyterhub_message = str(error)  # type: ignore[attr-defined]
    return refusal


def _form(spawner: LocalSpawner) -> str:
    try:
        return options_form(spawner.offers())
    except AiaasError as error:
        spawner.log.error("%s", error)
        raise web.HTTPError(
            503, "The profiles file is broken; the hub's log says where."
        ) from error


def _from_form(form: Mapping[str, list[str]]) -> dict[str, Any]:
    """Form data as spawn options; `_apply` judges them."""
    return {
        key: values[0] if len(values) == 1 else values
        for key, values in form.items()
        if not key.startswith("_")  # the form's own _xsrf
    }


def _apply(spawner: LocalSpawner, options: Mapping[str, Any]) -> None:
    """Check spawn options, wherever they come from, and keep what they mean."""
    spawner._profile_environment = {}
    try:
        profile = choose(spawner.offers(), options)
    except AiaasError as error:
        raise _refuse(error) from error
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    spawner._profile_environment = {
        **thread_environment(profile, cores or 1),
        "AIAAS_PROFILE": profile.slug,
    }
    spawner._profile = profile
    spawner.cpu_limit = profile.cpus
    spawner.mem_limit = profile.memory
