"""A model provider without a network: plays answers and faults to whoever sends, at times that a seed decides.

It stands where the gateway expects the wire's `UpstreamClient`: the same `send`, the same order of callbacks, the same
limits, errors of the same classes. What each exchange was to say is kept, so that a test knows what the truth was. The
invariant: each exchange ends in exactly one of ``on_complete``, ``on_error`` and ``abort``.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from typing import Any, Literal, TypeAlias

from roadbed.testing.scripted_reply import Prompt, Reply, ScriptedCall, stream_anthropic, stream_openai, whole_openai
from roadbed.wire.errors import (
    ConnectRefused,
    ConnectTimeout,
    HeadTimeout,
    NameUnresolved,
    PoolExhausted,
    ResponseCut,
    ResponseMalformed,
    ResponseTimeout,
    TlsFailed,
    UpstreamFailed,
)
from roadbed.wire.exchange import ResponseHandler, ResponseHead, UpstreamRequest

Wholeness: TypeAlias = Literal["whole", "cut", "never"]
"""What an exchange was to bring: a whole answer, a part of one, or none at all."""

Step: TypeAlias = tuple[float, str, Any]
"""Seconds after the step before, what happens (``head``, ``data``, ``end``, ``error``), and with what."""

JSON_HEAD = [(b"content-type", b"application/json")]
EVENTS_HEAD = [(b"content-type", b"text/event-stream; charset=utf-8")]
PING = b": ping\n\n"
WORDS = "the rate is twelve percent until june and fourteen after that unless both sides agree on something else"
END_STEPS_MAX = 2
HUGE = b"data: " + b"x" * (9 * 1024 * 1024)


@dataclass(frozen=True, slots=True)
class Play:
    """What one exchange will do. Without an ``end`` or ``error`` at its end it falls silent."""

    steps: tuple[Step, ...]
    text: str = ""
    wholeness: Wholeness = "never"
    connects: bool = True


@dataclass(slots=True)
class Sent:
    """One request that was sent, with what it was to bring and how it ended: ``""`` while it runs."""

    endpoint: str
    fault: str
    play: Play
    at_s: float
    body: bytes
    ended: str = ""
    head_at_s: float | None = None
    played: int = 0

    @property
    def has_said_all(self) -> bool:
        """Whether nothing of a whole answer is left to come but its end."""
        return self.play.wholeness == "whole" and len(self.play.steps) - self.played <= END_STEPS_MAX


class FaultyExchange:
    """A request under way: what the gateway holds of it."""

    def __init__(self, transport: FaultyTransport, handler: ResponseHandler, sent: Sent, connect_by: float) -> None:
        self.on_response: Callable[[ResponseHead, bytes], None] | None = None
        self.complete_by: float | None = None
        self.head_by = 0.0
        self._transport = transport
        self._handler = handler
        self._sent = sent
        self._connect_by = connect_by
        self._timers: list[asyncio.TimerHandle] = []
        self._is_paused = False
        self._completion: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """Play the first step, or wait for a limit."""
        loop = self._transport.loop
        limit = self.head_by if self._sent.play.connects else self._connect_by
        self._timers.append(loop.call_at(limit, self._limit))
        self._watch_completion()
        self._schedule()

    def pause_reading(self) -> None:
        """Hold what would come next."""
        self._is_paused = True

    def resume_reading(self) -> None:
        """Go on."""
        if self._is_paused and not self._sent.ended:
            self._is_paused = False
            self._schedule()

    def abort(self) -> None:
        """Stop; nothing is called again."""
        self._end("aborted")

    def _schedule(self) -> None:
        steps = self._sent.play.steps
        if self._sent.played < len(steps):
            self._timers.append(self._transport.loop.call_later(steps[self._sent.played][0], self._step))

    def _step(self) -> None:
        if self._sent.ended or self._is_paused:
            return
        _, what, value = self._sent.play.steps[self._sent.played]
        self._sent.played += 1
        handler = self._handler
        if what == "head":
            self._sent.head_at_s = self._transport.loop.time()
            handler.on_head(ResponseHead(*value))
        elif what == "data":
            handler.on_data(value)
        elif what == "end":
            self._end("complete")
            handler.on_complete()
        else:
            self._fail(value)
        if not self._sent.ended:
            self._watch_completion()
            self._schedule()

    def _fail(self, kind: type[UpstreamFailed]) -> None:
        self._end("error")
        self._handler.on_error(kind(f"{self._sent.endpoint}: {kind.__name__}"))

    def _limit(self) -> None:
        """The connection or the head is late."""
        if not self._sent.ended and self._sent.head_at_s is None:
            self._fail(HeadTimeout if self._sent.play.connects else ConnectTimeout)

    def _watch_completion(self) -> None:
        """Have `_late` called at the time by which the response must be complete, which its handler may move."""
        if self._completion is not None:
            self._completion.cancel()
            self._completion = None
        if self.complete_by is not None and not self._sent.ended:
            self._completion = self._transport.loop.call_at(self.complete_by, self._late)

    def _late(self) -> None:
        if self.complete_by is not None and self._transport.loop.time() >= self.complete_by:
            self._fail(ResponseTimeout)
        else:
            self._watch_completion()

    def _end(self, how: str) -> None:
        if not self._sent.ended:
            self._sent.ended = how
            if self._completion is not None:
                self._completion.cancel()
            for timer in self._timers:
                timer.cancel()
            self._timers.clear()


@dataclass(slots=True)
class _Rendering:
    """What a pool is asked for: the head of a request, of which nothing is sent here."""

    def render(self, method: bytes, target: bytes, headers: bytes) -> bytes:
        """Nothing."""
        return b" "


@dataclass(slots=True)
class FaultyTransport:
    """The stand-in for an `UpstreamClient`. ``weather`` gives each endpoint's faults with their weights."""

    loop: asyncio.AbstractEventLoop
    chance: random.Random
    weather: Mapping[str, Mapping[str, float]]
    sent: list[Sent] = field(default_factory=list)
    faults: Mapping[str, Fault] = field(default_factory=lambda: FAULTS)
    _pool: _Rendering = field(default_factory=_Rendering)

    def pool(self, request: UpstreamRequest) -> _Rendering:
        """As the client's: only its rendering is used."""
        return self._pool

    def send(
        self,
        request: UpstreamRequest,
        handler: ResponseHandler,
        connect_by: float,
        head_by: float,
        complete_by: float | None = None,
        pool: Any = None,
    ) -> FaultyExchange:
        """Play a fault of this endpoint's weather."""
        name = request.credential_class
        weather = self.weather[name]
        fault = self.chance.choices(list(weather), list(weather.values()))[0]
        body = json.loads(request.body)
        dialect = "anthropic" if request.url.target.endswith(b"/messages") else "openai"
        play = self.faults[fault](self.chance, Asked(name, dialect, body.get("stream") is True))
        sent = Sent(name, fault, play, self.loop.time(), request.body)
        self.sent.append(sent)
        exchange = FaultyExchange(self, handler, sent, connect_by)
        exchange.head_by, exchange.complete_by = head_by, complete_by
        exchange.begin()
        return exchange


