"""The spawner of a local platform: everybody's server is a process of the operator.

There is NO isolation between users: one user id, one file system, one loopback interface. It is
meant for one person, or for people who trust each other, on one machine; `JupyterHub.bind_url`
must therefore be a loopback address, and the spawner refuses to start a server otherwise.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

from jupyterhub.spawner import SimpleLocalProcessSpawner
from traitlets import Int, Unicode

from aiaas_hub.loopback import is_loopback
from aiaas_hub.schemas.errors import AiaasError, Forbidden
from aiaas_hub.spawner.choosing import chosen, offered
from aiaas_hub.spawner.ending import ending_environment
from aiaas_hub.spawner.gpus import nvidia_gpus
from aiaas_hub.spawner.limits import (
    Held,
    Limits,
    confine,
    local_limits,
    memory_group,
    own_control_group,
)
from aiaas_hub.spawner.notebook_home import directory_name, prepare_directory
from aiaas_hub.spawner.profiles import (
    Capacity,
    Chosen,
    Offer,
    Profile,
    choose,
    load_profiles,
    offers,
)
from aiaas_hub.spawner.refusing import refusal
from aiaas_hub.spawner.spawn_page import form_options, options_form
from aiaas_hub.spawner.telling import tell_of_server

_REMEMBERED_STARTS = 20


class LocalSpawner(SimpleLocalProcessSpawner):  # type: ignore[misc]  # jupyterhub has no types
    """`SimpleLocalProcessSpawner` with profiles, and a directory per user below the home."""

    profiles_file = Unicode(config=True, help="The profiles.yaml to offer and to check against.")
    notebooks = Unicode(config=True, help="Directory with one directory per user.")
    examples = Unicode(config=True, help="Directory that is copied to new users; empty: none.")
    shared = Unicode(config=True, help="Directory with one directory per group; empty: none.")
    events_directory = Unicode(config=True, help="Where the service is told of servers; or empty.")
    service_api_url = Unicode(config=True, help="Of the service, which knows quotas; or empty.")
    warning_seconds = Int(
        600, min=0, config=True, help="How long before a server's end JupyterLab tells of it."
    )
    public_url_of_hub = Unicode(
        config=True, help="Where the proxy listens; the spawner refuses what is beyond loopback."
    )

    held: ClassVar[dict[tuple[str, str], Held]] = {}
    """What each server has of this machine."""
    start_seconds: ClassVar[deque[float]] = deque(maxlen=_REMEMBERED_STARTS)

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        # Configuration must not replace these: they are what refuses a tampered request.
        self.options_form = _form
        self.options_from_form = form_options
        self.apply_user_options = _apply
        self._chosen: Chosen | None = None
        self._limits: Limits | None = None
        self._ending = False

    @property
    def _key(self) -> tuple[str, str]:
        return (str(self.user.name), str(self.name))

    def _home_dir(self) -> Path:
        return Path(self.notebooks) / directory_name(self.user.name)

    def _groups(self) -> frozenset[str]:
        return frozenset(str(group.name) for group in self.user.groups)

    def _others(self) -> list[Held]:
        return [held for key, held in self.held.items() if key != self._key]

    def offers(self) -> list[Offer]:
        """What this user may choose now; the file is read each time, so its changes count at once.
        Raises `Forbidden` if that is nothing."""
        gpus = nvidia_gpus()
        used = {gpu for held in self._others() for gpu in held.gpus}
        capacity = Capacity(gpus=len(gpus), free_gpus=sum(gpu not in used for gpu in gpus))
        return offers(load_profiles(Path(self.profiles_file)), capacity, self._groups())

    def get_env(self) -> dict[str, str]:
        if self._limits is None or self._chosen is None:
            return dict(super().get_env())
        options = {name: text for name, text in self._chosen.values.items() if name != "image"}
        ending = ending_environment(
            self._chosen.profile,
            self.orm_spawner.started,
            timedelta(seconds=self.warning_seconds),
        )
        return {**super().get_env(), **self._limits.environment, **ending, **options}

    def make_preexec_fn(self, name: str) -> Callable[[], None]:
        to_home = super().make_preexec_fn(name)
        limits, parent = self._limits, own_control_group()
        assert limits is not None, "`start` has seen to it"  # noqa: S101 - an invariant
        group = None
        if parent is not None:
            group = memory_group(parent, f"aiaas-{directory_name(name)[:100]}", limits.memory)

        def prepare() -> None:
            to_home()
            confine(limits, group)

        return prepare

    async def start(self) -> tuple[str, int]:
        if not is_loopback(self.public_url_of_hub):
            raise refusal(
                Forbidden(
                    "This hub listens beyond loopback, and its spawner does not isolate users.",
                    remedy="Bind it to 127.0.0.1, or use a spawner that isolates.",
                )
            )
        if self._chosen is None:
            # Only `_apply` sets it: whoever comes here without a checked profile is refused.
            raise refusal(Forbidden("No profile was chosen.", remedy="Use the spawn page."))
        cores = sorted(os.sched_getaffinity(0))
        try:
            self._limits = local_limits(self._chosen.profile, cores, nvidia_gpus(), self._others())
        except AiaasError as error:
            raise refusal(error) from error
        self.held[self._key] = Held(self._limits.cores, self._limits.gpus)
        began = time.monotonic()
        try:
            home = self._home_dir()
            prepare_directory(home, Path(self.examples) if self.examples else None)
            self._link_shared(home, self._chosen.profile)
            self.home_dir = str(home)
            self.notebook_dir = str(home)
            address: tuple[str, int] = await super().start()
        except BaseException:
            self.held.pop(self._key, None)
            raise
        self._ending = False
        self.start_seconds.append(time.monotonic() - began)
        self._tell(ended=False)
        return address

    def _link_shared(self, home: Path, profile: Profile) -> None:
        """The group's directories, below the user's own as `shared/GROUP`."""
        if not self.shared:
            return
        wanted = {group for volume in profile.volumes for group in volume.groups}
        for group in sorted(wanted & self._groups()):
            target = Path(self.shared) / directory_name(group)
            target.mkdir(mode=0o700, parents=True, exist_ok=True)
            link = home / "shared" / directory_name(group)
            link.parent.mkdir(exist_ok=True)
            if not link.is_symlink() and not link.exists():
                link.symlink_to(target)

    async def poll(self) -> int | None:
        status: int | None = await super().poll()
        if status is None and not self._ending and self._is_over_lifetime():
            self._ending = True
            self.log.info("The server of %s has reached its profile's lifetime", self.user.name)
            # Not awaited: the hub looks for the server's end by this very method.
            self._ending_task = asyncio.ensure_future(self.user.stop(self.name))
        return status

    def _is_over_lifetime(self) -> bool:
        if self._chosen is None or self._chosen.profile.max_lifetime is None:
            return False
        started = self.orm_spawner.started
        if started is None:
            return False
        return bool(
            datetime.now(UTC) - started.replace(tzinfo=UTC) >= self._chosen.profile.max_lifetime
        )

    def get_state(self) -> dict[str, Any]:
        state: dict[str, Any] = super().get_state()
        if (held := self.held.get(self._key)) is not None:
            state["aiaas_held"] = {"cores": sorted(held.cores), "gpus": list(held.gpus)}
        return state

    def load_state(self, state: dict[str, Any]) -> None:
        """After a restart of the hub: what the server holds, and what it was started as."""
        super().load_state(state)
        held = state.get("aiaas_held")
        if held is None:
            return
        self.held[self._key] = Held(frozenset(held["cores"]), tuple(held["gpus"]))
        try:
            every = load_profiles(Path(self.profiles_file))
            open_to_all = [Offer(profile) for profile in every.profiles]
            self._chosen = choose(open_to_all, self.user_options or {})
        except AiaasError as error:
            # The server goes on; what it was started as is not to be had any more.
            self.log.warning("The profile of a server of %s is gone: %s", self.user.name, error)

    def clear_state(self) -> None:
        super().clear_state()
        self.held.pop(self._key, None)

    def run_post_stop_hook(self) -> Any:
        # However it ended: stopped by somebody, or found dead.
        self.held.pop(self._key, None)
        self._tell(ended=True)
        return super().run_post_stop_hook()

    def _tell(self, *, ended: bool) -> None:
        if self._chosen is not None:
            user, name = self._key
            tell_of_server(self.events_directory, user, name, self._chosen.profile, ended=ended)


async def _form(spawner: LocalSpawner) -> str:
    offers, allowances = await offered(spawner)
    times: Sequence[float] = LocalSpawner.start_seconds
    return options_form(offers, allowances, statistics.median(times) if times else None)


async def _apply(spawner: LocalSpawner, options: Mapping[str, Any]) -> None:
    """Check spawn options, wherever they come from, and keep what they mean."""
    spawner._chosen = spawner._limits = None
    spawner._chosen = found = await chosen(spawner, options)
    spawner.cpu_limit = found.profile.cpus
    spawner.mem_limit = found.profile.memory
