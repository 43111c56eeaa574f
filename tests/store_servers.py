"""Real servers of the stores that data is registered from; `make servers` brings the large ones."""

from __future__ import annotations

import getpass
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import fsspec
import pytest
from pyarrow.fs import AzureFileSystem, FileSystem, FSSpecHandler, GcsFileSystem, PyFileSystem

from aiaas_hub.local.node_proxy import find_node
from aiaas_hub.loopback import free_ports

SERVERS = Path(__file__).parents[1] / "build" / "servers"

AZURE_ACCOUNT = "lakeaccount"
# Azure's keys are Base64.
AZURE_KEY = "Y2FuYXJ5LWF6dXJlLWtleS1vZi1hLXRlc3Qtb25seS0wMTIzNDU2Nzg5"


@contextmanager
def azurite(directory: Path) -> Iterator[tuple[FileSystem, dict[str, Any]]]:
    """Azure's blobs as Microsoft's emulator keeps them: a writer, and an operator's options."""
    main = SERVERS / "azurite" / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js"
    if not main.exists():
        pytest.skip("Azure's emulator is not there: make servers")
    (port,) = free_ports(1)
    command = [find_node().node, str(main), "--silent", "--disableTelemetry",
               "--skipApiVersionCheck", "--inMemoryPersistence", "--blobHost=127.0.0.1",
               f"--blobPort={port}"]  # fmt: skip
    accounts = {"AZURITE_ACCOUNTS": f"{AZURE_ACCOUNT}:{AZURE_KEY}"}
    address = f"127.0.0.1:{port}"
    where = {
        "blob_storage_authority": address,
        "blob_storage_scheme": "http",
        # It has none of this part of Azure; pyarrow then takes folders from the blobs' names.
        "dfs_storage_authority": address,
        "dfs_storage_scheme": "http",
    }
    with _running(command, directory, [port], accounts):
        yield AzureFileSystem(AZURE_ACCOUNT, account_key=AZURE_KEY, **where), where


@contextmanager
def google(directory: Path) -> Iterator[tuple[FileSystem, dict[str, Any]]]:
    """An emulator of Google's Cloud Storage, which lets everybody do everything."""
    (port,) = free_ports(1)
    program = Path(sys.executable).with_name("gcp-storage-emulator")
    if not program.exists():
        pytest.skip("Google's emulator is not there: pip install gcp-storage-emulator")
    command = [str(program), "start", "--host=127.0.0.1", f"--port={port}", "--in-memory"]
    where = {"endpoint_override": f"127.0.0.1:{port}", "scheme": "http"}
    with _running(command, directory, [port]):
        yield GcsFileSystem(anonymous=True, project_id="test", **where), where


@contextmanager
def hdfs(directory: Path) -> Iterator[tuple[FileSystem, dict[str, Any]]]:
    """Hadoop's name node and data node. They have no Kerberos: they believe who is said to ask."""
    jars = sorted((SERVERS / "hadoop").glob("*.jar"))
    java = shutil.which("java")
    if not jars or java is None:
        pytest.skip("HDFS is not there: make servers, and a Java")
    rpc, web, *data = free_ports(5)
    _configure(directory, rpc, web, data)
    home = f"-Dhadoop.log.dir={directory}"
    # Hadoop 2.7 takes the first three characters of Java's version for a number.
    versions = ["-Djava.version=1.8.0", "-Djava.net.preferIPv4Stack=true", home]
    opened = ["lang", "util", "nio", "net", "io"]
    opens = [f"--add-opens=java.base/java.{package}=ALL-UNNAMED" for package in opened]
    opens.append("--add-opens=java.base/sun.nio.ch=ALL-UNNAMED")
    classes = os.pathsep.join([str(directory), *map(str, jars)])
    base = [java, "-Xmx256m", *versions, *opens, "-cp", classes]
    server = "org.apache.hadoop.hdfs.server"
    name_node = [*base, f"{server}.namenode.NameNode"]
    with (directory / "format.log").open("wb") as log:
        subprocess.run(
            [*name_node, "-format", "-nonInteractive"], stderr=log, stdout=log, check=True
        )
    with (
        _running(name_node, directory, [rpc, web]),
        _running([*base, f"{server}.datanode.DataNode"], directory, data),
    ):
        writer = fsspec.filesystem(
            "webhdfs", host="127.0.0.1", port=web, user=getpass.getuser(), skip_instance_cache=True
        )
        writer.mkdir("/open")
        yield (
            PyFileSystem(FSSpecHandler(writer)),
            {"host": "127.0.0.1", "port": web, "user": "ada"},
        )


def _configure(directory: Path, rpc: int, web: int, data: Sequence[int]) -> None:
    settings = {
        "core-site.xml": {
            "fs.defaultFS": f"hdfs://127.0.0.1:{rpc}",
            "hadoop.tmp.dir": str(directory / "state"),
        },
        "hdfs-site.xml": {
            "dfs.namenode.http-address": f"127.0.0.1:{web}",
            "dfs.datanode.address": f"127.0.0.1:{data[0]}",
            "dfs.datanode.ipc.address": f"127.0.0.1:{data[1]}",
            "dfs.datanode.http.address": f"127.0.0.1:{data[2]}",
            "dfs.datanode.hostname": "127.0.0.1",
            "dfs.replication": "1",
        },
    }
    for file, values in settings.items():
        properties = "".join(
            f"<property><name>{name}</name><value>{value}</value></property>"
            for name, value in values.items()
        )
        (directory / file).write_text(f"<configuration>{properties}</configuration>")
    (directory / "log4j.properties").write_text(
        "log4j.rootLogger=WARN,console\n"
        "log4j.appender.console=org.apache.log4j.ConsoleAppender\n"
        "log4j.appender.console.layout=org.apache.log4j.SimpleLayout\n"
    )
    for application in ("hdfs", "datanode"):
        # Its pages for people are not in the archive; its address is looked for all the same.
        pages = directory / "webapps" / application / "WEB-INF"
        pages.mkdir(parents=True)
        (pages / "web.xml").write_text("<web-app/>")


@contextmanager
def _running(
    command: Sequence[str],
    directory: Path,
    ports: Sequence[int],
    environment: dict[str, str] | None = None,
) -> Iterator[None]:
    """The server, once it answers on all its ports; its words are shown if it does not."""
    log = directory / f"{secrets.token_hex(4)}.log"
    with ExitStack() as stack:
        output = stack.enter_context(log.open("wb"))
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=output,
            cwd=directory,
            env={**os.environ, **(environment or {})},
        )
        stack.callback(process.wait)
        stack.callback(process.kill)
        deadline = time.monotonic() + 90
        while not all(_answers(port) for port in ports):
            assert process.poll() is None, log.read_text()[-2000:]
            assert time.monotonic() < deadline, log.read_text()[-2000:]
            time.sleep(0.1)
        yield


def _answers(port: int) -> bool:
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0
