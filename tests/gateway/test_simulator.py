"""Thousands of requests through the gateway in virtual time, against endpoints that fail as a seed decides.

Each world has its own endpoints, weather and callers; what each exchange was to bring is known, so every answer is
held against the truth. A failure prints the seed and the world: ``ROADBED_SIM_SEED=... ROADBED_SIM_WORLD=...`` plays it
again alone. ``ROADBED_SIM_RUNS`` is how many requests.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal, cast

import pytest

from roadbed.gateway.answer_stream import FirstTry
from roadbed.gateway.dialects.openai_server import decode_chat
from roadbed.gateway.endpoints import Endpoint
from roadbed.gateway.errors import ContextTooLong, GatewayDeadline, RejectedByEndpoint, StreamCut
from roadbed.gateway.gateway import Gateway
from roadbed.gateway.prices import price_from_usd
from roadbed.gateway.relay import Opening, Relay
from roadbed.gateway.route import Route
from roadbed.gateway.types import CONTENT_EVENTS, Call, Event, Finished, Outcome, TextDelta
from roadbed.guard.gate import Guard
from roadbed.kernel import retry
from roadbed.kernel.deadline import Deadline
from roadbed.kernel.errors import RoadbedError
from roadbed.testing.faulty_transport import FAULTS, FaultyTransport, Play, Sent
from roadbed.testing.virtual_time import Stuck, VirtualTimeLoop, run_virtual

from .conftest import CALLER, ask, endpoint

RUNS = int(os.environ.get("ROADBED_SIM_RUNS", "10000"))
SEED = os.environ.get("ROADBED_SIM_SEED", "1")
ONLY_WORLD = os.environ.get("ROADBED_SIM_WORLD")
REQUESTS_PER_WORLD = 50
ARRIVALS_S = 30.0
SETTLED_S = 700.0  # longer than any deadline, stall or trailer
SLACK_S = 0.001
AMPLIFICATION_MAX = 1.2

Kind = Literal["complete", "cut", "failed", "left"]
Way = Literal["stream", "buffered", "relay"]


@dataclass
class Told:
    """What one caller was told."""

    number: int
    way: Way
    began_s: float
    deadline_s: float
    ladder: tuple[str, ...]
    is_patient: bool = True
    kind: Kind | None = None
    texts: list[str] = field(default_factory=list)
    content_events: int = 0
    finishes: int = 0
    ended_s: float = 0.0
    outcome: Outcome | None = None
    error: RoadbedError | None = None

    @property
    def is_whole(self) -> bool:
        """Whether the caller waits for all of the answer."""
        return self.way == "buffered" or (self.way == "relay" and self.number % 2 == 1)

    def begins_anew(self) -> None:
        """What came is void: who waits for all of the answer has shown it to nobody."""
        assert self.is_whole or not self.content_events, "words that were shown are taken back"
        self.texts, self.content_events, self.finishes = [], 0, 0

    def saw(self, event: Event) -> None:
        """An event came."""
        assert not self.finishes or not isinstance(event, CONTENT_EVENTS), "content after the end"
        self.content_events += isinstance(event, CONTENT_EVENTS)
        self.finishes += isinstance(event, Finished)
        if isinstance(event, TextDelta):
            self.texts.append(event.text)

    def ends(self, kind: Kind, now_s: float) -> None:
        """The one end."""
        assert self.kind is None, f"two ends: {self.kind} and {kind}"
        self.kind, self.ended_s = kind, now_s


class Recorder(Relay):
    """The short way, with a caller that notes what comes."""

    def __init__(self, opening: Opening, told: Told, over: asyncio.Event) -> None:
        super().__init__(opening)
        self.told = told
        self.over = over
        self.tried: FirstTry | None = None

    def on_events(self, events: list[Event]) -> None:
        for event in events:
            self.told.saw(event)

    def on_whole(self, text: str) -> None:
        self.told.saw(TextDelta(text))

    def on_booked(self) -> None:
        self.over.set()

    def on_finished(self) -> None:
        self.told.finishes = max(self.told.finishes, 1)
        self.told.ends("complete", self._loop.time())

    def on_failed(self, tried: FirstTry | None) -> None:
        self.tried = tried
        self.told.begins_anew()
        self.over.set()

    def on_cut(self, error: StreamCut) -> None:
        self.told.error = error
        self.told.ends("cut", self._loop.time())
        self.over.set()

    def on_crashed(self, error: Exception) -> None:
        raise error


class World:
    """Some endpoints and their weather, some callers, and what must hold of them."""

    def __init__(self, name: str, guard: Guard, loop: VirtualTimeLoop) -> None:
        self.chance = random.Random(name)
        self.loop = loop
        names = ["alpha", "beta", "gamma", "delta"][: self.chance.randint(1, 4)]
        self.weather = {name: self._weather() for name in names}
        self.transport = FaultyTransport(loop, self.chance, self.weather)
        ladder = tuple(self._endpoint(name) for name in names)
        self.route = Route("smart", ladder, self.chance.choice([2.0, 10.0, 60.0]))
        self.gateway = Gateway(
            cast(Any, self.transport), guard, {"smart": self.route}, clock=loop, chance=self.chance.random
        )
        self.told: list[Told] = []
        self.accidents: list[str] = []
        loop.set_exception_handler(lambda _, context: self.accidents.append(str(context)))

    def _weather(self) -> dict[str, float]:
        share = self.chance.choice([0.0, 0.3, 0.6, 0.9, 0.99])
        found = self.chance.sample(sorted(FAULTS), self.chance.randint(1, 6))
        if self.chance.random() < 0.95:
            found = [fault for fault in found if fault != "huge event"] or ["reset"]
        return {"fine": share + 0.001, **{fault: (1.0 - share) / len(found) for fault in found if fault != "fine"}}

    def _endpoint(self, name: str) -> Endpoint:
        return endpoint(
            name,
            f"http://{name}.test/v1",
            is_local=self.chance.random() < 0.5,
            dialect="anthropic" if self.chance.random() < 0.3 else "openai",
            price=price_from_usd("test", 1, 2),
            first_event_s=self.chance.choice([2.0, 20.0]),
            stall_s=self.chance.choice([2.0, 15.0]),
            max_connections=self.chance.choice([2, 64, 64]),
        )

    async def live(self, requests: int) -> None:
        """All callers come and are answered; then everything must be at rest."""
        await asyncio.gather(*(self._caller(number) for number in range(requests)))
        await asyncio.sleep(SETTLED_S)
        for told in self.told:
            self.check(told)
        self.check_rest()

    # Callers.

    async def _caller(self, number: int) -> None:
        chance = random.Random(f"{self.chance.random()} {number}")
        await asyncio.sleep(chance.uniform(0.0, ARRIVALS_S))
        seconds = chance.choice([0.3, 2.0, 10.0, 60.0])
        way: Way = chance.choice(["stream", "buffered", "relay"])
        now_s = self.loop.time()
        told = Told(number, way, now_s, min(seconds, self.route.deadline_s), tuple(self.weather))
        self.told.append(told)
        call = Call(CALLER, Deadline.after(seconds, self.loop))
        told.is_patient = chance.random() < 0.9
        reads_slowly = way == "stream" and chance.random() < 0.1
        work = asyncio.ensure_future(self._ask(told, call, chance, reads_slowly))
        if not told.is_patient:
            await asyncio.wait([work], timeout=chance.uniform(0.0, 3.0))
            if work.cancel():
                await asyncio.wait([work])
        if reads_slowly:
            told.deadline_s += 1000.0
        try:
            await work
        except asyncio.CancelledError:
            told.ends("left", self.loop.time())
            for sent in self.sent_by(told):  # one that said all may end by itself, to be used again
                assert sent.ended or sent.has_said_all, "an exchange outlived its caller"

    async def _ask(self, told: Told, call: Call, chance: random.Random, reads_slowly: bool) -> None:
        text = f"Say something to caller number {told.number} please"
        try:
            if told.way == "buffered":
                answer, told.outcome = await self.gateway.complete("smart", ask(text), call)
                told.saw(TextDelta(answer.text))
                told.finishes = int(answer.finish_reason is not None)
            else:
                first_try = await self._relay(told, call, text) if told.way == "relay" else None
                if told.kind is not None:
                    return
                made = self.gateway.stream("smart", ask(text), call, first_try, is_whole=told.is_whole)
                async with made as stream:
                    told.outcome = stream.outcome
                    async for event in stream:
                        told.saw(event)
                        if reads_slowly:
                            await asyncio.sleep(chance.uniform(0.0, 1.0))
            told.ends("complete", self.loop.time())
        except StreamCut as error:
            told.error = error
            told.ends("cut", self.loop.time())
        except RoadbedError as error:
            told.error = error
            told.ends("failed", self.loop.time())

    async def _relay(self, told: Told, call: Call, text: str) -> FirstTry | None:
        """The short way, where it can be gone; a failed try to go on from, or None."""
        asked = {"model": "smart", "messages": [{"role": "user", "content": text}], "stream": not told.is_whole}
        body = json.dumps(asked).encode()
        opening = self.gateway.relay(self.route, decode_chat(body), body, call)
        if opening is None:
            return None
        over = asyncio.Event()
        relay = Recorder(opening, told, over)
        relay.start()
        try:
            await over.wait()
        except asyncio.CancelledError:
            relay.abort()
            raise
        return relay.tried

    # What must hold.

    def sent_by(self, told: Told) -> list[Sent]:
        """The exchanges of one request, in order."""
        tag = re.compile(rb"caller number %d please" % told.number)
        return [sent for sent in self.transport.sent if tag.search(sent.body)]

    def check(self, told: Told) -> None:
        """One request: exactly one end, in time, that says the truth."""
        sends = self.sent_by(told)
        assert told.kind is not None, "a request without an end"
        assert told.ended_s - told.began_s <= told.deadline_s + SLACK_S, f"{told.kind} after its deadline"
        text = "".join(told.texts)
        if told.kind == "complete":
            assert told.finishes == 1, "a complete answer with no end of its own"
            assert sends[-1].play.wholeness == "whole", f"a {sends[-1].fault} looks complete"
            assert text == sends[-1].play.text, "words lost, doubled or mixed"
        elif told.kind == "cut":
            assert not told.is_whole, "a caller who has been sent nothing is told of a cut"
            assert not told.finishes, "a cut answer that says it is finished"
            assert sends[-1].play.text.startswith(text), "words lost, doubled or mixed"
            assert told.content_events or told.way == "relay", "cut before anything was said"
        elif told.kind == "failed":
            assert not told.content_events, "words, and then an error that tells of none"
            self.check_all_were_asked(told, sends)
        if told.error is not None:
            assert "secret words" not in f"{told.error.message} {told.error.hint}"
            assert told.error.code.startswith("gateway."), told.error.code
        if told.outcome is not None:
            self.check_outcome(told, told.outcome, sends)

    def check_all_were_asked(self, told: Told, sends: list[Sent]) -> None:
        """A request fails only when every endpoint did, or is said to have been passed over."""
        if isinstance(told.error, GatewayDeadline | RejectedByEndpoint | ContextTooLong) or told.outcome is None:
            return
        skipped = {text.partition(":")[0] for text in told.outcome.skipped}
        assert {sent.endpoint for sent in sends} | skipped == set(told.ladder)

    def check_outcome(self, told: Told, outcome: Outcome, sends: list[Sent]) -> None:
        """The label and the bill."""
        assert outcome.is_complete == (told.kind == "complete") or told.kind == "left"
        assert [record.endpoint for record in outcome.attempts] == [sent.endpoint for sent in sends]
        for record in outcome.attempts:
            assert record.ended_s >= record.started_s > 0.0, "an attempt that was never settled"
        assert outcome.cost_picousd == sum(record.cost_picousd for record in outcome.attempts)
        tokens = sum(record.usage.input_tokens + record.usage.output_tokens for record in outcome.attempts)
        assert outcome.usage.input_tokens + outcome.usage.output_tokens == tokens, "settled twice, or not at all"
        if told.kind == "complete":
            assert outcome.endpoint == sends[-1].endpoint
            assert outcome.rung == self.route.rung(told.ladder.index(outcome.endpoint))
            assert not outcome.attempts[-1].failure
            assert sends[-1].ended in ("complete", "aborted", "error")

    def check_rest(self) -> None:
        """Nothing is left over, and nothing was repeated too often."""
        assert not self.accidents, self.accidents[0]
        assert all(sent.ended for sent in self.transport.sent), "an exchange that never ended"
        assert [view.in_flight for view in self.gateway.endpoints()] == [0] * len(self.weather)
        assert len(asyncio.all_tasks()) == 1
        asked: Counter[tuple[str, int]] = Counter()
        for told in self.told:
            for sent in self.sent_by(told):
                asked[sent.endpoint, told.number] += 1
        for name in self.weather:
            times = [count for (endpoint_name, _), count in asked.items() if endpoint_name == name]
            retries = sum(times) - len(times)
            assert retries <= retry.BUDGET_MAX + retry.BUDGET_PER_REQUEST * sum(times), "more retries than earned"


def play(name: str, guard: Guard, life: Callable[[World], Awaitable[None]]) -> World:
    """One world in a loop of its own. A failure names it."""
    loop = VirtualTimeLoop()
    worlds: list[World] = []

    async def live() -> None:
        worlds.append(World(name, guard, loop))
        await life(worlds[0])

    try:
        run_virtual(live(), loop)
    except (AssertionError, Stuck) as error:
        seed, _, number = name.partition("/")
        weather = worlds[0].weather if worlds else {}
        pytest.fail(f"{error}\nROADBED_SIM_SEED={seed} ROADBED_SIM_WORLD={number}\n{weather}")
    return worlds[0]


def test_every_request_has_one_honest_end_in_time(guard: Guard) -> None:
    numbers = [int(ONLY_WORLD)] if ONLY_WORLD else range(max(1, RUNS // REQUESTS_PER_WORLD))
    kinds: Counter[str] = Counter()
    faults: Counter[str] = Counter()
    for number in numbers:
        world = play(f"{SEED}/{number}", guard, lambda world: world.live(REQUESTS_PER_WORLD))
        kinds.update(told.kind or "" for told in world.told)
        faults.update(sent.fault for sent in world.transport.sent)
    if not ONLY_WORLD and RUNS >= 5000:
        assert set(kinds) == {"complete", "cut", "failed", "left"}, kinds
        assert set(FAULTS) - set(faults) <= {"huge event"}, set(FAULTS) - set(faults)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_brownout_is_not_made_worse_by_repeating(guard: Guard, share: float) -> None:
    """One endpoint fails a share of its requests: what it is asked in all stays under 1.2 times what was asked."""

    async def live(world: World) -> None:
        world.weather.clear()
        world.weather["only"] = {"fine": 1.0 - share, "server error": share / 2, "overloaded": share / 2}
        route = Route("smart", (endpoint("only", "http://only.test/v1"),), 30.0)
        world.gateway.swap({"smart": route})
        world.route = route
        await world.live(300)

    world = play(f"{SEED}/{int(share * 10)}", guard, live)
    assert len(world.transport.sent) <= AMPLIFICATION_MAX * len(world.told)


async def _asked_once(world: World, way: Way, weather: dict[str, str], route_s: float, call_s: float) -> Told:
    """One caller in a world of one fault per endpoint."""
    world.weather.clear()
    world.weather.update({name: {fault: 1.0} for name, fault in weather.items()})
    ladder = tuple(endpoint(name, f"http://{name}.test/v1") for name in weather)
    world.route = Route("smart", ladder, route_s)
    world.gateway.swap({"smart": world.route})
    told = Told(0, way, world.loop.time(), min(route_s, call_s), tuple(weather))
    await world._ask(told, Call(CALLER, Deadline.after(call_s, world.loop)), world.chance, False)
    world.told.append(told)
    world.check(told)
    return told


def test_found_a_finished_answer_does_not_wait_for_its_usage_past_the_deadline(guard: Guard) -> None:
    def without_end(chance: random.Random, asked: Any) -> Play:
        whole = FAULTS["no usage"](chance, asked)
        kept = [step for step in whole.steps if step[1] != "end"]
        wait_s, what, last = kept[-1]
        return replace(whole, steps=(*kept[:-1], (wait_s, what, last.replace(b"data: [DONE]\n\n", b""))))

    async def live(world: World) -> None:
        world.transport.faults = {"without end": without_end}
        told = await _asked_once(world, "stream", {"only": "without end"}, 60.0, 2.0)
        assert told.kind == "complete"

    play("found/1", guard, live)


def test_found_the_deadline_of_a_route_does_not_begin_anew_after_the_short_way_failed(guard: Guard) -> None:
    async def live(world: World) -> None:
        told = await _asked_once(world, "relay", {"one": "silence", "two": "silence"}, 6.0, 60.0)
        assert told.kind == "failed"
        assert len(world.transport.sent) == 2

    play("found/2", guard, live)


@pytest.mark.parametrize("fault", ["fine", "reset", "server error"])
def test_the_checks_themselves_find_what_is_not_so(guard: Guard, fault: str) -> None:
    """A record that says something else than what happened is refused, whatever happened."""

    async def live(world: World) -> None:
        for name in world.weather:
            world.weather[name] = {fault: 1.0}
        await world.live(10)
        for told in world.told:
            if told.kind == "left" or (told.outcome is None and told.kind != "complete"):
                continue
            changed: list[dict[str, Any]] = [
                {"kind": "failed"} if told.content_events else {"kind": "complete", "finishes": 1},
                {"ended_s": told.ended_s + 5000.0},
                {"kind": None},
                {"texts": [*told.texts, "!"]} if told.kind != "failed" else {"content_events": 1},
            ]
            for change in changed:
                with pytest.raises((AssertionError, IndexError)):
                    world.check(replace(told, **change))

    play(f"{SEED}/0", guard, live)
