"""What every dialect offers, so that one attempt engine drives them all.

A dialect is a pure codec: a request becomes bytes, a response's bytes become events. It opens no socket and keeps no
state but a decoder's. The invariant: a decoder never makes `Finished` for an answer that the server did not end
itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from roadbed.gateway.endpoints import Endpoint
from roadbed.gateway.errors import UpstreamError
from roadbed.gateway.types import ChatRequest, Event
from roadbed.wire.sse import SseEvent


@dataclass(frozen=True, slots=True)
class EncodedRequest:
    """A request as bytes.

    ``path`` comes after the endpoint's base address; ``dropped`` names fields that only quality needed.
    """

    path: str
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    dropped: tuple[str, ...] = ()


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


class Dialect(Protocol):
    """One protocol of model servers."""

    name: str

    def encode(self, request: ChatRequest, endpoint: Endpoint, *, stream: bool = True) -> EncodedRequest:
        """The request's bytes.

        Raises `UnsupportedFeature` or `InvalidChatRequest` naming the field that cannot be carried.
        """
        ...

    def decoder(self) -> StreamDecoder:
        """A decoder for one streamed response."""
        ...

    def decode_body(self, body: bytes) -> list[Event]:
        """The events of a response that was not streamed. Raises `UpstreamError`."""
        ...


def malformed(what: str) -> UpstreamError:
    """The failure of an answer that is not in the dialect."""
    return UpstreamError("fault", f"its answer is malformed: {what}")


def cut() -> UpstreamError:
    """The failure of an answer that ended before the server finished it."""
    return UpstreamError("fault", "its answer ended before it was finished")
