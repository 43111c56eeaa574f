"""The serving environment: a Python environment with tritonserver and onnxruntime, made once.

It lies beside the platform's own packages (`<sys.prefix>/aiaas-serving/<hash>`), or in the
user's cache where that cannot be written. The hash covers the lock file and the interpreter, so
that an upgrade makes a new one and never changes one in use.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.util
import logging
import os
import platform
import secrets
import shutil
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from aiaas_hub.home import inherited_mark
from aiaas_hub.schemas.errors import Unavailable

log = logging.getLogger(__name__)

_MINOR = f"{sys.version_info.major}.{sys.version_info.minor}"
_INSTALL_SECONDS = 1800

_MAKE_AGAIN_SECONDS = 300.0
_TRY_AGAIN = "Check the network and the free disk space; it is tried again within minutes."

Progress = Callable[[str], None]


@dataclass(frozen=True)
class ServingEnvironment:
    """Where the parts of an environment lie."""

    root: Path
    libpython: Path
    """The directory of the shared library of this very Python, which the stub links to."""

    @property
    def python(self) -> Path:
        return self.root / "bin" / "python"

    @property
    def packages(self) -> Path:
        return self.root / "lib" / f"python{_MINOR}" / "site-packages"

    @property
    def tritonserver(self) -> Path:
        return self.packages / "pytriton" / "tritonserver" / "bin" / "tritonserver"

    @property
    def python_backend(self) -> list[Path]:
        """The files of the python backend, with the stub that fits this Python."""
        triton = self.packages / "pytriton" / "tritonserver"
        return [
            triton / "backends" / "python" / "libtriton_python.so",
            triton / "backends" / "python" / "triton_python_backend_utils.py",
            triton / "python_backend_stubs" / _MINOR / "triton_python_backend_stub",
        ]

    def variables(self) -> dict[str, str]:
        """The environment of a process that runs in it, and nothing of the platform's own."""
        libraries = [self.packages / "nvidia_pytriton.libs", self.libpython]
        return {
            # The stub takes its packages from the first python on this path.
            "PATH": f"{self.root / 'bin'}:/usr/local/bin:/usr/bin:/bin",
            "LD_LIBRARY_PATH": ":".join(map(str, libraries)),
            "LC_ALL": "C.UTF-8",
            # A user's own packages must not decide what serves.
            "PYTHONNOUSERSITE": "1",
            **inherited_mark(),
        }


def check_platform() -> Path:
    """The directory of libpython; raises `Unavailable` where Triton cannot run, and says why."""
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        raise Unavailable(
            f"Triton has no package for {platform.system()} on {platform.machine()}.",
            remedy="Everything but publishing works here; to publish, run the platform on Linux "
            "with an x86-64 processor.",
        )
    library = _find_libpython()
    if library is None:
        raise Unavailable(
            f"Triton needs the shared library of Python {_MINOR} (libpython{_MINOR}.so.1.0), "
            "which is not on this machine.",
            remedy=f"Install it, on Debian or Ubuntu with `apt install libpython{_MINOR}`, then "
            "start the platform again.",
        )
    return library.parent


def find() -> ServingEnvironment | None:
    """The environment, if it has been made."""
    libpython = check_platform()
    for base in _bases():
        root = base / _key()
        if root.is_dir():
            return ServingEnvironment(root, libpython)
    return None


def make(progress: Progress = log.info) -> ServingEnvironment:
    """The environment, made now if need be; of two makers the second waits for the first.

    Takes a minute or so and about 330 MB at the first use. Raises `Unavailable` with a remedy if
    it cannot be made; nothing half made is ever used.
    """
    if found := find():
        return found
    base = _writable_base()
    with _lock(base / ".lock"):
        if found := find():
            return found
        aside = base / f".{_key()}.{secrets.token_hex(4)}"
        try:
            progress("Installing Triton and onnxruntime into an environment of their own…")
            _install(aside)
            environment = ServingEnvironment(aside, check_platform())
            missing = [
                path
                for path in (environment.tritonserver, *environment.python_backend)
                if not path.is_file()
            ]
            if missing:
                raise Unavailable(
                    f"The Triton package holds no {missing[0].name} for Python {_MINOR}.",
                    remedy="Run the platform with Python 3.11, 3.12 or 3.13.",
                )
            # Nothing in it is addressed by its absolute path, so it may be renamed.
            aside.rename(base / _key())
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    progress("The serving environment is ready.")
    found = find()
    if found is None:
        raise Unavailable(
            "The serving environment vanished while it was made.",
            remedy="Start the platform again.",
        )
    return found


