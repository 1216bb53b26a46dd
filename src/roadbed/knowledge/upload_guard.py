"""What is kept of an upload: bytes that are text without the secrets in them, other bytes as they are.

The text of a PDF or an office file is guarded when it is read; its own bytes stay what was sent. The invariant: bytes
without a secret come out as they went in.
"""

from __future__ import annotations

from typing import Final, Protocol

from roadbed.kernel.errors import InvalidRequest
from roadbed.kernel.guarded import Guarded
from roadbed.kernel.label import PUBLIC, Label

TEXT_BYTES_MAX: Final = 16 * 1024 * 1024


class UploadGuard(Protocol):
    """What an upload needs of the guard."""

    def for_index(self, text: str, label: Label) -> Guarded:
        """The text with secrets replaced."""
        ...


class SecretInName(InvalidRequest):
    """A document's name holds a secret, and names are kept as they are."""

    code = "knowledge.secret_in_name"
    hint = "give the document another name"


def without_secrets(guard: UploadGuard, data: bytes) -> bytes:
    """The bytes to be kept."""
    if len(data) > TEXT_BYTES_MAX or b"\0" in data:
        return data
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return data
    guarded = guard.for_index(text, PUBLIC)
    return guarded.text.encode() if guarded.masked_count else data
