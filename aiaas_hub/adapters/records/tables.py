"""The tables. A change here needs a migration beside it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    ForeignKey,
    Index,
    LargeBinary,
    String,
    Text,
    UniqueConstraint,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from aiaas_hub.adapters.records.utc import UtcDateTime


class Base(DeclarativeBase):
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy reads it from the class
        datetime: UtcDateTime,
        dict[str, Any]: JSON,
        list[Any]: JSON,
    }


class BlobGrantRow(Base):
    __tablename__ = "blob_grants"

    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    owner: Mapped[str] = mapped_column(String(255), primary_key=True)


class RequestRow(Base):
    """A request that carried an idempotency key."""

    __tablename__ = "requests"
    __table_args__ = (Index("requests_by_age", "created_at"),)

    user: Mapped[str] = mapped_column(String(255), primary_key=True)
    address: Mapped[str] = mapped_column(String(64), primary_key=True)
    """SHA-256 of method and path."""
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    body: Mapped[str] = mapped_column(String(64))
    """SHA-256."""
    created_at: Mapped[datetime]


class AuditRow(Base):
    """An entry of the audit log. The database itself refuses to change or remove one."""

    __tablename__ = "audit"
    __table_args__ = (
        Index("audit_by_owner", "owner", "number"),
        Index("audit_by_actor", "actor", "number"),
        Index("audit_by_time", "at"),
        Index("audit_by_request", "request_id"),
    )

    number: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    at: Mapped[datetime]
    actor: Mapped[str] = mapped_column(String(300))
    via: Mapped[str] = mapped_column(String(16))
    act: Mapped[str] = mapped_column(String(300))
    object: Mapped[str] = mapped_column(String(300))
    owner: Mapped[str] = mapped_column(String(300))
    outcome: Mapped[str] = mapped_column(String(16))
    request_id: Mapped[str] = mapped_column(String(300))
    origin: Mapped[str] = mapped_column(String(300))
    detail: Mapped[dict[str, Any]]
    previous: Mapped[str] = mapped_column(String(64))
    hash: Mapped[str] = mapped_column(String(64))


class UsageRow(Base):
    """What somebody held from one moment to another: a run's attempt, a notebook server, a
    version of an endpoint. Opened and closed in the transaction that starts and ends it."""

    __tablename__ = "usage_spans"
    __table_args__ = (
        Index("usage_by_owner", "owner", "started_at"),
        Index("usage_by_end", "ended_at"),
    )

    id: Mapped[str] = mapped_column(String(300), primary_key=True)
    """`run/run-…-1`, `endpoint/7-2`, `server/…`: one span for one start."""
    kind: Mapped[str] = mapped_column(String(16))
    subject: Mapped[str] = mapped_column(String(300))
    """The run's id, `owner/endpoint`, the server's name."""
    owner: Mapped[str] = mapped_column(String(255))
    profile: Mapped[str] = mapped_column(String(64))
    workers: Mapped[int]
    cpus: Mapped[float]
    """Of all workers together, and so are GPUs."""
    gpus: Mapped[float]
    price_per_hour: Mapped[float]
    """Of all of it, as it was when the span began."""
    started_at: Mapped[datetime]
    seen_at: Mapped[datetime | None]
    """When the hub last said that the server runs."""
    ended_at: Mapped[datetime | None]


class MemberRow(Base):
    """The groups that the hub last said a user is in."""

    __tablename__ = "members"

    user: Mapped[str] = mapped_column(String(255), primary_key=True)
    groups: Mapped[list[Any]]


class SecretRow(Base):
    """A user's credentials for storage, as only the platform's key opens them."""

    __tablename__ = "secrets"

    owner: Mapped[str] = mapped_column(String(255), primary_key=True)
    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    kind: Mapped[str] = mapped_column(String(16))
    sealed: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    used_at: Mapped[datetime | None]


class EnvironmentRow(Base):
    """What the last run that began in a place told is installed there."""

    __tablename__ = "environments"

    place: Mapped[str] = mapped_column(String(1000), primary_key=True)
    submission: Mapped[str] = mapped_column(String(64))
    environment: Mapped[dict[str, Any]]
    told_at: Mapped[datetime]


class DatasetRow(Base):
    __tablename__ = "datasets"
    __table_args__ = (
        UniqueConstraint("owner", "name"),
        # A list is read by one of these, newest first, however many datasets there are.
        Index("datasets_by_owner", "owner", "id"),
        Index("datasets_by_visibility", "visibility", "id"),
        Index("datasets_by_group", "shared_group", "id"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    owner: Mapped[str] = mapped_column(String(255))
    name: Mapped[str] = mapped_column(String(64))
    description: Mapped[str] = mapped_column(Text)
    licence: Mapped[str] = mapped_column(String(100), default="")
    tags: Mapped[list[Any]] = mapped_column(JSON, default=list)
    visibility: Mapped[str] = mapped_column(String(16), default="private")
    shared_group: Mapped[str | None] = mapped_column(String(255))
    """The hub's group that may read it, where the visibility is a group's."""
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    latest_version: Mapped[int]
    """The highest number given; `NAME@latest` is the highest that is not retired."""


class DatasetVersionRow(Base):
    __tablename__ = "dataset_versions"
    __table_args__ = (
        UniqueConstraint("dataset_id", "idempotency_key"),
        Index("dataset_versions_by_digest", "digest"),
        Index("dataset_versions_by_retirement", "retired_at"),
    )

    dataset_id: Mapped[int] = mapped_column(ForeignKey("datasets.id"), primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    idempotency_key: Mapped[str | None] = mapped_column(String(255))
    created_at: Mapped[datetime]
    format: Mapped[str] = mapped_column(String(16))
    digest: Mapped[str] = mapped_column(String(64))
    size: Mapped[int] = mapped_column(BigInteger)
    rows: Mapped[int] = mapped_column(BigInteger)
    columns: Mapped[list[Any]]
    source: Mapped[str] = mapped_column(Text)
    origin: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    """What made it, and of which versions."""
    retired_at: Mapped[datetime | None]
    collected_at: Mapped[datetime | None]
    """The intent to delete its content: nothing may begin to use it from then on."""
    removed_at: Mapped[datetime | None]
    """When its content was gone, or had become that of something else."""


class DatasetTagRow(Base):
    """A name for a version, such as `golden`."""

    __tablename__ = "dataset_version_tags"

    dataset_id: Mapped[int] = mapped_column(ForeignKey("datasets.id"), primary_key=True)
    tag: Mapped[str] = mapped_column(String(64), primary_key=True)
    version: Mapped[int]


class DatasetTermRow(Base):
    """A word by which a dataset is found."""

    __tablename__ = "dataset_terms"
    # Of one dataset whether it has a word, for words that most of them have.
    __table_args__ = (Index("dataset_terms_by_dataset", "dataset_id", "term"),)

    # Found by its beginning, which is a range only where texts are ordered by their bytes.
    term: Mapped[str] = mapped_column(
        String(64).with_variant(String(64, collation="C"), "postgresql"), primary_key=True
    )
    dataset_id: Mapped[int] = mapped_column(ForeignKey("datasets.id"), primary_key=True)
    kind: Mapped[str] = mapped_column(String(8), primary_key=True)
    """Where the word stands: `name`, `owner`, `column`, `tag` or `text`."""


class DatasetProfileRow(Base):
    """The statistics of a version, or the intent to compute them."""

    __tablename__ = "dataset_profiles"
    __table_args__ = (Index("dataset_profiles_by_state", "state"),)

    dataset_id: Mapped[int] = mapped_column(ForeignKey("datasets.id"), primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    state: Mapped[str] = mapped_column(String(16))
    attempt: Mapped[int]
    """How often it was begun: a profile that ends the service is not begun for ever."""
    done: Mapped[int]
    """Columns that are computed."""
    total: Mapped[int]
    requested_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]
    error: Mapped[str] = mapped_column(Text)
    result: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))


class RunRow(Base):
    __tablename__ = "runs"
    __table_args__ = (
        UniqueConstraint("owner", "idempotency_key"),
        UniqueConstraint("parent", "trial"),
        Index("runs_by_owner", "owner", "number"),
        Index("runs_by_state", "state"),
        Index("runs_by_submission", "submitted_at"),
    )

    number: Mapped[int] = mapped_column(primary_key=True)
    """Order of submission; the newest has the highest."""
    id: Mapped[str] = mapped_column(String(32), unique=True)
    owner: Mapped[str] = mapped_column(String(255))
    name: Mapped[str] = mapped_column(String(64))
    kind: Mapped[str] = mapped_column(String(16))
    parent: Mapped[str | None] = mapped_column(String(32))
    """A trial's sweep."""
    trial: Mapped[int | None]
    """Its number in that sweep."""
    idempotency_key: Mapped[str | None] = mapped_column(String(255))
    state: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str] = mapped_column(Text)
    retry_reason: Mapped[str | None] = mapped_column(Text)
    """Why it was begun again last; said while there is no other reason."""
    attempt: Mapped[int]
    spec: Mapped[dict[str, Any]]
    """What was submitted, and never changes."""
    created_at: Mapped[datetime]
    submitted_at: Mapped[datetime | None]
    """When the engine was known to have this attempt."""
    warm: Mapped[bool | None]
    """Whether workers waited for it then."""
    started_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]
    """When the engine was first seen to have ended the attempt without a report."""
    pending_at: Mapped[datetime | None]
    """When the engine last said that the attempt waits for its turn there."""
    unseen_since: Mapped[datetime | None]
    """Since when the engine could not be asked about the attempt."""
    finished_at: Mapped[datetime | None]
    cancel_requested: Mapped[bool]
    stop_error: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    """The service's intent to end the attempt, as the error that it will have."""
    error: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    last_metrics: Mapped[dict[str, Any]]
    progress: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    usage: Mapped[list[Any]]
    """The latest sample of each worker."""
    used_at: Mapped[datetime | None]
    """When the last sample came, by the service's clock."""
    metrics_base: Mapped[int] = mapped_column(BigInteger)
    """Index of the current attempt's first metric point."""
    metrics_count: Mapped[int] = mapped_column(BigInteger)
    log_base: Mapped[int] = mapped_column(BigInteger)
    """Byte at which the current attempt's log begins."""


