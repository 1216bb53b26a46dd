"""The Responses API, spoken to our own callers: `responses_incoming` reads, `responses_writer` writes.

The server finds this dialect here and needs to know no other part of it. Pure. The invariant is the writer's: a stream
that broke ends with ``response.failed``, and never looks complete.
"""

from __future__ import annotations

import msgspec

from roadbed.gateway.dialects.openai_server import error_object
from roadbed.gateway.dialects.responses_incoming import IncomingResponse, decode_response_request
from roadbed.gateway.dialects.responses_items import DIALECT
from roadbed.gateway.dialects.responses_writer import ResponseWriter
from roadbed.kernel.errors import RoadbedError


class ResponsesCaller:
    """The callers' dialect ``responses``."""

    name = DIALECT
    id_header = "x-request-id"

    def decode(self, body: bytes) -> IncomingResponse:
        """The request in a body. Raises `InvalidChatRequest`, `UnsupportedFeature` or `TooLarge`, with a path."""
        return decode_response_request(body)

    def writer(self, trace_id: str, created_s: int, incoming: IncomingResponse) -> ResponseWriter:
        """A writer for the answer to what `decode` gave."""
        return ResponseWriter(trace_id, created_s, incoming)

    def error_body(self, error: RoadbedError) -> bytes:
        """The body of an error response: OpenAI's error object."""
        return msgspec.json.encode(error_object(error))

    def broken(self, error: RoadbedError) -> bytes:
        """The dialect's own event for errors, which ends a stream, too."""
        said = error_object(error)["error"]
        event = {"type": "error", "code": said["code"], "message": said["message"], "param": said["param"]}
        return b"event: error\ndata: %b\n\n" % msgspec.json.encode(event)
