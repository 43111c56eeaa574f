"""Weights from folders and from a hub of models, as far as the operator allows it."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import text_models

from aiaas_hub.schemas.errors import InvalidInput
from aiaas_magics.runtime.recipes import pretrained

TWO = " bert-base-uncased, distilbert/* ,"


def loader(source: str, **options: Any) -> tuple[str, dict[str, Any]]:
    """In place of a `from_pretrained`."""
    return source, options


@pytest.mark.parametrize(
    ("allowed", "name"),
    [
        (TWO, "bert-base-uncased"),
        (TWO, "distilbert/distilbert-base-cased"),
        ("*", "anyone/anything"),
    ],
)
def test_a_hub_is_asked_for_what_the_operator_allows(
    monkeypatch: pytest.MonkeyPatch, allowed: str, name: str
) -> None:
    monkeypatch.setenv(pretrained.ALLOWED, allowed)
    options = {"local_files_only": False, "trust_remote_code": False}
    assert pretrained.load(name, loader, loader) == [(name, options)] * 2


@pytest.mark.parametrize(
    ("allowed", "name"),
    [
        (None, "bert-base-uncased"),
        ("", "bert-base-uncased"),
        (" , ", "bert-base-uncased"),
        (TWO, "bert-base-cased"),
        (TWO, "Bert-Base-Uncased"),
        (TWO, "distilbert"),
        (TWO, "anyone/distilbert/x"),
        (TWO, "anyone/bert-base-uncased"),
    ],
)
def test_a_hub_is_asked_for_nothing_else(
    monkeypatch: pytest.MonkeyPatch, allowed: str | None, name: str
) -> None:
    monkeypatch.delenv(pretrained.ALLOWED, raising=False)
    if allowed is not None:
        monkeypatch.setenv(pretrained.ALLOWED, allowed)
    with pytest.raises(InvalidInput, match=r"no folder .* no hub's model of this name") as refusal:
        pretrained.load(name, lambda *_, **__: pytest.fail("it was asked for"))
    assert "Give a folder" in refusal.value.remedy
    assert f"the operator add it to {pretrained.ALLOWED}" in refusal.value.remedy


def test_a_folder_needs_nobodys_permission(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(pretrained.ALLOWED, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "weights").mkdir()
    ((source, options),) = pretrained.load("~/weights", loader)
    assert source == str(tmp_path / "weights")
    assert options == {"local_files_only": True, "trust_remote_code": False}
    # A folder of an allowed name is still a folder.
    monkeypatch.setenv(pretrained.ALLOWED, "*")
    monkeypatch.chdir(tmp_path)
    assert pretrained.load("weights", loader)[0][1]["local_files_only"]
    from transformers import AutoModel

    with pytest.raises(InvalidInput, match="in 'weights' do not load") as refusal:
        pretrained.load("weights", AutoModel.from_pretrained)
    assert "config.json" in refusal.value.remedy


class Hub(SimpleHTTPRequestHandler):
    """A repository `tiny/bert`, served as a hub of models serves one."""

    asked: list[str]

    def do_HEAD(self) -> None:
        self.answer(b"")

    def do_GET(self) -> None:
        self.answer(None)

    def answer(self, body: bytes | None) -> None:
        self.asked.append(self.path)
        name = self.path.removeprefix("/tiny/bert/resolve/main/")
        file = Path(self.directory) / name
        found = name != self.path and file.is_file()
        content = file.read_bytes() if found else b"{}"
        self.send_response(200 if found else 404)
        self.send_header("Content-Length", str(len(content)))
        if name != self.path:
            self.send_header("X-Repo-Commit", "0" * 40)
            self.send_header("ETag", f'"{name}"')
        if not found:
            self.send_header("X-Error-Code", "EntryNotFound")
        self.end_headers()
        self.wfile.write(content if body is None else body)

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[ThreadingHTTPServer]:
    folder = text_models.tiny_bert(tmp_path / "bert", ["I loved it"])
    Hub.asked = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Hub, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("allowed", ["", "tiny/*"])
def test_without_permission_no_folders_files_lead_to_a_hub(allowed: str) -> None:
    code = (
        "import aiaas_magics.runtime.recipes.pretrained, huggingface_hub.constants as its\n"
        "print(its.HF_HUB_OFFLINE)"
    )
    environment = {"PATH": "/usr/bin:/bin", pretrained.ALLOWED: allowed}
    said = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert said.stdout.strip() == str(not allowed)


def test_weights_come_from_a_hub_where_it_is_allowed(
    hub: ThreadingHTTPServer, tmp_path: Path
) -> None:
    """In a process of its own, as a worker is: transformers reads its settings once."""
    code = (
        "import sys\n"
        "from aiaas_magics.runtime.recipes import pretrained\n"
        "from transformers import AutoModel, AutoTokenizer\n"
        "pretrained.quiet()\n"
        "for name in sys.argv[1:]:\n"
        "    try:\n"
        "        loaded = pretrained.load(\n"
        "            name, AutoTokenizer.from_pretrained, AutoModel.from_pretrained)\n"
        "        print([type(one).__name__ for one in loaded])\n"
        "    except Exception as error:\n"
        "        print(error)\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", code, "tiny/bert", "other/bert"],
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
        env={
            "PATH": "/usr/bin:/bin",
            "HOME": str(tmp_path),
            "HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}",
            pretrained.ALLOWED: "tiny/*",
        },
    )
    allowed, other = done.stdout.splitlines()
    assert allowed == "['BertTokenizer', 'BertModel']"
    assert "no hub's model of this name is allowed" in other
    assert any("model.safetensors" in path for path in Hub.asked)
    assert not any("other" in path for path in Hub.asked)
