"""What stands around the text in the chunks of one stream: learned from one chunk, recognised in those that follow.

A model server writes each chunk of an answer with the same bytes but for the text, so that the text can be cut out and
sent on as it stands, still encoded as JSON. Pure. The invariant: a frame is only used after the dialect's own decoder
gave another text, put in the same place, back as that text and nothing else.
"""

from __future__ import annotations

import re

import msgspec

from roadbed.gateway.dialects.openai_chat import OpenAIDecoder
from roadbed.gateway.errors import UpstreamError
from roadbed.gateway.types import TextDelta
from roadbed.wire.sse import SseEvent

_BEGIN, _END = b"data: ", b"\n\n"
_PLACE = re.compile(rb'"content"\s*:\s*"')
_PROBE = "\N{DOUBLE DAGGER}probe"
_decode_text = msgspec.json.Decoder(str).decode


class TextFrame:
    """The bytes before and after the text."""

    __slots__ = ("_after", "_before", "_between", "_end", "_size", "_start")

    def __init__(self, before: bytes, after: bytes) -> None:
        self._before, self._after, self._between = before, after, after + before
        self._start, self._end = len(before), -len(after)
        self._size = len(before) + len(after)

    def text_in(self, data: bytes) -> tuple[bytes, str] | None:
        """The text of a read that is chunks in this frame, as JSON without its quotes, and decoded: that of one, or
        what several say together. None for any other read.
        """
        if not data.startswith(self._before) or not data.endswith(self._after) or len(data) <= self._size:
            return None
        raw = data[self._start : self._end]
        try:
            if self._between not in raw:
                text = raw.decode()
                if not text.isprintable() or '"' in text or "\\" in text:
                    text = _decode_text(b'"%b"' % raw)
                return raw, text
            pieces = raw.split(self._between)
            text = "".join([_decode_text(b'"%b"' % piece) for piece in pieces])
            return (b"".join(pieces), text) if text else None
        except (UnicodeDecodeError, msgspec.DecodeError):
            return None


def learn_frame(data: bytes) -> TextFrame | None:
    """The frame of a read of whole chunks of which the last carries a text; None where none is sure."""
    data = data[data.rfind(_END, 0, -len(_END)) + len(_END) :] if data.count(_END) > 1 else data
    if not (data.startswith(_BEGIN) and data.endswith(_END)) or data.find(b"\n") != len(data) - 2 or b"\r" in data:
        return None
    found = _PLACE.search(data)
    if found is None or data.count(b'"content"') != 1:
        return None
    start = end = found.end()
    while (end := data.find(b'"', end)) >= 0 and _is_escaped(data, start, end):
        end += 1
    if end < 0:
        return None
    before, after = data[:start], data[end:]
    decoder = OpenAIDecoder()
    try:
        events = decoder.feed(SseEvent((before + _PROBE.encode() + after)[len(_BEGIN) : -len(_END)]))
    except UpstreamError:
        return None
    is_sure = len(events) == 1 and events[0] == TextDelta(_PROBE) and not decoder.is_finished
    return TextFrame(before, after) if is_sure else None


def _is_escaped(data: bytes, start: int, quote: int) -> bool:
    """Whether the quotation mark has an odd number of backslashes before it."""
    position = quote
    while position > start and data[position - 1] == 0x5C:
        position -= 1
    return (quote - position) % 2 == 1
