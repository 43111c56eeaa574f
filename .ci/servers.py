"""Bring the servers of other protocols that tests register data from, into `build/servers`.

    python .ci/servers.py

azurite     Azure's blob storage, Microsoft's own emulator, from npm
hadoop      HDFS: name node and data node of Hadoop 2.7, as PySpark 2.4 carries them (later ones
            carry clients only), with Debian's Jersey 1 (libjersey1-servlet-java), which it lacks

What cannot be had is said in a line; the tests that need it then skip. Standard library and our own
Node.js finder only.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from aiaas_hub.local.node_proxy import find_node
from aiaas_hub.schemas.errors import AiaasError

SERVERS = Path(__file__).resolve().parents[1] / "build" / "servers"
AZURITE = "azurite@3.37.0"
PYSPARK = (
    "pyspark==2.4.8 --hash=sha256:3a19b71b8dc8dd91ebc943604a05e1ab01bce052456d42937035632d852d78dc"
)
JERSEY = Path("/usr/share/java")
# Of the same names in a later version, which Hadoop 2.7 cannot use.
UNWANTED = ("jersey-", "javax.ws.rs-api-")
SECONDS = 300


def main() -> int:
    for name, bring in (("azurite", azurite), ("hadoop", hadoop)):
        target = SERVERS / name
        if target.exists():
            continue
        aside = SERVERS / f".{name}"
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        try:
            bring(aside)
            aside.rename(target)
        except (AiaasError, OSError, subprocess.SubprocessError) as error:
            print(f"{name} was not brought ({error}): tests that need it are skipped.", flush=True)
    return 0


def azurite(target: Path) -> None:
    node = find_node()
    # npm's scripts look for `node`.
    path = f"{Path(node.node).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    quiet = ["--ignore-scripts", "--no-fund", "--no-audit", "--silent"]
    run([*node.npm, "install", *quiet, AZURITE], target, PATH=path)


def hadoop(target: Path) -> None:
    jersey = [JERSEY / f"jersey1-{part}.jar" for part in ("core", "server", "servlet")]
    jersey.append(JERSEY / "jsr311-api.jar")
    missing = [jar.name for jar in jersey if not jar.exists()]
    if missing:
        raise OSError("apt-get install libjersey1-servlet-java")
    with tempfile.TemporaryDirectory() as text:
        directory = Path(text)
        (directory / "wanted").write_text(PYSPARK)
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet"]
        # Its own set-up asks for what is long gone, if it may.
        run(
            [*pip, "--no-build-isolation", "--no-deps", "--dest=.", "--requirement=wanted"],
            directory,
        )
        with tarfile.open(next(directory.glob("pyspark-*.tar.gz"))) as archive:
            for member in archive:
                name = Path(member.name).name
                jar = member.isfile() and name.endswith(".jar") and "/deps/jars/" in member.name
                if jar and not name.startswith(UNWANTED):
                    content = archive.extractfile(member)
                    (target / name).write_bytes(content.read() if content else b"")
    for source in jersey:
        shutil.copy(source, target / source.name)


def run(command: list[str], directory: Path, **variables: str) -> None:
    environment = {**os.environ, **variables}
    subprocess.run(command, cwd=directory, env=environment, check=True, timeout=SECONDS)


if __name__ == "__main__":
    sys.exit(main())
