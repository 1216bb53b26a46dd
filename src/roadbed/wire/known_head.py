"""Heads that were seen before: clients send the same one with each request, and a server with each response, but for
the length.

`remember` and `remember_response` keep a head that was parsed and found good; ``match`` tells whether bytes begin with
that head, with whatever number its Content-Length holds. A head that differs in nothing but this number is parsed
alike, so the parser and the rules need not see it again. Pure. The invariant: what ``match`` accepts, the parser and
the rules accept, with the same fields and the number as the length.
"""

from __future__ import annotations

import re

from roadbed.wire.rules import BODILESS

LENGTH_DIGITS_MAX = 10
_LENGTH_LINE = re.compile(rb"\r\ncontent-length: ?([0-9]{1,%d})\r\n" % LENGTH_DIGITS_MAX, re.IGNORECASE)


class KnownResponse:
    """A good response head: its bytes around the length's digits, its status and its fields."""

    __slots__ = ("_after", "_before", "_digits", "_place", "headers", "status")

    def __init__(
        self, before: bytes, after: bytes, status: int, headers: list[tuple[bytes, bytes]], place: int
    ) -> None:
        self._before = before
        self._after = after
        self._place = place
        self.status = status
        self.headers = headers
        self._digits = headers[place][1]

    def match(self, data: bytes) -> bytes | None:
        """The body, where ``data`` is a whole response with this head; ``headers`` are then its own."""
        before = self._before
        if not data.startswith(before):
            return None
        start = len(before)
        stop = data.find(b"\r", start, start + LENGTH_DIGITS_MAX + 1)
        if stop < 0 or not data.startswith(self._after, stop):
            return None
        digits, end = data[start:stop], stop + len(self._after)
        if digits != self._digits:
            if not digits.isdigit():
                return None
            self._digits = digits
            self.headers = [*self.headers]
            self.headers[self._place] = (b"content-length", digits)
        return data[end:] if len(data) - end == int(digits) else None


def remember_response(data: bytes, status: int, headers: list[tuple[bytes, bytes]]) -> KnownResponse | None:
    """The head of a whole response that the parser found good and that keeps its connection; None where its bytes do
    not show the one length that the parser saw.
    """
    names = [name for name, _ in headers]
    end = data.find(b"\r\n\r\n") + 4
    if end < 4 or b"transfer-encoding" in names or names.count(b"content-length") != 1:
        return None
    place = names.index(b"content-length")
    found, length = _LENGTH_LINE.search(data, 0, end), headers[place][1]
    if found is None or found[1] != length or len(data) - end != int(length) or not data.startswith(b"HTTP/1.1 2"):
        return None
    return KnownResponse(data[: found.start(1)], data[found.end(1) : end], status, headers, place)


class KnownHead:
    """A good head: its bytes around the length's digits, and its fields. ``memo`` is for whoever answers requests."""

    __slots__ = ("_after", "_before", "_place", "headers", "index", "memo", "method", "path", "query")

    def __init__(
        self,
        before: bytes,
        after: bytes,
        method: bytes,
        path: bytes,
        query: bytes,
        headers: list[tuple[bytes, bytes]],
        place: int,
    ) -> None:
        self._before = before
        self._after = after
        self._place = place
        self.method = method
        self.path = path
        self.query = query
        self.headers = headers
        self.index = dict(headers)
        self.memo: object = None

    def match(self, data: bytes) -> tuple[int, int] | None:
        """Where the head ends in ``data``, and its Content-Length; None when ``data`` begins with another head."""
        before = self._before
        if not data.startswith(before):
            return None
        start = len(before)
        stop = data.find(b"\r", start, start + LENGTH_DIGITS_MAX + 1)
        if stop < 0 or not data.startswith(self._after, stop):
            return None
        digits = data[start:stop]
        if not digits.isdigit():
            return None
        if digits != self.index[b"content-length"]:
            # The lists are new: the request before may still hold its own.
            self.headers = [*self.headers]
            self.headers[self._place] = (b"content-length", digits)
            self.index = {**self.index, b"content-length": digits}
        return stop + len(self._after), int(digits)


def remember(
    head: bytes,
    method: bytes,
    path: bytes,
    query: bytes,
    headers: list[tuple[bytes, bytes]],
    index: dict[bytes, bytes],
) -> KnownHead | None:
    """A good head of a request with a body of known length, to be kept; None for one that is to be parsed each time."""
    if b"expect" in index or b"upgrade" in index or b"transfer-encoding" in index or len(index) != len(headers):
        return None
    if method in BODILESS:  # the rules refuse them by their length
        return None
    found = _LENGTH_LINE.search(head)
    length = index.get(b"content-length")
    if length is None or found is None or length != found[1] or not head.endswith(b"\r\n\r\n"):
        return None
    place = headers.index((b"content-length", length))
    return KnownHead(head[: found.start(1)], head[found.end(1) :], method, path, query, headers, place)
