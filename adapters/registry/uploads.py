"""Long files in parts: each is a short write, between which other changes have their turn.

An upload is known by a random name. Its parts become those of a version when one is published with
that name; an upload that nobody went on with for an hour is swept away by a later one.
"""

from datetime import timedelta
from io import BytesIO
from typing import Final

from sqlalchemy import Connection, delete, func, insert, select

from adapters.errors import RegistryUnavailable
from adapters.registry.audit import Write
from adapters.registry.tables import parts, uploads

_ABANDONED: Final = timedelta(hours=1)  # far longer than a request may take


def begin(write: Write, name: str) -> None:
    """Begin an upload, and sweep away one that was abandoned."""
    old = select(uploads.c.id).where(uploads.c.created_at < write.at - _ABANDONED).limit(1)
    abandoned = write.connection.scalar(old)
    if abandoned is not None:
        drop(write, abandoned)
    write.connection.execute(insert(uploads).values(id=name, created_at=write.at))


def add_part(write: Write, name: str, number: int, content: bytes) -> None:
    """Store a part, the first one of number 0."""
    row = {"upload": name, "number": number, "content": content}
    write.connection.execute(insert(parts).values(**row))


def drop(write: Write, name: str) -> None:
    """Drop an upload with its parts; nothing where a version has them."""
    dropped = write.connection.execute(delete(uploads).where(uploads.c.id == name))
    if dropped.rowcount:
        write.connection.execute(delete(parts).where(parts.c.upload == name))


def finish(write: Write, name: str, size: int) -> None:
    """End an upload, whose parts are those of a version from now on.

    Raises:
        RegistryUnavailable: they are not all there.
    """
    ended = write.connection.execute(delete(uploads).where(uploads.c.id == name))
    query = select(func.sum(func.length(parts.c.content))).where(parts.c.upload == name)
    if not ended.rowcount or write.connection.scalar(query) != size:
        raise RegistryUnavailable("the parts of the upload are gone; upload the file again")


def read(connection: Connection, name: str) -> bytes:
    """The file; a part at a time, so that it is never there twice."""
    joined = BytesIO()
    query = select(parts.c.content).where(parts.c.upload == name).order_by(parts.c.number)
    for part in connection.scalars(query):
        joined.write(part)
    return joined.getvalue()
