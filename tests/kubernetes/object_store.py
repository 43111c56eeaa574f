"""A real S3 server on loopback."""

from __future__ import annotations

import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from aiaas_hub.loopback import free_ports


@dataclass(frozen=True)
class ObjectStore:
    url: str
    """`s3://bucket`."""
    variables: dict[str, str]
    """With which a process reaches it."""
    directory: Path
    """Its files on this machine."""


@contextmanager
def object_store(root: Path, bucket: str = "aiaas") -> Iterator[ObjectStore]:
    """With one bucket; this process reaches it, too."""
    (root / bucket).mkdir(parents=True)
    (port,) = free_ports(1)
    endpoint, secret = f"http://127.0.0.1:{port}", secrets.token_hex(16)
    program = Path(sys.executable).with_name("rclone")
    with (root.parent / "s3.log").open("ab") as log:
        server = subprocess.Popen(
            [str(program), "serve", "s3", f"--auth-key=access,{secret}",
             f"--addr=127.0.0.1:{port}", "--config=", "--vfs-cache-mode=off", str(root)],
            stdout=log,
            stderr=log,
        )  # fmt: skip
    variables = {
        "AWS_ACCESS_KEY_ID": "access",
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": endpoint,
    }
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                httpx.get(endpoint, trust_env=False)
                break
            except httpx.TransportError:
                assert server.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.1)
        with pytest.MonkeyPatch.context() as patch:
            for name, value in variables.items():
                patch.setenv(name, value)
            yield ObjectStore(f"s3://{bucket}", variables, root / bucket)
    finally:
        server.terminate()
        server.wait()