@dataclass(frozen=True, slots=True)
class Asked:
    """What a fault needs to know of the request that it is played to."""

    endpoint: str
    dialect: str
    is_stream: bool


Fault: TypeAlias = Callable[[random.Random, Asked], Play]


@lru_cache(maxsize=4096)
def _answer(asked: Asked, words: int, has_usage: bool, has_call: bool) -> tuple[str, tuple[bytes, ...]]:
    """The text of an answer, and its pieces as they go on the wire."""
    text = " ".join([asked.endpoint, str(words), *(WORDS.split() * 2)[:words]])
    calls = (ScriptedCall("look_up", '{"name": "june"}'),) if has_call else ()
    reply = Reply(text=text, calls=calls, has_usage=has_usage)
    prompt = Prompt(asked.dialect, "m", {"stream_options": {"include_usage": True}, "messages": []})
    if not asked.is_stream:
        return text, (whole_openai(prompt, reply),)
    stream = stream_openai if asked.dialect == "openai" else stream_anthropic
    return text, tuple(stream(prompt, reply))


def _pieces(chance: random.Random, asked: Asked, *, has_usage: bool = True) -> tuple[str, list[bytes]]:
    text, pieces = _answer(asked, chance.randint(1, 12), has_usage, chance.random() < 0.05)
    if asked.is_stream and chance.random() < 0.2:  # reads that respect no event
        joined = b"".join(pieces)
        cuts = sorted({0, len(joined), *(chance.randrange(len(joined)) for _ in range(chance.randint(1, 9)))})
        return text, [joined[a:b] for a, b in pairwise(cuts)]
    return text, list(pieces)


