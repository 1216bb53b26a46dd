"""Cuts a stream of text pieces into whole sentences, each with the citation markers that follow it.

What is shown to a reader is checked sentence by sentence, so nothing is released before its sentence is whole. Pure;
the invariant: the released pieces joined are the text that came in, however it was cut.
"""

from __future__ import annotations

from roadbed.apps.citing import starts_with_marker
from roadbed.knowledge.sentences import sentences

HELD_CHARACTERS_MAX = 8_000


class SentenceStream:
    """Feed pieces, take sentences."""

    def __init__(self) -> None:
        self._held = ""

    def feed(self, piece: str) -> list[str]:
        """Sentences that are whole now, with the blanks that follow them."""
        self._held += piece
        spans = sentences(self._held)
        cuts = [start for start, _ in spans[1:] if not starts_with_marker(self._held[start:])]
        if not cuts and len(self._held) > HELD_CHARACTERS_MAX:
            cuts = [len(self._held)]
        released, begin = [], 0
        for cut in cuts:
            released.append(self._held[begin:cut])
            begin = cut
        self._held = self._held[begin:]
        return released

    def finish(self) -> str:
        """What is left at the end."""
        rest, self._held = self._held, ""
        return rest
