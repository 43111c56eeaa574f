"""`aiaas secrets rotate`: every user's secret under a new key, while the platform runs or not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from aiaas_hub.adapters.records.database import Database
from aiaas_hub.adapters.records.secrets import SqlSecretRecords
from aiaas_hub.adapters.sealing import FernetSealer
from aiaas_hub.config import read_config
from aiaas_hub.home import Home
from aiaas_hub.schemas.errors import NotFound

_KEPT = 2
"""The key before the newest: a service that read the file a moment ago may still seal with it."""


def rotate(home: Home, say: Callable[[str], None]) -> int:
    """0: all are under the newest key; 1: some were sealed with a key that is lost."""
    if not home.root.is_dir():
        raise NotFound(f"There is no platform in {home.root}.", remedy="Set AIAAS_HOME.")
    config = read_config(home)
    own = not config.secrets_key_file
    sealer = FernetSealer(Path(config.secrets_key_file or home.secret_file("storage_keys")), own)
    if own:
        sealer.add_key()
    database = Database(config.records_url)
    try:
        database.migrate()
        done, failed = SqlSecretRecords(database).seal_anew(sealer.seal_anew)
    finally:
        database.close()
    if own and not failed:
        sealer.forget_keys(_KEPT)
    say(f"{done} secrets are under the newest key.")
    if not own:
        say(f"It is the first line of {config.secrets_key_file}; those after it may be removed.")
    if failed:
        say(f"{failed} were sealed with a key that is not there: their owners set them again.")
    return 1 if failed else 0
