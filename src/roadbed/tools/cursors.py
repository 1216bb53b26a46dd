"""Signed cursors: what follows of a bounded result, for the caller, tool and arguments that it was given to alone.

A cursor is the provider's own, an expiry and a MAC (HMAC-SHA-256) over both and what they are bound to. The invariant:
`Cursors.opened` returns nothing that `Cursors.sealed` did not make for the same tool, arguments and caller.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import time

from roadbed.tools.errors import CursorInvalid

CURSOR_S = 3_600
CURSOR_CHARACTERS_MAX = 2_048
_MAC_BYTES = 16


class Cursors:
    """Seals and opens cursors with one key, which all processes of a deployment share."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def sealed(self, cursor: str, tool: str, digest: bytes, principal: str) -> str:
        """A cursor as the caller gets it; empty for an empty one."""
        if not cursor:
            return ""
        body = f"{int(time.time()) + CURSOR_S}:{cursor}".encode()
        return base64.urlsafe_b64encode(self._mac(body, tool, digest, principal) + body).decode().rstrip("=")

    def opened(self, sealed: str, tool: str, digest: bytes, principal: str) -> str:
        """The provider's cursor. `CursorInvalid`."""
        if not sealed:
            return ""
        wrong = CursorInvalid("the cursor is not of this tool, these arguments and this caller")
        if len(sealed) > CURSOR_CHARACTERS_MAX:
            raise wrong
        try:
            raw = base64.urlsafe_b64decode(sealed + "=" * (-len(sealed) % 4))
        except (binascii.Error, ValueError):
            raise wrong from None
        mac, body = raw[:_MAC_BYTES], raw[_MAC_BYTES:]
        if not hmac.compare_digest(mac, self._mac(body, tool, digest, principal)):
            raise wrong
        expires, _, cursor = body.decode().partition(":")
        if int(expires) < time.time():
            raise CursorInvalid(f"the cursor is older than {CURSOR_S // 60} minutes")
        return cursor

    def _mac(self, body: bytes, tool: str, digest: bytes, principal: str) -> bytes:
        bound = b"\x00".join((b"cursor", tool.encode(), principal.encode(), digest, body))
        return hmac.new(self._key, bound, hashlib.sha256).digest()[:_MAC_BYTES]
