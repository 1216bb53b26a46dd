"""`Sealer`: values that are kept encrypted (AES-256-GCM), each bound to whom and what it is for.

The key is a file of the state folder, so that the database or a copy of it opens nothing. Used by `credentials`. The
invariant: what was sealed for one purpose opens for that purpose alone, and a value that was changed opens not at all.
"""

from __future__ import annotations

import base64
import secrets
from pathlib import Path
from typing import Final, Self

from roadbed.kernel.errors import ConfigError
from roadbed.store.state import make_private_folder, write_private_file

KEY_FILE: Final = "vault.key"
KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
VERSION: Final = b"\x01"


class SealBroken(ValueError):
    """A sealed value does not open: it was changed, moved to another row, or sealed with another key."""


class Sealer:
    """One key. `open` finds it."""

    def __init__(self, key: bytes) -> None:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        self._cipher = AESGCM(key)

    @classmethod
    def open(cls, folder: Path) -> Self:
        """The key in ``folder``, made where there is none. `ConfigError`, `StateUnusable`."""
        make_private_folder(folder)
        path = folder / KEY_FILE
        if not path.exists():
            write_private_file(path, base64.b64encode(secrets.token_bytes(KEY_BYTES)) + b"\n")
        try:
            key = base64.b64decode(path.read_text(encoding="ascii").strip(), validate=True)
        except ValueError:
            key = b""
        if len(key) != KEY_BYTES:
            raise ConfigError(
                f"{path} holds no key",
                hint="take the file from a backup of the state folder; without it stored credentials are lost",
            )
        return cls(key)

    def seal(self, value: str, *bound: str) -> bytes:
        """The value, encrypted; ``bound`` says what it is for."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        return VERSION + nonce + self._cipher.encrypt(nonce, value.encode(), _bound(bound))

    def opened(self, sealed: bytes, *bound: str) -> str:
        """The value again. Raises `SealBroken`."""
        from cryptography.exceptions import InvalidTag

        nonce, rest = sealed[1 : 1 + NONCE_BYTES], sealed[1 + NONCE_BYTES :]
        if sealed[:1] != VERSION or len(nonce) != NONCE_BYTES:
            raise SealBroken("of no known version")
        try:
            return self._cipher.decrypt(nonce, rest, _bound(bound)).decode()
        except (InvalidTag, UnicodeDecodeError):
            raise SealBroken("it does not open") from None


def _bound(words: tuple[str, ...]) -> bytes:
    """Words that no other words make the same bytes of."""
    return b"".join(len(part).to_bytes(4) + part for part in (word.encode() for word in words))
