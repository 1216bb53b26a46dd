"""`ObjectsSystem`: one folder of an S3-compatible store as a source: pages of names, ranges of bytes, no writing.

obstore does the protocol; keys are read late, from their references. The prefix ends with a slash, so that ``acme/``
never matches ``acme-secret/``. Addresses that carry a signature are never made. The invariant: a key that leaves this
file begins with the prefix, and no call is unbounded in bytes, entries or time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from roadbed.kernel.deadline import Deadline
from roadbed.kernel.errors import ConfigError, NotFound
from roadbed.kernel.secrets import resolve_secret
from roadbed.sources.circuit import Circuit
from roadbed.sources.errors import CredentialsRefused, QueryRefused, SourceTimeout, SourceUnavailable
from roadbed.sources.manifest import ObjectsSource

REQUEST_S_MAX = 10.0
CONNECT_S_MAX = 5.0
PAGE_OBJECTS = 200
KEY_BYTES_MAX = 1_024
RETRIES_MAX = 1


@dataclass(frozen=True, slots=True)
class ObjectEntry:
    """One object of a page. ``version`` is the store's ETag."""

    path: str
    size_bytes: int
    modified: datetime
    version: str


@dataclass(frozen=True, slots=True)
class ObjectRange:
    """Bytes of an object from ``offset``; ``size_bytes`` is the whole object's size."""

    data: bytes
    offset: int
    size_bytes: int
    version: str
    modified: datetime


class ObjectGone(NotFound):
    """There is no such object below the source's prefix."""

    code = "sources.object_missing"
    hint = "list the source to see what it has"


class ObjectChanged(SourceUnavailable):
    """An object changed between two reads of it."""

    code = "sources.object_changed"
    hint = "read it again from its beginning"


class ObjectsSystem:
    """One store and prefix. ``store`` is for tests; left out, it is made of the configuration at first use."""

    def __init__(self, name: str, config: ObjectsSource, folder: Path, *, store: Any = None) -> None:
        self._name = name
        self._config = config
        self._folder = folder
        self._given = store
        self._made: tuple[tuple[str, ...], Any] | None = None
        self._prefix = prefix_of(name, config.url)
        self.circuit = Circuit(name, config.connections_max)

    async def page(self, folder: str, after: str, deadline: Deadline) -> tuple[list[ObjectEntry], bool]:
        """At most `PAGE_OBJECTS` objects below ``folder`` whose paths come after ``after``, and whether more follow.

        `SourceUnavailable`, `SourceTimeout`, `SourceBusy`, `QueryRefused`.
        """
        below = self._key(f"{folder.strip('/')}/") if folder.strip("/") else self._prefix
        offset = self._key(after) if after else None
        async with self.circuit.admitted(deadline):
            with self._translated(folder or "the source"):
                async with asyncio.timeout(_bounded_s(deadline)):
                    stream = self._store().list(below or None, offset=offset, chunk_size=PAGE_OBJECTS + 1)
                    found: Any = await anext(aiter(stream), [])
        entries = [self._entry(meta) for meta in found if meta["path"].startswith(below)]
        entries.sort(key=lambda entry: entry.path)
        return entries[:PAGE_OBJECTS], len(entries) > PAGE_OBJECTS

    async def read(self, path: str, offset: int, bytes_max: int, deadline: Deadline, version: str = "") -> ObjectRange:
        """Bytes of one object, of ``version`` alone where given. As `page`, and `ObjectGone`, `ObjectChanged`."""
        key = self._key(path)
        async with self.circuit.admitted(deadline):
            with self._translated(path):
                async with asyncio.timeout(_bounded_s(deadline)):
                    store = self._store()
                    meta = await store.head_async(key)
                    end = min(meta["size"], offset + bytes_max)
                    if offset >= end:
                        return ObjectRange(b"", offset, meta["size"], meta["e_tag"] or "", meta["last_modified"])
                    if version and meta["e_tag"] != version:
                        raise ObjectChanged(f"{path} of {self._name} changed since it was read first")
                    wanted: dict[str, Any] = {"range": (offset, end)}
                    if meta["e_tag"]:
                        wanted["if_match"] = meta["e_tag"]
                    answer = await store.get_async(key, options=wanted)
                    data = bytes(await answer.bytes_async())
                    meta = answer.meta
        return ObjectRange(data, offset, meta["size"], meta["e_tag"] or "", meta["last_modified"])

    def _entry(self, meta: Any) -> ObjectEntry:
        path = meta["path"].removeprefix(self._prefix)
        return ObjectEntry(path, meta["size"], meta["last_modified"].astimezone(UTC), meta["e_tag"] or "")

    def _key(self, path: str) -> str:
        parts = path.rstrip("/").split("/")
        is_plain = path.isprintable() and len(path.encode("utf-8", "replace")) <= KEY_BYTES_MAX and "\\" not in path
        if not is_plain or any(part in ("", ".", "..") for part in parts):
            raise QueryRefused("the path of an object is not a plain one", hint="take it from the list of the source")
        return self._prefix + path

    def _store(self) -> Any:
        """The store, made anew when a reference gives another value than before."""
        if self._given is not None:
            return self._given
        config, where = self._config, f"sources.{self._name}"
        references = [(name, getattr(config, name)) for name in ("key", "secret", "token") if getattr(config, name)]
        values = tuple(
            resolve_secret(reference, base=self._folder, where=f"{where}.{name}").reveal()
            for name, reference in references
        )
        if self._made is None or self._made[0] != values:
            names = {"key": "access_key_id", "secret": "secret_access_key", "token": "session_token"}
            secrets = {names[name]: value for (name, _), value in zip(references, values, strict=True)}
            self._made = (values, make_store(self._name, config, secrets))
        return self._made[1]

    @contextmanager
    def _translated(self, what: str) -> Iterator[None]:
        from obstore import exceptions

        try:
            yield
        except TimeoutError:
            raise SourceTimeout(
                f"{self._name} did not answer in time", hint="ask for less, or allow more time"
            ) from None
        except (exceptions.NotFoundError, FileNotFoundError):
            raise ObjectGone(f"{self._name} has no object {what}") from None
        except (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError, PermissionError):
            raise CredentialsRefused(
                f"{self._name} refuses our key", hint=f"check sources.{self._name}.key, its rights and its bucket"
            ) from None
        except exceptions.PreconditionError:
            raise ObjectChanged(f"{what} of {self._name} changed while it was read") from None
        except exceptions.InvalidPathError:
            raise QueryRefused("the path of an object is not a plain one") from None
        except exceptions.BaseError as error:  # its text holds addresses and answers of the store
            raise SourceUnavailable(f"{self._name} cannot be read ({type(error).__name__})") from None