class EnvironmentMaker:
    """Makes the environment when it is first asked for, and a failed one not again at once."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._lock = threading.Lock()
        self._failure: Unavailable | None = None
        self._make_again_at = 0.0

    def get(self) -> ServingEnvironment:
        """See `make`."""
        with self._lock:
            if found := find():
                return found
            if time.monotonic() < self._make_again_at:
                self.require()
            try:
                environment = make(self._progress)
            except Unavailable as error:
                # It may have loaded hundreds of megabytes before it failed.
                self._failure = error
                self._make_again_at = time.monotonic() + _MAKE_AGAIN_SECONDS
                raise
            self._failure = None
            return environment

    def require(self) -> None:
        """Raise `Unavailable` where Triton cannot run, or while what failed is left alone."""
        check_platform()
        failure = self._failure
        if failure is not None and time.monotonic() < self._make_again_at and find() is None:
            raise Unavailable(failure.message, remedy=failure.remedy)


def _key() -> str:
    lock = _lock_text()
    what = f"{lock}\n{platform.python_version()}\n{sys.implementation.cache_tag}\n"
    return hashlib.sha256(what.encode()).hexdigest()[:16]


def _lock_text() -> str:
    return resources.files(__package__).joinpath("serving.lock").read_text()


def _bases() -> list[Path]:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser().absolute()
    return [Path(sys.prefix) / "aiaas-serving", cache / "aiaas-hub" / "serving"]


def _writable_base() -> Path:
    failures = []
    for base in _bases():
        try:
            base.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            failures.append(str(error))
            continue
        if os.access(base, os.W_OK):
            return base
        failures.append(f"{base} is read-only")
    raise Unavailable(
        f"There is no place for the serving environment: {'; '.join(failures)}.",
        remedy="Make one of these directories writable.",
    )


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _install(root: Path) -> None:
    if importlib.util.find_spec("pip") is None:
        raise Unavailable(
            "The serving environment cannot be made: this Python has no pip.",
            remedy=f"Run `{sys.executable} -m ensurepip`, or on Debian `apt install python3-pip`, "
            "then start the platform again.",
        )
    # Without pip: Debian's Python has no ensurepip unless python3-venv is installed. The
    # platform's own pip installs into it instead.
    _run([sys.executable, "-m", "venv", "--without-pip", str(root)])
    with resources.as_file(resources.files(__package__).joinpath("serving.lock")) as lock:
        _run(
            [
                *(sys.executable, "-m", "pip", "--python", str(root / "bin" / "python")),
                *("--disable-pip-version-check", "--no-input", "install", "--quiet"),
                *("--no-deps", "--only-binary", ":all:", "--requirement", str(lock)),
            ]
        )


def _run(argv: list[str]) -> None:
    try:
        done = subprocess.run(  # noqa: S603 - our own argv
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_INSTALL_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(
            f"The serving environment cannot be made: {error}.",
            remedy=_TRY_AGAIN,
        ) from error
    if done.returncode:
        log.error("%s failed:\n%s%s", argv[:4], done.stdout, done.stderr)
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith("ERROR")] or lines or ["no reason"]
        raise Unavailable(
            f"The serving environment cannot be made: {errors[-1].removeprefix('ERROR: ')}",
            remedy=_TRY_AGAIN,
        )


def _find_libpython() -> Path | None:
    """The shared library of this very Python; another of the same minor version as a last resort.

    Its directory goes first on the loader's path: the stub would otherwise silently take
    whichever libpython the system offers, and that one's packages.
    """
    name = f"libpython{_MINOR}.so.1.0"
    directories = [
        sysconfig.get_config_var("LIBDIR"),
        str(Path(sys.base_prefix) / "lib"),
        sysconfig.get_config_var("LIBPL"),
    ]
    multiarch = sysconfig.get_config_var("MULTIARCH")
    if multiarch:
        directories += [f"/usr/lib/{multiarch}", f"/lib/{multiarch}"]
    for directory in directories:
        if directory and (Path(directory) / name).is_file():
            return Path(directory) / name
    for ldconfig in ("/sbin/ldconfig", "/usr/sbin/ldconfig"):
        if not Path(ldconfig).exists():
            continue
        listing = subprocess.run(  # noqa: S603 - a fixed program
            [ldconfig, "-p"], capture_output=True, text=True, check=False, timeout=30
        )
        for line in listing.stdout.splitlines():
            library, arrow, path = line.strip().rpartition(" => ")
            if arrow and library.split(" ")[0] == name and Path(path).is_file():
                return Path(path)
    return None
