"""Where the engines of one home have their sockets: a short directory of mode 700.

A port on loopback is open to every user of the machine, and a secret that guards it would stand
in the engine's command line. A socket in a private directory needs neither. It is not below the
home, since the kernel takes 107 bytes of a socket's path and homes may be longer.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import stat
from pathlib import Path

from aiaas_hub.home import Home
from aiaas_hub.schemas.errors import Unavailable


def path_of(home: Home) -> Path:
    """The directory of this home, whether it exists or not."""
    key = hashlib.sha256(os.fsencode(home.root.resolve())).hexdigest()[:10]
    return Path("/tmp") / f"aiaas-{os.getuid()}-{key}"  # noqa: S108 - made private below


def run_directory(home: Home, engine: str) -> Path:
    """The engine's part of it, made if need be.

    Raises `Unavailable` if somebody else has the directory.
    """
    root = path_of(home)
    root.mkdir(mode=0o700, exist_ok=True)
    status = root.lstat()
    private = stat.S_ISDIR(status.st_mode) and stat.S_IMODE(status.st_mode) == 0o700
    if not private or status.st_uid != os.getuid():
        raise Unavailable(
            f"{root} is not a private directory of this user.",
            remedy="Remove it, or choose another AIAAS_HOME.",
        )
    directory = root / engine
    directory.mkdir(mode=0o700, exist_ok=True)
    return directory


def triton_sockets(home: Home) -> Path:
    """Where Triton of this home listens: `http` for the gateway, another for the service."""
    return run_directory(home, "triton")


def remove(home: Home, engine: str | None = None) -> None:
    """Remove the engine's part, or all of it, once nothing of it runs any more."""
    root = path_of(home)
    # A link or somebody else's directory is none of ours.
    if root.is_symlink() or not root.is_dir() or root.lstat().st_uid != os.getuid():
        return
    shutil.rmtree(root if engine is None else root / engine, ignore_errors=True)
    with contextlib.suppress(OSError):
        root.rmdir()  # unless another engine's part is in it
