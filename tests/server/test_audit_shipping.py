"""Checkpoints on their way into a bucket that locks its objects, over real HTTP."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from roadbed.gateway.credentials import AwsCredentials
from roadbed.gateway.dialects.sigv4 import SignedParts, sign
from roadbed.kernel.errors import ConfigError
from roadbed.kernel.secrets import Secret
from roadbed.ledger.audit import Audit
from roadbed.ledger.audit_checkpoint import Checkpointer
from roadbed.ledger.audit_record import Pseudonyms, event_of
from roadbed.ledger.audit_tree import Signer
from roadbed.ledger.audit_verify import open_note
from roadbed.ledger.manifest import AuditConfig, LockConfig
from roadbed.ledger.metrics import Metrics
from roadbed.server.audit_shipping import Shipping
from roadbed.store.database import Database


class LockedBucket:
    """As much of S3 as a put needs, with object lock: no object without a checksum, none written twice."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.refused: list[str] = []
        self.is_away = False
        self.locks = False
        self.kept: dict[str, datetime] = {}
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
            told = f"<Error><Code>{reason}</Code></Error>".encode() if reason and self.locks else b""
            writer.write(b'HTTP/1.1 %b\r\netag: "1"\r\ncontent-length: %d\r\n' % (status, len(told)))
            writer.write(b"connection: close\r\n\r\n" + told)
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
        if self.locks:
            return self._lock_fault(method, path, headers, head, body)
        return "written twice" if path in self.objects else ""

    def _lock_fault(self, method: str, path: str, headers: dict[str, str], head: str, body: bytes) -> str:
        """As S3: the signature covers every x-amz-* header, the body and the lock."""
        named = dict(line.split(": ", 1) for line in head.rstrip().split("\r\n")[1:])
        sent = {name.lower(): value for name, value in named.items()}
        match = re.search(r"Credential=id/(\d+)/([a-z0-9-]+)/s3/aws4_request, SignedHeaders=(.+), Signature=(.+)", head)
        if match is None:
            return "not signed"
        day, region, names, signature = match.groups()
        if {name for name in sent if name.startswith("x-amz-")} - {*names.split(";")}:
            return "HeadersNotSigned"
        if sent["x-amz-content-sha256"] != hashlib.sha256(body).hexdigest():
            return "XAmzContentSHA256Mismatch"
        lines = "".join(f"{name}:{sent[name].strip()}\n" for name in names.split(";"))
        canonical = f"{method.upper()}\n{path}\n\n{lines}\n{names}\n{sent['x-amz-content-sha256']}"
        scope = f"{day}/{region}/s3/aws4_request"
        text = f"AWS4-HMAC-SHA256\n{sent['x-amz-date']}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
        key = b"AWS4x"
        for step in (day, region, "s3", "aws4_request"):
            key = hmac.new(key, step.encode(), hashlib.sha256).digest()
        if hmac.new(key, text.encode(), hashlib.sha256).hexdigest() != signature.strip():
            return "SignatureDoesNotMatch"
        lock = sent.get("x-amz-object-lock-mode", ""), sent.get("x-amz-object-lock-retain-until-date", "")
        if lock[0] != "COMPLIANCE" or not lock[1]:
            return "no lock"
        self.kept[path] = datetime.fromisoformat(lock[1])
        return ""


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


async def test_a_copy_gets_the_lock_that_the_manifest_asks_for_under_the_signature(
    database: Database, tmp_path: Path, bucket: LockedBucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.locks = True
    signer = Signer.open("roadbed/test", "", tmp_path, tmp_path / "key")
    checkpointer = Checkpointer(database, signer, tmp_path / "key")
    audit = Audit(database, tmp_path / "spool", Metrics(), Pseudonyms(b"k" * 32), host="h", slot=0, is_owner=True)
    await audit.start()
    shipping = Shipping(database, lambda: checkpointer.public)
    shipping.configure(AuditConfig(ship_to=["s3://proofs/roadbed"], lock=LockConfig("30d")), tmp_path, "test")
    try:
        await audit.act(event_of("keys.create"))
        await checkpointer.run()
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
        await shipping.ship()
        told = await database.fetchval("SELECT error FROM audit_shipment")
        assert told == "the bucket answered 400: SignatureDoesNotMatch"
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
        await shipping.ship()
    finally:
        await audit.close()
        await shipping.close()
    (path,) = bucket.objects
    assert path == "/proofs/roadbed/roadbed-test/0000000001.json"
    assert open_note(json.loads(bucket.objects[path])["note"], [checkpointer.public]).origin == "roadbed/test"
    left = bucket.kept[path] - datetime.now(UTC)
    assert timedelta(days=29, hours=23) < left <= timedelta(days=30)
    assert bucket.refused == ["SignatureDoesNotMatch"]


async def test_a_lock_without_a_bucket_is_refused(database: Database, tmp_path: Path) -> None:
    shipping = Shipping(database, lambda: Signer.open("roadbed/test", "", tmp_path, tmp_path / "key").public)
    for places in ([], ["copies"], ["gs://proofs"], ["s3://proofs/a b"], ["s3://p"]):
        with pytest.raises(ConfigError, match=r"audit\.(lock|ship_to)"):
            shipping.configure(AuditConfig(ship_to=places, lock=LockConfig("30d")), tmp_path, "test")
    await shipping.close()


def test_a_put_is_signed_as_amazon_writes_it() -> None:
    """The example "PUT Object" of "Signature Calculations for the Authorization Header" in the S3 API reference."""
    body = b"Welcome to Amazon S3."
    headers = (
        (b"date", b"Fri, 24 May 2013 00:00:00 GMT"),
        (b"x-amz-content-sha256", hashlib.sha256(body).hexdigest().encode()),
        (b"x-amz-storage-class", b"REDUCED_REDUNDANCY"),
    )
    keys = AwsCredentials(Secret("AKIAIOSFODNN7EXAMPLE"), Secret("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"))
    parts = SignedParts("PUT", "examplebucket.s3.amazonaws.com", "/test$file.text", headers=headers, body=body)
    signed = dict(sign(parts, keys, region="us-east-1", service="s3", at=datetime(2013, 5, 24, tzinfo=UTC)))
    assert signed[b"authorization"].endswith(b"98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd")
