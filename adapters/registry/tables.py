"""The tables. A change here needs a migration (`migrations/versions/`); a test compares both."""

from datetime import UTC, datetime

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    Dialect,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Named,
    String,
    Table,
    Text,
    TypedColumns,
    TypeDecorator,
    UniqueConstraint,
)


class UtcDateTime(TypeDecorator[datetime]):
    """An aware datetime, kept in UTC: SQLite stores no time zone, so it is put back on reading."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, _dialect: Dialect) -> datetime | None:
        """Convert to UTC; a naive value is a bug in the caller."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a naive datetime cannot be stored")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, _dialect: Dialect) -> datetime | None:
        """Read back as UTC."""
        if value is None:
            return None
        return value.astimezone(UTC) if value.tzinfo is not None else value.replace(tzinfo=UTC)


metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)


class _Tenants(TypedColumns):
    id = Column(Integer, primary_key=True)
    name: Named[str] = Column(String(63), unique=True)
    created_at: Named[datetime] = Column(UtcDateTime)
    feature_cache: Named[str] = Column(
        String(6),
        CheckConstraint("feature_cache IN ('off', 'own', 'shared')", name="feature_cache"),
        server_default="off",
    )


class _Keys(TypedColumns):
    id = Column(String(16), primary_key=True)
    tenant_id: Named[int | None] = Column(ForeignKey("tenants.id"), index=True)
    secret_sha256: Named[str] = Column(String(64))
    scopes: Named[str] = Column(String(32))
    created_at: Named[datetime] = Column(UtcDateTime)
    revoked_at: Named[datetime | None] = Column(UtcDateTime)
    expires_at: Named[datetime | None] = Column(UtcDateTime)


class _Quotas(TypedColumns):
    tenant_id: Named[int] = Column(ForeignKey("tenants.id"), primary_key=True)
    adapters: Named[int | None] = Column(BigInteger)
    versions: Named[int | None] = Column(BigInteger)
    bytes: Named[int | None] = Column(BigInteger)
    requests_per_minute: Named[int | None] = Column(BigInteger)
    tokens_per_minute: Named[int | None] = Column(BigInteger)


class _Adapters(TypedColumns):
    id = Column(Integer, primary_key=True)
    tenant_id: Named[int] = Column(ForeignKey("tenants.id"))
    name: Named[str] = Column(String(63))
    # The highest number that a version ever had; those that were deleted count.
    last_version: Named[int] = Column(Integer, server_default="0")


class _Versions(TypedColumns):
    id = Column(Integer, primary_key=True)
    adapter_id: Named[int] = Column(ForeignKey("adapters.id"))
    number: Named[int] = Column(Integer)
    digest: Named[str] = Column(String(64), index=True)
    backbone: Named[str] = Column(String(64))
    size: Named[int] = Column(Integer)
    created_at: Named[datetime] = Column(UtcDateTime)
    manifest: Named[str] = Column(Text)
    # Behind the others: SQLite reads a row from its start, so that no other column costs a walk
    # over the bytes. Empty where they are in the parts of an upload.
    content: Named[bytes] = Column(LargeBinary)
    upload: Named[str | None] = Column(String(32))


class _Uploads(TypedColumns):
    """Files whose parts are being stored, and that no version has yet."""

    id = Column(String(32), primary_key=True)
    created_at: Named[datetime] = Column(UtcDateTime)


class _Parts(TypedColumns):
    upload = Column(String(32), primary_key=True)
    number = Column(Integer, primary_key=True)
    content: Named[bytes] = Column(LargeBinary)


class _Releases(TypedColumns):
    id = Column(Integer, primary_key=True)
    adapter_id: Named[int] = Column(ForeignKey("adapters.id"))
    revision: Named[int] = Column(Integer)
    stable: Named[int] = Column(Integer)
    parent: Named[int | None] = Column(Integer)
    created_at: Named[datetime] = Column(UtcDateTime)


class _Audit(TypedColumns):
    seq = Column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True)
    at: Named[datetime] = Column(UtcDateTime)
    actor: Named[str] = Column(Text)
    action: Named[str] = Column(String(32))
    tenant: Named[str | None] = Column(String(63))
    adapter: Named[str | None] = Column(String(63))
    detail: Named[str] = Column(Text)


class _History(TypedColumns):
    id = Column(String(32), primary_key=True)


tenants = Table("tenants", metadata, _Tenants)
keys = Table("keys", metadata, _Keys)
quotas = Table("quotas", metadata, _Quotas)
adapters = Table("adapters", metadata, _Adapters, UniqueConstraint("tenant_id", "name"))
versions = Table(
    "versions",
    metadata,
    _Versions,
    UniqueConstraint("adapter_id", "number"),
    UniqueConstraint("adapter_id", "digest"),
)
uploads = Table("uploads", metadata, _Uploads)
parts = Table("parts", metadata, _Parts)
releases = Table(
    "releases",
    metadata,
    _Releases,
    UniqueConstraint("adapter_id", "revision"),
    ForeignKeyConstraint(["adapter_id", "stable"], ["versions.adapter_id", "versions.number"]),
    ForeignKeyConstraint(["adapter_id", "parent"], ["releases.adapter_id", "releases.revision"]),
)
# AUTOINCREMENT: a sequence number is never given twice, even if the newest row were deleted.
audit = Table("audit", metadata, _Audit, Index(None, "tenant", "seq"), sqlite_autoincrement=True)
# One row.
history = Table("history", metadata, _History)
