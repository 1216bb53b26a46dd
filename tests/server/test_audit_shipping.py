"""Checkpoints on their way into a bucket that locks its objects, over real HTTP."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from roadbed.ledger.audit import Audit
from roadbed.ledger.audit_checkpoint import Checkpointer
from roadbed.ledger.audit_record import Pseudonyms, event_of
from roadbed.ledger.audit_tree import Signer
from roadbed.ledger.audit_verify import open_note
from roadbed.ledger.manifest import AuditConfig
from roadbed.ledger.metrics import Metrics
from roadbed.server.audit_shipping import Shipping
from roadbed.store.database import Database


class LockedBucket:
    """As much of S3 as a put needs, with object lock: no object without a checksum, none written twice."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.refused: list[str] = []
        self.is_away = False
        self.url = ""

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            first, *lines = head.decode().lower().rstrip().split("\r\n")
            method, path, _ = first.split(" ")
            headers = dict(line.split(": ", 1) for line in lines)
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            reason = self._fault(method, path, headers, head.decode(), body)
            if reason:
                self.refused.append(reason)
            else:
                self.objects[path] = body
            status = b"403 Forbidden" if self.is_away else b"400 Bad Request" if reason else b"200 OK"
            writer.write(b'HTTP/1.1 %b\r\netag: "1"\r\ncontent-length: 0\r\nconnection: close\r\n\r\n' % status)
            await writer.drain()
            writer.close()
            return

    def _fault(self, method: str, path: str, headers: dict[str, str], head: str, body: bytes) -> str:
        if self.is_away:
            return "away"
        digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
        if method != "put" or f"x-amz-checksum-sha256: {digest}" not in head:
            return "no checksum"
        if "x-amz-checksum-sha256" not in headers.get("authorization", ""):
            return "the checksum is not signed"
        return "written twice" if path in self.objects else ""


@pytest.fixture
async def bucket(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[LockedBucket]:
    made = LockedBucket()
    server = await asyncio.start_server(made.connected, "127.0.0.1", 0)
    address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    settings = {"AWS_ENDPOINT_URL": address, "AWS_ALLOW_HTTP": "true", "AWS_REGION": "eu-north-1"}
    for name, value in {**settings, "AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "x"}.items():
        monkeypatch.setenv(name, value)
    yield made
    server.close()
    await server.wait_closed()


async def test_every_checkpoint_gets_into_a_locked_bucket_once(
    database: Database, tmp_path: Path, bucket: LockedBucket
) -> None:
    signer = Signer.open("roadbed/test", "", tmp_path, tmp_path / "key")
    checkpointer = Checkpointer(database, signer, tmp_path / "key")
    audit = Audit(database, tmp_path / "spool", Metrics(), Pseudonyms(b"k" * 32), host="h", slot=0, is_owner=True)
    await audit.start()
    shipping = Shipping(database, lambda: checkpointer.public)
    shipping.configure(AuditConfig(ship_to=["s3://proofs/roadbed"]), tmp_path, "test")
    try:
        for away in (False, True, False):
            await audit.act(event_of("keys.create"))
            await checkpointer.run()
            bucket.is_away = away
            await shipping.ship()
        await shipping.ship()
    finally:
        await audit.close()
        await shipping.close()
    assert set(bucket.refused) == {"away"}
    assert sorted(bucket.objects) == [f"/proofs/roadbed/roadbed-test/{number:010d}.json" for number in (1, 2, 3)]
    for body in bucket.objects.values():
        assert open_note(json.loads(body)["note"], [checkpointer.public]).origin == "roadbed/test"
