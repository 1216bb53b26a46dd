"""Encoded writing: percent, HTML entities, ``\\uXXXX`` and base64 undone where they stand, to a depth of two.

`guard.detect` asks for it at the places that a trigger names. A `Decoded` is the neighbourhood of such places with the
encoded runs replaced by what they say, and with the way back: a finding in it covers the whole encoded run. The
invariant: what is decoded at a place depends on the text within `NEAR_CHARACTERS` and the run itself alone.
"""

from __future__ import annotations

import binascii
import html
import re
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from roadbed.guard.fold import fold

NEAR_CHARACTERS: Final = 400
RUN_CHARACTERS_MAX: Final = 16_000
DECODED_CHARACTERS_MAX: Final = 1_000_000  # of one text; what is encoded beyond stays as it is
DEPTH_MAX: Final = 2
_PRINTABLE_MIN = 0.8
ESCAPE_TRIGGER: Final = (
    r"(?:%[0-9A-Fa-f]{2}|&(?:#[0-9]{2,7}|#[xX][0-9A-Fa-f]{2,6}|[A-Za-z]{2,8});|\\u[0-9A-Fa-f]{4}|\\x[0-9A-Fa-f]{2})"
)
BASE64_LETTER: Final = "[A-Za-z0-9+/_-]"
BASE64_TRIGGER: Final = rf"(?:^|[^A-Za-z0-9+/_-]){BASE64_LETTER}{{16}}"
_BASE64 = rf"(?<![A-Za-z0-9+/_-])[A-Za-z0-9+/_-]{{16,{RUN_CHARACTERS_MAX}}}(?![A-Za-z0-9+/_-])={{0,2}}"
_BASE64_RUN = re.compile(_BASE64)
_ESCAPES = re.compile(
    r"(?P<percent>(?:%[0-9A-Fa-f]{2})+)|(?P<entity>&(?:#[0-9]{2,7}|#[xX][0-9A-Fa-f]{2,6}|[A-Za-z]{2,8});)"
    r"|(?P<unicode>(?:\\u[0-9A-Fa-f]{4})+)|(?P<hex>\\x[0-9A-Fa-f]{2})"
    rf"|(?P<base64>{_BASE64})"
)


class Decoded(NamedTuple):
    """A neighbourhood decoded and folded; for each character the span of the source, and whether it was encoded."""

    text: str
    starts: Sequence[int]
    ends: Sequence[int]
    coded: bytearray

    def source_span(self, start: int, end: int) -> tuple[int, int] | None:
        """The span of the source that ``[start, end)`` came from; none when nothing in it was encoded."""
        if 1 not in self.coded[start:end]:
            return None
        return min(self.starts[start:end]), max(self.ends[start:end])


def decoded_base64(run: str) -> str | None:
    """What a run of base64 says, when it says text."""
    bare = run.rstrip("=")
    if len(bare) % 4 == 1 or bare.islower() or bare.isupper() or bare.isdigit():
        return None
    bare = bare.replace("-", "+").replace("_", "/")
    try:
        said = binascii.a2b_base64(bare + "=" * (-len(bare) % 4))  # of no other characters, which it skips
    except (binascii.Error, ValueError):
        return None
    text = said.decode(errors="ignore")
    if len(text.encode()) != len(said):  # most say no text: an exception for each would cost ten times as much
        return None
    printable = sum(map(str.isprintable, text)) + text.count("\n") + text.count("\r") + text.count("\t")
    return text if printable >= _PRINTABLE_MIN * len(text) else None


def neighbourhoods(view: str, escapes: Sequence[int], bases: Sequence[int]) -> Iterator[Decoded]:
    """The decoded neighbourhoods of the places where escapes end and where runs of base64 have begun."""
    places = [(max(0, end - NEAR_CHARACTERS), min(len(view), end + NEAR_CHARACTERS)) for end in escapes]
    for end in bases:
        match = _BASE64_RUN.match(view, end - 16)
        if match is not None and decoded_base64(match[0]) is not None:
            places.append((max(0, match.start() - NEAR_CHARACTERS), min(len(view), match.end() + NEAR_CHARACTERS)))
    spent, last = 0, -1
    windows: list[tuple[int, int]] = []
    for start, end in sorted(places):
        if start <= last:
            windows[-1] = (windows[-1][0], max(last, end))
        else:
            windows.append((start, end))
        last = max(last, end)
    for start, end in windows:
        spent += end - start
        if spent > DECODED_CHARACTERS_MAX:
            return
        yield from _decode(view[start:end], start)


def _decode(text: str, base: int) -> Iterator[Decoded]:
    """The text decoded once and, where that uncovers more, twice."""
    starts: Sequence[int] = range(base, base + len(text))
    ends: Sequence[int] = range(base + 1, base + len(text) + 1)
    now = Decoded(text, starts, ends, bytearray(len(text)))
    for _ in range(DEPTH_MAX):
        after = _decode_once(now)
        if after is None:
            return
        now = _folded(after)
        yield now


def _decode_once(now: Decoded) -> Decoded | None:
    parts: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    coded = bytearray()
    done = 0
    for match in _ESCAPES.finditer(now.text):
        said = _said(match)
        if said is None:
            continue
        begin, end = match.span()
        starts += now.starts[done:begin]
        ends += now.ends[done:begin]
        coded += now.coded[done:begin]
        if match["percent"] and len(said) * 3 == end - begin:
            starts += [now.starts[begin + 3 * index] for index in range(len(said))]
            ends += [now.ends[begin + 3 * index + 2] for index in range(len(said))]
        else:
            starts += [now.starts[begin]] * len(said)
            ends += [now.ends[end - 1]] * len(said)
        coded += b"\1" * len(said)
        parts += (now.text[done:begin], said)
        done = end
    if not parts:
        return None
    starts += now.starts[done:]
    ends += now.ends[done:]
    coded += now.coded[done:]
    parts.append(now.text[done:])
    return Decoded("".join(parts), starts, ends, coded)


def _said(match: re.Match[str]) -> str | None:
    """What an encoded run says; none when it says nothing."""
    run = match[0]
    if match["percent"]:
        return bytes.fromhex(run.replace("%", "")).decode("utf-8", "replace")
    if match["entity"]:
        said = html.unescape(run)
        return said if said != run else None
    if match["unicode"]:
        return bytes.fromhex(run.replace("\\u", "")).decode("utf-16-be", "replace")
    if match["hex"]:
        return chr(int(run[2:], 16))
    return decoded_base64(run)


def _folded(now: Decoded) -> Decoded:
    view = fold(now.text)
    if view.text is now.text:
        return now
    places = [view.source_span(index, index + 1)[0] for index in range(len(view.text))]
    coded = bytearray(now.coded[place] for place in places)
    return Decoded(view.text, [now.starts[p] for p in places], [now.ends[p] for p in places], coded)
