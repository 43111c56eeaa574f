"""`aiaas.endpoints` and the `Endpoint` that it gives."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NoReturn

from pydantic import ValidationError

from aiaas_hub.schemas import endpoints as wire
from aiaas_hub.schemas.errors import AiaasError, InvalidInput, NotFound
from aiaas_magics import display, not_yet
from aiaas_magics.client import Client, current_client
from aiaas_magics.display import Column, Listing, Rich
from aiaas_magics.errors import invalid
from aiaas_magics.keys import Key, key_list
from aiaas_magics.model import tensors

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from aiaas_hub.schemas.models import Signature
    from aiaas_magics.inference import Caller

# `endpoint.state` in a loop must not become a flood of requests.
_FRESH_SECONDS = 0.5


class Endpoint(Rich):
    """An address that answers with a model's outputs, whichever version serves it.

    Its attributes are those of now: they are asked for when they are read.
    """

    def __init__(self, client: Client, record: wire.Endpoint) -> None:
        self._client = client
        self._caller: Caller | None = None
        self._take(record)

    @property
    def owner(self) -> str:
        return self._record.owner

    @property
    def name(self) -> str:
        return self._record.name

    @property
    def state(self) -> str:
        """Of the newest version: staging, verifying, canary, serving, failed or retired."""
        return str(self._now().state)

    @property
    def traffic(self) -> dict[int, int]:
        """Version → percent."""
        return dict(self._now().traffic)

    @property
    def version(self) -> int | None:
        """The newest version with traffic; None before the first one serves."""
        return max(self._now().traffic, default=None)

    @property
    def url(self) -> str:
        """Base address of the Open Inference Protocol."""
        return self._now().url

    @property
    def address(self) -> str:
        """The same without its scheme, as `tritonclient.http` takes it."""
        return self.url.partition("://")[2]

    @property
    def signature(self) -> Signature | None:
        """Of the newest version with traffic: names, dtypes and shapes of the tensors."""
        return self._now().signature

    @property
    def parity(self) -> wire.Parity | None:
        """Of the newest version: Triton's answers against the source model's."""
        versions = self._now().versions
        return versions[0].parity if versions else None

    def __str__(self) -> str:
        return f"{self.owner}/{self.name}"

    def refresh(self) -> wire.Endpoint:
        self._take(self._client.endpoints.get(self.owner, self.name))
        return self._record

    def _take(self, record: wire.Endpoint) -> None:
        self._record = record
        self._read_at = time.monotonic()

    def _now(self) -> wire.Endpoint:
        if time.monotonic() - self._read_at > _FRESH_SECONDS:
            self.refresh()
        return self._record

    def predict(self, x: Any) -> NDArray[np.generic] | dict[str, NDArray[np.generic]]:
        """The model's output for a batch: one array, or `{output: array}` when it has several.

        `x` is an array, tensor or DataFrame with the batch first, or `{input: array}`; it is
        cast to the signature's dtypes. Raises `InvalidInput` if it does not fit.
        """
        from aiaas_magics.inference import Caller

        if self._record.signature is None or not self._record.traffic:
            self.refresh()
        if self._caller is None:
            self._caller = Caller(self._client, self.owner, self.name)
        known = self._record
        try:
            outputs = self._caller.predict(known, x)
        except (InvalidInput, NotFound):
            # What was known may be of a version that serves no more.
            now = self.refresh()
            if (now.signature, now.url, now.traffic) == (known.signature, known.url, known.traffic):
                raise
            outputs = self._caller.predict(now, x)
        return next(iter(outputs.values())) if len(outputs) == 1 else outputs

    def keys(self) -> Listing[Key]:
        """Keys for callers outside of the hub, without their tokens."""
        return key_list(
            (Key(record) for record in self._client.endpoints.keys(self.owner, self.name)),
            self.name,
        )

    def create_key(self, note: str = "", expires_in_days: float = 90) -> Key:
        """A new key; its `.token` is given this once and never shown."""
        try:
            request = wire.KeyCreate(note=note, expires_in_days=expires_in_days)
        except ValidationError as error:
            raise invalid(error) from error
        return Key(self._client.endpoints.create_key(self.owner, self.name, request))

    def revoke_key(self, id: str) -> Key:  # noqa: A002  (its public name)
        """Refuse this key from now on."""
        return Key(self._client.endpoints.revoke_key(self.owner, self.name, id))

    def retire(self) -> Endpoint:
        """Stop serving. Its versions are unloaded; its models stay."""
        self._take(self._client.endpoints.retire(self.owner, self.name))
        return self

    def rollback(self) -> NoReturn:
        """Back to the former version: promised, not in this release."""
        not_yet.refuse("Endpoint.rollback()", not_yet.VERBS["rollback"])

    def promote(self) -> NoReturn:
        """All traffic to the canary: promised, not in this release."""
        not_yet.refuse("Endpoint.promote()", not_yet.VERBS["promote"])

    def lineage(self) -> Rich:
        """Which model, run, code and data answer here."""
        from aiaas_magics.lineage import Lineage

        return Lineage(self._client.endpoints.lineage(self.owner, self.name))

    def _facts(self) -> list[tuple[str, str]]:
        record = self._record
        newest = record.versions[0] if record.versions else None
        signature = record.signature
        return [
            ("traffic", traffic_line(record.traffic)),
            ("newest", f"version {newest.version} from {newest.model}" if newest else ""),
            ("error", newest.error if newest else ""),
            ("parity", parity_line(newest.parity) if newest and newest.parity else ""),
            ("inputs", tensors(signature.inputs) if signature else ""),
            ("outputs", tensors(signature.outputs) if signature else ""),
            ("address", record.url),
        ]

    def _html(self) -> str:
        facts = [(label, display.escape(value)) for label, value in self._facts()]
        return display.card(str(self), str(self._record.state), facts)

    def _text(self) -> str:
        state = str(self._record.state)
        return display.text_card(f"Endpoint {self}", state, self._facts())

    def _repr_mimebundle_(
        self, include: object = None, exclude: object = None
    ) -> dict[str, object]:
        # A display must not fail: without the service it shows what was known last.
        with suppress(AiaasError):
            self.refresh()
        return super()._repr_mimebundle_(include, exclude)


class Endpoints:
    """My endpoints."""

    def list(self) -> Listing[Endpoint]:
        client = current_client()
        return Listing(
            (Endpoint(client, record) for record in client.endpoints.list()),
            _COLUMNS,
            empty="No endpoints yet: '%aiaas publish NAME --run ID' makes one.",
        )

    def get(self, name: str) -> Endpoint:
        """`[owner/]name`."""
        client = current_client()
        owner, plain, _ = client.resolve(name)
        return Endpoint(client, client.endpoints.get(owner, plain))


endpoints = Endpoints()


def traffic_line(traffic: dict[int, int]) -> str:
    if not traffic:
        return "none yet"
    return ", ".join(f"version {version}: {share} %" for version, share in sorted(traffic.items()))


def parity_line(parity: wire.Parity) -> str:
    return (
        f"at most {parity.max_abs:.2g} apart on {parity.rows} held-out rows; "
        f"p50 {parity.p50_ms:.2f} ms, p99 {parity.p99_ms:.2f} ms"
    )


_COLUMNS: list[Column[Endpoint]] = [
    Column("endpoint", str, lambda e: display.code(e)),
    Column("state", lambda e: e._record.state, lambda e: display.badge(e._record.state)),
    Column("traffic", lambda e: traffic_line(e._record.traffic)),
    Column("model", lambda e: e._record.versions[0].model if e._record.versions else ""),
    Column("address", lambda e: e._record.url),
    Column("updated", lambda e: display.ago(e._record.updated_at)),
]
