"""Where artifacts are, by URL: a directory of this machine, or a bucket through obstore, which
speaks S3, Google's and Azure's protocols and takes credentials and endpoints from the environment
(https://developmentseed.org/obstore/latest/authentication/)."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import fsspec

from aiaas_hub.schemas.errors import Unavailable

_BUCKETS = ("s3", "s3a", "gs", "abfs", "az")
_ATTEMPTS = {"max_retries": 4, "retry_timeout": timedelta(seconds=20)}
_CLIENT = {"connect_timeout": timedelta(seconds=5), "timeout": timedelta(seconds=120)}


def open_store(url: str) -> tuple[Any, str]:
    """A file system in fsspec's sense, and the path in it that the URL names."""
    scheme, separator, _ = url.partition("://")
    options: dict[str, Any] = {}
    if separator and scheme in _BUCKETS:
        from obstore.fsspec import register

        register(scheme)
        # Without TLS only where the operator's own address says so.
        plain = os.environ.get("AWS_ENDPOINT_URL", "").startswith("http://")
        client = {**_CLIENT, "allow_http": plain}
        options = {"retry_config": _ATTEMPTS, "client_options": client}
    found: tuple[Any, str] = fsspec.core.url_to_fs(url, **options)
    return found


@contextlib.contextmanager
def reached() -> Iterator[None]:
    """Whatever a store fails with becomes `Unavailable`, but for what is not there."""
    from obstore.exceptions import BaseError

    try:
        yield
    except FileNotFoundError:
        raise
    except (OSError, BaseError) as error:
        raise Unavailable(
            "The object store cannot be read or written.",
            remedy="It is tried again; an administrator looks at the service's log.",
        ) from error
