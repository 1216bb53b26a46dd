"""An answer of a route that keeps answers: given again, shared with equal requests under way, or fetched and kept.

`CachedStream` has the surface of `AnswerStream`, so that callers need not know. What it gives again has the rung
``cached`` and its age. When every endpoint fails it gives an older answer, where the route allows that. The invariant:
an answer is given again only under the key of its own request (`exact_key`), or, on a semantic route, to a question of
the same facts within the same context.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import Callable
from types import TracebackType

import msgspec

from roadbed.gateway.answer_stream import GUARDED_INLINE_BYTES_MAX, AnswerStream, Surroundings, earlier
from roadbed.gateway.cache import CachedAnswer, CacheRule, ExactCache, exact_key, is_repeatable, keepable
from roadbed.gateway.errors import GatewayDeadline, StreamCut
from roadbed.gateway.flight import Flight
from roadbed.gateway.masking import guard_request
from roadbed.gateway.meter import text_bytes
from roadbed.gateway.route import Route
from roadbed.gateway.semantic import (
    Question,
    SemanticIndex,
    TextEmbedder,
    facts_of,
    last_question,
    without_question,
)
from roadbed.gateway.shared_answers import SharedAnswers
from roadbed.gateway.types import Answer, Call, ChatRequest, Event, Outcome
from roadbed.guard.vault import Vault
from roadbed.kernel.deadline import Deadline
from roadbed.kernel.errors import DeadlineExceeded, RateLimited, RoadbedError, Unavailable
from roadbed.ledger.trace import Trace

JOIN_SHARE = 0.5
"""A flight is joined that has at least this share of the time that its new reader has."""

LATE_S = 0.25
"""How much longer than its deadline a reader waits: the flight's own limits speak first, and say more."""

EMBED_S_MAX = 0.25
"""How long a request waits for its question's vector before it asks the model."""

ENDPOINTS_GONE = (Unavailable, RateLimited, DeadlineExceeded)
"""Errors that say that no endpoint answered, and nothing about the request."""


class Keys(msgspec.Struct, frozen=True):
    """What a request is known by: ``exact`` alone, or with the ``question`` left out and compared, ``context``.

    ``is_shareable`` says that other processes make the same key of it.
    """

    exact: bytes = b""
    is_shareable: bool = False
    context: bytes = b""
    question: str = ""


NO_KEYS = Keys()


class AnswerCache:
    """What the cached routes of a gateway share: the answers, the flights, and the key of the masked form's tokens.

    ``table`` holds the answers of all processes and ``embedder`` compares questions, where the server gave them.
    """

    def __init__(self, monotonic_s: Callable[[], float], answers: ExactCache | None = None) -> None:
        self.monotonic_s = monotonic_s
        self.answers = answers if answers is not None else ExactCache()
        self.flights: dict[bytes, Flight] = {}
        self.questions = SemanticIndex()
        self.table: SharedAnswers | None = None
        self.embedder: TextEmbedder | None = None
        self._token_key = secrets.token_bytes(32)

    def keys_of(self, rule: CacheRule, shared: Surroundings, route: Route, request: ChatRequest, call: Call) -> Keys:
        """The keys of a request; empty ones for one whose answer may not be given again."""
        if not is_repeatable(rule, request) or call.vault is not None:
            return NO_KEYS
        label = shared.guard.label_for_models(call.label_of(request).join(route.label), call.principal.team)
        if call.trace is not None:
            call.trace.label = call.trace.label.join(label)
        if not shared.guard.lets(label, "cache", call.principal.team):
            return NO_KEYS
        masked = guard_request(shared.guard, request, label, is_local=False, vault=Vault(self._token_key))
        model = [route.name, *(f"{endpoint.name} {endpoint.model}" for endpoint in route.endpoints)]
        model += [f"{name}: {value}" for name, value in sorted(call.headers.items())]  # the route's rules read them
        may_unmask = shared.guard.may_unmask(call.principal)

        def key(asked: ChatRequest, *more: str) -> bytes:
            return exact_key(rule, (*model, *more), asked, call.principal, label, may_unmask=may_unmask) or b""

        exact, embedder = key(masked.request), self.embedder
        # Tokens are this process's own, so a request with personal data has no key that others could know.
        is_shareable = bool(exact) and masked.masked_count == 0
        question = last_question(masked.request) if rule.similarity and exact else None
        if question is None or embedder is None or not embedder.fits(question):
            return Keys(exact, is_shareable)
        context = key(without_question(masked.request), "meaning", embedder.digest)
        return Keys(exact, is_shareable, context, question)

    async def meaning_of(self, keys: Keys, deadline: Deadline) -> Question | None:
        """The question as it is compared; None where there is none, or it could not be embedded in time."""
        embedder = self.embedder
        if not keys.context or embedder is None:
            return None
        try:
            async with asyncio.timeout(min(EMBED_S_MAX, max(deadline.remaining_s(), 0.0))):
                vector = await embedder.embed_query(keys.question)
        except (TimeoutError, RoadbedError):
            return None
        return Question(keys.context, vector, facts_of(keys.question))