def _head(chance: random.Random, asked: Asked, status: int = 200, first_s: float | None = None) -> Step:
    wait_s = chance.uniform(0.02, 0.4) if first_s is None else first_s
    return (wait_s, "head", (status, EVENTS_HEAD if asked.is_stream and status == 200 else JSON_HEAD))


def _data(chance: random.Random, pieces: list[bytes], gap_s: float | None = None) -> list[Step]:
    return [(chance.uniform(0.0, 0.05) if gap_s is None else gap_s, "data", piece) for piece in pieces]


def fine(chance: random.Random, asked: Asked) -> Play:
    """A whole answer."""
    text, pieces = _pieces(chance, asked)
    return Play((_head(chance, asked), *_data(chance, pieces), (0.0, "end", None)), text, "whole")


def no_usage(chance: random.Random, asked: Asked) -> Play:
    """A whole answer that does not say what it used."""
    text, pieces = _pieces(chance, asked, has_usage=False)
    return Play((_head(chance, asked), *_data(chance, pieces), (0.0, "end", None)), text, "whole")


def slow_first_byte(chance: random.Random, asked: Asked) -> Play:
    """A whole answer that begins late, maybe too late."""
    text, pieces = _pieces(chance, asked)
    head = _head(chance, asked, first_s=chance.uniform(1.0, 40.0))
    return Play((head, *_data(chance, pieces), (0.0, "end", None)), text, "whole")


def drip(chance: random.Random, asked: Asked) -> Play:
    """A whole answer at a token a second."""
    text, pieces = _pieces(chance, asked)
    return Play((_head(chance, asked), *_data(chance, pieces, 1.0), (0.0, "end", None)), text, "whole")


def never_closed(chance: random.Random, asked: Asked) -> Play:
    """A whole answer after which the response does not end."""
    text, pieces = _pieces(chance, asked)
    return Play((_head(chance, asked), *_data(chance, pieces)), text, "whole" if asked.is_stream else "never")


def two_ends(chance: random.Random, asked: Asked) -> Play:
    """A whole answer whose end comes twice."""
    text, pieces = _pieces(chance, asked)
    again = pieces[-1:] if asked.is_stream else []
    return Play((_head(chance, asked), *_data(chance, pieces + again), (0.0, "end", None)), text, "whole")


def _broken(end: tuple[str, Any]) -> Fault:
    """An answer that stops after some of its pieces, never after all."""

    def play(chance: random.Random, asked: Asked) -> Play:
        text, pieces = _answer(asked, chance.randint(3, 12), True, False)
        kept = list(pieces[: chance.randrange(len(pieces))])
        if kept and chance.random() < 0.5:
            kept[-1] = kept[-1][: chance.randrange(len(kept[-1]))]  # in the middle of an event
        if not asked.is_stream:
            kept = [pieces[0][: chance.randrange(len(pieces[0]))]]
        steps = (_head(chance, asked), *_data(chance, kept))
        return Play((*steps, (0.01, *end)) if end[0] else steps, text, "cut")

    return play


