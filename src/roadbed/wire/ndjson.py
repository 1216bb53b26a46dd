"""Newline-delimited JSON: bytes in, lines out, each as an event with the line as its data.

Pure. The gateway's Ollama dialect feeds it what the upstream client delivers; what a line holds is its reader's
concern. Blank lines give nothing, a CR before the line feed is dropped, a last line needs no line feed.
The invariant: any split of a stream into reads gives the same lines, and no line is longer than the limit.
"""

from __future__ import annotations

from roadbed.wire.errors import EventTooLarge
from roadbed.wire.sse import EVENT_BYTES_MAX, SseEvent


class NdjsonParser:
    """An incremental parser; one per stream."""

    __slots__ = ("_buffer", "_failed", "_line_bytes_max", "_searched")

    def __init__(self, line_bytes_max: int = EVENT_BYTES_MAX) -> None:
        self._buffer = bytearray()
        self._searched = 0
        self._line_bytes_max = line_bytes_max
        self._failed = False

    def feed(self, data: bytes) -> list[SseEvent]:
        """The lines that this read completes. Raises ``EventTooLarge`` once one passes the limit; lines before it
        have been given by then.
        """
        if self._failed:
            raise self._too_large()
        buffer = self._buffer
        buffer += data
        events: list[SseEvent] = []
        start = 0
        end = buffer.find(b"\n", self._searched)
        while end >= 0 and end - start <= self._line_bytes_max:
            events += _event(bytes(buffer[start:end]))
            start = end + 1
            end = buffer.find(b"\n", start)
        del buffer[:start]
        self._searched = len(buffer)
        if end >= 0 or len(buffer) > self._line_bytes_max:
            self._failed = True
            buffer.clear()
            if not events:
                raise self._too_large()
        return events

    def finish(self) -> list[SseEvent]:
        """The stream has ended: its last line, if it had no line feed."""
        if self._failed:
            raise self._too_large()
        rest = bytes(self._buffer)
        self._buffer.clear()
        self._searched = 0
        return _event(rest)

    def _too_large(self) -> EventTooLarge:
        return EventTooLarge(f"a line of JSON passed {self._line_bytes_max} bytes")


def _event(line: bytes) -> list[SseEvent]:
    line = line.strip(b" \t\r")
    return [SseEvent(line)] if line else []