class CachedStream:
    """An async iterator of events and an async context manager, as `AnswerStream`; ``fetch`` makes one for a call."""

    def __init__(
        self,
        cache: AnswerCache,
        rule: CacheRule,
        shared: Surroundings,
        route: Route,
        request: ChatRequest,
        call: Call,
        fetch: Callable[[Call], AnswerStream],
        *,
        is_whole: bool = False,
    ) -> None:
        self._is_whole = is_whole
        self.outcome = Outcome(route=route.name)
        self._cache = cache
        self._rule = rule
        self._shared = shared
        self._route = route
        self._request = request
        self._call = call
        self._fetch = fetch
        self._deadline = earlier(call.deadline, route.deadline_s)
        self._keys = NO_KEYS
        self._meaning: Question | None = None
        self._given: deque[Event] | None = None
        self._flight: Flight | None = None
        self._number = 0
        self._is_begun = False

    @property
    def trace(self) -> Trace | None:
        """The caller's trace."""
        return self._call.trace

    def __aiter__(self) -> CachedStream:
        return self

    async def __anext__(self) -> Event:
        if not self._is_begun:
            await self._begin()
        while self._flight is not None:
            try:
                event = await self._read(self._flight)
            except asyncio.CancelledError:
                self.close()
                raise
            except RoadbedError as error:
                self._recover(error)
                continue
            if event is None:
                self._leave()
                break
            self._number += 1
            return event
        if self._given:
            return self._given.popleft()
        raise StopAsyncIteration

    async def __aenter__(self) -> CachedStream:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def aclose(self) -> None:
        """As `close`."""
        self.close()

    def close(self) -> None:
        """Stop. The upstream connection is closed when nobody else reads along. Safe to call at any time."""
        self._is_begun = True
        self._given = None
        self._leave()

    async def open(self) -> None:
        """As `AnswerStream.open`: afterwards ``outcome`` names endpoint and rung."""
        if self._is_begun:
            return
        event = await anext(self, None)
        if self._flight is not None:
            self._number -= 1
        elif event is not None and self._given is not None:
            self._given.appendleft(event)

    async def answer(self) -> Answer:
        """The whole answer."""
        answer = Answer()
        async for event in self:
            answer.add(event)
        answer.usage = self.outcome.usage
        return answer

    # Inside.

    async def _begin(self) -> None:
        self._is_begun = True
        cache, rule = self._cache, self._rule
        asked = (rule, self._shared, self._route, self._request, self._call)
        is_large = text_bytes(self._request) > GUARDED_INLINE_BYTES_MAX
        self._keys = await asyncio.to_thread(cache.keys_of, *asked) if is_large else cache.keys_of(*asked)
        if self._keys.exact and rule.exact_s and (self._reuse() or await self._look_further()):
            return
        self._fly()

    def _reuse(self) -> bool:
        """Take the answer that this process has, or share the call that makes it."""
        cache, rule, key = self._cache, self._rule, self._keys.exact
        found = cache.answers.get(key, cache.monotonic_s(), rule.exact_s)
        if found is not None:
            self._give(found)
            return True
        flight = cache.flights.get(key)
        if flight is None or (self._is_whole and not flight.is_whole):
            return False
        if flight.deadline.remaining_s() < JOIN_SHARE * self._deadline.remaining_s():
            return False
        self._board(flight)
        if self.trace is not None:
            self.trace.attributes["shared_call"] = True
        return True

    async def _look_further(self) -> bool:
        """Take an answer of another process's, or to a question that means the same."""
        cache, rule, keys = self._cache, self._rule, self._keys
        has_waited = False
        if keys.is_shareable and cache.table is not None:
            found = await cache.table.get(keys.exact, rule.exact_s)
            has_waited = True
            if found is not None:
                cache.answers.put(keys.exact, found, rule.keep_s)
        if keys.context:
            self._meaning = await cache.meaning_of(keys, self._deadline)
            has_waited = True
        if has_waited and self._reuse():
            return True
        return self._meaning is not None and self._give_alike(self._meaning)

    def _give_alike(self, meaning: Question) -> bool:
        cache, rule = self._cache, self._rule
        for key in cache.questions.near(meaning, rule.similarity):
            found = cache.answers.get(key, cache.monotonic_s(), rule.exact_s)
            if found is not None:
                if self.trace is not None:
                    self.trace.attributes["cache_by_meaning"] = True
                self._give(found)
                return True
            cache.questions.forget(meaning.context, key)
        return False

    def _fly(self) -> None:
        call = self._call
        carrier = Trace(self._route.name, call.principal)
        carrier.purse = call.trace.purse if call.trace is not None else None  # who begins the call pays for it
        own = msgspec.structs.replace(call, trace=carrier)
        stream = self._fetch(own)
        flight = Flight(stream, self._deadline, carrier, self._ended, is_whole=self._is_whole)
        if self._keys.exact and self._rule.exact_s:
            self._cache.flights.setdefault(self._keys.exact, flight)
        self._board(flight)

    def _board(self, flight: Flight) -> None:
        flight.join(self)
        self._flight, self._number = flight, 0
        self.outcome = flight.outcome

    def _leave(self) -> None:
        flight, self._flight = self._flight, None
        if flight is not None:
            flight.leave(self)

    def _ended(self, flight: Flight) -> None:
        """Called for the flight that this stream began, even when this stream has left it."""
        cache, key = self._cache, self._keys.exact
        if cache.flights.get(key) is flight:
            del cache.flights[key]
        if not key or flight.error is not None:
            return
        answer = Answer()
        for event in flight.events:
            answer.add(event)
        kept = keepable(answer, flight.outcome, cache.monotonic_s())
        if kept is None:
            return
        cache.answers.put(key, kept, self._rule.keep_s)
        if self._meaning is not None:
            cache.questions.put(self._meaning, key)
        if self._keys.is_shareable and cache.table is not None and self._rule.exact_s:
            cache.table.put(key, kept, self._rule.exact_s)

    async def _read(self, flight: Flight) -> Event | None:
        if self._number < len(flight.events) or flight.is_over:
            return await flight.read(self._number)
        try:
            async with asyncio.timeout(max(self._deadline.remaining_s(), 0.0) + LATE_S):
                return await flight.read(self._number)
        except TimeoutError:
            if self._number:
                raise StreamCut(f"the answer of {self.outcome.endpoint} broke off: the deadline passed") from None
            raise GatewayDeadline(f"the deadline passed before the route {self._route.name!r} answered") from None

    def _recover(self, error: RoadbedError) -> None:
        """Go on after a flight's failure: alone, when only its first reader's time was over; with an older answer.

        Raises the error where there is nothing to go on with.
        """
        is_own = self._flight is not None and self._flight.deadline is self._deadline
        failed = self.outcome
        self._leave()
        if self._number or not isinstance(error, ENDPOINTS_GONE):
            raise error
        if not is_own and isinstance(error, DeadlineExceeded) and not self._deadline.has_passed():
            self._fly()
            return
        rule, cache, key = self._rule, self._cache, self._keys.exact
        found = cache.answers.get(key, cache.monotonic_s(), rule.stale_s) if key else None
        if found is None:
            raise error
        self._give(found, failed)

    def _give(self, found: CachedAnswer, failed: Outcome | None = None) -> None:
        age_s = max(0.0, self._cache.monotonic_s() - found.made_s)
        outcome = self.outcome = Outcome(route=self._route.name, endpoint=found.endpoint, model=found.model)
        outcome.rung, outcome.age_s = "cached", age_s
        outcome.finish_reason, outcome.is_complete = "stop", True
        if failed is not None:
            outcome.attempts, outcome.skipped = failed.attempts, failed.skipped
        trace = self.trace
        if trace is not None:
            trace.model = found.endpoint
            trace.attributes["cache_age_s"] = round(age_s, 1)
            span = trace.open_span("cache", "cache")
            trace.close_span(span, age_s=round(age_s, 1), endpoint=found.endpoint, is_stale=failed is not None)
        self._given = deque(found.events())
