"""Rules by label alone on their real ways: tools, caches, traces, exports, and the answers of apps by team."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from roadbed.apps.registry import ServedApp
from roadbed.apps.types import Answered, AnswerEvent, Delta, Turn
from roadbed.gateway.cache import CacheRule
from roadbed.gateway.cached_stream import NO_KEYS, AnswerCache
from roadbed.gateway.route import Route
from roadbed.gateway.types import Call, ChatRequest, Message
from roadbed.guard.detect import Detector
from roadbed.guard.gate import Guard
from roadbed.guard.manifest import GuardConfig
from roadbed.guard.rules import GuardBlocked, GuardRule
from roadbed.kernel.deadline import Deadline
from roadbed.kernel.label import PUBLIC, Label, parse_label
from roadbed.kernel.principal import Principal
from roadbed.kernel.release import Release
from roadbed.ledger.ledger import Ledger
from roadbed.ledger.metrics import Metrics
from roadbed.ledger.trace import Trace
from roadbed.server.teams import Teams
from roadbed.server.turns import run_turn
from roadbed.store.database import Database
from roadbed.tools.toolbox import ToolBox
from roadbed.tools.types import Failed, Ok, Outcome, Refused, Tool, ToolRequest

DETECTOR = Guard(Detector())
CONFIDENTIAL = parse_label(["confidential"])
ANNA, BERIT = Principal("anna", "support"), Principal("berit", "board")


def guard(*rules: GuardRule) -> Guard:
    """A guard with these rules."""
    return DETECTOR.with_config(GuardConfig(rules=list(rules)), {})


class Box:
    """A toolbox with one tool whose result is confidential; ``given`` is what reached it."""

    def __init__(self, made: Guard, *, stale_max_s: float = 0.0) -> None:
        self.given: list[Mapping[str, Any]] = []
        self.is_away = False
        self.toolbox = ToolBox(lambda: made, Metrics(), b"k" * 32)
        schema = {"type": "object", "properties": {"q": {"type": "string"}}}
        tool = Tool("ask", "Asks.", "crm", self._run, schema, label=CONFIDENTIAL, stale_max_s=stale_max_s)
        self.toolbox.take([tool])

    async def _run(self, request: ToolRequest) -> Outcome:
        self.given.append(request.arguments)
        return Failed("sources.away", "away", "crm", True) if self.is_away else Ok({"rows": 1})

    async def call(self, who: Principal = ANNA, **settings: Any) -> Outcome:
        """Call it."""
        return await self.toolbox.call("ask", {"q": "boats"}, principal=who, deadline=Deadline.after(5), **settings)


async def test_arguments_of_whoever_read_confidential_data_reach_no_tool() -> None:
    box = Box(guard(GuardRule("block", label="confidential", sink=["tool"], direction="out")))
    refused = await box.call(label=CONFIDENTIAL)
    assert isinstance(refused, Refused)
    assert (refused.code, box.given) == ("guard.blocked", [])
    assert isinstance(await box.call(label=parse_label(["internal"])), Ok)


async def test_a_result_with_the_label_comes_from_no_tool() -> None:
    refused = await Box(guard(GuardRule("block", label="confidential", sink=["tool"], direction="in"))).call()
    assert isinstance(refused, Refused)
    assert refused.code == "guard.blocked"


async def test_a_team_that_calls_a_tool_itself_is_refused_its_result_and_an_app_is_not() -> None:
    box = Box(guard(GuardRule("block", label="confidential", sink=["caller"], team="support")))
    assert isinstance(await box.call(is_for_caller=True), Refused)
    assert isinstance(await box.call(), Ok)
    assert isinstance(await box.call(BERIT, is_for_caller=True), Ok)


@pytest.mark.parametrize("is_kept", [True, False])
async def test_a_result_with_the_label_is_not_kept_for_when_its_source_is_away(is_kept: bool) -> None:
    rules = [] if is_kept else [GuardRule("block", label="confidential", sink=["cache"])]
    box = Box(guard(*rules), stale_max_s=60.0)
    assert isinstance(await box.call(), Ok)
    box.is_away = True
    assert isinstance(await box.call(), Ok if is_kept else Failed)


def test_an_answer_with_the_label_has_no_key_to_be_given_again_by() -> None:
    made = guard(GuardRule("block", label="confidential", sink=["cache"]))
    shared = cast(Any, type("Shared", (), {"guard": made}))
    request = ChatRequest(messages=(Message("user", "hello"),), temperature=0)
    cache, rule, route = AnswerCache(lambda: 0.0), CacheRule(exact_s=60.0), Route("smart", ())

    def keys(label: Label) -> Any:
        return cache.keys_of(rule, shared, route, request, Call(ANNA, Deadline.after(5), label))

    assert keys(CONFIDENTIAL) is NO_KEYS
    assert keys(PUBLIC).exact
    assert keys(parse_label(["internal"])).exact


@pytest.mark.parametrize(("sink", "recorded", "exported"), [("record", False, True), ("export", True, False)])
async def test_traces_and_their_exports_hold_no_content_with_the_label(
    tmp_path: Path, sink: Any, recorded: bool, exported: bool
) -> None:
    made = guard(GuardRule("block", label="confidential", sink=[sink]))
    ledger = Ledger(cast(Database, None), tmp_path, Metrics(), keep=timedelta(days=1), content="masked")
    ledger.content_by(Teams(made).lets_trace)
    seen: list[str] = []
    ledger.export_to(lambda trace: seen.append(trace.question.text if trace.question is not None else ""))

    def written(label: Label) -> bytes:
        trace = Trace("smart", ANNA)
        trace.label, trace.question = label, made.for_record("the boat leaves at noon")
        return b"".join(map(bytes, ledger._lines(trace) or ()))

    assert (b"boat" in written(CONFIDENTIAL), "boat" in seen[-1]) == (recorded, exported)
    assert (b"boat" in written(PUBLIC), "boat" in seen[-1]) == (True, True)


class Telling:
    """An app that says something confidential after something that is not."""

    async def answer(self, turn: Turn) -> AsyncGenerator[AnswerEvent, None]:
        """Both."""
        yield Delta("good morning")
        turn.trace.label = turn.trace.label.join(CONFIDENTIAL)
        yield Delta("the boat leaves at noon")
        yield Answered("good morning the boat leaves at noon", (), "full", ())


async def test_an_app_says_to_each_team_what_it_may_hear() -> None:
    made = guard(GuardRule("block", label="confidential", sink=["caller"], team="support"))
    finished: list[Any] = []
    ledger = cast(Ledger, type("Finishing", (), {"finish": lambda self, trace, **how: finished.append(how)})())

    async def heard(who: Principal, said: list[str]) -> None:
        served = cast(ServedApp, type("Served", (), {"app": Telling()}))
        turn = Turn(
            "app", Release("app", "d", b"{}", {}), ChatRequest(messages=()), who, Deadline.after(5), Trace("app", who)
        )
        async for event in run_turn(ledger, served, turn, made):
            if isinstance(event, Delta):
                said.append(event.text)

    said: list[str] = []
    with pytest.raises(GuardBlocked):
        await heard(ANNA, said)
    assert said == ["good morning"]
    assert finished[-1]["error_code"] == "guard.blocked"
    await heard(BERIT, said)
    assert said[1:] == ["good morning", "the boat leaves at noon"]
