"""Files on the web and in object stores, fetched to this machine: only from where one may.

A user's URI is an address that the platform connects to. It may lead to what only the platform can
reach: itself, its neighbours, a cloud's metadata. So a web address is resolved here, every address
that its name has must be a public one, and the connection goes to the one that was looked at; each
redirect is a new address. Object stores and HDFS are asked with the operator's credentials,
and only below the prefixes that the operator names.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

import httpx
from pyarrow.fs import FileInfo, FileSelector, FileSystem, FileType

from aiaas_hub.adapters.object_stores import CHOSEN_BY_NAME, open_store
from aiaas_hub.domain.data_ports import Credentials
from aiaas_hub.schemas.datasets import Format
from aiaas_hub.schemas.errors import InvalidInput, NotFound, TooLarge, Unavailable

_CHUNK = 1 << 20
_OUTSIDE = (OSError, ValueError, TypeError, RuntimeError, KeyError)
"""What pyarrow's and fsspec's file systems raise of what goes wrong outside."""
_REDIRECTS = 5
_TIMEOUT = httpx.Timeout(30.0, connect=10.0)
_MAX_FILES = 10_000

# How networks of version 6 write addresses of version 4 (RFC 6052), and their own (RFC 8215).
_TRANSLATED = ipaddress.IPv6Network("64:ff9b::/96")
_TRANSLATED_HERE = ipaddress.IPv6Network("64:ff9b:1::/48")

Resolve = Callable[[str, int], Sequence[str]]


def resolve(host: str, port: int) -> Sequence[str]:
    """The addresses that a name has now, in whatever form it is written."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise _not_there(host) from error
    return [str(entry[4][0]) for entry in found]


class RemoteFiles:
    """`sources`: prefix of a URI → what its file system is made with. `hosts`: names of machines
    that may be asked over the web although their address is not public. `secret_sources`: as
    `sources`, for who brings credentials; a place for one is none for the other."""

    def __init__(
        self,
        sources: Mapping[str, Mapping[str, Any]],
        hosts: Sequence[str],
        secret_sources: Mapping[str, Mapping[str, Any]] | None = None,
        resolve: Resolve = resolve,
    ) -> None:
        self._secret_sources = dict(secret_sources or {})
        self._sources = dict(sources)
        self._hosts = frozenset(host.lower() for host in hosts)
        self._resolve = resolve

    def fetch(
        self, uri: str, directory: Path, limit: int, credentials: Credentials | None = None
    ) -> list[Path]:
        scheme = urlsplit(uri).scheme.lower()
        if scheme in ("http", "https"):
            target = directory / _file_name(urlsplit(uri).path)
            self._download(uri, target, limit, credentials)
            return [target]
        return self._copy(uri, directory, limit, credentials)

    # The web

    def _download(
        self, uri: str, target: Path, limit: int, credentials: Credentials | None
    ) -> None:
        first = _address(uri)
        for _ in range(_REDIRECTS + 1):
            url = _address(uri)
            headers = {"Host": url.netloc.decode(), "Accept-Encoding": "identity"}
            if credentials and (url.scheme, url.netloc) == (first.scheme, first.netloc):
                # Where it leads on to is not who the secret is for.
                headers["Authorization"] = f"Bearer {credentials['token']}"
            pinned = url.copy_with(host=self._allowed(url))
            with (
                httpx.Client(trust_env=False, follow_redirects=False, timeout=_TIMEOUT) as client,
                _said(url.host),
                client.stream(
                    "GET",
                    pinned,
                    headers=headers,
                    # Certificates are for the name, whichever address it has.
                    extensions={"sni_hostname": url.host},
                ) as response,
            ):
                if response.is_redirect:
                    uri = str(url.join(response.headers["location"]))
                    continue
                if not response.is_success:
                    raise NotFound(
                        f"{url.host} answers {response.status_code} to {url.path}.",
                        remedy="Check the address; what needs a sign-in is not fetched.",
                    )
                _write(response.iter_raw(_CHUNK), target, limit)
                return
        raise InvalidInput(
            f"{_address(uri).host} leads on more than {_REDIRECTS} times.",
            remedy="Give the address of the file itself.",
        )

    def _allowed(self, url: httpx.URL) -> str:
        """The address to connect to. Raises `InvalidInput` if any of the name's is not public."""
        if url.scheme != "https" and url.host.lower() not in self._hosts:
            raise InvalidInput(
                "What comes over http can be changed on its way.", remedy="Write https://…."
            )
        port = url.port or (443 if url.scheme == "https" else 80)
        addresses = self._resolve(url.host, port)
        if url.host.lower() not in self._hosts:
            for address in addresses:
                if not _is_public(address):
                    raise InvalidInput(
                        f"{url.host} is not an address on the public network.",
                        remedy="Ask whoever runs the platform to allow it (remote_hosts), or "
                        "upload the file.",
                    )
        if not addresses:
            raise _not_there(url.host)
        return addresses[0]

    # Object stores

    def _copy(
        self, uri: str, directory: Path, limit: int, credentials: Credentials | None
    ) -> list[Path]:
        with self._opened(uri, credentials) as (files, path):
            # Markers of whoever wrote it: _SUCCESS, .crc and their like.
            found = [
                one
                for one in _files_at(files, path)
                if one.path == path or not one.base_name.startswith(("_", "."))
            ]
            if not found:
                raise NotFound("There is no file at this address.", remedy="Check the address.")
            copied, left = [], limit
            for number, info in enumerate(found):
                # Their order is that of their names.
                target = directory / f"{number:05}-{_file_name(info.path)}"
                left -= _copied(files, info, target, left)
                copied.append(target)
        return copied

    def fetch_tree(
        self, uri: str, directory: Path, limit: int, credentials: Credentials | None = None
    ) -> None:
        with self._opened(uri, credentials) as (files, path):
            left = limit
            for info in _files_at(files, path):
                below = info.path.removeprefix(f"{path}/").split("/")
                if info.path == path or any(part in ("", ".", "..") for part in below):
                    # A key of an object store may be anything; a place here may not.
                    continue
                target = directory.joinpath(*below)
                target.parent.mkdir(parents=True, exist_ok=True)
                left -= _copied(files, info, target, left)

    def table_format(self, uri: str, credentials: Credentials | None = None) -> Format | None:
        if urlsplit(uri).scheme.lower() in ("http", "https"):
            # Nobody lists a folder there.
            return None
        with self._opened(uri, credentials) as (files, path):
            log, metadata = files.get_file_info([f"{path}/_delta_log", f"{path}/metadata"])
            if log.type is FileType.Directory:
                return "delta"
            if metadata.type is FileType.Directory:
                inside = files.get_file_info(FileSelector(metadata.path))
                if any(one.base_name.endswith(".metadata.json") for one in inside):
                    return "iceberg"
        return None

    @contextmanager
    def _opened(
        self, uri: str, credentials: Credentials | None
    ) -> Iterator[tuple[FileSystem, str]]:
        """The file system of the place that the URI is below, and its path there."""
        # Never both: what the operator's credentials read is not for whoever brings others.
        sources = self._sources if credentials is None else self._secret_sources
        prefix = max((p for p in sources if _is_below(uri, p)), key=len, default=None)
        if prefix is None:
            known = ", ".join(sorted(sources)) or "none"
            setting = "remote_sources" if credentials is None else "secret_sources"
            own = " with a secret of your own" if credentials is not None else ""
            raise InvalidInput(
                f"Data is not registered from there{own}.",
                remedy=f"Places that are allowed here: {known}. Ask whoever runs the platform for "
                f"others ({setting}), or upload the data.",
            )
        with _said(prefix if credentials is None else uri.partition("?")[0]):
            yield open_store(uri, sources[prefix], credentials or {})


