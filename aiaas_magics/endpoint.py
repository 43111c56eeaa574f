"""`aiaas.endpoints` and the `Endpoint` that it gives."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from aiaas_hub.schemas import endpoints as wire
from aiaas_hub.schemas.errors import AiaasError, Conflict, InvalidInput, NotFound
from aiaas_magics import canary, display
from aiaas_magics.canary import judgement_line, traffic_line
from aiaas_magics.client import Client, current_client
from aiaas_magics.display import Column, Listing, Rich, Text
from aiaas_magics.errors import invalid
from aiaas_magics.generation import GeneratesText
from aiaas_magics.keys import Key, key_list
from aiaas_magics.model import tensors
from aiaas_magics.served import (
    conversion_line,
    options_line,
    parity_line,
    reports_html,
    reports_text,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from aiaas_hub.schemas.models import Signature
    from aiaas_magics.endpoint_drift import Drift
    from aiaas_magics.endpoint_statistics import Statistics
    from aiaas_magics.inference import Caller
    from aiaas_magics.version_comparison import VersionComparison

# `endpoint.state` in a loop must not become a flood of requests.
_FRESH_SECONDS = 0.5
_WAIT_SECONDS = 1.0


class Endpoint(GeneratesText, Rich):
    """An address that answers with a model's outputs, whichever version serves it.

    Its attributes are those of now: they are asked for when they are read.
    """

    def __init__(self, client: Client, record: wire.Endpoint) -> None:
        self._client = client
        self._caller: Caller | None = None
        self._signatures: dict[int, Signature] = {}
        self._recent: list[wire.Change] = []
        self._drift = ""
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

    def predict(
        self, x: Any, *, version: int | None = None
    ) -> NDArray[np.generic] | dict[str, NDArray[np.generic]]:
        """The model's output for a batch: one array, or `{output: array}` when it has several.

        `x` is an array, tensor or DataFrame with the batch first, or `{input: array}`; it is
        cast to the signature's dtypes. Where the model takes text, it is a text or a list of them;
        where it takes images, a path, a file's bytes, an image of Pillow, or a list of them. What
        generates text is asked with `generate`.
        `version`: this one, whatever the traffic is. Raises `InvalidInput` if it does not fit.
        """
        if version is not None:
            outputs = self._ask(version, x)
            return next(iter(outputs.values())) if len(outputs) == 1 else outputs
        if self._record.signature is None or not self._record.traffic:
            self.refresh()
        known = self._record
        try:
            outputs = self._calls().predict(known, x)
        except (InvalidInput, NotFound):
            # What was known may be of a version that serves no more.
            now = self.refresh()
            if (now.signature, now.url, now.traffic) == (known.signature, known.url, known.traffic):
                raise
            outputs = self._calls().predict(now, x)
        return next(iter(outputs.values())) if len(outputs) == 1 else outputs

    def classify(self, x: Any, *, version: int | None = None) -> list[str]:
        """The label of each row: of the output's largest value, by the names that the model was
        saved with. Raises `InvalidInput` for a model without labels."""
        answered = self.predict(x, version=version)
        signature = self._signature_of(self.last_version) if self.last_version else None
        if signature is None or signature.labels is None:
            raise InvalidInput(
                f"The model of {self.name} has no labels.",
                remedy="Publish it with labels=[…]; predict() gives its numbers.",
            )
        outputs = (
            answered if not isinstance(answered, dict) else answered[signature.outputs[0].name]
        )
        return [signature.labels[place] for place in outputs.argmax(axis=-1).tolist()]

    @property
    def last_version(self) -> int | None:
        """The version that gave the last answer here; None before the first one."""
        return self._caller.last_version if self._caller is not None else None

    def _calls(self) -> Caller:
        from aiaas_magics.inference import Caller

        if self._caller is None:
            self._caller = Caller(self._client, self.owner, self.name)
        return self._caller

    def keys(self) -> Listing[Key]:
        """Keys for callers outside of the hub, without their tokens."""
        return key_list(
            (Key(record) for record in self._client.endpoints.keys(self.owner, self.name)),
            self.name,
        )

    def snippet(self, language: str = "python") -> Text:
        """A program to copy that calls this endpoint, with its key in the environment variable
        AIAAS_KEY: python, curl, javascript, java or go."""
        from aiaas_magics.snippets import snippet

        now = self._now()
        if now.signature is None:
            raise Conflict(
                f"Endpoint {self.name} is {now.state} and answers nothing.",
                remedy=f"Publish a model to it: '%aiaas publish {self.name} --run ID'.",
            )
        return Text(snippet(language, now.url, self.name, now.signature))

    def create_key(
        self,
        note: str = "",
        expires_in_days: float = 90,
        scope: str = "infer",
        rate: int | None = None,
    ) -> Key:
        """A new key; its `.token` is given this once and never shown.

        `scope`: "metadata" (is it ready, and what does it take), "infer", or "versions" (inference
        by an exact version too). `rate`: most requests per second.
        """
        try:
            request = wire.KeyCreate(
                note=note, expires_in_days=expires_in_days, scope=wire.KeyScope(scope), rate=rate
            )
        except ValueError as error:
            if not isinstance(error, ValidationError):
                scopes = ", ".join(wire.KeyScope)
                raise InvalidInput(f"{scope!r} is no scope.", remedy=f"Give {scopes}.") from error
            raise invalid(error) from error
        return Key(self._client.endpoints.create_key(self.owner, self.name, request))

    def revoke_key(self, id: str) -> Key:  # noqa: A002  (its public name)
        """Refuse this key from now on."""
        return Key(self._client.endpoints.revoke_key(self.owner, self.name, id))

    def retire(self, why: str = "") -> Endpoint:
        """Stop serving. Its versions are unloaded; its models stay."""
        self._take(self._client.endpoints.retire(self.owner, self.name, why))
        return self

    # Traffic

    def promote(self, why: str = "") -> Endpoint:
        """All requests to the canary, or to the newest version of a split, from now on."""
        self._take(self._client.endpoints.promote(self.owner, self.name, why))
        return self

    def rollback(self, why: str = "") -> Endpoint:
        """What served before the present version or split again, from now on. A canary has failed
        then; a version that got everything stays loaded. Raises `Conflict` where there is none."""
        self._take(self._client.endpoints.rollback(self.owner, self.name, why))
        return self

    def set_traffic(
        self, shares: Mapping[int, int], why: str = "", *, sticky: bool | None = None
    ) -> Endpoint:
        """Split the requests: loaded version → percent, together 100. `sticky`: whether the same
        caller always comes to the same version; None leaves that as it is."""
        try:
            request = wire.TrafficRequest(traffic=dict(shares), why=why, sticky=sticky)
        except ValidationError as error:
            raise invalid(error) from error
        self._take(self._client.endpoints.set_traffic(self.owner, self.name, request))
        return self

    def history(self) -> Listing[wire.Change]:
        """Every change of what serves here, newest first: who, when, what and why."""
        return canary.history(self._client.endpoints.history(self.owner, self.name))

    def statistics(self) -> Statistics:
        """Of each loaded version: requests, errors, latency, batches, queue and canary health, with
        curves of the last hour."""
        from aiaas_magics.endpoint_statistics import Statistics

        return Statistics(str(self), self._client.endpoints.statistics(self.owner, self.name))

    def drift(self) -> Drift:
        """Of each loaded version: how what callers send differs from the held-out rows that its
        model was verified with, feature by feature."""
        from aiaas_magics.endpoint_drift import Drift

        return Drift(str(self), self._client.endpoints.drift(self.owner, self.name))

    def wait(self, timeout: float | None = None) -> Endpoint:
        """Until the newest version is promoted, rolled back or failed; a canary without a bake
        waits for you. Raises `TimeoutError` after `timeout` seconds."""
        version = self._record.versions[0].version
        ends = None if timeout is None else time.monotonic() + timeout
        while True:
            newest = next(v for v in self.refresh().versions if v.version == version)
            if newest.state.is_settled or (newest.is_judged and not newest.is_baking):
                return self
            if ends is not None and time.monotonic() > ends:
                raise TimeoutError(f"Version {version} of {self.name} is still {newest.state}.")
            time.sleep(_WAIT_SECONDS)

    def compare(self, first: int, second: int, x: Any, *, by: Any = None) -> VersionComparison:
        """What two loaded versions answer to the same rows: agreement, the largest differences,
        differences by slice and latency side by side. `by`: a column of the DataFrame `x`, or a
        value for each row. Nobody else's requests are touched."""
        from aiaas_magics.version_comparison import compare

        labels = [self._signature_of(version).labels for version in (first, second)]
        return compare(str(self), (first, second), self._ask, x, by, labels[0])

    def _ask(self, version: int, x: Any) -> dict[str, NDArray[np.generic]]:
        """Outputs of an exact version, which need not have any traffic."""
        return self._calls().predict(self._now(), x, version, self._signature_of(version))

    def _signature_of(self, version: int) -> Signature:
        for known in self._now().versions:
            if known.version == version:
                if version not in self._signatures:
                    model = self._client.models.get(
                        known.model.owner, known.model.name, known.model.version
                    )
                    self._signatures[version] = model.latest.signature
                return self._signatures[version]
        raise NotFound(
            f"Endpoint {self.name} has no version {version}.",
            remedy=f"See %aiaas endpoint {self.name}.",
        )

    def lineage(self, version: int | None = None) -> Rich:
        """Which model, run, code and data answer here; `version` as `last_version` or the header
        `x-aiaas-model-version` of an answer says it."""
        from aiaas_magics.lineage import Lineage

        return Lineage(self._client.endpoints.lineage(self.owner, self.name, version))

    def _facts(self) -> list[tuple[str, str]]:
        record = self._record
        newest = record.versions[0] if record.versions else None
        signature = record.signature
        return [
            ("traffic", traffic_line(record.traffic, sticky=record.sticky)),
            ("loaded", _SLEEP[record.sleep] if record.sleep else ""),
            (_role(newest), judgement_line(newest) if newest else ""),
            ("answers", canary.agreement_line(newest) if newest else ""),
            ("rollback", f"leads to {traffic_line(record.former)}" if record.former else ""),
            ("newest", f"version {newest.version} from {newest.model}" if newest else ""),
            ("error", newest.error if newest else ""),
            ("parity", parity_line(newest.parity) if newest and newest.parity else ""),
            ("precision", conversion_line(newest.parity) if newest else ""),
            ("callers send", self._drift),
            ("served", options_line(newest.options) if newest else ""),
            ("inputs", tensors(signature.inputs) if signature else ""),
            ("outputs", tensors(signature.outputs) if signature else ""),
            ("address", record.url),
        ]

    def _html(self) -> str:
        facts = [(label, display.escape(value)) for label, value in self._facts()]
        more = [canary.numbers_html(self._record.versions[0])] if self._record.versions else []
        more.append(reports_html(self._record))
        if self._recent:
            more.append(
                f"<div>{display.muted('history')}</div>{canary.history(self._recent)._html()}"
            )
        return display.card(str(self), str(self._record.state), facts, *more)

    def _text(self) -> str:
        state = str(self._record.state)
        parts = [display.text_card(f"Endpoint {self}", state, self._facts())]
        if self._record.versions:
            parts.append(canary.numbers_text(self._record.versions[0]))
        parts.append(reports_text(self._record))
        if self._recent:
            parts.append(canary.history(self._recent)._text())
        return "\n".join(part for part in parts if part)

    def _repr_mimebundle_(
        self, include: object = None, exclude: object = None
    ) -> dict[str, object]:
        from aiaas_magics.endpoint_drift import summary

        # A display must not fail: without the service it shows what was known last.
        with suppress(AiaasError):
            self.refresh()
            changes = self._client.endpoints.history(self.owner, self.name)
            self._recent = list(islice(changes, canary.SHOWN_CHANGES))
            signature = self._record.signature
            # Texts and images are never compared: of them there is nothing to say each time.
            if signature is None or not signature.has_step:
                self._drift = summary(self._client.endpoints.drift(self.owner, self.name))
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


def _role(version: wire.EndpointVersion | None) -> str:
    is_shadow = version is not None and version.plan is not None and version.plan.shadow
    return "shadow" if is_shadow else "canary"


_SLEEP = {
    wire.Sleep.ASLEEP: "no: asleep, until somebody calls",
    wire.Sleep.WAKING: "soon: it wakes",
}
_COLUMNS: list[Column[Endpoint]] = [
    Column("endpoint", str, lambda e: display.code(e)),
    Column("state", lambda e: e._record.state, lambda e: display.badge(e._record.state)),
    Column(
        "traffic",
        lambda e: (
            traffic_line(e._record.traffic) + (f"; {e._record.sleep}" if e._record.sleep else "")
        ),
    ),
    Column("model", lambda e: e._record.versions[0].model if e._record.versions else ""),
    Column("address", lambda e: e._record.url),
    Column("updated", lambda e: display.ago(e._record.updated_at)),
]
