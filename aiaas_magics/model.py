"""`aiaas.models` and the `Model` that it gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from aiaas_hub.schemas import models as wire
from aiaas_hub.schemas.errors import AiaasError
from aiaas_hub.schemas.runs import Run
from aiaas_magics import display, registering
from aiaas_magics.client import Client, current_client
from aiaas_magics.display import Column, Listing, Rich
from aiaas_magics.model_card import card

_SHOWN_LABELS = 20
_KINDS: dict[wire.Kind, str] = {
    "text": "a text",
    "image": "an image's file",
    "label": "a class's name",
    "prompt": "a text to go on with",
    "completion": "how it goes on",
}


class Model(Rich):
    """One version of a model: an artifact, its signature and the run that it came from."""

    def __init__(self, client: Client, record: wire.Model) -> None:
        self._client = client
        self._record = record
        self._run: Run | None = None

    @property
    def owner(self) -> str:
        return self._record.owner

    @property
    def name(self) -> str:
        return self._record.name

    @property
    def version(self) -> int:
        return self._record.latest.version

    @property
    def run_id(self) -> str | None:
        """None: registered from a notebook."""
        return self._record.latest.run_id

    @property
    def signature(self) -> wire.Signature:
        return self._record.latest.signature

    def __str__(self) -> str:
        return f"{self.owner}/{self.name}@{self.version}"

    @property
    def aliases(self) -> list[str]:
        """What this version is called besides its number."""
        return sorted(a for a, version in self._record.aliases.items() if version == self.version)

    @property
    def card(self) -> wire.Card:
        """What the owner says of it: description, licence, metrics."""
        return self._record.latest.card

    def set_alias(self, alias: str) -> Model:
        """Call this version so, as in `name@champion`; no other one is called so any more."""
        models = self._client.models
        self._record = models.set_alias(self.owner, self.name, alias, self.version)
        return self

    def remove_alias(self, alias: str) -> Model:
        version = self.version
        self._client.models.remove_alias(self.owner, self.name, alias)
        self._record = self._client.models.get(self.owner, self.name, version)
        return self

    def describe(
        self,
        description: str | None = None,
        *,
        licence: str | None = None,
        metrics: Mapping[str, float] | None = None,
    ) -> Model:
        """Say something of this version on its card; what is not given stays."""
        said = card(description, licence, metrics, self.card)
        models = self._client.models
        self._record = models.describe(self.owner, self.name, self.version, said)
        return self

    def download(self, path: str | Path) -> Path:
        """Write the model as ONNX to `path`, a file or a directory; returns the file."""
        file = Path(path).expanduser()
        if file.is_dir():
            file = file / f"{self.name}-{self.version}.onnx"
        # Whole or not at all: half a model would be taken for one.
        aside = file.with_name(f".{file.name}.part")
        try:
            self._client.models.download(self.owner, self.name, self.version, aside)
            aside.replace(file)
        finally:
            aside.unlink(missing_ok=True)
        return file

    def lineage(self) -> Rich:
        """Which run, code and data it came from."""
        from aiaas_magics.lineage import Lineage

        return Lineage(self._client.models.lineage(self.owner, self.name, self.version))

    def _facts(self) -> list[tuple[str, str]]:
        latest = self._record.latest
        run = self._run
        metrics = {**(run.last_metrics if run else {}), **latest.card.metrics}
        return [
            ("description", latest.card.description),
            ("called", ", ".join(f"@{alias}" for alias in self.aliases)),
            ("inputs", tensors(latest.signature.inputs)),
            ("outputs", tensors(latest.signature.outputs)),
            ("labels", _labels(latest.signature.labels)),
            ("metrics", ", ".join(f"{k} {_number(v)}" for k, v in metrics.items())),
            ("run", latest.run_id or "none: registered from a notebook"),
            ("params", ", ".join(f"{k}={v}" for k, v in run.params.items()) if run else ""),
            ("data", ", ".join(map(str, run.datasets)) if run else ""),
            ("framework", latest.framework),
            ("licence", latest.card.licence),
            ("size", display.size(latest.size)),
            ("export", f"differs from its source by at most {latest.export_max_abs:.2g}"),
            ("made", display.ago(latest.created_at)),
        ]

    def _html(self) -> str:
        more = ""
        if self._run is not None and self._run.snapshot.source:
            code = display.pre(self._run.snapshot.source)
            more = f"<details><summary>the code as typed</summary>{code}</details>"
        facts = [(label, display.escape(value)) for label, value in self._facts()]
        return display.card(str(self), None, facts, more)

    def _repr_mimebundle_(
        self, include: object = None, exclude: object = None
    ) -> dict[str, object]:
        # Only the card shows the run, and a display must not fail: it may be somebody else's.
        if self._run is None and self.run_id is not None:
            with suppress(AiaasError):
                self._run = self._client.runs.get(self.run_id)
        return super()._repr_mimebundle_(include, exclude)

    def _text(self) -> str:
        return display.text_card(f"Model {self}", None, self._facts())


class Models:
    """My models."""

    def list(self) -> Listing[Model]:
        client = current_client()
        return Listing(
            (Model(client, record) for record in client.models.list()),
            _COLUMNS,
            empty="No models yet: a run makes one with ctx.save_model(…), or "
            "aiaas.models.register(model, x[:2], name=…).",
        )

    def get(self, name: str) -> Model:
        """`[owner/]name[@version]` or `name@alias`; without either the newest."""
        client = current_client()
        return Model(client, client.model(name))

    def register(
        self,
        model: Any,
        example: Any = None,
        *,
        name: str | None = None,
        eval_input: Any = None,
        labels: Sequence[str] | None = None,
        tokenizer: Any = None,
        max_length: int | None = None,
        processor: Any = None,
        description: str | None = None,
        licence: str | None = None,
        metrics: Mapping[str, float] | None = None,
    ) -> Model:
        """Keep a model object, or the file of one, as a version of my model `name`; nothing is
        served. `aiaas.publish(model)` does that, then or later.

        All but the card's fields (`description`, `licence`, `metrics`) is as in `aiaas.publish`.
        What is the newest version already makes no other one. Raises `InvalidInput` if it does
        not export, or answers differently then.
        """
        client = current_client()
        said = card(description, licence, metrics)
        version = registering.register(
            client,
            name,
            model,
            example,
            eval_input,
            labels,
            said,
            tokenizer=tokenizer,
            max_length=max_length,
            processor=processor,
        )
        return Model(client, client.models.get(version.owner, version.name, version.version))


models = Models()


def tensors(specs: list[wire.TensorSpec]) -> str:
    """`pixels float32 [batch, 1, 8, 8]`; a free dimension is `?`. Of a text it is `text (a text)`,
    as that is what is given."""
    return ", ".join(
        f"{spec.name} ({_KINDS[spec.kind]})"
        if spec.kind is not None
        else f"{spec.name} {spec.dtype} "
        f"[{', '.join(['batch', *('?' if d is None else str(d) for d in spec.shape)])}]"
        for spec in specs
    )


def _called(model: Model) -> list[str]:
    """Of all versions: the list shows the newest of each model."""
    return [f"@{alias} is {version}" for alias, version in model._record.aliases.items()]


def _labels(labels: list[str] | None) -> str:
    if not labels:
        return ""
    shown = ", ".join(labels[:_SHOWN_LABELS])
    more = len(labels) - _SHOWN_LABELS
    return f"{shown} and {more} more" if more > 0 else shown


def _number(value: object) -> str:
    return display.number(value) if isinstance(value, int | float) else str(value)


_COLUMNS: list[Column[Model]] = [
    Column("model", str, lambda m: display.code(m)),
    Column("inputs", lambda m: tensors(m.signature.inputs)),
    Column("outputs", lambda m: tensors(m.signature.outputs)),
    Column("run", lambda m: m.run_id or ""),
    Column("called", lambda m: ", ".join(_called(m))),
    Column("updated", lambda m: display.ago(m._record.updated_at)),
]
