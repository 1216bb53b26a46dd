"""What the writing side of the audit's tree needs beyond the verifier: proofs of consistency, and signed notes.

The hashes are the verifier's own (`audit_verify.py`), so that the two sides cannot part. Pure but for the key's file.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from roadbed.kernel.errors import ConfigError
from roadbed.kernel.secrets import resolve_secret
from roadbed.ledger.audit_verify import Checkpoint, Frontier, PublicKey, node_hash, note_text
from roadbed.store.state import make_private_folder, write_private_file

KEY_FILE = "signing.key"


def root_of(leaves: Sequence[bytes]) -> bytes:
    """The root of a whole tree."""
    tree = Frontier()
    tree.extend(leaves)
    return tree.root()


def split(count: int) -> int:
    """The largest power of two below ``count``."""
    return 1 << ((count - 1).bit_length() - 1)


def consistency_proof(before: Frontier, leaves: Sequence[bytes]) -> list[bytes]:
    """RFC 6962's proof that ``before`` with ``leaves`` appended extends ``before``; from its frontier alone."""
    old, new = before.size, before.size + len(leaves)
    if old in (0, new):
        return []
    known: dict[tuple[int, int], bytes] = {}
    start = 0
    for node in before.nodes:
        width = 1 << ((old - start).bit_length() - 1)
        known[start, start + width] = node
        start += width

    def root(low: int, high: int) -> bytes:
        if high <= old:
            return known[low, high]
        if low >= old:
            return root_of(leaves[low - old : high - old])
        middle = low + split(high - low)
        return node_hash(root(low, middle), root(middle, high))

    low, high, is_whole = 0, new, True
    trail: list[bytes] = []
    while old != high:
        middle = low + split(high - low)
        if old <= middle:
            trail.append(root(middle, high))
            high = middle
        else:
            trail.append(root(low, middle))
            low, is_whole = middle, False
    return ([] if is_whole else [root(low, high)]) + trail[::-1]


class Signer:
    """An Ed25519 key by its name: the log's origin."""

    def __init__(self, name: str, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public = PublicKey(name, key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))

    @classmethod
    def open(cls, name: str, reference: str, folder: Path, state: Path) -> Self:
        """The key behind ``reference``, or the one in the state folder, made where there is none. `ConfigError`."""
        if reference:
            return cls(name, _key_of(resolve_secret(reference, base=folder, where="audit.key").reveal(), "audit.key"))
        make_private_folder(state)
        path = state / KEY_FILE
        if not path.exists():
            raw = Ed25519PrivateKey.generate().private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
            write_private_file(path, base64.b64encode(raw) + b"\n")
        return cls.read(name, path)

    @classmethod
    def read(cls, name: str, path: Path) -> Self:
        """The key in a file. `ConfigError`."""
        return cls(name, _key_of(path.read_text(encoding="ascii"), str(path)))

    def sign_text(self, text: str) -> str:
        """The signature of any other text, such as a receipt: base64, as in a note."""
        return base64.b64encode(self.public.hash + self._key.sign(text.encode())).decode()

    def sign(self, checkpoint: Checkpoint, *others: Signer) -> str:
        """The signed note of a checkpoint, which ``others`` sign, too."""
        text = note_text(checkpoint)
        signatures = [f"\u2014 {one.public.name} {one.sign_text(text)}\n" for one in (self, *others)]
        return f"{text}\n{''.join(signatures)}"


def _key_of(text: str, where: str) -> Ed25519PrivateKey:
    try:
        return Ed25519PrivateKey.from_private_bytes(base64.b64decode(text.strip(), validate=True))
    except ValueError:
        raise ConfigError(
            f"{where} holds no Ed25519 key", hint="32 random bytes in base64: head -c 32 /dev/urandom | base64"
        ) from None