def _said(data: bytes) -> Fault:
    """Some pieces of an answer, then something else, then a clean end."""

    def play(chance: random.Random, asked: Asked) -> Play:
        text, pieces = _answer(asked, chance.randint(3, 12), True, False)
        kept = list(pieces[: chance.randrange(len(pieces))]) if asked.is_stream else []
        return Play((_head(chance, asked), *_data(chance, [*kept, data]), (0.0, "end", None)), text, "cut")

    return play


def _refused(status: int, body: bytes, *headers: tuple[bytes, bytes]) -> Fault:
    """A response with a status of its own and no answer."""

    def play(chance: random.Random, asked: Asked) -> Play:
        head: Step = (chance.uniform(0.01, 0.2), "head", (status, [*JSON_HEAD, *headers]))
        return Play((head, (0.0, "data", body), (0.0, "end", None)))

    return play


def _unsent(kind: type[UpstreamFailed]) -> Fault:
    """The request never leaves."""
    return lambda chance, asked: Play(((chance.uniform(0.0, 0.05), "error", kind),))


def _error_body(code: str) -> bytes:
    return json.dumps({"type": "error", "error": {"type": code, "message": "secret words", "code": code}}).encode()


def _silent(*kinds: str) -> Fault:
    """Silence from the beginning, after the head, or with comments for ever."""

    def play(chance: random.Random, asked: Asked) -> Play:
        kind = chance.choice(kinds)
        if kind == "hole":
            return Play((), connects=False)
        if kind == "accepted":
            return Play(())
        pings = [(1.0, "data", PING)] * 200 if kind == "pings" and asked.is_stream else []
        return Play((_head(chance, asked), *pings))

    return play


FAULTS: dict[str, Fault] = {
    "fine": fine,
    "no usage": no_usage,
    "slow first byte": slow_first_byte,
    "drip": drip,
    "never closed": never_closed,
    "two ends": two_ends,
    "refused connection": _unsent(ConnectRefused),
    "no such name": _unsent(NameUnresolved),
    "expired certificate": _unsent(TlsFailed),
    "pool exhausted": _unsent(PoolExhausted),
    "black hole": _silent("hole"),
    "silence": _silent("accepted", "head", "pings"),
    "reset": _broken(("error", ResponseCut)),
    "clean close": _broken(("end", None)),
    "stall": _broken(("", None)),
    "malformed response": _broken(("error", ResponseMalformed)),
    "malformed event": _said(b"data: {broken\n\n"),
    "error event": _said(b"event: error\ndata: " + _error_body("overloaded_error") + b"\n\n"),
    "huge event": _said(HUGE),
    "error in a 200": lambda chance, asked: Play(
        ((0.1, "head", (200, JSON_HEAD)), (0.0, "data", _error_body("server_error")), (0.0, "end", None))
    ),
    "page in a 200": lambda chance, asked: Play(
        ((0.1, "head", (200, [(b"content-type", b"text/html")])), (0.0, "data", b"<html>"), (0.0, "end", None))
    ),
    "bad gateway": _refused(502, b"<html>bad gateway</html>"),
    "server error": _refused(500, _error_body("server_error")),
    "overloaded": _refused(503, _error_body("overloaded_error")),
    "overloaded, wait": _refused(529, _error_body("overloaded_error"), (b"retry-after", b"2")),
    "throttled": _refused(429, _error_body("rate_limit_error")),
    "throttled, wait": _refused(429, _error_body("rate_limit_error"), (b"retry-after", b"0.5")),
    "throttled for long": _refused(429, _error_body("rate_limit_error"), (b"retry-after-ms", b"90000")),
    "no quota": _refused(429, _error_body("insufficient_quota")),
    "key refused": _refused(401, _error_body("invalid_api_key")),
    "wrong request": _refused(400, _error_body("invalid_request_error")),
    "too long": _refused(400, _error_body("context_length_exceeded")),
}
"""Every fault by the name under which a simulation's failure names it."""
