"""What goes into a snapshot beside the code, and what stays where it is."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from aiaas_hub.schemas.errors import InvalidInput
from aiaas_magics import snapshot
from aiaas_magics.runtime import snapshot as runtime_snapshot
from aiaas_magics.snapshot import archive, folder, imports

TRAIN = "def train(ctx):\n    return ctx\n"

# As a worker does it, in a process that has never seen the notebook's directory.
LOADER = """
import sys
from pathlib import Path
from aiaas_hub.schemas.runs import Snapshot
from aiaas_magics.runtime import snapshot
described = Snapshot.model_validate_json(sys.argv[1])
directory = Path(sys.argv[2])
snapshot.unpack((directory / "snapshot.zip").read_bytes(), described.digest, directory / "code")
print(snapshot.load(directory / "code", described).call(2))
"""


def names(code: snapshot.Code) -> set[str]:
    with zipfile.ZipFile(io.BytesIO(code.content)) as zipped:
        return set(zipped.namelist())


def manifest(code: snapshot.Code) -> dict[str, object]:
    with zipfile.ZipFile(io.BytesIO(code.content)) as zipped:
        read: dict[str, object] = json.loads(zipped.read("manifest.json"))
        return read


def write(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


def run_elsewhere(code: snapshot.Code, place: Path) -> subprocess.CompletedProcess[str]:
    place.mkdir()
    (place / "snapshot.zip").write_bytes(code.content)
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    project = Path(snapshot.__file__).parents[2]
    return subprocess.run(
        [sys.executable, "-P", "-c", LOADER, code.described().model_dump_json(), str(place)],
        capture_output=True,
        text=True,
        cwd=place,
        env={**environment, "PYTHONPATH": str(project), "AIAAS_NODE_CACHE": str(place / "cache")},
        check=False,
    )


@pytest.fixture
def beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The notebook's directory."""
    root = tmp_path / "notebooks"
    root.mkdir()
    monkeypatch.chdir(root)
    monkeypatch.syspath_prepend(str(root))
    return root


def forget(monkeypatch: pytest.MonkeyPatch, *modules: str) -> None:
    for name in list(sys.modules):
        if name.partition(".")[0] in modules:
            monkeypatch.delitem(sys.modules, name)


PACKAGE = {
    "mylayers/__init__.py": "from .scale import SCALE\n",
    "mylayers/scale.py": "import myconstants\nfrom . import deep\nSCALE = myconstants.FIVE\n",
    "mylayers/deep/__init__.py": "from ..words import first\n",
    "mylayers/words.py": "from pathlib import Path\n"
    "def first():\n    return Path(__file__).with_name('words.txt').read_text()\n",
    "mylayers/words.txt": "hello",
    "myconstants.py": "FIVE = 5\n",
    "unrelated.py": "raise RuntimeError\n",
}


def test_pain_local_modules_missing_in_the_job_a_cell(beside: Path, tmp_path: Path) -> None:
    write(beside, PACKAGE)
    code = snapshot.of_cell(
        "from mylayers import SCALE\n"
        "def train(ctx):\n    from mylayers.words import first\n"
        "    return first(), ctx * SCALE\n"
    )
    assert names(code) == {
        "cell.py",
        "manifest.json",
        *(f"files/{name}" for name in PACKAGE if name != "unrelated.py"),
    }
    done = run_elsewhere(code, tmp_path / "worker")
    assert done.stdout.splitlines() == ["('hello', 10)"], done.stderr


