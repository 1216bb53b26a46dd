"""The change of the audit's signing key: a statement signed by both keys, and where the keys of a deployment lie.

The statement is a record of the log, and the checkpoint that takes it in is signed by both keys; from the next on the
new key signs alone. Which key signs stands in ``audit_tree``, so that every process finds the same one. The invariant:
a key that signs lies in its file before the database names it.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from roadbed.kernel.errors import Conflict
from roadbed.ledger.audit_tree import KEY_FILE, Signer
from roadbed.ledger.audit_verify import rotation_text
from roadbed.store.state import write_private_file

NEXT_KEY_FILE = "signing.next"


class AuditKeyElsewhere(Conflict):
    """The audit's signing key lies behind a reference of the manifest, and no next one is named there."""

    code = "audit.key_elsewhere"
    hint = "put a reference to the next key under `audit.next_key`, and ask again"


class AuditKeySame(Conflict):
    """The next signing key of the audit is the one that signs now."""

    code = "audit.key_same"
    hint = "make another: head -c 32 /dev/urandom | base64"


@dataclass(frozen=True, slots=True)
class KeyChange:
    """One change of the key, signed by both."""

    old: str
    new: str
    by_old: str
    by_new: str

    @classmethod
    def between(cls, old: Signer, new: Signer) -> KeyChange:
        """The signed statement."""
        text = rotation_text(old.public, new.public)
        return cls(str(old.public), str(new.public), old.sign_text(text), new.sign_text(text))

    def detail(self) -> dict[str, Any]:
        """As the log's record and a witness are given it."""
        return {"old": self.old, "new": self.new, "by_old": self.by_old, "by_new": self.by_new}

    def json(self) -> str:
        """As it is stored beside its checkpoint."""
        return json.dumps(self.detail(), separators=(",", ":"))


class SigningKeys:
    """The keys of one deployment: in the state folder, or behind the manifest's references."""

    def __init__(self, name: str, reference: str, next_reference: str, folder: Path, state: Path) -> None:
        self._name = name
        self._reference = reference
        self._next_reference = next_reference
        self._folder = folder
        self._state = state

    def take(self, reference: str, next_reference: str) -> None:
        """Look behind these references from now on."""
        self._reference, self._next_reference = reference, next_reference

    def first(self) -> Signer:
        """The key that signs where the database names none. `ConfigError`."""
        return Signer.open(self._name, self._reference, self._folder, self._state)

    def find(self, public: str) -> Signer | None:
        """The key of that public one; None where it is not here. `ConfigError`."""
        for signer in (self.first(), self._next()):
            if signer is not None and str(signer.public) == public:
                return signer
        return None

    def make_next(self) -> Signer:
        """The key to go over to: a fresh one in the state folder, or the one behind the manifest's ``next_key``.
        `AuditKeyElsewhere`, `AuditKeySame`, `ConfigError`.
        """
        if self._reference and not self._next_reference:
            raise AuditKeyElsewhere("the audit's key lies behind audit.key, and no next one is named")
        if not self._next_reference:
            raw = Ed25519PrivateKey.generate().private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
            write_private_file(self._state / NEXT_KEY_FILE, base64.b64encode(raw) + b"\n")
        made = self._next()
        assert made is not None
        return made

    def settle(self, public: str) -> None:
        """The log has gone over to this key: where it is the next one of the state folder, the one before is gone."""
        path = self._state / NEXT_KEY_FILE
        if self._reference or self._next_reference or not path.exists():
            return
        if str(Signer.read(self._name, path).public) == public:
            path.replace(self._state / KEY_FILE)

    def _next(self) -> Signer | None:
        if self._next_reference:
            return Signer.open(self._name, self._next_reference, self._folder, self._state)
        path = self._state / NEXT_KEY_FILE
        return Signer.read(self._name, path) if path.exists() else None
