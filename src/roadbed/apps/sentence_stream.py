"""Cuts a stream of text pieces into whole sentences, each with the citation markers that follow it.

What is shown to a reader is checked sentence by sentence, so nothing is released before its sentence is whole. Pure;
the invariant: the released pieces joined are the text that came in, however it was cut.
"""

from __future__ import annotations

import re

from roadbed.apps.citing import leading_markers
from roadbed.knowledge.sentences import sentences

HELD_CHARACTERS_MAX = 8_000
# As far as the end of a sentence looks ahead; in writing without blanks a word has no end.
_NEXT_WORD = re.compile(r"\s*(?:\S{1,39}\s|\S{40})")


class SentenceStream:
    """Feed pieces, take sentences."""

    def __init__(self) -> None:
        self._held = ""

    def feed(self, piece: str) -> list[str]:
        """Sentences that are whole now, with the markers and blanks that follow them.

        A sentence is whole once the word behind it is: only that tells a full stop from an abbreviation's.
        """
        self._held += piece
        return self._cut(is_end=False)

    def finish(self) -> list[str]:
        """What is left at the end, sentence by sentence."""
        released = self._cut(is_end=True)
        rest, self._held = self._held, ""
        return [*released, rest] if rest else released

    def _cut(self, *, is_end: bool) -> list[str]:
        held = self._held
        released: list[str] = []
        begin = 0
        for start, _ in sentences(held)[1:]:
            markers = leading_markers(held[start:])
            if markers is None:
                if not is_end:
                    break
                markers = 0
            cut = start + markers
            while cut < len(held) and held[cut].isspace():
                cut += 1
            if cut <= begin or cut == len(held) or not (is_end or _NEXT_WORD.match(held, cut)):
                continue
            released.append(held[begin:cut])
            begin = cut
        if not released and len(held) > HELD_CHARACTERS_MAX:
            released, begin = [held], len(held)
        self._held = held[begin:]
        return released
