"""AWS Signature Version 4: the headers that sign one request.

Pure: the parts of a request, credentials and a time in, headers out. It sends nothing and knows no service's quirks
but one: the path is percent-encoded once more for the signature, as all services but object storage want it, so that
``%3A`` on the wire is signed as ``%253A``. The invariant: no value of a credential but the access key's id and the
session token is in what it returns. Source: "Create a signed AWS API request", AWS IAM user guide.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from hashlib import sha256
from urllib.parse import quote

import msgspec

from roadbed.gateway.credentials import AwsCredentials

ALGORITHM = "AWS4-HMAC-SHA256"
_BLANKS = re.compile(r" +")

Header = tuple[bytes, bytes]


class SignedParts(msgspec.Struct, frozen=True):
    """The request as it goes on the wire: ``path`` as it is sent, ``query`` without its question mark.

    ``host`` is the ``Host`` header. Every one of ``headers`` is signed.
    """

    method: str
    host: str
    path: str
    query: str = ""
    headers: tuple[Header, ...] = ()
    body: bytes = b""


def sign(
    parts: SignedParts, credentials: AwsCredentials, *, region: str, service: str, at: datetime
) -> tuple[Header, ...]:
    """The headers to add to the request: the date, the session token where there is one, the authorization."""
    moment = at.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    added: list[Header] = [(b"x-amz-date", moment.encode())]
    if credentials.session_token is not None:
        added.append((b"x-amz-security-token", credentials.session_token.reveal().encode()))
    canonical, names = canonical_request(parts, added)
    scope = f"{moment[:8]}/{region}/{service}/aws4_request"
    to_sign = "\n".join((ALGORITHM, moment, scope, sha256(canonical.encode()).hexdigest()))
    key = b"AWS4" + credentials.secret_key.reveal().encode()
    for step in (moment[:8], region, service, "aws4_request"):
        key = hmac.digest(key, step.encode(), "sha256")
    signature = hmac.digest(key, to_sign.encode(), "sha256").hex()
    access_key = credentials.access_key.reveal()
    value = f"{ALGORITHM} Credential={access_key}/{scope}, SignedHeaders={names}, Signature={signature}"
    return (*added, (b"authorization", value.encode()))


def canonical_request(parts: SignedParts, added: Iterable[Header] = ()) -> tuple[str, str]:
    """The canonical form of a request, and the names of its signed headers."""
    values: dict[str, list[str]] = {"host": [parts.host]}
    for name, value in (*parts.headers, *added):
        text = _BLANKS.sub(" ", value.decode().strip())
        values.setdefault(name.decode().lower(), []).append(text)
    names = ";".join(sorted(values))
    lines = "".join(f"{name}:{','.join(values[name])}\n" for name in sorted(values))
    path = quote(parts.path or "/", safe="/-_.~")
    pairs = sorted(pair.partition("=")[::2] for pair in parts.query.split("&") if pair)
    query = "&".join(f"{name}={value}" for name, value in pairs)
    body = sha256(parts.body).hexdigest()
    return "\n".join((parts.method, path, query, lines, names, body)), names
