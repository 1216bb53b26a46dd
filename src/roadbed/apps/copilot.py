"""The app kind ``copilot``: answers from documents and tools, each sentence checked and cited, or says that it cannot.

The ladder: a model over the found passages (``full``, ``fallback``, ``local``, ``partial``), else verbatim cited
sentences (``extractive``), else an honest "not in these documents", else a typed error. A sentence is released only
when it is whole and its citations were checked. The invariant: a stream that broke after its first text ends in an
error, never in an answer that looks complete.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import asdict, replace
from typing import Any

from msgspec import structs

from roadbed.apps.answer_limit import CUT_NOTE, AnswerCut, limited, whole_sentences
from roadbed.apps.checked_answer import CheckedAnswer
from roadbed.apps.egress import TurnData
from roadbed.apps.extract_text import compose
from roadbed.apps.extractive import extract
from roadbed.apps.followup import NoQuestion, question_of, search_query
from roadbed.apps.links import LinkRule
from roadbed.apps.manifest import AppConfig
from roadbed.apps.prompting import before_question, build_messages, build_tool_messages, shown_passages
from roadbed.apps.retrieval import KnowledgeUnavailable, Retrieved, Searcher, retrieve
from roadbed.apps.sentence_stream import SentenceStream
from roadbed.apps.small_talk import small_talk
from roadbed.apps.tool_asking import WITHOUT_TOOLS, ToolAsking, data_of, released
from roadbed.apps.tool_offer import NO_TOOLS, AppTools, Offer
from roadbed.apps.tool_rounds import ToolRounds
from roadbed.apps.types import Answered, AnswerEvent, Cited, Delta, Rung, Turn, lowest_rung
from roadbed.gateway.gateway import Gateway
from roadbed.gateway.route import Route
from roadbed.gateway.types import Answer, Call, ChatRequest, Finished, RefusalDelta, TextDelta
from roadbed.guard.gate import Guard
from roadbed.kernel.deadline import Deadline
from roadbed.kernel.errors import RoadbedError, TooLarge, Unavailable
from roadbed.kernel.label import PUBLIC, Label, join_labels
from roadbed.knowledge.search import Hit, SearchResult

__all__ = ["Copilot", "NoQuestion"]

EXTRACT_RESERVE_S = 0.5
EXTRACT_SHARE = 0.8
EXTRACT_S_MAX = 5.0  # many who ask at once get the same sentences as one who asks alone, if later
EXTRACT_HITS = 20
CONVERSATION_CHARACTERS_MAX = 400_000


class EmbeddingLate(Unavailable):
    """The vectors of sentences did not come within their share of the deadline; words alone rank them then."""

    code = "apps.embedding_late"


class ConversationTooLong(TooLarge):
    """The messages to an app are longer than it reads; documents belong into a source, not into a question."""

    code = "apps.conversation_too_long"
    hint = "send the last turns of the conversation alone"


class Copilot:
    """One release of a copilot. ``route`` finds the model route to ask just now; None means that there is none."""

    def __init__(
        self,
        config: AppConfig,
        prompt: str,
        *,
        searcher: Searcher,
        gateway: Gateway,
        guard: Callable[[], Guard],
        route: Callable[[], Route | None],
        tools: AppTools | None = None,
    ) -> None:
        self._config = config
        self._prompt = prompt
        self._searcher = searcher
        self._gateway = gateway
        self._guard = guard
        self._route = route
        self._tools = tools

    async def answer(self, turn: Turn) -> AsyncGenerator[AnswerEvent, None]:
        """Answer a turn. Raises `NoQuestion`, `KnowledgeUnavailable`, `StreamCut`."""
        question = question_of(turn.request.messages)
        if not question:
            raise NoQuestion("there is no question in the messages", param="messages")
        if sum(len(message.text()) for message in turn.request.messages) > CONVERSATION_CHARACTERS_MAX:
            raise ConversationTooLong(f"the messages are longer than {CONVERSATION_CHARACTERS_MAX} characters")
        turn.trace.question = self._guard().for_record(question)
        label = await asyncio.to_thread(self._label_of_conversation, turn)
        turn.trace.label = turn.trace.label.join(label)
        query = search_query(turn.request.messages)
        route = self._route()
        offer = self._tools.offer(turn.principal) if self._tools is not None and route is not None else NO_TOOLS
        found = await self._found(turn, query, offer)
        degraded = [*found.missing, *(f"tool {name}: changed since the release" for name in offer.changed)]
        talk: ToolRounds | None = None
        if route is not None and (found.result.hits or offer.tools):
            checked = CheckedAnswer(shown_passages(found.result.hits[: self._config.passages]))
            data = data_of(turn.request.messages, join_labels(hit.label for hit in checked.hits), checked.hits, offer)
            talk = self._talk(turn, offer, data, len(checked.hits))
            checked.plain = self._link_rule(checked, data, talk).plain
            way = self._with_model(turn, route, found, checked, degraded, talk)
            try:
                async with aclosing(way) as events:
                    async for event in events:
                        yield event
            except RoadbedError as error:
                if not checked.is_empty:  # a part was said already, so no other answer can stand in its place
                    raise
                degraded.append(f"model {route.name}: {error.code}")
            if not checked.is_empty:
                return
        async with aclosing(self._without_model(turn, query, question, found, degraded, talk)) as events:
            async for event in events:
                yield event

    async def _found(self, turn: Turn, query: str, offer: Offer) -> Retrieved:
        """The passages; where tools can answer too, their absence is told and no error."""
        if not self._config.knowledge:
            missing = () if offer.tools else ("tools: no model that could ask for them",)
            return Retrieved(SearchResult(()), PUBLIC, missing)
        try:
            return await retrieve(
                self._searcher, turn, self._config.knowledge, query, max(self._config.passages, EXTRACT_HITS)
            )
        except KnowledgeUnavailable as error:
            if not offer.tools:
                raise
            return Retrieved(SearchResult(()), PUBLIC, (f"documents: {error.code}",))

    def _talk(self, turn: Turn, offer: Offer, data: TurnData, passages: int) -> ToolRounds | None:
        if self._tools is None or not offer.tools:
            return None
        config = self._config
        return ToolRounds(turn, self._tools, offer, data, passages + 1, config.tool_rounds, config.tool_calls_max)

    def _link_rule(self, checked: CheckedAnswer, data: TurnData, talk: ToolRounds | None) -> LinkRule:
        may_let_out = (lambda: talk.data.may_let_out) if talk is not None else (lambda: data.may_let_out)
        return LinkRule(self._config.links, checked.evidence, talk is not None, may_let_out)

    async def _with_model(
        self,
        turn: Turn,
        route: Route,
        found: Retrieved,
        checked: CheckedAnswer,
        degraded: list[str],
        talk: ToolRounds | None,
    ) -> AsyncGenerator[AnswerEvent, None]:
        """The model's answer as it comes; no event of an answer when the model wrote nothing."""
        passages = tuple(hit for hit in checked.hits if isinstance(hit, Hit))
        label = join_labels(hit.label for hit in checked.hits).join(turn.trace.label)
        rungs: list[Rung] = []
        messages = build_messages(self._prompt, passages, turn.request.messages)
        whole: Answer | None = None
        is_partial = False
        if talk is not None:
            prompt = build_tool_messages(self._prompt, passages, turn.request.messages)
            asking = ToolAsking(
                self._gateway, route, talk, prompt, label, EXTRACT_RESERVE_S, self._config.answer_tokens_max
            )
            async for progress in asking.run():
                yield progress
            rungs += asking.rungs
            is_partial = talk.has_failed or bool(talk.offer.changed) or not asking.takes_tools
            degraded += [*asking.missing, *talk.missing()]
            whole = asking.answer
            checked.add_evidence(talk.rows)
            label = label.join(talk.data.label)
            if talk.exchange:
                messages = before_question(prompt, f"Results of tools:\n{talk.results()}\n\n")
                route = replace(route, cache=None)
            elif whole is None and not passages:
                return  # no tools can be asked for, and there is nothing to answer from
        if found.missing or is_partial:
            rungs.append("partial")
        if whole is not None:
            turn.trace.rung = lowest_rung(*rungs)
            events = released(whole, checked)
        else:
            request = limited(turn.request, self._config.answer_tokens_max)
            request = structs.replace(request, messages=messages, **WITHOUT_TOOLS)
            events = self._streamed(turn, route, request, label, checked, degraded, rungs)
        async with aclosing(events) as pieces:
            async for event in pieces:
                yield event
        for out in checked.finish():
            yield out
        is_cut = checked.finish_reason == "length" and not checked.abstained
        if checked.is_empty:
            degraded.append(f"model {route.name}: {AnswerCut.code if is_cut else 'empty answer'}")
            return
        if is_cut:
            rungs.append("partial")
            degraded.append(f"model {route.name}: {AnswerCut.code}")
            for out in checked.note(CUT_NOTE):
                yield out
        if talk is not None:
            for out in checked.note(talk.approvals_note()):
                yield out
        yield self._answered(turn, checked, lowest_rung(*rungs), degraded, talk)

    async def _streamed(
        self,
        turn: Turn,
        route: Route,
        request: ChatRequest,
        label: Label,
        checked: CheckedAnswer,
        degraded: list[str],
        rungs: list[Rung],
    ) -> AsyncGenerator[AnswerEvent, None]:
        """An answer sentence by sentence, as the model writes it."""
        call = Call(turn.principal, turn.deadline.reserving(EXTRACT_RESERVE_S), label, turn.trace)
        stream = SentenceStream()
        async with self._gateway.stream(route, request, call, is_whole=turn.is_whole) as events:
            try:
                async for event in events:
                    turn.trace.rung = lowest_rung(*rungs, events.outcome.rung)
                    if isinstance(event, TextDelta | RefusalDelta):
                        for sentence in stream.feed(event.text):
                            for out in checked.release(sentence):
                                yield out
                    elif isinstance(event, Finished):
                        checked.finish_reason = event.reason
            except RoadbedError:
                degraded += events.outcome.missing
                raise
        for sentence in whole_sentences(stream.finish(), checked.finish_reason):
            for out in checked.release(sentence):
                yield out
        rungs.append(events.outcome.rung)
        degraded += events.outcome.missing

    def _label_of_conversation(self, turn: Turn) -> Label:
        """The label of what the caller wrote. Raises `GuardBlocked`."""
        conversation = "\n\n".join(message.text() for message in turn.request.messages)
        return self._guard().label_of(conversation, team=turn.principal.team)

    def _answered(
        self, turn: Turn, checked: CheckedAnswer, rung: Rung, degraded: list[str], talk: ToolRounds | None
    ) -> Answered:
        turn.trace.answer = self._guard().for_record(checked.text)
        turn.trace.rung = rung
        turn.trace.attributes["stripped_citations"] = checked.citer.stripped
        turn.trace.attributes["unsupported_sentences"] = len(checked.unsupported)
        approvals = {"approvals": tuple(talk.approvals)} if talk is not None and talk.approvals else {}
        return Answered(
            text=checked.text,
            citations=tuple(checked.citer.citations),
            rung=rung,
            degraded=tuple(dict.fromkeys(degraded)),
            usage=tuple(turn.trace.usage),
            abstained=checked.abstained,
            supported_sentences=checked.supported,
            sentences=checked.sentences,
            finish_reason=checked.finish_reason,
            extra={"unsupported": tuple(checked.unsupported), **approvals},
        )

    async def _without_model(
        self, turn: Turn, query: str, question: str, found: Retrieved, degraded: list[str], talk: ToolRounds | None
    ) -> AsyncGenerator[AnswerEvent, None]:
        """Verbatim sentences; ``query`` is the question with what it leans on."""
        turn.trace.rung = "extractive"
        deadline = turn.deadline.share(EXTRACT_SHARE, at_most_s=EXTRACT_S_MAX)
        with turn.trace.span("extract", "app") as span:
            extracted = await extract(
                query,
                found.result,
                self._embed_until(deadline),
                threshold=self._config.abstain_below,
                said=question if query != question else None,
            )
            signals = asdict(extracted.signals) if extracted.signals is not None else {}
            span.set(
                sentences=len(extracted.sentences),
                confidence=round(extracted.confidence, 3),
                **{name: round(value, 3) for name, value in signals.items()},
            )
        if extracted.by_words:
            degraded.append("sentence vectors")
        text, citations = compose(extracted)
        if extracted.is_abstention:
            text = small_talk(question) or text
        for citation in citations:
            yield Cited(citation)
        approvals = tuple(talk.approvals) if talk is not None else ()
        if talk is not None and approvals:
            text = f"{text}\n\n{talk.approvals_note()}"
        yield Delta(text)
        turn.trace.answer = self._guard().for_record(text)
        yield Answered(
            text=text,
            citations=citations,
            rung="extractive",
            degraded=tuple(dict.fromkeys(degraded)),
            usage=tuple(turn.trace.usage),
            abstained=extracted.is_abstention,
            confidence=extracted.confidence,
            supported_sentences=len(extracted.sentences),
            sentences=len(extracted.sentences),
            extra={"approvals": approvals} if approvals else {},
        )

    def _embed_until(self, deadline: Deadline) -> Callable[[Sequence[str]], Any]:
        async def embed(texts: Sequence[str]) -> Any:
            try:
                async with asyncio.timeout(deadline.remaining_s()):
                    return await self._searcher.embed(texts)
            except TimeoutError:
                raise EmbeddingLate("the sentences' vectors did not come in time") from None

        return embed
