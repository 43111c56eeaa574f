"""`aiaas.models` and the `Model` that it gives."""

from __future__ import annotations

from pathlib import Path

from aiaas_hub.schemas import models as wire
from aiaas_magics import display
from aiaas_magics.client import Client, current_client
from aiaas_magics.display import Column, Listing, Rich


class Model(Rich):
    """One version of a model: an artifact, its signature and the run that it came from."""

    def __init__(self, client: Client, record: wire.Model) -> None:
        self._client = client
        self._record = record

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
        return [
            ("inputs", tensors(latest.signature.inputs)),
            ("outputs", tensors(latest.signature.outputs)),
            ("run", latest.run_id or "none: registered from a notebook"),
            ("framework", latest.framework),
            ("size", display.size(latest.size)),
            ("export", f"differs from its source by at most {latest.export_max_abs:.2g}"),
            ("made", display.ago(latest.created_at)),
        ]

    def _html(self) -> str:
        return display.card(
            str(self), None, [(label, display.escape(value)) for label, value in self._facts()]
        )

    def _text(self) -> str:
        return display.text_card(f"Model {self}", None, self._facts())


class Models:
    """My models."""

    def list(self) -> Listing[Model]:
        client = current_client()
        return Listing(
            (Model(client, record) for record in client.models.list()),
            _COLUMNS,
            empty="No models yet: a run makes one with ctx.save_model(…).",
        )

    def get(self, name: str) -> Model:
        """`[owner/]name[@version]`; without a version the newest."""
        client = current_client()
        return Model(client, client.models.get(*client.resolve(name)))


models = Models()


def tensors(specs: list[wire.TensorSpec]) -> str:
    """`pixels float32 [batch, 1, 8, 8]`; a free dimension is `?`."""
    return ", ".join(
        f"{spec.name} {spec.dtype} "
        f"[{', '.join(['batch', *('?' if d is None else str(d) for d in spec.shape)])}]"
        for spec in specs
    )


_COLUMNS: list[Column[Model]] = [
    Column("model", str, lambda m: display.code(m)),
    Column("inputs", lambda m: tensors(m.signature.inputs)),
    Column("outputs", lambda m: tensors(m.signature.outputs)),
    Column("run", lambda m: m.run_id or ""),
    Column("updated", lambda m: display.ago(m._record.updated_at)),
]
