"""Admission: who calls, until when, what for. The one way in for `/v1` and `/api`, hot path or not.

Pure over headers and in-memory snapshots: no database, no waiting. The invariant: nothing behind it runs for a caller
that `admit` did not name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import msgspec

from roadbed.guard.identity import Identity
from roadbed.guard.networks import require_address
from roadbed.kernel.deadline import DEADLINE_S_MAX, Deadline
from roadbed.kernel.errors import ConfigError, Forbidden, InvalidRequest
from roadbed.kernel.label import PUBLIC, Label, parse_label
from roadbed.kernel.principal import ADMIN, AUDITOR, Principal
from roadbed.wire.peer_certificate import PeerCertificate

DEADLINE_HEADER = b"x-roadbed-deadline-ms"
TAG_HEADER = b"x-roadbed-tag"
LABEL_HEADER = b"x-roadbed-label"
LABEL_BYTES_MAX = 256
DEADLINE_MS_MIN = 50
TAGS_MAX = 4
_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")
DEADLINE_DIGITS_MAX = 18


class AppNotAllowed(Forbidden):
    """The key may not call this app or route."""

    code = "auth.app_not_allowed"
    hint = "use a key whose team and apps include it; `roadbed keys create --app NAME` makes one"


class RoleMissing(Forbidden):
    """The key's role does not allow this call."""

    code = "auth.role_missing"
    hint = "use a key with the role that the documentation names; `roadbed keys create --role admin` makes one"


class TwoKeys(InvalidRequest):
    """The request carries two different credentials: which one was meant is not guessed."""

    code = "auth.two_keys"
    hint = "send one `Authorization: Bearer` header, or one `x-api-key`"


class Admission(msgspec.Struct, frozen=True):
    """A request that was let in."""

    principal: Principal
    deadline_s: float | None
    tags: str = ""
    label: Label = PUBLIC
    """What the caller says of the request's data; it only raises what the data itself says."""

    def deadline(self, default_s: float) -> Deadline:
        """The request's one deadline: what the caller asked for, else the app's or route's own."""
        return Deadline.after(default_s if self.deadline_s is None else min(self.deadline_s, DEADLINE_S_MAX))


def presented_key(authorization: bytes | None, api_key: bytes | None) -> bytes:
    """The key in ``Authorization: Bearer`` or ``x-api-key``; empty when there is none. Raises `TwoKeys`."""
    if authorization is None:
        return api_key or b""
    scheme, _, value = authorization.partition(b" ")
    if scheme.lower() != b"bearer":
        return b""
    key = value.strip()
    if api_key is not None and api_key != key:
        raise TwoKeys("the headers authorization and x-api-key carry different keys")
    return key


def check_credentials(headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Refuse a request with two different credentials, in one header sent twice or in two. Raises `TwoKeys`."""
    found = set()
    for name, value in headers:
        if name == b"authorization":
            found.add(presented_key(value, None) or value)
        elif name == b"x-api-key":
            found.add(value)
    if len(found) > 1:
        raise TwoKeys("the request carries two different keys")


def admit(
    identity: Identity,
    authorization: bytes | None,
    api_key: bytes | None,
    deadline_ms: bytes | None,
    address: str = "",
    tag: bytes | None = None,
    label: bytes | None = None,
    certificate: PeerCertificate | None = None,
) -> Admission:
    """Let a request in, which comes from ``address`` (empty when that is not known), on a connection that was opened
    with ``certificate``, if any.

    Raises `Unauthorized`, `TwoKeys`, `AddressNotAllowed`, or `InvalidRequest` for a deadline that is no number, or bad
    tags, or a key that disagrees with the certificate.
    """
    key = presented_key(authorization, api_key)
    principal = identity.authenticate(key) if certificate is None else identity.vouched_for(certificate, key)
    require_address(principal, address)
    tags = tags_of(tag) if tag is not None else ""
    said = label_from(label) if label is not None else PUBLIC
    if deadline_ms is None:
        return Admission(principal, None, tags, said)
    is_number = deadline_ms.isdigit() and len(deadline_ms) <= DEADLINE_DIGITS_MAX
    if not is_number or int(deadline_ms) < DEADLINE_MS_MIN:
        raise InvalidRequest(
            f"x-roadbed-deadline-ms must be a whole number of milliseconds, {DEADLINE_MS_MIN} or more",
            param="x-roadbed-deadline-ms",
        )
    return Admission(principal, int(deadline_ms) / 1000, tags, said)


def label_from(header: bytes) -> Label:
    """What a caller's label says, as the manifest writes labels, with commas between. Raises `InvalidRequest`."""
    words = [word for word in re.split(r"[\s,]+", header.decode("latin-1")) if word]
    if len(header) > LABEL_BYTES_MAX:
        raise InvalidRequest(f"x-roadbed-label has {LABEL_BYTES_MAX} characters at most", param="x-roadbed-label")
    try:
        return parse_label(words, where="x-roadbed-label")
    except ConfigError as error:
        raise InvalidRequest(error.message, hint=error.hint, param="x-roadbed-label") from None


def tags_of(header: bytes) -> str:
    """What a caller books the request on: a few words, comma-separated. Raises `InvalidRequest`."""
    words = [word.strip() for word in header.decode("latin-1").split(",", TAGS_MAX)]
    if len(words) > TAGS_MAX or not all(map(_TAG.fullmatch, words)):
        raise InvalidRequest(
            f"x-roadbed-tag takes up to {TAGS_MAX} words of letters, digits and . _ : -, each of 64 at most",
            param="x-roadbed-tag",
        )
    return ",".join(dict.fromkeys(words))


def may_call(principal: Principal, app: str, team_apps: frozenset[str] | None) -> bool:
    """Whether a caller's key and team may call ``app``."""
    return principal.may_use(app) and (team_apps is None or app in team_apps or principal.is_admin)


def require_app(principal: Principal, app: str, team_apps: frozenset[str] | None) -> None:
    """Refuse a caller whose key or team may not call ``app``. Raises `AppNotAllowed`."""
    if not may_call(principal, app, team_apps):
        raise AppNotAllowed(f"this key may not call {app}")


def require_role(principal: Principal, role: str) -> None:
    """Refuse a caller without a role; admins may do what auditors may. Raises `RoleMissing`."""
    if role == AUDITOR and (principal.roles & {AUDITOR, ADMIN}):
        return
    if role in (ADMIN, AUDITOR) and role not in principal.roles:
        raise RoleMissing(f"this call needs a key with the role {role}")
