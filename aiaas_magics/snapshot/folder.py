"""Which files of a folder go into a snapshot: all, save what a run has no use for.

Secrets, version control, caches, environments, checkpoints and large data stay where they are. A
file `.aiaasignore` in the folder adds patterns, in the syntax of `.gitignore`; `!pattern` brings
back what is left out by default.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from pathspec import GitIgnoreSpec

from aiaas_magics.snapshot.archive import File

IGNORE_FILE = ".aiaasignore"
DATA_LIMIT = 1 << 20
"""Bytes from which a file of data is left out."""

_MOST_FILES = 100_000
_MOST_LEFT_OUT = 50

_SECRETS = """
.env .env.* *.env .netrc _netrc .pgpass .pypirc .npmrc .git-credentials .htpasswd
*.pem *.key *.p12 *.pfx *.jks *.keystore *.kdbx *.token *.ovpn
id_rsa* id_dsa* id_ecdsa* id_ed25519* .ssh/ .gnupg/ .aws/ .azure/ .gcloud/ .kube/ .docker/
kubeconfig* credentials.json client_secret*.json service-account*.json service_account*.json
secrets.json secrets.yaml secrets.yml secrets.toml
"""
_CLUTTER = """
.git/ .git .hg/ .svn/ .DS_Store node_modules/ __pycache__/ *.pyc .ipynb_checkpoints/ *.ipynb
.venv/ .conda/ .tox/ .nox/ .mypy_cache/ .ruff_cache/ .pytest_cache/ .cache/ .local/
*.egg-info/ .eggs/ .idea/ .vscode/ .Trash*/ lightning_logs/ wandb/ mlruns/ .ipython/ .jupyter/
"""
_CHECKPOINTS = """
*.pt *.pth *.ckpt *.safetensors *.onnx *.h5 *.keras *.joblib checkpoints/ checkpoint-*/
"""
_DATA = """
*.parquet *.csv *.csv.gz *.tsv *.feather *.arrow *.orc *.avro *.jsonl *.ndjson *.npy *.npz *.hdf5
*.tfrecord *.sqlite *.db *.zip *.tar *.tar.gz *.tgz *.gz *.7z *.mp4 *.wav *.pkl *.pickle
"""

_WHY = (
    (_SECRETS, "may hold a secret"),
    (_CLUTTER, "is of no use to a run"),
    (_CHECKPOINTS, "is a checkpoint: a run's own are kept by ctx.checkpoint()"),
)


@dataclass
class Folder:
    """Files by their name in the folder, and those that are left out."""

    files: dict[str, Path] = field(default_factory=dict)
    left_out: list[File] = field(default_factory=list)


class Rules:
    """What is left out below one folder."""

    def __init__(self, root: Path) -> None:
        self._defaults = [
            (GitIgnoreSpec.from_lines(patterns.split()), why) for patterns, why in _WHY
        ]
        self._data = GitIgnoreSpec.from_lines(_DATA.split())
        ignore = root / IGNORE_FILE
        own = ignore.read_text(encoding="utf-8").splitlines() if ignore.is_file() else []
        self._own = GitIgnoreSpec.from_lines(own)
        self._brings_back = any(line.startswith("!") for line in own)

    def why_left_out(self, name: str, size: int) -> str:
        """The reason; empty for a file that goes along."""
        mine = self._own.check_file(name).include
        if mine is not None:
            return f"is named in {IGNORE_FILE}" if mine else ""
        for spec, why in self._defaults:
            if spec.match_file(name):
                return why
        if size > DATA_LIMIT and self._data.match_file(name):
            return "is data: pass it as a dataset"
        return ""

    def enters(self, name: str) -> bool:
        """Whether to look into a directory at all."""
        if self._brings_back:
            return name.rpartition("/")[2] not in (".git", "node_modules", "__pycache__")
        return not self.why_left_out(f"{name}/", 0)


def collect(root: Path, below: Path | None = None, *, rules: Rules | None = None) -> Folder:
    """The files of `root`, or of the directory `below` it, that go into a snapshot.

    Links that lead out of `root` are left out, and those to what is left out by its own name, so
    that a snapshot holds nothing by surprise.
    """
    rules = rules or Rules(root)
    found = Folder()
    inside = root.resolve()
    for directory, names, files in os.walk(below or root):
        here = Path(directory)
        prefix = "" if here == root else f"{here.relative_to(root).as_posix()}/"
        for name in sorted(names):
            path = here / name
            if (
                path.is_symlink()
                or (path / "pyvenv.cfg").exists()
                or not rules.enters(f"{prefix}{name}")
            ):
                names.remove(name)
        names.sort()
        for name in sorted(files):
            _sort_in(found, rules, f"{prefix}{name}", here / name, inside)
        if len(found.files) > _MOST_FILES:
            # Far beyond the limit already: no need to walk somebody's whole home.
            break
    return found


def _sort_in(found: Folder, rules: Rules, name: str, path: Path, inside: Path) -> None:
    if not path.is_file():  # a FIFO, a socket, a broken link
        return
    size = path.stat().st_size
    why = rules.why_left_out(name, size)
    if not why and path.is_symlink():
        why = _why_not_followed(rules, path.resolve(), size, inside)
    if not why:
        found.files[name] = path
    elif len(found.left_out) < _MOST_LEFT_OUT and not name.endswith((".pyc", ".ipynb")):
        found.left_out.append(File(name, size, why))


def _why_not_followed(rules: Rules, target: Path, size: int, inside: Path) -> str:
    if not target.is_relative_to(inside):
        return "is a link that leads out of the folder"
    name = target.relative_to(inside).as_posix()
    why = rules.why_left_out(name, size)
    return f"is a link to {name}, which {why}" if why else ""
