"""`Release`: the immutable digest of all that an app needs to serve; made by ``releases/``, read by all below it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

DIGEST_SHORT = 12


@dataclass(frozen=True, slots=True)
class Release:
    """One release of one app: ``digest`` is the sha256 hex of ``manifest``, which is canonical JSON (RFC 8785)."""

    app: str
    digest: str
    manifest: bytes
    document: Mapping[str, Any]

    @property
    def short(self) -> str:
        """The first characters of the digest, as people read and type it."""
        return self.digest[:DIGEST_SHORT]
