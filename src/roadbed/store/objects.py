"""Objects: bytes under a key, in STATE/objects or in an S3, Google or Azure bucket, through obstore.

For what is too large or too cold for PostgreSQL (uploaded originals, artifacts, closed partitions). It knows no meaning
of a key. The invariant: a put is atomic and a key cannot leave the store's folder or prefix; every call is bounded in
bytes and in time.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from obstore import exceptions
from obstore.store import LocalStore, MemoryStore, from_url

from roadbed.kernel.errors import ConfigError, TooLarge
from roadbed.store.errors import InvalidName, ObjectMissing, ObjectsUnavailable, StoreDiskFull
from roadbed.store.state import make_private_folder

OBJECT_BYTES_MAX = 256 * 1024 * 1024
KEY_BYTES_MAX = 512
OPERATION_TIMEOUT_S = 60.0
CONNECT_TIMEOUT_S = 5.0
RETRIES_MAX = 3
LIST_PAGE_OBJECTS = 500
URL_SCHEMES = ("s3", "gs", "az")
_KEY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.=-]*(/[A-Za-z0-9_][A-Za-z0-9_.=-]*)*")


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One entry of a listing."""

    key: str
    size_bytes: int


class ObjectStore:
    """A folder or bucket of objects. Make one with `at_folder`, `at_url` or, for tests, `in_memory`."""

    def __init__(self, store: Any, name: str) -> None:
        self._store = store
        self.name = name

    @classmethod
    def at_folder(cls, folder: Path) -> ObjectStore:
        """Objects as files under ``folder``, made private where it is missing. `StateUnusable`."""
        make_private_folder(folder)
        return cls(LocalStore(prefix=folder), str(folder))

    @classmethod
    def at_url(cls, url: str, *, is_locked: bool = False) -> ObjectStore:
        """Objects under ``s3://bucket/prefix``, ``gs://...`` or ``az://...``; credentials from the environment. One
        that locks its objects (``is_locked``) takes none without a checksum.
        """
        scheme, _, rest = url.partition("://")
        if scheme not in URL_SCHEMES or not rest or "@" in rest or "?" in rest:
            hint = "write s3://bucket/prefix, gs://bucket/prefix or az://container/prefix; credentials go elsewhere"
            raise ConfigError("the address of the object storage cannot be used", hint=hint)
        try:
            store = from_url(
                url,
                config={"checksum_algorithm": "sha256"} if is_locked and scheme == "s3" else None,
                client_options={
                    "timeout": timedelta(seconds=OPERATION_TIMEOUT_S),
                    "connect_timeout": timedelta(seconds=CONNECT_TIMEOUT_S),
                    # Options given here replace those of the environment.
                    "allow_http": os.environ.get("AWS_ALLOW_HTTP", "").lower() in ("1", "true"),
                },
                retry_config={"max_retries": RETRIES_MAX, "retry_timeout": timedelta(seconds=OPERATION_TIMEOUT_S)},
            )
        except (exceptions.BaseError, ValueError) as error:
            raise ConfigError(f"the object storage {url} cannot be used ({type(error).__name__})") from None
        return cls(store, url)

    @classmethod
    def in_memory(cls) -> ObjectStore:
        """Objects that end with the process."""
        return cls(MemoryStore(), "memory")

    async def put(self, key: str, data: bytes, *, timeout_s: float = OPERATION_TIMEOUT_S) -> None:
        """Store ``data`` under ``key``, replacing what was there, all or nothing. `TooLarge`, `ObjectsUnavailable`."""
        checked = _check_key(key)
        if len(data) > OBJECT_BYTES_MAX:
            raise TooLarge(f"an object is at most {OBJECT_BYTES_MAX} bytes")
        with _translated(key):
            async with asyncio.timeout(timeout_s):
                await self._store.put_async(checked, data)

    async def get(
        self, key: str, *, bytes_max: int = OBJECT_BYTES_MAX, timeout_s: float = OPERATION_TIMEOUT_S
    ) -> bytes:
        """The object under ``key``. `ObjectMissing`, `TooLarge` (before anything is read), `ObjectsUnavailable`."""
        checked = _check_key(key)
        with _translated(key):
            async with asyncio.timeout(timeout_s):
                found = await self._store.get_async(checked)
                if found.meta["size"] > bytes_max:
                    raise TooLarge(f"the object {key} is over {bytes_max} bytes")
                return bytes(await found.bytes_async())

    async def delete(self, key: str, *, timeout_s: float = OPERATION_TIMEOUT_S) -> None:
        """Remove the object under ``key``; harmless when there is none."""
        checked = _check_key(key)
        with contextlib.suppress(ObjectMissing), _translated(key):
            async with asyncio.timeout(timeout_s):
                await self._store.delete_async(checked)

    async def list(self, prefix: str = "", *, timeout_s: float = OPERATION_TIMEOUT_S) -> AsyncIterator[StoredObject]:
        """All objects whose key begins with the folder ``prefix``; ``timeout_s`` bounds each page, not the caller."""
        stream = self._store.list(_check_key(prefix) if prefix else None, chunk_size=LIST_PAGE_OBJECTS)
        pages = aiter(stream)
        while True:
            with _translated(prefix):
                async with asyncio.timeout(timeout_s):
                    page = await anext(pages, None)
            if page is None:
                return
            for entry in page:
                yield StoredObject(entry["path"], entry["size"])


def _check_key(key: str) -> str:
    if len(key.encode()) > KEY_BYTES_MAX or not _KEY.fullmatch(key):
        raise InvalidName(
            "an object's key has parts of letters, digits and _ . = -, divided by /",
            hint=f"at most {KEY_BYTES_MAX} bytes; no part begins with a dot",
        )
    return key


@contextlib.contextmanager
def _translated(key: str) -> Iterator[None]:
    try:
        yield
    except (exceptions.NotFoundError, FileNotFoundError):
        raise ObjectMissing(f"there is no object {key}") from None
    except TimeoutError:
        raise ObjectsUnavailable("the object storage did not answer in time") from None
    except (exceptions.BaseError, OSError) as error:
        if "No space left on device" in str(error):
            raise StoreDiskFull("no room left on the disk of the objects") from None
        raise ObjectsUnavailable(f"the object storage refuses ({type(error).__name__})") from None
