"""The copilot against a real gateway and a scripted model over loopback; only the searcher is a fake."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from msgspec import structs

from roadbed.apps.answer_limit import CUT_NOTE
from roadbed.apps.checked_answer import ABSTENTION
from roadbed.apps.copilot import Copilot
from roadbed.apps.followup import NoQuestion
from roadbed.apps.manifest import AppConfig
from roadbed.apps.retrieval import KnowledgeUnavailable
from roadbed.apps.search import NOTHING_FOUND, SearchApp
from roadbed.apps.small_talk import WELCOME
from roadbed.apps.types import Answered, AnswerEvent, App, Citation, Cited, Delta, Turn
from roadbed.gateway.endpoints import Endpoint, sink_of
from roadbed.gateway.errors import StreamCut
from roadbed.gateway.gateway import Gateway
from roadbed.gateway.route import Route
from roadbed.guard.gate import Guard
from roadbed.kernel.errors import Unavailable
from roadbed.testing.scripted_model import Rule, ScriptedModel
from roadbed.testing.scripted_reply import Reply, failing
from roadbed.wire.client import UpstreamClient

from .conftest import FakeSearcher, MakeHit

FEES = "A plot costs NOK 5,500. A rush order costs 35 % more than the standard fee. Reports are kept for seven years."
DOGS = "Dogs are not allowed in the office. Cats are allowed on Fridays."
QUESTION = "How much more does a rush order cost than the standard fee?"

MakeTurn = Callable[..., Turn]
MakeCopilot = Callable[..., Copilot]


@pytest.fixture
def make_copilot(
    searcher: FakeSearcher, make_hit: MakeHit, guard: Guard, client: UpstreamClient, model: ScriptedModel
) -> MakeCopilot:
    """A copilot over two passages, asking the scripted model unless told that there is none."""
    searcher.hits = (make_hit(FEES), make_hit(DOGS))
    gateway = Gateway(client, guard)

    def make(*, has_model: bool = True, **settings: Any) -> Copilot:
        endpoint = Endpoint(
            name="first",
            url=model.url,
            is_local=True,
            sink=sink_of("first", True, []),
            model="m",
            first_event_s=5.0,
            stall_s=5.0,
        )
        route = Route("fast", (endpoint,), 30.0) if has_model else None
        config = AppConfig(kind="copilot", knowledge=["handbook"], **settings)
        return Copilot(config, "", searcher=searcher, gateway=gateway, guard=lambda: guard, route=lambda: route)

    return make


async def events_of(app: App, turn: Turn) -> tuple[list[AnswerEvent], Answered]:
    events = [event async for event in app.answer(turn)]
    last = events[-1]
    assert isinstance(last, Answered)
    assert "".join(event.text for event in events if isinstance(event, Delta)) == last.text
    cited: list[Citation] = [event.citation for event in events if isinstance(event, Cited)]
    assert tuple(cited) == last.citations
    return events, last


async def test_a_model_answers_with_checked_citations(
    make_copilot: MakeCopilot, make_turn: MakeTurn, model: ScriptedModel
) -> None:
    model.rules = [Rule(".", Reply("A rush order costs 35 % more. [1] Dogs are not allowed in the office [2][7]."))]
    turn = make_turn(QUESTION)
    _, answered = await events_of(make_copilot(), turn)
    assert answered.text == "A rush order costs 35 % more. [1] Dogs are not allowed in the office [2]."
    assert [citation.quote for citation in answered.citations] == [
        "A rush order costs 35 % more than the standard fee.",
        "Dogs are not allowed in the office.",
    ]
    assert (answered.rung, answered.abstained) == ("full", False)
    assert (answered.sentences, answered.supported_sentences) == (2, 2)
    assert turn.trace.attributes["stripped_citations"] == 1
    assert turn.trace.answer is not None
    sent = model.requests[-1].json["messages"]
    assert FEES in sent[0]["content"]
    assert sent[-1]["content"] == QUESTION


async def test_a_citation_comes_before_the_text_that_needs_it(
    make_copilot: MakeCopilot, make_turn: MakeTurn, model: ScriptedModel
) -> None:
    model.rules = [Rule(".", Reply("Reports are kept for seven years [1]. Cats are allowed on Fridays [2]."))]
    events, _ = await events_of(make_copilot(), make_turn(QUESTION))
    assert [type(event).__name__ for event in events] == ["Cited", "Delta", "Cited", "Delta", "Answered"]


async def test_a_claim_that_is_not_borne_out_is_counted_and_named(
    make_copilot: MakeCopilot, make_turn: MakeTurn, model: ScriptedModel
) -> None:
    model.rules = [Rule(".", Reply("A rush order costs 45 % more [1]. Reports are kept for seven years."))]
    _, answered = await events_of(make_copilot(), make_turn(QUESTION))
    assert (answered.sentences, answered.supported_sentences) == (2, 1)
    ((start, end),) = answered.extra["unsupported"]
    assert answered.text[start:end] == "A rush order costs 45 % more [1]."
    assert answered.text.endswith("Reports are kept for seven years. [2]")


async def test_a_model_that_finds_nothing_abstains(
    make_copilot: MakeCopilot, make_turn: MakeTurn, model: ScriptedModel
) -> None:
    model.rules = [Rule(".", Reply("NOT_IN_DOCUMENTS"))]
    _, answered = await events_of(make_copilot(), make_turn("What is the salary?"))
    assert (answered.text, answered.abstained, answered.citations) == (ABSTENTION, True, ())


@pytest.mark.parametrize("reply", [failing(500), failing(400), Reply("")], ids=["down", "refuses", "says nothing"])
async def test_without_a_working_model_the_answer_is_verbatim(
    make_copilot: MakeCopilot, make_turn: MakeTurn, model: ScriptedModel, reply: Reply
) -> None:
    model.rules = [Rule(".", reply)]
    _, answered = await events_of(make_copilot(abstain_below=0.0), make_turn(QUESTION))
    assert answered.rung == "extractive"
    assert answered.degraded
    assert "A rush order costs 35 % more than the standard fee. [" in answered.text
    assert answered.confidence is not None
    for citation in answered.citations:
        assert citation.quote in FEES + DOGS
        assert FEES[citation.start - 100 : citation.end - 100] == citation.quote or citation.document_id == "document1"


async def test_a_stream_that_breaks_ends_in_an_error(
    make_copilot: MakeCopilot, make_turn: MakeTurn, model: ScriptedModel
) -> None:
    model.rules = [Rule(".", Reply("Reports are kept for seven years [1]. Cats are allowed on Fridays.", cut_after=9))]
    seen: list[AnswerEvent] = []

    async def read() -> None:
        async for event in make_copilot().answer(make_turn(QUESTION)):
            seen.append(event)

    with pytest.raises(StreamCut):
        await read()
    assert any(isinstance(event, Delta) for event in seen)
    assert not any(isinstance(event, Answered) for event in seen)


async def test_a_stream_that_breaks_before_a_sentence_was_said_leaves_the_answer_to_the_passages(
    make_copilot: MakeCopilot, make_turn: MakeTurn, model: ScriptedModel
) -> None:
    model.rules = [Rule(".", Reply("Reports are kept for seven years [1]. Cats are allowed on Fridays.", cut_after=3))]
    _, answered = await events_of(make_copilot(abstain_below=0.0), make_turn(QUESTION))
    assert answered.rung == "extractive"
    assert any("gateway.stream_cut" in part for part in answered.degraded)
    assert "Cats" not in answered.text


async def test_without_a_model_it_answers_or_says_no(make_copilot: MakeCopilot, make_turn: MakeTurn) -> None:
    _, answered = await events_of(make_copilot(has_model=False), make_turn(QUESTION))
    assert (answered.rung, answered.abstained, answered.degraded) == ("extractive", False, ())
    _, declined = await events_of(make_copilot(has_model=False, abstain_below=1.0), make_turn(QUESTION))
    assert (declined.text, declined.abstained, declined.citations) == (ABSTENTION, True, ())
    _, thanked = await events_of(make_copilot(has_model=False), make_turn("Thank you!"))
    assert (thanked.text, thanked.abstained, thanked.citations) == (WELCOME, True, ())


async def test_sentences_ranked_by_words_alone_are_told(
    make_copilot: MakeCopilot, make_turn: MakeTurn, searcher: FakeSearcher
) -> None:
    searcher.embed_failure = Unavailable("the embedder is away")
    _, answered = await events_of(make_copilot(has_model=False), make_turn(QUESTION))
    assert (answered.rung, answered.degraded) == ("extractive", ("sentence vectors",))


async def test_nothing_found_asks_no_model(
    make_copilot: MakeCopilot, make_turn: MakeTurn, searcher: FakeSearcher, model: ScriptedModel
) -> None:
    copilot = make_copilot()
    searcher.hits = ()
    _, answered = await events_of(copilot, make_turn(QUESTION))
    assert answered.abstained
    assert model.requests == []


async def test_a_cut_is_recovered_for_who_waits_for_all_of_it(
    make_copilot: MakeCopilot, make_turn: MakeTurn, model: ScriptedModel
) -> None:
    text = "Reports are kept for seven years [1]. Cats are allowed on Fridays [2]."
    model.rules = [Rule(".", Reply(text, cut_after=9), 1), Rule(".", Reply(text))]
    _, answered = await events_of(make_copilot(), replace(make_turn(QUESTION), is_whole=True))
    assert (answered.text, answered.rung) == (text, "full")
    assert len(model.chats) == 2


async def test_an_app_always_has_a_limit_of_tokens(
    make_copilot: MakeCopilot, make_turn: MakeTurn, model: ScriptedModel
) -> None:
    turn = make_turn(QUESTION)
    await events_of(make_copilot(), turn)
    assert "max_tokens" not in model.requests[-1].json, "an engine of this house has a limit of its own"
    asked = replace(turn, request=structs.replace(turn.request, max_tokens=5000))
    await events_of(make_copilot(), asked)
    assert model.requests[-1].json["max_tokens"] == 4096
    await events_of(make_copilot(answer_tokens_max=300), turn)
    assert model.requests[-1].json["max_tokens"] == 300
    asked = replace(turn, request=structs.replace(turn.request, max_tokens=50))
    await events_of(make_copilot(answer_tokens_max=300), asked)
    assert model.requests[-1].json["max_tokens"] == 50, "a caller may ask for less"
    asked = replace(turn, request=structs.replace(turn.request, max_tokens=5000))
    await events_of(make_copilot(answer_tokens_max=300), asked)
    assert model.requests[-1].json["max_tokens"] == 300, "and for no more"


async def test_an_answer_that_the_limit_cut_off_says_so_and_ends_with_a_whole_sentence(
    make_copilot: MakeCopilot, make_turn: MakeTurn, model: ScriptedModel
) -> None:
    text = "A rush order costs 35 % more [1]. Reports are kept for seven"
    model.rules = [Rule(".", Reply(text, finish="length"))]
    turn = make_turn(QUESTION)
    _, answered = await events_of(make_copilot(), turn)
    assert answered.text == f"A rush order costs 35 % more [1]. \n\n{CUT_NOTE}"
    assert (answered.finish_reason, answered.rung) == ("length", "partial")
    assert answered.degraded == ("model fast: apps.answer_cut",)
    assert answered.sentences == 1
    assert turn.trace.rung == "partial"


async def test_an_answer_without_a_whole_sentence_is_none(
    make_copilot: MakeCopilot, make_turn: MakeTurn, model: ScriptedModel
) -> None:
    model.rules = [Rule(".", Reply("A rush order is free", finish="length"))]
    _, answered = await events_of(make_copilot(), make_turn(QUESTION))
    assert (answered.rung, answered.finish_reason) == ("extractive", "stop")
    assert answered.degraded == ("model fast: apps.answer_cut",)
    assert "is free" not in answered.text


async def test_a_missing_leg_makes_the_answer_partial(
    make_copilot: MakeCopilot, make_turn: MakeTurn, searcher: FakeSearcher, model: ScriptedModel
) -> None:
    model.rules = [Rule(".", Reply("Reports are kept for seven years [1]."))]
    searcher.missing = ("vector",)
    _, answered = await events_of(make_copilot(), make_turn(QUESTION))
    assert (answered.rung, answered.degraded) == ("partial", ("vector",))


async def test_documents_that_cannot_be_searched_are_an_error(
    make_copilot: MakeCopilot, make_turn: MakeTurn, searcher: FakeSearcher
) -> None:
    searcher.failure = Unavailable("the database is away")
    with pytest.raises(KnowledgeUnavailable):
        await events_of(make_copilot(), make_turn(QUESTION))


async def test_late_vectors_do_not_hold_an_answer_back(
    make_copilot: MakeCopilot, make_turn: MakeTurn, searcher: FakeSearcher
) -> None:
    searcher.before_embed = asyncio.Event().wait
    _, answered = await events_of(make_copilot(has_model=False, abstain_below=0.0), make_turn(QUESTION, seconds=1.0))
    assert "35 %" in answered.text


async def test_no_question_is_refused(make_copilot: MakeCopilot, make_turn: MakeTurn) -> None:
    with pytest.raises(NoQuestion):
        await events_of(make_copilot(), make_turn("  "))


async def test_a_follow_up_is_searched_with_its_history(
    make_copilot: MakeCopilot, make_turn: MakeTurn, searcher: FakeSearcher
) -> None:
    await events_of(
        make_copilot(has_model=False), make_turn("What does a boathouse in Kvitnes cost?", "And how old is it?")
    )
    assert "Kvitnes" in searcher.queries[-1]


async def test_a_follow_up_is_judged_by_what_it_says_itself(make_copilot: MakeCopilot, make_turn: MakeTurn) -> None:
    copilot, before = make_copilot(has_model=False), "What does a rush order cost more than the standard fee?"
    _, declined = await events_of(copilot, make_turn(before, "What colour is it?"))
    assert declined.abstained
    _, answered = await events_of(copilot, make_turn(before, "And is it a standard order?"))
    assert "35 % more" in answered.text


async def test_a_caller_who_leaves_closes_the_model_call(
    make_copilot: MakeCopilot, make_turn: MakeTurn, model: ScriptedModel
) -> None:
    model.rules = [
        Rule(".", Reply("Reports are kept for seven years [1]. Cats are allowed on Fridays.", stall_after=10))
    ]
    answer = make_copilot().answer(make_turn(QUESTION))
    async for event in answer:
        if isinstance(event, Delta):
            break
    await answer.aclose()
    await asyncio.wait_for(model.requests[-1].closed.wait(), 60)


async def test_search_lists_passages(
    searcher: FakeSearcher, make_hit: MakeHit, make_turn: MakeTurn, guard: Guard
) -> None:
    app = SearchApp(AppConfig(kind="search", passages=2), searcher=searcher, guard=lambda: guard)
    _, nothing = await events_of(app, make_turn(QUESTION))
    assert (nothing.text, nothing.abstained) == (NOTHING_FOUND, True)
    searcher.hits = (make_hit(FEES), make_hit(DOGS), make_hit("Never shown."))
    _, answered = await events_of(app, make_turn(QUESTION))
    assert answered.text.splitlines()[0] == ("1. Title 0: A rush order costs 35 % more than the standard fee. [1]")
    assert len(answered.citations) == 2
    assert answered.rung == "full"
    with pytest.raises(NoQuestion):
        await events_of(app, make_turn(""))
