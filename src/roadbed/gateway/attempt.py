"""One try at one endpoint: the request goes out, events come back, every wait has a limit cut from the request's one
deadline.

It drives a dialect's decoder from the wire client's callbacks and knows nothing of ladders, guards or money. Progress
is a decoded event, never a byte: a server that only sends pings is silent. Whoever opened an attempt reads `next`
until it gives None, or calls `abort`. The invariant: `next` gives None only for an answer that the server finished
itself; everything else raises `UpstreamError`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from datetime import UTC, datetime
from functools import lru_cache

import msgspec

from roadbed.gateway.dialects.base import AnswerFormat, EncodedRequest, StreamDecoder, cut, malformed
from roadbed.gateway.dialects.failures import ERROR_BODY_BYTES_MAX, failure_from_response
from roadbed.gateway.endpoints import Endpoint
from roadbed.gateway.errors import SILENT, UpstreamError
from roadbed.gateway.haste import waited_s
from roadbed.gateway.types import CONTENT_EVENTS, Event, Finished, ReasoningDelta
from roadbed.kernel.deadline import Deadline
from roadbed.kernel.errors import ConfigError
from roadbed.wire.address import Url, parse_url
from roadbed.wire.client import UpstreamClient
from roadbed.wire.errors import (
    ConnectTimeout,
    EventTooLarge,
    HeadTimeout,
    NotSent,
    PoolExhausted,
    ResponseCut,
    ResponseTimeout,
    ResponseTooLarge,
    UpstreamFailed,
)
from roadbed.wire.exchange import Exchange, ResponseHead, UpstreamRequest
from roadbed.wire.request import Headers
from roadbed.wire.sse import SseEvent
from roadbed.wire.tls import TrustDomain

CONNECT_S_MAX = 1.0
CONNECT_SHARE = 0.2
MIN_USEFUL_S = 1.5
"""What a rung needs to be worth trying: so much is kept back for each one that is left."""

TRAILER_S = 2.0
"""How long usage may still come after the answer was finished, and never past the attempt's end."""

QUEUED_EVENTS_MAX = 512
ADDRESSES_KEPT = 1024
ANSWER_CHARACTERS_MAX = 8 * 1024 * 1024


class AttemptLimits(msgspec.Struct, frozen=True, gc=False):
    """Points in time, in seconds of the loop's clock."""

    connect_by_s: float
    first_event_by_s: float
    end_by_s: float
    stall_s: float
    began_s: float = 0.0


def limits_for(deadline: Deadline, endpoint: Endpoint, rungs_left: int, loop_now_s: float) -> AttemptLimits:
    """The limits of an attempt with ``rungs_left`` endpoints after it: one that hangs leaves the others their time."""
    left_s = deadline.remaining_s()
    own_s = max(left_s - MIN_USEFUL_S * rungs_left, left_s / (rungs_left + 1))
    return AttemptLimits(
        connect_by_s=loop_now_s + min(CONNECT_S_MAX, CONNECT_SHARE * left_s, own_s),
        first_event_by_s=loop_now_s + min(endpoint.first_event_s, own_s),
        end_by_s=loop_now_s + own_s,
        stall_s=endpoint.stall_s,
        began_s=loop_now_s,
    )


@lru_cache(maxsize=ADDRESSES_KEPT)
def address_of(url: str, ca_file: str, client_cert: str) -> tuple[Url, TrustDomain]:
    """An address, with the certificate authorities and the client certificate that its endpoint asks for.

    The same objects each time: the client finds its pool by them.
    """
    trust = TrustDomain(ca_files=(ca_file,) if ca_file else (), client_certificate=client_cert or None)
    return parse_url(url), trust


def upstream_request(endpoint: Endpoint, path: str, headers: Headers | bytes, body: bytes) -> UpstreamRequest:
    """The HTTP request of one attempt."""
    url, trust = address_of(endpoint.url + path, endpoint.ca_file, endpoint.client_cert)
    return UpstreamRequest(b"POST", url, headers, body, trust, endpoint.name)


def failure_of_response(head: ResponseHead, body: bytes) -> UpstreamError:
    """The failure of a response whose status is not 200."""
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in head.headers}
    return failure_from_response(head.status, headers, body, datetime.now(UTC))