def _address(uri: str) -> httpx.URL:
    try:
        url = httpx.URL(uri)
    except httpx.InvalidURL as error:
        raise InvalidInput("The address cannot be read.", remedy="Check the address.") from error
    if url.scheme not in ("http", "https") or not url.host or url.userinfo:
        raise InvalidInput(
            "An address on the web has a scheme http or https, a host, and no password.",
            remedy="Write https://host/path/file.parquet.",
        )
    return url


def _is_public(text: str) -> bool:
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        # Forms in which an address of version 4 is hidden are asked for it.
        inner = address.ipv4_mapped or address.sixtofour
        if address in _TRANSLATED:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            address = inner
        elif address in _TRANSLATED_HERE:
            return False
    return address.is_global and not address.is_multicast


def _is_below(uri: str, prefix: str) -> bool:
    parts = uri.partition("://")[2].split("/")
    if ".." in parts or "%" in uri or "?" in uri or "#" in uri:
        return False
    scheme, _, place = prefix.partition("://")
    if not place:
        # A whole scheme is no place where each URI names the machine that is connected to.
        return scheme in CHOSEN_BY_NAME and uri.startswith(prefix)
    return uri == prefix.rstrip("/") or uri.startswith(prefix.rstrip("/") + "/")


def _files_at(files: FileSystem, path: str) -> list[FileInfo]:
    """The file, or the files below a folder, in the order of their paths."""
    (info,) = files.get_file_info([path])
    if info.type is FileType.File:
        return [info]
    if info.type is FileType.NotFound:
        return []
    below = files.get_file_info(FileSelector(path, recursive=True))
    found = [one for one in below if one.type is FileType.File]
    if len(found) > _MAX_FILES:
        raise TooLarge(
            f"There are more than {_MAX_FILES:,} files.", remedy="Register a folder with fewer."
        )
    return sorted(found, key=lambda one: str(one.path))


def _copied(files: FileSystem, info: FileInfo, target: Path, limit: int) -> int:
    with files.open_input_stream(info.path) as stream:
        return _write(iter(lambda: stream.read(_CHUNK), b""), target, limit)


def _write(blocks: Any, target: Path, limit: int) -> int:
    size = 0
    with target.open("wb") as file:
        for block in blocks:
            size += len(block)
            if size > limit:
                raise TooLarge(
                    "The data is larger than this platform accepts.",
                    remedy="Register a smaller part of it.",
                )
            file.write(block)
    return size


def _file_name(path: str) -> str:
    """The last part of a path, as a name that leads nowhere."""
    name = path.rstrip("/").rpartition("/")[2]
    return "".join(c for c in name if c.isalnum() or c in "._-").lstrip(".")[-100:] or "data"


class _said:  # noqa: N801 - used as a function
    """Says what goes wrong outside without what was said there: it may hold a credential."""

    def __init__(self, where: str) -> None:
        self._where = where

    def __enter__(self) -> BinaryIO | None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, ImportError):
            raise Unavailable(
                f"Reading from {self._where} needs a package that is not installed here.",
                remedy="Ask whoever runs the platform to install it.",
            ) from None
        if isinstance(error, (httpx.HTTPError, *_OUTSIDE)):
            raise Unavailable(
                f"{self._where} cannot be read from right now.",
                remedy="Check the address, and that the platform may read there.",
            ) from None


def _not_there(host: str) -> InvalidInput:
    return InvalidInput(f"There is no {host} on the network.", remedy="Check the address.")
