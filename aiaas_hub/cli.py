"""The command `aiaas`: run the platform on this machine, try it, look after it."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from aiaas_hub import __version__
from aiaas_hub.home import Home
from aiaas_hub.schemas.errors import AiaasError, InvalidInput

if TYPE_CHECKING:
    from aiaas_hub.local.platform import LocalPlatform

DEFAULT_PORT = 8000


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except AiaasError as error:
        print(f"aiaas: {error}", file=sys.stderr)  # noqa: T201
        return 1
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in ("aiaas_hub", "aiaas_magics"):
            raise  # our own: a defect
        print(  # noqa: T201
            f"aiaas: {error.name} is missing, which a platform needs. Type: "
            f"{sys.executable} -m pip install 'aiaas-hub[local]'",
            file=sys.stderr,
        )
        return 1


def say(text: str = "") -> None:
    print(text, flush=True)  # noqa: T201


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="aiaas", description=__doc__)
    parser.add_argument("--version", action="version", version=f"aiaas-hub {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    up = commands.add_parser("up", help="run the whole platform here until Ctrl-C")
    up.add_argument(
        "--port", type=int, help=f"default: the variable PORT, else {DEFAULT_PORT}", metavar="N"
    )
    up.set_defaults(run=_up)

    part = commands.add_parser(
        "part", help="be the proxy, the hub or the service, for a supervisor such as systemd"
    )
    part.add_argument("name", choices=("proxy", "hub", "service"))
    part.add_argument("--port", type=int, help="as of `up`; the three after it too", metavar="N")
    part.set_defaults(run=_part)

    demo = commands.add_parser("demo", help="run the quickstart as a user would, then stop")
    demo.add_argument(
        "--save", type=Path, metavar="FILE", help="keep the executed notebook in this file"
    )
    demo.set_defaults(run=_demo)

    doctor = commands.add_parser("doctor", help="what is missing or unhealthy, and its remedy")
    doctor.set_defaults(run=_doctor)

    audit = commands.add_parser("audit", help="check the audit log, or write it out")
    audit_verbs = audit.add_subparsers(required=True, metavar="VERB")
    verify = audit_verbs.add_parser("verify", help="read the whole chain and say whether it is so")
    verify.add_argument(
        "--head",
        metavar="NUMBER:HASH",
        help="what an earlier verify or export printed: shows whether entries were cut off since",
    )
    verify.set_defaults(run=_audit_verify)
    export = audit_verbs.add_parser("export", help="print the entries as JSON lines, oldest first")
    export.add_argument("--since", type=int, default=0, metavar="NUMBER", help="after this entry")
    export.set_defaults(run=_audit_export)

    secrets = commands.add_parser("secrets", help="look after users' secrets for storage")
    secrets_verbs = secrets.add_subparsers(required=True, metavar="VERB")
    rotate = secrets_verbs.add_parser("rotate", help="seal them all with a new key")
    rotate.set_defaults(run=_rotate)

    backup = commands.add_parser("backup", help="write all of a platform into a file")
    backup.add_argument("file", metavar="FILE", type=Path)
    backup.add_argument(
        "--without-notebooks", action="store_true", help="leave people's own files out"
    )
    backup.set_defaults(run=_backup)
    restore = commands.add_parser("restore", help="make a platform from such a file")
    restore.add_argument("file", metavar="FILE", type=Path)
    restore.add_argument(
        "--replace", action="store_true", help="move the platform that is there aside"
    )
    restore.set_defaults(run=_restore)
    return parser


def _port(options: argparse.Namespace) -> int:
    if options.port is not None:
        port = options.port
    else:
        text = os.environ.get("PORT") or str(DEFAULT_PORT)
        if not text.isascii() or not text.isdigit():
            raise InvalidInput(f"PORT={text!r} is not a number.", remedy="Try PORT=8000.")
        port = int(text)
    if not 1 <= port <= 65535:
        raise InvalidInput(f"{port} is not a port.", remedy="Ports go from 1 to 65535.")
    return int(port)


def stop_on_signals() -> threading.Event:
    """An event that Ctrl-C, SIGTERM and a closed terminal set from now on."""
    requested = threading.Event()

    def request(number: int, frame: FrameType | None) -> None:
        requested.set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, request)
    return requested


def _up(options: argparse.Namespace) -> int:
    # Imported late: `aiaas --help` should answer at once.
    from aiaas_hub.local.platform import Interrupted, LocalPlatform

    port = _port(options)
    requested = stop_on_signals()
    platform = LocalPlatform(Home.from_environment(), port, say, requested)
    say(f"Starting the platform in {platform.home.root} …")
    try:
        with platform:
            _welcome(platform)
            while platform.alive():
                if requested.wait(1):
                    say("\nStopping …")
                    break
            else:
                say(f"The hub has ended by itself; its last words:\n{platform.last_words()}")
                return 1
    except Interrupted:
        pass
    say("Stopped. `make up` or `aiaas up` brings everything back.")
    return 0


def _welcome(platform: LocalPlatform) -> None:
    say(
        f"""
AIaaS Hub is ready:  {platform.url}

  Sign in   any user name, password {platform.user_password}
            (`admin` has its own password, in {platform.home.platform_file})
  State     {platform.home.root}
  Logs      {platform.home.logs}
  Stop      Ctrl-C; the next start brings runs, models and endpoints back

Weaker than on a cluster: all notebooks, runs and models of all users run as this one user of the
machine, so people who can sign in are not isolated from each other. All of it listens on 127.0.0.1
only, but for PyTorch while a run has several workers (`aiaas doctor` shows it). Ray, Triton and
Envoy may still be starting behind.
"""
    )


def _part(options: argparse.Namespace) -> int:
    from aiaas_hub.local.parts import Part, become

    become(Part(options.name), Home.from_environment(), _port(options), os.environ)
    raise AssertionError("unreachable: this process is that part now")


def _demo(options: argparse.Namespace) -> int:
    from aiaas_hub.local.demo import run_demo

    return run_demo(say, stop_on_signals(), options.save)


def _doctor(options: argparse.Namespace) -> int:
    from aiaas_hub.local.doctor import run_doctor

    return run_doctor(Home.from_environment(), say)


def _audit_verify(options: argparse.Namespace) -> int:
    from aiaas_hub.local.audit_log import verify_audit

    return verify_audit(Home.from_environment(), options.head, say)


def _audit_export(options: argparse.Namespace) -> int:
    from aiaas_hub.local.audit_log import export_audit

    return export_audit(Home.from_environment(), options.since, say)


def _rotate(options: argparse.Namespace) -> int:
    from aiaas_hub.local.secret_keys import rotate

    return rotate(Home.from_environment(), say)


def _backup(options: argparse.Namespace) -> int:
    from aiaas_hub.local.backup import back_up

    with_notebooks = not options.without_notebooks
    return back_up(Home.from_environment(), options.file, with_notebooks=with_notebooks, say=say)


def _restore(options: argparse.Namespace) -> int:
    from aiaas_hub.local.backup import restore

    return restore(Home.from_environment(), options.file, replace=options.replace, say=say)


if __name__ == "__main__":
    sys.exit(main())
