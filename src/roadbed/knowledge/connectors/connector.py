"""The seam to systems that hold documents: what a connector lists and reads, and how it says that it cannot.

One file per kind beside this one; ``sync`` drives them. A connector knows nothing of the index. The invariant: a
listing either reaches its end or raises, because what a complete listing lacks is deleted.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from roadbed.kernel.errors import RoadbedError, Unavailable

PAGE_ITEMS = 1_000


@dataclass(frozen=True, slots=True)
class Listed:
    """A document that the source has. ``version`` differs when the content may have changed, and is cheap to find.

    ``groups`` is who may see it, ``None`` for those of the source. ``content`` is there when listing had to read it.
    """

    key: str
    uri: str
    title: str
    version: str
    size_bytes: int = 0
    groups: frozenset[str] | None = None
    content: Content | None = None


@dataclass(frozen=True, slots=True)
class NotTaken:
    """An entry of the source that is not read, with the reason: a link out of the folder, a file over the limit."""

    key: str
    reason: str


@dataclass(frozen=True, slots=True)
class Content:
    """What was read: bytes to be parsed (``name`` and ``media_type`` guide the parser), or finished ``text``.

    ``version`` is set when the source's own version of what was read is not the one that was listed.
    """

    name: str
    data: bytes = b""
    text: str | None = None
    media_type: str | None = None
    version: str | None = None


class SourceAway(Unavailable):
    """The source cannot be listed or read just now; its documents stay as they are."""

    code = "knowledge.source_away"
    hint = "check the source's path or address; the next sync tries again"


class DocumentGone(RoadbedError):
    """The document went away between listing and reading; it is deleted."""

    code = "knowledge.document_gone"
    http_status = 404
    hint = "nothing to do"


class ReadRefused(RoadbedError):
    """The document may not or cannot be read; ``reason`` is one stable word, as in a parse failure."""

    code = "knowledge.read_refused"
    http_status = 422
    hint = "see the reason beside the document"

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Connector(Protocol):
    """One source."""

    @property
    def kind(self) -> str:
        """The type as the manifest writes it."""

    def listing(self) -> AsyncIterator[Sequence[Listed | NotTaken]]:
        """All documents, in pages of at most `PAGE_ITEMS`. Raises `SourceAway` when it cannot reach the end."""

    async def read(self, key: str) -> Content:
        """One document. Raises `DocumentGone`, `ReadRefused` or `SourceAway`."""

    def changes(self) -> AsyncIterator[None] | None:
        """Yields after something changed (debounced); ``None`` when the source cannot tell and is only listed."""
