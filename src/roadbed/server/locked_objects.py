"""`LockedBucket`: objects put into an S3 bucket with a lock of their own (S3 Object Lock), so that they stay.

The store's own client cannot send the lock's headers signed, so this signs its one kind of request itself (AWS
Signature Version 4). Keys come from the usual environment variables alone. The invariant: an object is never sent
without its lock, and what is signed covers the lock and the body.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Final

from roadbed.gateway.credentials import USUAL_PAIR, USUAL_SESSION, AwsCredentials
from roadbed.gateway.dialects.sigv4 import Header, SignedParts, sign
from roadbed.kernel.config import parse_duration_s
from roadbed.kernel.errors import ConfigError
from roadbed.kernel.secrets import resolve_secret
from roadbed.ledger.manifest import LockConfig
from roadbed.wire.address import Url, parse_url

REGION_USUAL: Final = "us-east-1"
_PLACE = re.compile(r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?P<prefix>(?:/[A-Za-z0-9_.=-]+)*)/?")

Put = Callable[[Url, tuple[Header, ...], bytes], Awaitable[None]]


class LockedBucket:
    """A bucket and a prefix. ``put`` sends a PUT of an address, headers and a body; it raises where that is refused."""

    def __init__(self, place: str, lock: LockConfig, put: Put) -> None:
        """`ConfigError` for a place or an environment that it cannot work with."""
        found = _PLACE.fullmatch(place)
        if found is None:
            raise ConfigError(f"audit.ship_to: {place} is no bucket that objects can be locked in")
        self._lock, self._put = lock, put
        self._region = _variable("AWS_REGION", "AWS_DEFAULT_REGION") or REGION_USUAL
        endpoint = _variable("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
        self._origin = (endpoint or f"https://s3.{self._region}.amazonaws.com").rstrip("/")
        if not self._origin.startswith("https://") and _variable("AWS_ALLOW_HTTP").lower() not in ("1", "true"):
            raise ConfigError("the address of the object storage is not https", hint="set AWS_ALLOW_HTTP to allow it")
        self._path = f"/{found['bucket']}{found['prefix']}"

    async def put(self, key: str, body: bytes, now: datetime | None = None) -> None:
        """Store an object under its lock, from now on."""
        now = now or datetime.now(UTC)
        until = now + timedelta(seconds=parse_duration_s(self._lock.keep))
        digest = hashlib.sha256(body)
        headers: tuple[Header, ...] = (
            (b"content-type", b"application/json"),
            (b"x-amz-checksum-sha256", base64.b64encode(digest.digest())),
            (b"x-amz-content-sha256", digest.hexdigest().encode()),
            (b"x-amz-object-lock-mode", self._lock.mode.upper().encode()),
            (b"x-amz-object-lock-retain-until-date", until.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ").encode()),
        )
        url = parse_url(f"{self._origin}{self._path}/{key}")
        parts = SignedParts("PUT", url.origin.host_header.decode(), url.target.decode(), headers=headers, body=body)
        signed = sign(parts, _credentials(), region=self._region, service="s3", at=now)
        await self._put(url, (*headers, *signed), body)


def _credentials() -> AwsCredentials:
    access_key, secret_key = (resolve_secret(reference, where="audit.lock") for reference in USUAL_PAIR)
    token = f"env:{USUAL_SESSION}" if os.environ.get(USUAL_SESSION) else ""
    return AwsCredentials(access_key, secret_key, resolve_secret(token, where="audit.lock") if token else None)


def _variable(*names: str) -> str:
    return next((value for name in names if (value := os.environ.get(name, ""))), "")
