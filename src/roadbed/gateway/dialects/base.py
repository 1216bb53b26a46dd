"""What every dialect offers: to endpoints, so that one attempt engine drives them all, and to callers, so that one
server answers them all.

A dialect is a pure codec: a request becomes bytes, a response's bytes become events. It opens no socket and keeps no
state but a decoder's. The invariant: a decoder never makes `Finished` for an answer that the server did not end
itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from roadbed.gateway.endpoints import Endpoint
from roadbed.gateway.errors import UpstreamError
from roadbed.gateway.types import Answer, ChatRequest, Event
from roadbed.kernel.errors import RoadbedError
from roadbed.wire.sse import SseEvent, SseParser


@dataclass(frozen=True, slots=True)
class EncodedRequest:
    """A request as bytes.

    ``path`` comes after the endpoint's base address; ``dropped`` names fields that only quality needed.
    """

    path: str
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    dropped: tuple[str, ...] = ()


class FrameParser(Protocol):
    """Cuts a streamed body into its events, whatever frames them; any split of the body gives the same events."""

    def feed(self, data: bytes) -> list[SseEvent]:
        """The events that this read completes. Raises `EventTooLarge`, or `UpstreamError` for broken frames."""
        ...

    def finish(self) -> list[SseEvent]:
        """The body has ended: what was left, if it is whole. Raises as `feed`, for what broke in its last read."""
        ...


class StreamDecoder(Protocol):
    """Takes the events of one response in order. ``is_over`` once nothing more will come."""

    is_finished: bool
    is_over: bool

    def feed(self, event: SseEvent) -> list[Event]:
        """The events of one server-sent event. Raises `UpstreamError` for an error object or malformed data."""
        ...

    def finish(self) -> None:
        """The response's body has ended. Raises `UpstreamError` when the server had not ended its answer."""
        ...


class AnswerFormat(Protocol):
    """How a protocol's answers are read: all that an attempt needs of a dialect.

    ``stream_type`` begins the content type of its streams; all else is JSON.
    """

    stream_type: bytes

    def parser(self) -> FrameParser:
        """A parser for the frames of one streamed response."""
        ...

    def decoder(self) -> StreamDecoder:
        """A decoder for one streamed response."""
        ...

    def decode_body(self, body: bytes) -> list[Event]:
        """The events of a response that was not streamed. Raises `UpstreamError`."""
        ...


class Dialect(AnswerFormat, Protocol):
    """One protocol of model servers."""

    name: str

    def encode(self, request: ChatRequest, endpoint: Endpoint, *, stream: bool = True) -> EncodedRequest:
        """The request's bytes.

        Raises `UnsupportedFeature` or `InvalidChatRequest` naming the field that cannot be carried.
        """
        ...


class ServerSentDialect:
    """What the dialects whose streams are server-sent events share."""

    stream_type = b"text/event-stream"

    def parser(self) -> FrameParser:
        """A parser of server-sent events."""
        return SseParser()


class CallerRequest(Protocol):
    """A caller's request as any caller's dialect gives it: what the server reads before it answers."""

    @property
    def model(self) -> str:
        """The app or route that it names."""

    @property
    def request(self) -> ChatRequest:
        """What is asked."""

    @property
    def stream(self) -> bool:
        """Whether the answer is to come as a stream."""

    def question(self) -> str:
        """The last text of the user; empty where there is none."""
        ...


class AnswerWriter(Protocol):
    """Writes one answer in a caller's dialect: ``whole`` for one body, or ``head``, ``events``, ``end`` for a stream.

    A stream that breaks gets ``error`` in place of ``end``, and nothing after it.
    """

    def head(self) -> bytes:
        """What comes before the first event."""
        ...

    def events(self, events: Iterable[Event]) -> bytes:
        """The bytes of some deltas; events that are written at the end give nothing."""
        ...

    def end(self, answer: Answer, *, annotations: list[dict[str, Any]], roadbed: Any) -> bytes:
        """The end of a whole stream. ``roadbed`` is what Roadbed says about the answer."""
        ...

    def error(self, error: RoadbedError) -> bytes:
        """The end of a stream that broke."""
        ...

    def whole(self, answer: Answer, *, annotations: list[dict[str, Any]], roadbed: Any) -> bytes:
        """The body of an answer that is not streamed."""
        ...


class CallerDialect(Protocol):
    """One protocol of our own callers. Pure. ``id_header`` is the header in which its SDKs look for an answer's id;
    empty where there is none.
    """

    name: str
    id_header: str

    def decode(self, body: bytes) -> CallerRequest:
        """The request in a body. Raises `InvalidChatRequest`, `UnsupportedFeature` or `TooLarge`, with a path."""
        ...

    def writer(self, trace_id: str, created_s: int, incoming: Any) -> AnswerWriter:
        """A writer for the answer to what `decode` gave. Ids are made from the trace's."""
        ...

    def error_body(self, error: RoadbedError) -> bytes:
        """The body of an error response, in the dialect's own shape."""
        ...

    def broken(self, error: RoadbedError) -> bytes:
        """The end of a stream whose writer is not at hand: what `AnswerWriter.error` says, as far as it can be."""
        ...


def malformed(what: str) -> UpstreamError:
    """The failure of an answer that is not in the dialect."""
    return UpstreamError("fault", f"its answer is malformed: {what}")


def cut() -> UpstreamError:
    """The failure of an answer that ended before the server finished it."""
    return UpstreamError("fault", "its answer ended before it was finished")
