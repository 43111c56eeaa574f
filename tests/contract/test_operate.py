"""docs/operate.md as an administrator would follow it: its commands run, its files are read."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from api_world import serving
from certipy import Certipy
from traitlets.config import Config

from aiaas_hub.cli import _parser
from aiaas_hub.config import read_config
from aiaas_hub.domain.quotas import Quotas
from aiaas_hub.home import Home
from aiaas_hub.local.reach import Reach
from aiaas_hub.local.shipped import shipped
from aiaas_hub.schemas.errors import InvalidInput
from aiaas_hub.spawner import sign_in
from aiaas_hub.spawner.profiles import load_profiles

TEXT = (Path(__file__).parents[2] / "docs" / "operate.md").read_text()


def blocks(kind: str) -> list[str]:
    found = re.findall(rf"^```{kind}\n(.*?)^```$", TEXT, re.M | re.S)
    assert found, kind
    return found


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path / "home")
    with serving(made, made.records_url) as world:
        world.published()
    with sqlite3.connect(made.hub / "jupyterhub.sqlite") as hub:
        hub.execute("CREATE TABLE users (name TEXT)")
    hub.close()
    return made


def test_the_commands_work_as_they_stand(home: Home, tmp_path: Path) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environ = {**os.environ, "PATH": path, "AIAAS_HOME": str(home.root)}
    commands = [line[2:] for block in blocks("console") for line in block.splitlines()]
    assert len(commands) == 6
    for command in commands:
        done = subprocess.run(
            ["/bin/sh", "-c", command], env=environ, cwd=tmp_path, capture_output=True, text=True,
            timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, (command, done.stdout, done.stderr)
    assert (tmp_path / "elsewhere" / "records.sqlite").is_file()
    assert len((tmp_path / "audit.jsonl").read_text().splitlines()) > 3


def test_the_files_are_valid(tmp_path: Path) -> None:
    path = tmp_path / "profiles.yaml"
    path.write_text(blocks("yaml profiles")[0])
    assert len(load_profiles(path).profiles) == 3
    quotas = Quotas.model_validate(yaml.safe_load(blocks("yaml quotas")[0]))
    assert quotas.of("ada", frozenset({"students"})).gpu_hours == 1000
    (tmp_path / "aiaas_config.py").write_text(blocks("python config")[0])
    config = read_config(Home(tmp_path))
    assert config.log_format == "json"
    assert config.max_runs_per_user == 4


def test_the_addresses_settings_are_all_there_are(tmp_path: Path) -> None:
    made = Certipy(store_dir=str(tmp_path / "certificates"))
    authority = made.create_ca("authority")["files"]["cert"]
    pair = made.create_signed_pair("hub", "authority", alt_names=["DNS:hub.example.org"])["files"]
    lines = blocks("sh reach")[0].splitlines()
    environ = dict(line.partition("#")[0].strip().split("=", 1) for line in lines)
    files = {"TLS_CERTIFICATE": pair["cert"], "TLS_KEY": pair["key"], "CA": authority}
    environ |= {f"AIAAS_{name}_FILE": path for name, path in files.items()}
    reach = Reach.from_environment(environ)
    assert reach.url(443) == "https://hub.example.org:443"
    assert None not in reach.model_dump().values()
    assert reach.subdomains
    assert reach.internal_tls
    for wrong in (
        {"AIAAS_TLS_KEY_FILE": ""},
        {"AIAAS_TLS_KEY_FILE": authority},
        {"AIAAS_HOST_NAME": "127.0.0.1"},
        {"AIAAS_HOST_NAME": "hub example"},
        {"AIAAS_CA_FILE": str(tmp_path / "none")},
    ):
        with pytest.raises(InvalidInput):
            Reach.from_environment(environ | wrong)


def test_the_units_start_the_parts() -> None:
    unit = (shipped("hub_config") / "systemd" / "aiaas@.service").read_text()
    [command] = re.findall(r"^ExecStart=/opt/aiaas/bin/aiaas (.*) %i$", unit, re.M)
    assert "KillMode=process" in unit
    text = blocks("console units")[0]
    named = re.findall(r"aiaas@([a-z]+)\b", text)
    for name in ("proxy", "service", "hub"):
        assert _parser().parse_args([command, name]).name == name
        assert name in named


def test_the_sign_in_is_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = tmp_path / "secret"
    secret.write_text("x")
    lines = blocks("sh sign-in")[0].splitlines()
    environ = dict(line.partition("#")[0].strip().split("=", 1) for line in lines)
    environ["AIAAS_SIGN_IN_CLIENT_SECRET_FILE"] = str(secret)
    addresses = dict.fromkeys(
        ("authorization_endpoint", "token_endpoint", "userinfo_endpoint"), "https://id.example.org"
    )
    monkeypatch.setattr(sign_in, "discover", lambda issuer, kept: addresses)
    assert sign_in.configure(Config(), environ, "http://x", tmp_path / "kept", "00" * 32)
    documented = set(re.findall(r"AIAAS_SIGN_IN[A-Z_]*", TEXT))
    known = set(re.findall(r"AIAAS_SIGN_IN[A-Z_]*", sign_in.__doc__ or ""))
    assert {name for name in known if not name.endswith("_")} <= documented
