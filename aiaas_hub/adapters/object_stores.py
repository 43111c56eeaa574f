"""Object stores and HDFS, opened: what the operator says of a place, and who reads there, become a
file system and a path in it.

S3, Google Cloud Storage and Azure Data Lake are pyarrow's own. HDFS is read over WebHDFS, which
needs no Java: of `hdfs://NAMENODE:8020/…` the host counts, and the port that WebHDFS has.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import fsspec
import jwt
from pyarrow.fs import FileSystem, FSSpecHandler, PyFileSystem

from aiaas_hub.schemas.errors import InvalidInput

CHOSEN_BY_NAME = frozenset({"s3", "gs", "abfss"})
"""Schemes whose URIs name no machine: the cloud, or the operator's options, say where it is."""

_AZURE = re.compile(r"([a-z0-9-]{3,63})@([a-z0-9]{3,24})\.dfs\.core\.windows\.net")
_WEBHDFS_PORT = 9870
_SECONDS = 60
_GOOGLE_TOKEN_SECONDS = 3600
_GOOGLE_SCOPE = "https://www.googleapis.com/auth/devstorage.read_only"


def open_store(
    uri: str, options: Mapping[str, Any], credentials: Mapping[str, str]
) -> tuple[FileSystem, str]:
    """The file system, and the path of the URI in it. `options` are the operator's and may name
    an endpoint; `credentials` are a user's, in the fields of their kind of secret, or empty.
    Raises `InvalidInput`, and ImportError where a scheme's package is not installed."""
    scheme = urlsplit(uri).scheme.lower()
    path = uri.partition("://")[2].rstrip("/")
    if scheme == "s3":
        return _s3({**options, **credentials}), path
    if scheme == "gs":
        return _gs(options, credentials), path
    if scheme == "abfss":
        return _abfss(path, {**options, **credentials})
    if scheme in ("webhdfs", "hdfs"):
        return _webhdfs(uri, {**options, **credentials})
    if scheme == "file":
        raise InvalidInput("A local file is registered by its path.", remedy="Write the path.")
    files = fsspec.filesystem(scheme, skip_instance_cache=True, **options)
    return PyFileSystem(FSSpecHandler(files)), str(files._strip_protocol(uri)).rstrip("/")


def _s3(options: Mapping[str, Any]) -> FileSystem:
    from pyarrow.fs import S3FileSystem

    # Its own patience is without end where nobody answers.
    return S3FileSystem(**{"connect_timeout": 10, "request_timeout": _SECONDS, **options})


def _gs(options: Mapping[str, Any], credentials: Mapping[str, str]) -> FileSystem:
    from pyarrow.fs import GcsFileSystem

    own: dict[str, Any] = {}
    if credentials:
        own = {
            "access_token": google_token(credentials["service_account"]),
            "credential_token_expiration": datetime.now(UTC)
            + timedelta(seconds=_GOOGLE_TOKEN_SECONDS),
        }
    return GcsFileSystem(**{"retry_time_limit": timedelta(seconds=_SECONDS), **options, **own})


def google_token(service_account: str) -> str:
    """What a service account's key (the JSON that Google gives) signs for itself, for an hour
    (AIP-4111). Nobody is asked: neither an address nor a program in the JSON counts, of which
    other kinds of Google's credentials have some. Raises `InvalidInput`."""
    refusal = InvalidInput(
        "That is no key of a Google service account.",
        remedy='Give the JSON file whose "type" is "service_account".',
    )
    try:
        key = json.loads(service_account)
        if key["type"] != "service_account":
            raise refusal
        now = int(time.time())
        return jwt.encode(
            {
                "iss": key["client_email"],
                "sub": key["client_email"],
                "scope": _GOOGLE_SCOPE,
                "iat": now,
                "exp": now + _GOOGLE_TOKEN_SECONDS,
            },
            key["private_key"],
            algorithm="RS256",
            headers={"kid": key["private_key_id"]},
        )
    except (ValueError, KeyError, TypeError, jwt.PyJWTError):
        raise refusal from None


def _abfss(path: str, options: Mapping[str, Any]) -> tuple[FileSystem, str]:
    from pyarrow.fs import AzureFileSystem

    authority, _, below = path.partition("/")
    named = _AZURE.fullmatch(authority)
    if named is None:
        raise InvalidInput(
            "That is no address of Azure Data Lake.",
            remedy="Write abfss://CONTAINER@ACCOUNT.dfs.core.windows.net/path.",
        )
    container, account = named.groups()
    return AzureFileSystem(account_name=account, **options), f"{container}/{below}".rstrip("/")


def _webhdfs(uri: str, options: Mapping[str, Any]) -> tuple[FileSystem, str]:
    parts = urlsplit(uri)
    port = parts.port if parts.scheme.lower() == "webhdfs" else None
    where = {"host": parts.hostname, "port": port or _WEBHDFS_PORT, **options}
    # An instance that is kept would keep somebody's credentials.
    files = fsspec.filesystem("webhdfs", skip_instance_cache=True, **where)
    files.session.trust_env = False
    # fsspec sets no limit of time.
    files.session.request = partial(files.session.request, timeout=(10, _SECONDS))
    return PyFileSystem(FSSpecHandler(files)), parts.path.rstrip("/") or "/"