class MetricChunkRow(Base):
    """Some consecutive points of a run: a row for each would take a million rows apart to draw
    one curve."""

    __tablename__ = "metric_chunks"

    run_number: Mapped[int] = mapped_column(ForeignKey("runs.number"), primary_key=True)
    first: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    """Index of the first point."""
    end: Mapped[int] = mapped_column(BigInteger)
    """Index after the last one."""
    points: Mapped[bytes] = mapped_column(LargeBinary)
    """An Arrow stream, see `metrics.py`."""


class ModelRow(Base):
    __tablename__ = "models"
    __table_args__ = (UniqueConstraint("owner", "name"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    owner: Mapped[str] = mapped_column(String(255))
    name: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    latest_version: Mapped[int]
    aliases: Mapped[dict[str, Any]]
    """Name → version."""


class ModelVersionRow(Base):
    __tablename__ = "model_versions"
    __table_args__ = (UniqueConstraint("model_id", "idempotency_key"),)

    model_id: Mapped[int] = mapped_column(ForeignKey("models.id"), primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    idempotency_key: Mapped[str | None] = mapped_column(String(255))
    created_at: Mapped[datetime]
    signature: Mapped[dict[str, Any]]
    onnx: Mapped[str] = mapped_column(String(64))
    evaluation: Mapped[str] = mapped_column(String(64))
    size: Mapped[int] = mapped_column(BigInteger)
    export_max_abs: Mapped[float]
    framework: Mapped[str] = mapped_column(String(100))
    run_id: Mapped[str | None] = mapped_column(String(32), index=True)
    card: Mapped[dict[str, Any]]
    """What its owner says of it."""


class EndpointRow(Base):
    __tablename__ = "endpoints"
    __table_args__ = (UniqueConstraint("owner", "name"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    owner: Mapped[str] = mapped_column(String(255))
    name: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    latest_version: Mapped[int]
    traffic: Mapped[dict[str, Any]]
    """Desired: version (JSON keys are strings) → percent."""
    former: Mapped[dict[str, Any]]
    """The traffic that a rollback leads back to."""
    sticky: Mapped[bool]
    """Whether the same caller always comes to the same version."""
    sleep: Mapped[str | None] = mapped_column(String(16))
    """Desired: asleep, waking, or null where its versions are to be loaded."""


class EndpointVersionRow(Base):
    __tablename__ = "endpoint_versions"
    __table_args__ = (
        UniqueConstraint("endpoint_id", "idempotency_key"),
        Index("endpoint_versions_by_state", "state"),
    )

    endpoint_id: Mapped[int] = mapped_column(ForeignKey("endpoints.id"), primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    idempotency_key: Mapped[str | None] = mapped_column(String(255))
    model: Mapped[dict[str, Any]]
    """The pinned model and, below `options`, how it is served; `why` it was published."""
    serving_name: Mapped[str] = mapped_column(String(255))
    state: Mapped[str] = mapped_column(String(16))
    created_at: Mapped[datetime]
    created_by: Mapped[str] = mapped_column(String(255))
    parity: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    reason: Mapped[str] = mapped_column(Text)
    error: Mapped[str] = mapped_column(Text)
    plan: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    routed_at: Mapped[datetime | None]
    bake: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    """With the tallies that only the judge needs."""


class EndpointChangeRow(Base):
    __tablename__ = "endpoint_changes"
    __table_args__ = (UniqueConstraint("endpoint_id", "idempotency_key"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    endpoint_id: Mapped[int] = mapped_column(ForeignKey("endpoints.id"), index=True)
    idempotency_key: Mapped[str | None] = mapped_column(String(255))
    at: Mapped[datetime]
    by: Mapped[str] = mapped_column(String(255))
    action: Mapped[str] = mapped_column(String(16))
    version: Mapped[int | None]
    before: Mapped[dict[str, Any]]
    after: Mapped[dict[str, Any]]
    why: Mapped[str] = mapped_column(Text)


class KeyRow(Base):
    __tablename__ = "endpoint_keys"
    __table_args__ = (UniqueConstraint("endpoint_id", "idempotency_key"),)

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    endpoint_id: Mapped[int] = mapped_column(ForeignKey("endpoints.id"))
    idempotency_key: Mapped[str | None] = mapped_column(String(255))
    note: Mapped[str] = mapped_column(String(200))
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None]
    scope: Mapped[str] = mapped_column(String(16))
    rate: Mapped[int | None]
    """Most requests per second with this key; None: the endpoint's limit only."""
