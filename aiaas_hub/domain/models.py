"""Models: numbered versions of an exported artifact with its signature and lineage."""

from __future__ import annotations

from datetime import UTC, datetime

from aiaas_hub.domain.data_ports import BlobStore
from aiaas_hub.domain.datasets import MayRead
from aiaas_hub.domain.records import BlobGrants, ModelRecords
from aiaas_hub.schemas.errors import NotFound, TooLarge
from aiaas_hub.schemas.models import Card, Model, ModelHandOver, ModelVersion
from aiaas_hub.schemas.names import check_alias, check_name, parse_model
from aiaas_hub.schemas.paging import Page

MAX_EVALUATION_BYTES = 64 << 20


class Models:
    def __init__(self, records: ModelRecords, blobs: BlobStore, grants: BlobGrants) -> None:
        self._records = records
        self._blobs = blobs
        self._grants = grants

    def page(self, owner: str, cursor: str | None, limit: int) -> Page[Model]:
        return self._records.page(owner, cursor, limit)

    def get(
        self, owner: str, name: str, version: int | None = None, alias: str | None = None
    ) -> Model:
        """With this version, the one of this alias, or the newest, as `latest`. Raises
        `NotFound`."""
        found = self._records.get(owner, name, version)
        if found is not None and alias is not None:
            if alias not in found.aliases:
                raise NotFound(
                    f"No version of model {name} is called {alias}.",
                    remedy=f"Call one so: %aiaas model {name}@V --alias {alias}",
                )
            found = self._records.get(owner, name, found.aliases[alias])
        if found is None:
            wanted = f"{name}@{version}" if version else name
            raise NotFound(f"There is no model {wanted}.", remedy="See %aiaas models.")
        return found

    def resolve(self, text: str, owner: str, may_read: MayRead) -> ModelVersion:
        """The version that `[owner/]name[@version or @alias]` means now."""
        reference, alias = parse_model(text)
        of = reference.owner or owner
        if not may_read(of):
            raise NotFound(f"There is no model {reference.name}.", remedy="See %aiaas models.")
        return self.get(of, reference.name, reference.version, alias).latest

    def set_alias(self, owner: str, name: str, alias: str, version: int) -> Model:
        """Call a version by a name as well; it is no other version's any more."""
        check_alias(alias)
        self.get(owner, name, version)
        self._records.set_alias(owner, name, alias, version)
        return self.get(owner, name, version)

    def remove_alias(self, owner: str, name: str, alias: str) -> Model:
        """Raises `NotFound`."""
        if not self._records.set_alias(owner, name, alias, None):
            raise NotFound(
                f"No version of model {name} is called {alias}.", remedy="See %aiaas models."
            )
        return self.get(owner, name)

    def describe(self, owner: str, name: str, version: int | None, card: Card) -> Model:
        """What the owner says of a version, instead of what was said before."""
        found = self.get(owner, name, version).latest
        self._records.set_card(owner, name, found.version, card)
        return self.get(owner, name, found.version)

    def of_run(self, run_id: str) -> ModelVersion:
        found = self._records.of_run(run_id)
        if found is None:
            raise NotFound(
                f"Run {run_id} has no model.",
                remedy="Call ctx.save_model(model, example_input) in train(ctx) and run it again.",
            )
        return found

    def add_version(
        self,
        owner: str,
        name: str,
        model: ModelHandOver,
        *,
        uploader: str,
        run_id: str | None = None,
        idempotency_key: str | None = None,
    ) -> ModelVersion:
        """Add a version from two uploads; the same content or the same run adds none, and what
        is said on its card is said of the version that is there."""
        check_name(name)
        for digest in (model.onnx, model.evaluation):
            if not self._grants.granted(uploader, digest):
                raise NotFound("There is no such upload.", remedy="Upload the model again.")
        if self._blobs.local_path(model.evaluation).stat().st_size > MAX_EVALUATION_BYTES:
            raise TooLarge(
                f"The held-out rows take more than {MAX_EVALUATION_BYTES // 2**20} MiB.",
                remedy="Give fewer of them as eval_input.",
            )
        return self._records.add_version(
            ModelVersion(
                owner=owner,
                name=name,
                version=1,
                created_at=datetime.now(UTC),
                signature=model.signature,
                onnx=model.onnx,
                size=self._blobs.local_path(model.onnx).stat().st_size,
                export_max_abs=model.export_max_abs,
                framework=model.framework,
                run_id=run_id,
                card=model.card,
            ),
            model.evaluation,
            idempotency_key,
        )

    def evaluation(self, version: ModelVersion) -> str:
        """Digest of the version's held-out rows."""
        return self._records.evaluation(version)