class Attempt:
    """A response handler of the wire client, with an async `next`. Made and used on the loop; not shared."""

    __slots__ = (
        "_body",
        "_decoder",
        "_dialect",
        "_end_by_s",
        "_endpoint",
        "_error",
        "_events",
        "_exchange",
        "_is_complete",
        "_is_done",
        "_is_paused",
        "_is_stream",
        "_limits",
        "_loop",
        "_parser",
        "_progress_s",
        "_taken_characters",
        "_timer",
        "_waiter",
        "finished",
        "first_event_at_s",
        "head",
    )

    def __init__(
        self, dialect: AnswerFormat, endpoint: Endpoint, limits: AttemptLimits, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._dialect = dialect
        self._endpoint = endpoint
        self._limits = limits
        self._end_by_s = limits.end_by_s
        self._loop = loop
        self._decoder: StreamDecoder = dialect.decoder()
        self._parser = dialect.parser()
        self._events: deque[Event] = deque()
        self._body = bytearray()
        self._exchange: Exchange | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._error: UpstreamError | None = None
        self._is_complete = False
        self._is_done = False
        self._is_paused = False
        self._is_stream = False
        self._progress_s = loop.time()
        self._taken_characters = 0
        self.finished: Finished | None = None
        self.first_event_at_s: float | None = None
        self.head: ResponseHead | None = None

    def start(self, client: UpstreamClient, encoded: EncodedRequest) -> None:
        """Send the request. An address or TLS file that cannot be used is the endpoint's failure."""
        limits = self._limits
        try:
            request = upstream_request(self._endpoint, encoded.path, encoded.headers, encoded.body)
            self._exchange = client.send(request, self, limits.connect_by_s, limits.first_event_by_s)
        except ConfigError as error:
            self._end(UpstreamError("fault", error.message, was_sent=False))
            return
        self._timer = self._loop.call_at(limits.first_event_by_s, self._check_time)

    def extend(self, end_by_s: float) -> None:
        """The answer is committed: no other rung needs the rest of the time, so it may take all of it."""
        self._end_by_s = end_by_s

    async def next(self) -> Event | None:
        """The next event; None after the last one of a finished answer. Raises `UpstreamError`."""
        while not self._events:
            if self._is_done:
                if self._error is not None:
                    raise self._error
                return None
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        event = self._events.popleft()
        if self._is_paused and len(self._events) < QUEUED_EVENTS_MAX // 2 and self._exchange is not None:
            self._is_paused = False
            self._progress_s = self._loop.time()
            self._exchange.resume_reading()
        return event

    def abort(self) -> None:
        """Close the upstream connection at once, unless the answer is whole. Safe to call at any time."""
        self._events.clear()
        if not self._is_done:
            self._end(cut())

    # The exchange's calls.

    def on_head(self, head: ResponseHead) -> None:
        """Status and headers are here."""
        self.head = head
        kind = (head.get(b"content-type") or b"").lower()
        if head.status == 200:
            self._is_stream = kind.startswith(self._dialect.stream_type)
            if not self._is_stream and not kind.startswith(b"application/json"):
                self._end(malformed("it is neither an event stream nor JSON"))

    def on_data(self, data: bytes) -> None:
        """A piece of the body."""
        if self._is_done:
            return
        if self._is_stream:
            try:
                self._take_stream(self._parser.feed(data))
            except EventTooLarge:
                self._end(malformed("an event is over the size limit"))
            except UpstreamError as error:
                self._end(error)
            return
        self._body += data
        if self.head is not None and self.head.status != 200 and len(self._body) > ERROR_BODY_BYTES_MAX:
            self._finish_body()

    def on_complete(self) -> None:
        """The body is whole."""
        self._is_complete = True
        if self._is_done:
            return
        if not self._is_stream:
            self._finish_body()
            return
        try:
            self._take_stream(self._parser.finish())
            self._decoder.finish()
        except EventTooLarge:
            self._end(malformed("an event is over the size limit"))
            return
        except UpstreamError as error:
            self._end(error)
            return
        self._end(None)

    def on_error(self, error: UpstreamFailed) -> None:
        """The exchange failed."""
        self._is_complete = True
        if self.finished is not None:
            self._end(None)
        elif self.head is not None and self.head.status != 200:
            self._finish_body()
        else:
            limits = self._limits
            is_own = (
                limits.connect_by_s - limits.began_s >= CONNECT_S_MAX
                if isinstance(error, ConnectTimeout)
                else isinstance(error, HeadTimeout) and self._is_first_event_s_own
            )
            self._end(failure_of_wire(error, self._waited_s(is_own_limit=is_own)))

    # Inside.

    @property
    def _is_first_event_s_own(self) -> bool:
        """Whether the wait for the first token is cut by the endpoint's limit, and not by its caller's time."""
        return self._limits.first_event_by_s < self._limits.end_by_s

    def _waited_s(self, *, is_own_limit: bool = False) -> float | None:
        has_begun = self.first_event_at_s is not None
        return waited_s(self._limits.began_s, self._loop.time(), is_own_limit=is_own_limit, has_begun=has_begun)

    def _take_stream(self, sse_events: list[SseEvent]) -> None:
        try:
            for sse_event in sse_events:
                self._take(self._decoder.feed(sse_event))
        except UpstreamError as error:
            self._end(error)
            return
        if self._decoder.is_over and self.finished is not None and not self._is_done:
            # The answer is whole; the connection is left to end by itself, so that it can be used again.
            self._is_done = True
            self._wake()

    def _finish_body(self) -> None:
        assert self.head is not None
        if self.head.status != 200:
            self._end(failure_of_response(self.head, bytes(self._body)))
            return
        try:
            self._take(self._dialect.decode_body(bytes(self._body)))
        except UpstreamError as error:
            self._end(error)
            return
        self._end(None if self.finished is not None else cut())

    def _take(self, events: list[Event]) -> None:
        for event in events:
            self._events.append(event)
            if isinstance(event, Finished):
                self.finished = event
                self._arm(min(self._loop.time() + TRAILER_S, self._end_by_s))
            elif isinstance(event, (*CONTENT_EVENTS, ReasoningDelta)):
                self._progress_s = self._loop.time()
                if self.first_event_at_s is None:
                    self.first_event_at_s = self._progress_s
                    self._arm(min(self._progress_s + self._limits.stall_s, self._end_by_s))
                self._taken_characters += len(getattr(event, "text", "") or getattr(event, "arguments", ""))
        if self._taken_characters > ANSWER_CHARACTERS_MAX:
            self._end(malformed("it is over the size limit"))
            return
        if len(self._events) > QUEUED_EVENTS_MAX and not self._is_paused and self._exchange is not None:
            self._is_paused = True
            self._exchange.pause_reading()
        if events:
            self._wake()

    def _arm(self, at_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(at_s, self._check_time)

    def _check_time(self) -> None:
        """A limit may be due. The timer is moved lazily: an event costs no timer call."""
        self._timer = None
        if self._is_done:
            self._drop_exchange()
            return
        now_s = self._loop.time()
        if self.finished is not None:
            self._end(None)
        elif now_s >= self._end_by_s:
            self._end(UpstreamError("timeout", "the time for an answer was over", waited_s=self._waited_s()))
        elif self.first_event_at_s is None and not (self.head is not None and not self._is_stream):
            if now_s >= self._limits.first_event_by_s:
                waited = self._waited_s(is_own_limit=self._is_first_event_s_own)
                self._end(UpstreamError("timeout", "it sent no first token in time", waited_s=waited))
            else:
                self._arm(min(self._limits.first_event_by_s, self._end_by_s))
        elif self.first_event_at_s is None or self._is_paused:
            self._arm(min(now_s + self._limits.stall_s, self._end_by_s))
        elif now_s >= self._progress_s + self._limits.stall_s:
            self._end(UpstreamError("timeout", SILENT))
        else:
            self._arm(min(self._progress_s + self._limits.stall_s, self._end_by_s))

    def _end(self, error: UpstreamError | None) -> None:
        if not self._is_done:
            self._is_done = True
            self._error = error if self.finished is None else None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._drop_exchange()
        self._wake()

    def _drop_exchange(self) -> None:
        if not self._is_complete and self._exchange is not None:
            self._is_complete = True
            self._exchange.abort()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def failure_of_wire(error: UpstreamFailed, waited_s: float | None = None) -> UpstreamError:
    """The failure class of a wire error; ``waited_s`` as in `UpstreamError`."""
    was_sent = not isinstance(error, NotSent)
    if isinstance(error, PoolExhausted):
        return UpstreamError("overload", "all connections to it are busy", was_sent=False)
    if isinstance(error, ConnectTimeout):
        return UpstreamError("timeout", "no connection to it was made in time", was_sent=False, waited_s=waited_s)
    if isinstance(error, HeadTimeout):
        return UpstreamError("timeout", "it sent no first token in time", waited_s=waited_s)
    if isinstance(error, ResponseTimeout):
        return UpstreamError("timeout", "the time for an answer was over", waited_s=waited_s)
    if isinstance(error, ResponseCut):
        return cut()
    if isinstance(error, ResponseTooLarge):
        return malformed("it is over the size limit")
    return UpstreamError("fault", error.message, was_sent=was_sent)
