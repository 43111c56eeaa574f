"""Where a local platform keeps its state: one directory, private to its user."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from pathlib import Path

MARKER = "AIAAS_PLATFORM"
"""A variable in the environment of every process of a local platform: it names the platform, so
that whatever one of them left behind is found and ended."""


def inherited_mark() -> dict[str, str]:
    """The marker of the platform that this process belongs to, for environments made anew."""
    return {MARKER: os.environ[MARKER]} if MARKER in os.environ else {}


@dataclass(frozen=True)
class Home:
    """The layout below `AIAAS_HOME`. Making a `Home` touches nothing; `prepare` does."""

    root: Path

    @classmethod
    def from_environment(cls) -> Home:
        configured = os.environ.get("AIAAS_HOME")
        if configured:
            return cls(Path(configured).expanduser().absolute())
        data = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
        return cls(Path(data).expanduser().absolute() / "aiaas-hub")

    @property
    def platform_file(self) -> Path:
        """Written when the platform can be used: addresses, passwords and the process id."""
        return self.root / "platform.json"

    @property
    def lock_file(self) -> Path:
        return self.root / "lock"

    @property
    def secrets(self) -> Path:
        return self.root / "secrets"

    @property
    def hub(self) -> Path:
        return self.root / "hub"

    @property
    def profiles(self) -> Path:
        """The operator's own profiles; where there are none, those that are shipped count."""
        return self.root / "profiles.yaml"

    @property
    def config(self) -> Path:
        """The operator's own settings of service, hub and culler, as traitlets."""
        return self.root / "aiaas_config.py"

    @property
    def hub_events(self) -> Path:
        """What the hub has told and the service has not taken in yet."""
        return self.root / "hub-events"

    @property
    def records_url(self) -> str:
        return f"sqlite:///{self.root / 'records.sqlite'}"

    @property
    def artifacts(self) -> Path:
        return self.root / "artifacts"

    @property
    def triton(self) -> Path:
        return self.root / "triton"

    @property
    def envoy(self) -> Path:
        return self.root / "envoy"

    @property
    def ray(self) -> Path:
        return self.root / "ray"

    @property
    def queries(self) -> Path:
        """What queries write while they run."""
        return self.root / "queries"

    @property
    def runs(self) -> Path:
        return self.root / "runs"

    @property
    def notebooks(self) -> Path:
        return self.root / "notebooks"

    @property
    def shared(self) -> Path:
        """One directory for each group whose members share one."""
        return self.root / "shared"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def processes(self) -> Path:
        return self.root / "processes"

    def prepare(self) -> None:
        """Make the directories, all with mode 700; a repeat changes nothing."""
        for directory in (
            self.root,
            self.secrets,
            self.hub,
            self.hub_events,
            self.artifacts,
            self.triton,
            self.envoy,
            self.runs,
            self.notebooks,
            self.logs,
            self.processes,
        ):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.root.chmod(0o700)

    def secret_file(self, name: str) -> Path:
        return self.secrets / name

    def secret(self, name: str, *, nbytes: int = 32) -> str:
        """The secret of this name, made at its first use (hexadecimal, `nbytes` random bytes)."""
        path = self.secret_file(name)
        try:
            return path.read_text().strip()
        except FileNotFoundError:
            write_private(path, secrets.token_hex(nbytes) + "\n", replace=False)
            # Read back: another process may have been first.
            return path.read_text().strip()


def write_private(path: Path, content: str | bytes, *, replace: bool = True) -> None:
    """Write a file of mode 600 atomically: readers see the old content or all of the new.

    With `replace=False` an existing file is left as it is.
    """
    data = content.encode() if isinstance(content, str) else content
    aside = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            aside.rename(path)
        else:
            try:
                os.link(aside, path)
            except FileExistsError:
                return
    finally:
        aside.unlink(missing_ok=True)
