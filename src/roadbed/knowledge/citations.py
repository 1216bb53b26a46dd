"""Citations that survive: an anchor keeps a passage's words and surroundings, and finds them again in a later
version.

Pure, over canonical texts; apps store anchors, the facade gives the current text. Chunks play no part, so re-chunking
moves nothing. The order is that of the field's rule: the same version, the quote at its old offset, the quote where
it stands alone, the quote with its surroundings, and last a passage that is nearly the same. The invariant: what is
not found is said to have changed; a wrong passage is never shown for a right one.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import Match, SequenceMatcher
from typing import Literal

CONTEXT_CHARS = 32
SIMILARITY_MIN = 0.9
QUOTE_CHARS_MAX = 8_192
OCCURRENCES_MAX = 1_000
SEED_CHARS = 12
SEEDS_MAX = 64
CANDIDATES_MAX = 4
CHARACTERWISE_MAX = 400  # longer quotes are compared word by word: SequenceMatcher is quadratic

How = Literal["same_version", "same_place", "moved", "by_context", "similar"]
_WORD = re.compile(r"\w+|[^\w\s]")


@dataclass(frozen=True, slots=True)
class Anchor:
    """A cited passage: where it stood in one version of a document, its words, and the characters around it."""

    document_id: str
    version: str
    start: int
    end: int
    quote: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Anchored:
    """Where the passage stands now, and how it was found. ``similarity`` is 1 but for ``similar``."""

    start: int
    end: int
    how: How
    similarity: float = 1.0


def make_anchor(document_id: str, version: str, text: str, start: int, end: int) -> Anchor:
    """The anchor of ``text[start:end]``; a passage over `QUOTE_CHARS_MAX` is cut."""
    start = min(max(start, 0), len(text))
    end = min(max(end, start), len(text), start + QUOTE_CHARS_MAX)
    before, after = text[max(0, start - CONTEXT_CHARS) : start], text[end : end + CONTEXT_CHARS]
    return Anchor(document_id, version, start, end, text[start:end], before, after)


def reanchor(anchor: Anchor, version: str, text: str) -> Anchored | None:
    """Where the passage stands in this version; ``None`` when it changed or is gone."""
    if version == anchor.version:
        return Anchored(anchor.start, anchor.end, "same_version")
    quote = anchor.quote
    if not quote.strip():
        return None
    places = list(_occurrences(text, quote))
    if anchor.start in places:
        # Equal passages elsewhere may have come before it: the surroundings decide, when they tell.
        better = _by_context(anchor, text, places) if len(places) > 1 else None
        if better is not None and better != anchor.start:
            return Anchored(better, better + len(quote), "by_context")
        return Anchored(anchor.start, anchor.start + len(quote), "same_place")
    if len(places) == 1:
        return Anchored(places[0], places[0] + len(quote), "moved")
    if places:
        place = _by_context(anchor, text, places)
        return None if place is None else Anchored(place, place + len(quote), "by_context")
    return _similar(anchor, text)


def _occurrences(text: str, quote: str) -> Iterator[int]:
    position = text.find(quote)
    for _ in range(OCCURRENCES_MAX):
        if position < 0:
            return
        yield position
        position = text.find(quote, position + 1)


def _by_context(anchor: Anchor, text: str, places: list[int]) -> int | None:
    """The place whose surroundings agree most, when one alone does."""
    scores = [_context_score(anchor, text, place, place + len(anchor.quote)) for place in places]
    best = max(scores)
    return places[scores.index(best)] if best > 0 and scores.count(best) == 1 else None


def _context_score(anchor: Anchor, text: str, start: int, end: int) -> int:
    """How many characters next to the passage are the same on both sides."""
    before = _shared(text[max(0, start - CONTEXT_CHARS) : start][::-1], anchor.before[::-1])
    return before + _shared(text[end : end + CONTEXT_CHARS], anchor.after)


def _shared(first: str, second: str) -> int:
    length = 0
    for a, b in zip(first, second, strict=False):
        if a != b:
            break
        length += 1
    return length


def _similar(anchor: Anchor, text: str) -> Anchored | None:
    """The passage most like the quote, when it is like enough and no second one is as like."""
    found: dict[tuple[int, int], float] = {}
    for offset in _likely_offsets(anchor.quote, text):
        start, end, similarity = _fitted(anchor.quote, text, offset)
        if similarity >= SIMILARITY_MIN:
            found[start, end] = similarity
    if not found:
        return None
    ranked = sorted(found, key=lambda span: (found[span], _context_score(anchor, text, span[0], span[1])), reverse=True)
    best = ranked[0]
    for other in ranked[1:]:
        apart = other[0] >= best[1] or other[1] <= best[0]
        same_context = _context_score(anchor, text, *other) >= _context_score(anchor, text, *best)
        if apart and found[other] == found[best] and same_context:
            return None
    return Anchored(best[0], best[1], "similar", found[best])


def _likely_offsets(quote: str, text: str) -> list[int]:
    """Where the quote would begin, by the votes of pieces of it that occur in the text."""
    step = max(1, (len(quote) - SEED_CHARS) // SEEDS_MAX)
    votes: Counter[int] = Counter()
    grain = max(8, len(quote) // 8)
    for start in range(0, max(1, len(quote) - SEED_CHARS + 1), step):
        seed = quote[start : start + SEED_CHARS]
        places = [place for place, _ in zip(_occurrences(text, seed), range(20), strict=False)]
        for place in places:
            votes[(place - start) // grain] += 1
    return [max(0, bucket * grain) for bucket, _ in votes.most_common(CANDIDATES_MAX)]


def _fitted(quote: str, text: str, offset: int) -> tuple[int, int, float]:
    """The span near ``offset`` that matches the quote best, and how well it does."""
    slack = max(16, len(quote) // 4)
    first = max(0, offset - slack)
    window = text[first : offset + len(quote) + 2 * slack]
    by_character = len(quote) <= CHARACTERWISE_MAX
    own, own_at = _units(quote, by_character)
    other, other_at = _units(window, by_character)
    blocks = [block for block in SequenceMatcher(None, own, other, autojunk=False).get_matching_blocks() if block.size]
    blocks = _dense(blocks, len(own))
    if not blocks:
        return offset, offset, 0.0
    begin = max(0, blocks[0].b - blocks[0].a)
    finish = min(len(other), blocks[-1].b + blocks[-1].size + len(own) - blocks[-1].a - blocks[-1].size)
    start, end = other_at[begin][0], other_at[max(begin, finish - 1)][1]
    same = sum(own_at[i][1] - own_at[i][0] for block in blocks for i in range(block.a, block.a + block.size))
    total = sum(stop - at for at, stop in own_at) + sum(stop - at for at, stop in other_at[begin:finish])
    return first + start, first + end, 2 * same / total if total else 0.0


def _dense(blocks: list[Match], size: int) -> list[Match]:
    """Matching blocks without stray ones at the edges that would stretch the span far beyond the quote."""
    while len(blocks) > 1 and blocks[-1].b + blocks[-1].size - blocks[0].b > 1.2 * size + 4:
        blocks = blocks[1:] if blocks[0].size < blocks[-1].size else blocks[:-1]
    return blocks


def _units(text: str, by_character: bool) -> tuple[list[str], list[tuple[int, int]]]:
    """Characters or words with their spans."""
    if by_character:
        return list(text), [(i, i + 1) for i in range(len(text))]
    found = [(match[0], match.span()) for match in _WORD.finditer(text)]
    return [word for word, _ in found], [span for _, span in found]
