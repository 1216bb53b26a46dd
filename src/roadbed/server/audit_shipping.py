"""Checkpoints on their way to a second place: a folder, a bucket, or another deployment that is the witness.

Each place gets every checkpoint in order, with the proof that it extends the one before; how far it is stands in
``audit_shipment``. A place that fails is tried again at the next checkpoint. Alarms go to ``audit.webhook``. The
invariant: what is shipped is what was signed, byte for byte.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from roadbed.kernel.errors import ConfigError, RoadbedError, Unavailable
from roadbed.kernel.secrets import resolve_secret
from roadbed.ledger.audit_verify import PublicKey
from roadbed.ledger.manifest import AuditConfig
from roadbed.server.locked_objects import LockedBucket
from roadbed.store.database import Database
from roadbed.store.objects import URL_SCHEMES, ObjectStore
from roadbed.wire.address import Url, parse_url
from roadbed.wire.client import UpstreamClient
from roadbed.wire.errors import UpstreamFailed
from roadbed.wire.exchange import UpstreamRequest

log = logging.getLogger("roadbed.audit")

AT_ONCE_MAX = 500
POST_S = 15.0
REPLY_BYTES_MAX = 64 * 1024
_ERROR_CODE = re.compile(rb"<Code>([A-Za-z]{1,60})</Code>")


class CopyRefused(Unavailable):
    """A second place did not take a checkpoint of the audit log."""

    code = "audit.copy_refused"
    hint = "`roadbed audit head` says which; it is tried again at every checkpoint"


class Shipping:
    """One per process; the owner's ships."""

    def __init__(self, database: Database, public: Callable[[], PublicKey]) -> None:
        self._database = database
        self._public = public
        self._client = UpstreamClient()
        self._config = AuditConfig()
        self._folder = Path()
        self._workspace = ""
        self._told: set[str] = set()

    def configure(self, config: AuditConfig, folder: Path, workspace: str) -> None:
        """Ship by this section from now on. `ConfigError` for a place that can never be one."""
        for place in config.ship_to:
            scheme, mark, _ = place.partition("://")
            if mark and scheme not in (*URL_SCHEMES, "https", "http"):
                hint = "a folder, s3://bucket/prefix, gs://, az://, or https://HOST/api/audit/witness"
                raise ConfigError(f"audit.ship_to: {place} is no place for checkpoints", hint=hint)
        if config.lock is not None and not any(place.startswith("s3://") for place in config.ship_to):
            raise ConfigError("audit.lock: no place in audit.ship_to is an s3:// bucket")
        for place in config.ship_to:
            if config.lock is not None and place.startswith("s3://"):
                LockedBucket(place, config.lock, self._put_signed)
        self._config, self._folder, self._workspace = config, folder, workspace

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def ship(self) -> None:
        """Bring every place up to date, as far as it takes it."""
        for place in self._config.ship_to:
            error = ""
            try:
                for _ in range(AT_ONCE_MAX):
                    if not await self._ship_next(place):
                        break
            except (RoadbedError, OSError) as refusal:
                error = refusal.message if isinstance(refusal, RoadbedError) else str(refusal.strerror)
                log.error("a checkpoint of the audit log is not taken by %s: %s", place, error)
                if place not in self._told:
                    self._told.add(place)
                    await self.alarm("audit_copy_refused", f"{place}: {error}")
            else:
                self._told.discard(place)
            await self._database.execute(
                "INSERT INTO audit_shipment (destination, number, error) VALUES ($1, 0, $2)"
                " ON CONFLICT (destination) DO UPDATE SET error = excluded.error",
                *(place, error[:500]),
            )

    async def _ship_next(self, place: str) -> bool:
        """Bring a place one checkpoint further; False where there is none, or another process is about it.

        The place's row stays locked meanwhile: a checkpoint that came after a newer one would look like a fork there.
        """
        async with self._database.transaction() as connection:
            await connection.execute(
                "INSERT INTO audit_shipment (destination) VALUES ($1) ON CONFLICT DO NOTHING",
                place,
            )
            after = await connection.fetchval(
                "SELECT number FROM audit_shipment WHERE destination = $1 FOR UPDATE SKIP LOCKED", place
            )
            row = await connection.fetchrow(
                "SELECT number, note, ranges, proof, key, rotation FROM audit_checkpoint WHERE number > $1"
                " ORDER BY number LIMIT 1",
                after,
            )
            if after is None or row is None:
                return False
            body = json.dumps(
                {
                    "number": row["number"],
                    "key": row["key"] or await self._first_key(),
                    "note": row["note"],
                    "proof": json.loads(row["proof"]),
                    "ranges": json.loads(row["ranges"]),
                    **({"rotation": json.loads(row["rotation"])} if row["rotation"] else {}),
                }
            ).encode()
            await self._put(place, row["number"], body)
            await connection.execute(
                "UPDATE audit_shipment SET number = $2, shipped = now(), error = '' WHERE destination = $1",
                *(place, row["number"]),
            )
            return True

    async def _first_key(self) -> str:
        """The key of checkpoints that were made before keys were noted beside them: no change came before those."""
        found: str | None = await self._database.fetchval(
            "SELECT key FROM audit_checkpoint WHERE key <> '' ORDER BY number LIMIT 1"
        )
        return found or str(self._public())

    async def _put(self, place: str, number: int, body: bytes) -> None:
        name = f"{re.sub('[^A-Za-z0-9_-]', '-', self._public().name)}/{number:010d}.json"
        scheme, mark, _ = place.partition("://")
        if not mark:
            await asyncio.to_thread(_write, (self._folder / place).resolve() / name, body)
        elif scheme == "s3" and self._config.lock is not None:
            await LockedBucket(place, self._config.lock, self._put_signed).put(name, body)
        elif scheme in URL_SCHEMES:
            await ObjectStore.at_url(place, is_locked=True).put(name, body)
        else:
            key = self._config.witness_key
            token = resolve_secret(key, base=self._folder, where="audit.witness_key").reveal() if key else ""
            status, reply = await self._post(place, body, token)
            if not 200 <= status < 300:
                raise CopyRefused(f"the witness answered {status}: {_reason(reply)}")

    async def _put_signed(self, url: Url, headers: tuple[tuple[bytes, bytes], ...], body: bytes) -> None:
        request = UpstreamRequest(
            b"PUT", url, headers, body, credential_class="audit", response_bytes_max=REPLY_BYTES_MAX
        )
        try:
            response = await self._client.request(request, head_s=POST_S, complete_s=POST_S)
            status, reply = response.status, await response.read()
        except UpstreamFailed as error:
            raise CopyRefused(f"it cannot be reached ({error.code})") from None
        if status != 200:
            code = _ERROR_CODE.search(reply)
            raise CopyRefused(f"the bucket answered {status}: {code[1].decode() if code else 'no reason'}")

    async def alarm(self, event: str, message: str) -> None:
        """Tell the webhook that something is wrong with an audit log, as well as that goes."""
        log.critical("%s: %s", event, message)
        if not self._config.webhook:
            return
        body = msgspec.json.encode({"event": event, "workspace": self._workspace, "message": message})
        with contextlib.suppress(RoadbedError):
            address = resolve_secret(self._config.webhook, base=self._folder, where="audit.webhook").reveal()
            await self._post(address, body, "")

    async def _post(self, address: str, body: bytes, token: str) -> tuple[int, bytes]:
        headers = b"content-type: application/json\r\n"
        if token:
            headers += b"authorization: Bearer " + token.encode() + b"\r\n"
        request = UpstreamRequest(
            b"POST", parse_url(address), headers, body, credential_class="audit", response_bytes_max=REPLY_BYTES_MAX
        )
        try:
            response = await self._client.request(request, head_s=POST_S, complete_s=POST_S)
            return response.status, await response.read()
        except UpstreamFailed as error:
            raise CopyRefused(f"it cannot be reached ({error.code})") from None


def _write(path: Path, body: bytes) -> None:
    """A file that is there whole or not at all; a checkpoint that is there already is never written again."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        temporary = path.with_suffix(".part")
        temporary.write_bytes(body)
        temporary.rename(path)


def _reason(reply: bytes) -> str:
    try:
        found: Any = json.loads(reply)
        return str(found["detail"])[:300]
    except (ValueError, KeyError, TypeError):
        return "no reason"
