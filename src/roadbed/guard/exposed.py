"""Keys in addresses: what of a request's target is a key, or stands where only a key stands. Pure.

Proxies, browsers and servers write addresses down, so whatever key stood in one is known to more than its owner. The
target is read as it came and percent-decoded. The invariant: no error of this file carries the value that it is about.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final
from urllib.parse import unquote_to_bytes

from roadbed.guard.keys import KEY_BYTES_MAX
from roadbed.guard.tokens import TokenInQuery
from roadbed.kernel.errors import InvalidRequest, RoadbedError

VALUES_MAX: Final = 20
NAMES: Final = frozenset((b"key", b"api_key", b"apikey", b"api-key", b"x-api-key", b"access_token", b"authorization"))
"""Parameters that carry a credential whatever its form; the console's one-time ``token`` is none of them."""

_KEY_MARK: Final = b"rbk_"
_KEY = re.compile(rb"rbk_[a-z2-9]{10}_[0-9A-Za-z]{43}(?![0-9A-Za-z])")
_BEARER = re.compile(rb"(?i)bearer\s+")


class KeyInAddress(InvalidRequest):
    """A key stands in the address, where logs and histories keep it. A key that was live is revoked by this."""

    code = "auth.key_in_address"
    hint = "send it as `Authorization: Bearer`; whatever stood in an address is revoked: make another key"

    def __init__(self, path: str) -> None:
        super().__init__("a key must not stand in the address")
        self.path = path


def may_hold_key(target: bytes) -> bool:
    """Whether `find_exposed` has anything to look at: the cheap question, asked of every target but hot ones."""
    return b"?" in target or _KEY_MARK in target or b"%" in target


def find_exposed(target: bytes) -> tuple[list[bytes], RoadbedError | None]:
    """The values in a request's target that may be keys, and why to refuse it; None where nothing is wrong with it."""
    path, _, query = target.partition(b"?")
    found = _KEY.findall(target) if _KEY_MARK in target else []
    if b"%" in target or b"+" in query:
        found += _KEY.findall(unquote_to_bytes(target))
    named = list(_named(query)) if query else []
    values = list(dict.fromkeys((*found, *named)))[:VALUES_MAX]
    if not values:
        return [], None
    if not found and all(_is_token(value) for value in named):
        return values, TokenInQuery("a token must not stand in the address")
    return values, KeyInAddress(_KEY.sub(_KEY_MARK, unquote_to_bytes(path)).decode("latin-1"))


def _named(query: bytes) -> Iterator[bytes]:
    """What stands under the name of a credential."""
    for pair in re.split(rb"[&;]", query):
        name, _, raw = pair.partition(b"=")
        if raw and unquote_to_bytes(name).lower() in NAMES:
            value = _BEARER.sub(b"", unquote_to_bytes(raw.replace(b"+", b" ")), count=1).strip()[:KEY_BYTES_MAX]
            if value:
                yield value


def _is_token(value: bytes) -> bool:
    """Whether a value has the form of a token that an issuer signed."""
    return value.count(b".") == 2 and not value.startswith(_KEY_MARK)
