"""`Searcher`: looks for planted values in the raw bytes of a sink, in every encoding, and inside of gzip.

Bytes come in pieces; `feed` keeps enough of the one before that a value across two pieces is seen. A hit is a value
and the name of the sink, never the bytes. The invariant: a piece is first searched for the marks of the runs, in all
forms, and only where one stands are the single values told apart, so that looking at much costs little.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from roadbed.controls.planted import Value, base64_forms, forms

OVERLAP_BYTES: Final = 512
UNPACKED_BYTES_MAX: Final = 8 * 1024 * 1024
MEMBERS_MAX: Final = 200
DEPTH_MAX: Final = 3
_GZIP = b"\x1f\x8b\x08"
_HEX_RUN = re.compile(rb"[0-9a-f]{32,}")
_GZIP_HEX = b"1f8b08"


@dataclass(frozen=True, slots=True)
class Hit:
    """A value that stands in a sink."""

    value: Value
    sink: str


class Searcher:
    """Looks for the values of a run. ``marks`` are what all cores begin with."""

    def __init__(self, marks: Sequence[str], values: Iterable[Value]) -> None:
        self._coarse = [_Needles(mark) for mark in marks]
        self._fine = [(value, _Needles(value.core)) for value in values]
        self._tail: dict[str, bytes] = {}
        self.bytes_searched = 0
        self.hits: set[Hit] = set()

    def feed(self, sink: str, piece: bytes) -> None:
        """The next piece of a sink."""
        self.bytes_searched += len(piece)
        data = self._tail.get(sink, b"") + piece
        self._tail[sink] = data[-OVERLAP_BYTES:]
        self._look(sink, data, 0)

    def end(self, sink: str) -> None:
        """The sink has no more pieces."""
        self._tail.pop(sink, None)

    def _look(self, sink: str, data: bytes, depth: int) -> None:
        folded = data.lower()
        if any(needles.stand_in(data, folded) for needles in self._coarse):
            for value, needles in self._fine:
                if needles.stand_in(data, folded):
                    self.hits.add(Hit(value, sink))
        if depth < DEPTH_MAX:
            for inner in _unpacked(data, folded):
                self._look(sink, inner, depth + 1)


class _Needles:
    """The forms of one core."""

    def __init__(self, core: str) -> None:
        self._folded = [form.lower() for form in forms(core)]
        self._exact = base64_forms(core)

    def stand_in(self, data: bytes, folded: bytes) -> bool:
        return any(form in folded for form in self._folded) or any(form in data for form in self._exact)


def _unpacked(data: bytes, folded: bytes) -> Iterable[bytes]:
    """What gzip members in the data hold, and what gzip in hex does, as far as the bounds go."""
    at, count = data.find(_GZIP), 0
    while at >= 0 and count < MEMBERS_MAX:
        inner = _inflated(data[at:])
        if inner:
            yield inner
        count += 1
        at = data.find(_GZIP, at + 1)
    if _GZIP_HEX in folded:
        for match in _HEX_RUN.finditer(folded):
            run = match[0]
            start = run.find(_GZIP_HEX)
            if start >= 0:
                inner = _inflated(bytes.fromhex(run[start : start + (len(run) - start) // 2 * 2].decode()))
                if inner:
                    yield inner


def _inflated(data: bytes) -> bytes:
    try:
        return zlib.decompressobj(31).decompress(data, UNPACKED_BYTES_MAX)
    except zlib.error:
        return b""
