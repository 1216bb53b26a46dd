"""Anthropic Messages as the server offers it: the codec of ``/v1/messages``, and the bodies of the small addresses
beside it (``count_tokens``, ``models``).

Pure. Requests are read by ``anthropic_incoming.py``, answers written by ``anthropic_writer.py``. The invariant: every
body made here is one that the official SDK parses.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import msgspec

from roadbed.gateway.dialects.anthropic_answers import DIALECT
from roadbed.gateway.dialects.anthropic_incoming import IncomingMessages, decode_messages
from roadbed.gateway.dialects.anthropic_writer import MessageWriter, error_object
from roadbed.kernel.errors import RoadbedError


class AnthropicCallers:
    """The dialect ``anthropic``, spoken to our own callers."""

    name = DIALECT
    id_header = "request-id"

    def decode(self, body: bytes) -> IncomingMessages:
        """The request in a body. Raises `InvalidChatRequest`, `UnsupportedFeature` or `TooLarge`, with a path."""
        return decode_messages(body)

    def writer(self, trace_id: str, created_s: int, incoming: IncomingMessages) -> MessageWriter:
        """A writer for the answer to ``incoming``; the dialect shows no time."""
        return MessageWriter(trace_id, incoming.model)

    def error_body(self, error: RoadbedError) -> bytes:
        """The body of an error response; its id stands in the header ``request-id``."""
        return msgspec.json.encode(error_object(error))

    def broken(self, error: RoadbedError) -> bytes:
        """As `MessageWriter.error`, which looks the same wherever a stream breaks."""
        return b"event: error\ndata: %b\n\n" % self.error_body(error)


def count_body(input_tokens: int) -> bytes:
    """The answer of ``/v1/messages/count_tokens``."""
    return b'{"input_tokens":%d}' % input_tokens


def model_object(id: str, created_s: int) -> dict[str, Any]:
    """One model, made at that second since 1970."""
    created = datetime.fromtimestamp(created_s, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    return {"type": "model", "id": id, "display_name": id, "created_at": created}


def models_body(models: Iterable[tuple[str, int]]) -> bytes:
    """The list of models: each id with the second since 1970 at which it was made. All on one page."""
    data = [model_object(id, created_s) for id, created_s in models]
    first, last = (data[0]["id"], data[-1]["id"]) if data else (None, None)
    return msgspec.json.encode({"data": data, "first_id": first, "last_id": last, "has_more": False})