def prefix_of(name: str, url: str) -> str:
    """The prefix of all keys, ending with a slash; empty for a whole bucket. Raises `ConfigError`."""
    scheme, _, rest = url.partition("://")
    if scheme == "file":
        return ""
    bucket, _, prefix = rest.partition("/")
    parts = prefix.rstrip("/").split("/") if prefix else []
    if not bucket or "@" in bucket or not url.endswith("/") or any(part in ("", ".", "..") for part in parts):
        raise ConfigError(f"sources.{name}.url cannot be used", hint="write s3://bucket/prefix/, ending with a slash")
    return prefix


def make_store(name: str, config: ObjectsSource, secrets: dict[str, str]) -> Any:
    """The store of a configuration. Raises `ConfigError`."""
    from obstore import exceptions
    from obstore.store import LocalStore, S3Store

    scheme, _, rest = config.url.partition("://")
    try:
        if scheme == "file":
            return LocalStore(prefix=Path(rest))
        options: dict[str, Any] = {"region": config.region, "skip_signature": not secrets, **secrets}
        if config.endpoint:
            options["endpoint"] = config.endpoint
        return S3Store(
            rest.partition("/")[0],
            config=options,  # type: ignore[arg-type]  # the keys are those of S3Config
            client_options={
                "timeout": timedelta(seconds=REQUEST_S_MAX),
                "connect_timeout": timedelta(seconds=CONNECT_S_MAX),
                "allow_http": config.endpoint.startswith("http://"),
            },
            retry_config={"max_retries": RETRIES_MAX, "retry_timeout": timedelta(seconds=REQUEST_S_MAX)},
        )
    except (exceptions.BaseError, ValueError) as error:
        raise ConfigError(f"sources.{name}: the object store cannot be used ({type(error).__name__})") from None


def _bounded_s(deadline: Deadline) -> float:
    return min(REQUEST_S_MAX, deadline.remaining_s())