def test_pain_local_modules_missing_in_the_job_a_function(
    beside: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(beside, PACKAGE)
    namespace: dict[str, object] = {"__name__": "__main__"}
    source = (
        "import mylayers\n"
        "class Net:\n"
        "    def scale(self):\n        import myconstants\n        return myconstants.FIVE\n"
        "def helper(x):\n    return x * mylayers.SCALE + Net().scale()\n"
        "def fit(ctx):\n    return helper(ctx)\n"
    )
    exec(source, namespace)  # noqa: S102 - as a kernel does
    fit = namespace["fit"]
    assert callable(fit)
    code = snapshot.of_function(fit)
    assert {"files/mylayers/scale.py", "files/myconstants.py"} <= names(code)
    assert "files/unrelated.py" not in names(code)
    done = run_elsewhere(code, tmp_path / "worker")
    assert done.stdout.splitlines() == ["15"], done.stderr
    forget(monkeypatch, "mylayers", "myconstants")


def test_a_script_travels_with_its_folder_and_finds_its_data(beside: Path, tmp_path: Path) -> None:
    write(beside, {"shared.py": "TWO = 2\n"})
    project = write(
        tmp_path / "project",
        {
            "main.py": "import layers, shared\nfrom pathlib import Path\n"
            "def train(ctx):\n"
            "    assert Path(__file__).with_name('config.json').read_text() == '{}'\n"
            "    return layers.double(ctx), open('config.json').read(), shared.TWO\n"
            "if __name__ == '__main__':\n    raise SystemExit('not as main')\n",
            "layers/__init__.py": "def double(x):\n    return 2 * x\n",
            "config.json": "{}",
        },
    )
    code = snapshot.of_script(project / "main.py")
    assert manifest(code)["call"] == "train"
    done = run_elsewhere(code, tmp_path / "worker")
    assert done.stdout.splitlines() == ["(4, '{}', 2)"], done.stderr


def test_a_plain_script_runs_as_main_with_its_arguments(tmp_path: Path) -> None:
    project = write(
        tmp_path / "project",
        {
            "main.py": "import sys\nfrom dataclasses import dataclass\nimport pickle\n"
            "@dataclass\nclass Point:\n    x: int\n"
            "if __name__ == '__main__':\n"
            "    print(sys.argv[1:], pickle.loads(pickle.dumps(Point(3))))\n    sys.exit(0)\n",
        },
    )
    code = snapshot.of_script(project / "main.py", ["--lr", "0.1"])
    assert manifest(code)["call"] == "main"
    done = run_elsewhere(code, tmp_path / "worker")
    assert done.stdout.splitlines() == ["['--lr', '0.1'] Point(x=3)", "None"], done.stderr


@pytest.mark.parametrize("script", ["json.py", "graphlib.py", "main.py"])
def test_a_file_named_like_a_module_of_pythons_own_takes_nothing_from_others(
    script: str, tmp_path: Path
) -> None:
    files = {
        # Read by name by a library that nothing has imported yet, and by one that everyone has.
        "graphlib.py": "def train(ctx):\n    return 'mine'\n",
        "json.py": "def train(ctx):\n    return 'mine'\n",
        "main.py": "import graphlib\ndef train(ctx):\n    return 'mine'\n",
    }
    files[script] = files[script].replace("return 'mine'", "return Path(__file__).name, others()")
    files[script] = (
        "import sys\nfrom pathlib import Path\n"
        "def others():\n    import graphlib, json\n"
        "    assert graphlib.CycleError\n"
        "    return [sys.modules['json'].dumps(1), json.dumps(2)]\n"
        f"{files[script]}"
    )
    code = snapshot.of_script(write(tmp_path / "project", files) / script)
    done = run_elsewhere(code, tmp_path / "worker")
    assert done.stdout.splitlines() == [str((script, ["1", "2"]))], done.stderr
    beside = [file for file in ("graphlib.py", "json.py") if file != script]
    assert [note.partition(" ")[0] for note in code.notes] == beside


@pytest.mark.parametrize("call", ["train", "main"])
def test_a_script_that_is_part_of_a_package_finds_the_other_parts(
    call: str, tmp_path: Path
) -> None:
    body = {
        "train": "def train(ctx):\n    return Path('near.txt').read_text(), NEAR, FAR, __name__\n",
        "main": "print((Path('near.txt').read_text(), NEAR, FAR, __package__))\n",
    }[call]
    project = write(
        tmp_path / "project",
        {
            "pkg/__init__.py": "",
            "pkg/far.py": "FAR = 2\n",
            "pkg/steps/__init__.py": "",
            "pkg/steps/near.py": "from ..far import FAR\nNEAR = FAR + 1\n",
            "pkg/steps/near.txt": "as sent",
            "pkg/steps/fit.py": "from pathlib import Path\nfrom .near import NEAR\n"
            f"from ..far import FAR\n{body}",
            "notes.txt": "none of the package's",
        },
    )
    code = snapshot.of_script(project / "pkg/steps/fit.py")
    assert code.entry == "pkg/steps/fit.py"
    assert "files/notes.txt" not in names(code)
    done = run_elsewhere(code, tmp_path / "worker")
    package = {"train": "pkg.steps.fit", "main": "pkg.steps"}[call]
    assert done.stdout.splitlines()[0] == f"('as sent', 3, 2, {package!r})", done.stderr


def test_a_script_that_takes_no_arguments_refuses_them(tmp_path: Path) -> None:
    script = write(tmp_path, {"main.py": TRAIN}) / "main.py"
    with pytest.raises(InvalidInput, match="takes no arguments") as refusal:
        snapshot.of_script(script, ["--lr", "1"])
    assert "--param" in refusal.value.remedy
    with pytest.raises(InvalidInput, match="no file"):
        snapshot.of_script(tmp_path / "nothing.py")


def notebook(path: Path, *cells: str | tuple[str, list[str]]) -> Path:
    made = [cell if isinstance(cell, tuple) else (cell, []) for cell in cells]
    path.write_text(
        json.dumps(
            {
                "nbformat": 4,
                "nbformat_minor": 5,
                "metadata": {},
                "cells": [
                    {"cell_type": "markdown", "source": ["# Title"], "metadata": {}},
                    *(
                        {
                            "cell_type": "code",
                            "source": source.splitlines(keepends=True),
                            "metadata": {"tags": tags},
                            "outputs": [{"output_type": "stream", "text": "PASSWORD"}],
                        }
                        for source, tags in made
                    ),
                ],
            }
        )
    )
    return path


def test_a_notebook_runs_without_what_only_a_notebook_can_do(tmp_path: Path) -> None:
    path = notebook(
        tmp_path / "digits.ipynb",
        "%load_ext aiaas_magics\nimport math\n!pip install thing\nx = 3",
        "%%bash\nrm -rf /",
        ("raise RuntimeError('only here')", ["skip-run"]),
        "text = '''\n% kept\n'''\nmath?",
        "%%aiaas train --name digits\ndef train(ctx):\n    return ctx * x, text.strip()",
        "def broken():\n    return 1 / 0\n",
    )
    code = snapshot.of_notebook(path)
    assert "PASSWORD" not in code.content.decode("latin1")
    said = " ".join(code.notes)
    for skipped in ("cell 2: %load_ext", "cell 2: !pip", "cell 3: %%bash", "cell 5: math?"):
        assert skipped in said
    done = run_elsewhere(code, tmp_path / "worker")
    assert done.stdout.splitlines() == ["(6, '% kept')"], done.stderr


def test_a_failing_notebook_names_its_cell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from aiaas_magics.runtime.failures import describe

    monkeypatch.setenv("AIAAS_NODE_CACHE", str(tmp_path / "cache"))
    path = notebook(tmp_path / "digits.ipynb", "a = 1", "def train(ctx):\n    return a / 0\n")
    code = snapshot.of_notebook(path)
    runtime_snapshot.unpack(code.content, code.digest, tmp_path / "code")
    loaded = runtime_snapshot.load(tmp_path / "code", code.described())
    with pytest.raises(ZeroDivisionError) as caught:
        loaded.call(1)
    error = describe(caught.value, loaded.files)
    assert error.traceback.startswith("digits.ipynb cell 3, line 2, in train\n    return a / 0\n")


def test_a_notebook_that_does_not_compile_names_the_cell(tmp_path: Path) -> None:
    path = notebook(tmp_path / "n.ipynb", "x = (\n", TRAIN)
    with pytest.raises(InvalidInput, match=r"Cell 2 of n\.ipynb does not compile") as refusal:
        snapshot.of_notebook(path)
    assert "skip-run" in refusal.value.remedy
    with pytest.raises(InvalidInput, match=r"n.ipynb does not define train\(ctx\)"):
        snapshot.of_notebook(notebook(path, "x = 1"))
    path.write_text("{}")
    with pytest.raises(InvalidInput, match="not a notebook"):
        snapshot.of_notebook(path)


def test_a_module_is_called_in_tracebacks_as_its_owner_knows_it(
    beside: Path, tmp_path: Path
) -> None:
    write(beside, {"mytools/__init__.py": "", "mytools/maths.py": "def f(x):\n    return x / 0\n"})
    code = snapshot.of_cell("from mytools import maths\ndef train(ctx):\n    maths.f(ctx)\n")
    done = run_elsewhere(code, tmp_path / "worker")
    assert 'File "mytools/maths.py", line 2, in f\n' in done.stderr


def test_a_run_changes_its_own_copy_only(
    beside: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIAAS_NODE_CACHE", str(tmp_path / "cache"))
    script = write(tmp_path / "p", {"main.py": TRAIN, "state.txt": "as sent"}) / "main.py"
    code = snapshot.of_script(script)
    runtime_snapshot.unpack(code.content, code.digest, tmp_path / "code")
    runtime_snapshot.load(tmp_path / "code", code.described())
    Path("state.txt").write_text("changed")
    assert (tmp_path / "code" / "files" / "state.txt").read_text() == "as sent"
    assert Path.cwd().is_relative_to(tmp_path / "cache")


def test_the_same_folder_gives_the_same_bytes(tmp_path: Path) -> None:
    first = write(tmp_path / "a", {"main.py": TRAIN, "b/c.py": "x = 1\n", "b.py": ""})
    second = write(tmp_path / "b", {"b.py": "", "b/c.py": "x = 1\n", "main.py": TRAIN})
    os.utime(second / "b.py", (time.time() - 1e6,) * 2)
    contents = {snapshot.of_script(root / "main.py").content for root in (first, second)}
    assert len(contents) == 1
    (second / "b.py").chmod(0o755)
    assert snapshot.of_script(second / "main.py").content not in contents


SECRETS = [
    ".env", ".env.local", "prod.env", "deploy.pem", "server.key", "id_rsa", "id_ed25519.pub",
    ".aws/credentials", ".ssh/config", ".netrc", ".pypirc", "credentials.json", "kubeconfig",
    "sub/.env", "sub/client_secret_1.json", ".git-credentials",
]  # fmt: skip
CLUTTER = [
    ".git/objects/ab/cdef", "node_modules/a/index.js", "__pycache__/main.cpython-311.pyc",
    ".ipynb_checkpoints/main-checkpoint.py", ".venv/lib/x.py", "own/pyvenv.cfg", "own/lib/y.py",
    "model.pt", "checkpoints/step-1/state", "last.ckpt", "weights.safetensors",
]  # fmt: skip


def test_pain_git_and_secrets_inside_the_upload(tmp_path: Path) -> None:
    root = write(tmp_path, dict.fromkeys([*SECRETS, *CLUTTER, "small.csv", "lib/tool.py"], "x"))
    (root / "main.py").write_text(TRAIN)
    (root / "big.csv").write_bytes(b"x" * (folder.DATA_LIMIT + 1))
    outside = tmp_path.parent / f"{tmp_path.name}-outside"
    outside.write_text("secret")
    (root / "link.txt").symlink_to(outside)
    (root / "notes.txt").symlink_to(root / ".env")
    (root / "config").symlink_to(".git/objects/ab/cdef")
    (root / "tool.py").symlink_to("lib/tool.py")
    code = snapshot.of_script(root / "main.py")
    assert names(code) == {
        "manifest.json", "files/main.py", "files/small.csv", "files/lib/tool.py",
        "files/tool.py",
    }  # fmt: skip
    why = {file.name: file.why for file in code.left_out}
    assert why[".env"] == "may hold a secret"
    assert "dataset" in why["big.csv"]
    assert "out of the folder" in why["link.txt"]
    assert why["notes.txt"] == "is a link to .env, which may hold a secret"
    assert "of no use" in why["config"]
    assert "checkpoint" in why["model.pt"]


def test_an_ignore_file_has_the_syntax_of_gitignore(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "main.py": TRAIN,
            ".aiaasignore": "# mine\n/drafts/\n*.log\n!keep.log\n!tokenizer.onnx\n",
            "drafts/a.py": "",
            "lib/drafts/b.py": "",
            "x.log": "",
            "keep.log": "",
            "tokenizer.onnx": "",
            "other.onnx": "",
        },
    )
    sent = names(snapshot.of_script(tmp_path / "main.py"))
    assert {f"files/{n}" for n in ("lib/drafts/b.py", "keep.log", "tokenizer.onnx")} <= sent
    assert not {f"files/{n}" for n in ("drafts/a.py", "x.log", "other.onnx")} & sent


def test_pain_opaque_413_the_largest_files_are_named_before_anything_is_read(
    tmp_path: Path,
) -> None:
    write(tmp_path, {"main.py": TRAIN})
    for number in range(3):
        with (tmp_path / f"huge{number}.bin").open("wb") as file:
            file.truncate(archive.MAX_BYTES // 2 + number * (1 << 20))
    with pytest.raises(InvalidInput, match="Nothing was sent") as refusal:
        snapshot.of_script(tmp_path / "main.py")
    message = refusal.value.message
    assert message.index("huge2.bin (52.0 MiB)") < message.index("huge0.bin")
    assert ".aiaasignore" in refusal.value.remedy


def test_too_many_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MAX_FILES", 3)
    write(tmp_path, {"main.py": TRAIN, **{f"{n}.txt": "" for n in range(5)}})
    with pytest.raises(InvalidInput, match=r"at most 100\.0 MiB and 3 files"):
        snapshot.of_script(tmp_path / "main.py")


def test_the_manifest_tells_versions_of_what_is_imported() -> None:
    from importlib.metadata import version

    code = snapshot.of_cell(
        "import numpy as np, json\nfrom sklearn.linear_model import Ridge\n"
        "import nothing_of_that_name\n"
        "try:\n    import perhaps\nexcept ImportError:\n    perhaps = None\n" + TRAIN
    )
    assert code.packages == {"numpy": version("numpy"), "scikit-learn": version("scikit-learn")}
    assert manifest(code)["packages"] == code.packages
    assert code.missing == ("nothing_of_that_name",)


def test_imports_of_types_alone_and_of_this_project_are_not_followed(beside: Path) -> None:
    write(beside, {"mytypes.py": "", "aiaas_magics/__init__.py": "", "random.py": ""})
    source = (
        "from typing import TYPE_CHECKING\nimport random\n"
        "if TYPE_CHECKING:\n    import mytypes\nimport aiaas_magics\n"
    )
    assert imports.follow(imports.of_source(source)).files == {}


def test_a_recipe_is_named_and_brings_no_file() -> None:
    code = snapshot.of_recipe("tabular")
    assert names(code) == {"manifest.json"}
    assert manifest(code)["recipe"] == "tabular"


def test_a_recipe_is_found_by_the_run(tmp_path: Path) -> None:
    from aiaas_magics.runtime.recipes import find

    code = snapshot.of_recipe("tabular")
    runtime_snapshot.unpack(code.content, code.digest, tmp_path / "code")
    loaded = runtime_snapshot.load(tmp_path / "code", code.described())
    assert loaded.call == find("tabular").train
