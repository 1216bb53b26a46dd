"""Reasoning items of the Responses API as `ReasoningPart`, both ways, for both sides of the gateway.

An endpoint wants its items back as it gave them, with their ids: the encrypted content is bound to the id. So a
part's seal is the whole item. A caller gets an item of ours whose ``encrypted_content`` wraps the part, whichever
dialect's it is, and so brings an endpoint's own back without knowing it. Pure. The invariant: the text of a part that
this dialect reads holds every text in its seal, so that the guard sees all of it.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any, Literal

import msgspec

from roadbed.gateway.types import ReasoningPart

DIALECT = "responses"
_WRAPPED = "roadbed.1."


class ReasoningText(msgspec.Struct, frozen=True):
    """A piece of shown reasoning: of the summary, or of the reasoning itself."""

    type: Literal["summary_text", "reasoning_text"]
    text: str


class ReasoningItem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A reasoning item, the fields that are documented."""

    type: Literal["reasoning"]
    id: str | None = None
    summary: list[ReasoningText] | None = None
    content: list[ReasoningText] | None = None
    encrypted_content: str | None = None
    status: Literal["in_progress", "completed", "incomplete"] | None = None

    def text(self) -> str:
        """All that it shows."""
        return "\n\n".join(piece.text for piece in (*(self.summary or ()), *(self.content or ())))


def part_from_caller(item: ReasoningItem) -> ReasoningPart | None:
    """The part that a caller brings back: the one in our wrapping, or an endpoint's own. None for a wrapping that was
    changed.
    """
    sealed = item.encrypted_content or ""
    return _unwrap(sealed) if sealed.startswith(_WRAPPED) else part_from_item(item)


def part_from_item(item: ReasoningItem) -> ReasoningPart:
    """The part that an endpoint's item stands for.

    An item that shows a summary and nothing else has no seal: an endpoint that keeps no state cannot read it.
    """
    if not item.encrypted_content and not item.content:
        return ReasoningPart(DIALECT, item.text())
    return ReasoningPart(DIALECT, item.text(), msgspec.json.encode(item).decode())


def item_from_part(part: ReasoningPart) -> dict[str, Any] | None:
    """The item to send to an endpoint, as it gave it; None for parts of other dialects and those without a seal."""
    if part.dialect != DIALECT or not part.seal:
        return None
    item: dict[str, Any] = msgspec.json.decode(part.seal)
    return {**item, "summary": item.get("summary", [])}


def wrap(part: ReasoningPart) -> str:
    """The ``encrypted_content`` that a caller keeps for the next turn."""
    return _WRAPPED + urlsafe_b64encode(msgspec.json.encode([part.dialect, part.text, part.seal])).decode()


def _unwrap(sealed: str) -> ReasoningPart | None:
    try:
        packed = urlsafe_b64decode(sealed.removeprefix(_WRAPPED).encode())
        dialect, text, seal = msgspec.json.decode(packed, type=tuple[str, str, str])
        if dialect != DIALECT or not seal:
            return ReasoningPart(dialect, text, seal)
        item = msgspec.json.decode(seal, type=ReasoningItem)
    except (ValueError, msgspec.DecodeError, RecursionError):
        return None
    return ReasoningPart(DIALECT, item.text(), msgspec.json.encode(item).decode())
