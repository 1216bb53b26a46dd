"""Documents that came through the API or the console: bytes in the object store, one row each in ``upload``.

Owns the table upload. The facade's `add_document` and `delete_document` call it, ``sync`` lists and reads it like any
other source. The invariant: a row and its bytes come and go so that the row never names bytes that are not there.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Sequence
from typing import Any, Protocol

from roadbed.kernel.errors import InvalidRequest, TooLarge
from roadbed.kernel.plain_name import plain_name
from roadbed.knowledge.connectors.connector import PAGE_ITEMS, Content, DocumentGone, Listed, NotTaken
from roadbed.knowledge.documents import document_id_of

UPLOAD_BYTES_MAX = 64 * 1024 * 1024
UPLOAD_FILES_MAX = 50  # in one form
KEY_CHARS_MAX = 300


class Objects(Protocol):
    """What is needed of ``store.objects.ObjectStore``."""

    async def put(self, name: str, data: bytes) -> Any:
        """Store bytes under a name, replacing what was there."""

    async def get(self, name: str) -> bytes:
        """The bytes of a name; raises `NotFound`."""

    async def delete(self, name: str) -> Any:
        """Remove a name; harmless when it is not there."""


def upload_key(name: str) -> str:
    """The key of an uploaded file: its name without folders, and `plain_name`. Raises `InvalidRequest`."""
    key = plain_name(name.replace("\\", "/").rsplit("/", 1)[-1])
    if not key or key in (".", "..") or len(key) > KEY_CHARS_MAX:
        raise InvalidRequest(f"a document needs a name of 1 to {KEY_CHARS_MAX} characters", param="name")
    return key


class UploadsConnector:
    """One source of uploads."""

    kind = "uploads"

    def __init__(self, database: Any, objects: Objects, source: str) -> None:
        self._database = database
        self._objects = objects
        self._source = source

    async def add(self, name: str, data: bytes, media_type: str, groups: frozenset[str] | None) -> str:
        """Keep a document's bytes, replacing an older one of the same name; its key."""
        key = upload_key(name)
        if len(data) > UPLOAD_BYTES_MAX:
            raise TooLarge(f"a document may have at most {UPLOAD_BYTES_MAX} bytes")
        digest = hashlib.sha256(data).hexdigest()
        object_name = f"uploads/{document_id_of(self._source, key)}/{digest}"
        await self._objects.put(object_name, data)
        async with self._database.transaction() as connection:
            before = await connection.fetchval(
                "SELECT object_name FROM upload WHERE source = $1 AND key = $2 FOR UPDATE", self._source, key
            )
            await connection.execute(
                """
                INSERT INTO upload (source, key, object_name, media_type, digest, size_bytes, groups)
                VALUES ($1, $2, $3, $4, $5, $6, $7)
                ON CONFLICT (source, key) DO UPDATE SET object_name = excluded.object_name, digest = excluded.digest,
                    media_type = excluded.media_type, size_bytes = excluded.size_bytes, groups = excluded.groups,
                    uploaded_at = now()
                """,
                self._source,
                key,
                object_name,
                media_type,
                digest,
                len(data),
                None if groups is None else sorted(groups),
            )
        if before is not None and before != object_name:
            await self._objects.delete(before)
        return key

    async def remove(self, key: str) -> bool:
        """Forget a document; whether it was there."""
        name = await self._database.fetchval(
            "DELETE FROM upload WHERE source = $1 AND key = $2 RETURNING object_name", self._source, key
        )
        if name is None:
            return False
        await self._objects.delete(name)
        return True

    async def listing(self) -> AsyncIterator[Sequence[Listed | NotTaken]]:
        """All uploads, by key."""
        after = ""
        while True:
            rows = await self._database.fetch(
                "SELECT * FROM upload WHERE source = $1 AND key > $2 ORDER BY key LIMIT $3",
                self._source,
                after,
                PAGE_ITEMS,
            )
            if not rows:
                return
            yield [self._listed(row) for row in rows]
            after = rows[-1]["key"]

    async def read(self, key: str) -> Content:
        """The bytes of an upload. Raises `DocumentGone`."""
        row = await self._database.fetchrow("SELECT * FROM upload WHERE source = $1 AND key = $2", self._source, key)
        if row is None:
            raise DocumentGone("the upload was removed")
        data = await self._objects.get(row["object_name"])
        return Content(name=key, data=data, media_type=row["media_type"] or None, version=row["digest"])

    def changes(self) -> None:
        """Every change comes through `add` and `remove`, which are followed by a sync."""
        return

    def _listed(self, row: Any) -> Listed:
        groups = None if row["groups"] is None else frozenset(row["groups"])
        return Listed(row["key"], row["key"], row["key"], row["digest"], row["size_bytes"], groups)
