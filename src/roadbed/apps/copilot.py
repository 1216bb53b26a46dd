"""The app kind ``copilot``: answers from documents, each sentence checked and cited, or says that it cannot.

The ladder: a model over the found passages (``full``, ``fallback``, ``local``, ``partial``), else verbatim cited
sentences (``extractive``), else an honest "not in these documents", else a typed error. A sentence is released only
when it is whole and its citations were checked. The invariant: a stream that broke after its first text ends in an
error, never in an answer that looks complete.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Any

from msgspec import structs

from roadbed.apps.checked_answer import CheckedAnswer
from roadbed.apps.extract_text import compose
from roadbed.apps.extractive import extract
from roadbed.apps.followup import NoQuestion, question_of, search_query
from roadbed.apps.manifest import AppConfig
from roadbed.apps.prompting import build_messages, shown_passages
from roadbed.apps.retrieval import Retrieved, Searcher, retrieve
from roadbed.apps.sentence_stream import SentenceStream
from roadbed.apps.types import Answered, AnswerEvent, Cited, Delta, Rung, Turn, lowest_rung
from roadbed.gateway.errors import StreamCut
from roadbed.gateway.gateway import Gateway
from roadbed.gateway.route import Route
from roadbed.gateway.types import Call, Finished, RefusalDelta, TextDelta
from roadbed.guard.gate import Guard
from roadbed.kernel.deadline import Deadline
from roadbed.kernel.errors import RoadbedError, TooLarge, Unavailable
from roadbed.kernel.label import Label, join_labels

__all__ = ["Copilot", "NoQuestion"]

EXTRACT_RESERVE_S = 0.5
EXTRACT_SHARE = 0.8
EXTRACT_S_MAX = 2.0
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
    ) -> None:
        self._config = config
        self._prompt = prompt
        self._searcher = searcher
        self._gateway = gateway
        self._guard = guard
        self._route = route

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
        k = max(self._config.passages, EXTRACT_HITS)
        found = await retrieve(self._searcher, turn, self._config.knowledge, query, k)
        route = self._route()
        degraded = list(found.missing)
        if route is not None and found.result.hits:
            checked = CheckedAnswer(shown_passages(found.result.hits[: self._config.passages]))
            try:
                async with aclosing(self._with_model(turn, route, found, checked, degraded)) as events:
                    async for event in events:
                        yield event
            except StreamCut:
                raise
            except RoadbedError as error:
                if not checked.is_empty:
                    raise
                degraded.append(f"model {route.name}: {error.code}")
            if not checked.is_empty:
                return
        async with aclosing(self._without_model(turn, query, found, degraded)) as events:
            async for event in events:
                yield event

    async def _with_model(
        self, turn: Turn, route: Route, found: Retrieved, checked: CheckedAnswer, degraded: list[str]
    ) -> AsyncGenerator[AnswerEvent, None]:
        """The model's answer as it comes; no event at all when the model wrote nothing."""
        messages = build_messages(self._prompt, checked.hits, turn.request.messages)
        request = structs.replace(turn.request, messages=messages, tools=(), tool_choice=None, response_format=None)
        deadline = turn.deadline.reserving(EXTRACT_RESERVE_S)
        label = join_labels(hit.label for hit in checked.hits).join(turn.trace.label)
        call = Call(turn.principal, deadline, label, turn.trace)
        stream = SentenceStream()
        async with self._gateway.stream(route, request, call) as events:
            try:
                async for event in events:
                    turn.trace.rung = events.outcome.rung
                    if isinstance(event, TextDelta | RefusalDelta):
                        for sentence in stream.feed(event.text):
                            for out in checked.release(sentence):
                                yield out
                    elif isinstance(event, Finished):
                        checked.finish_reason = event.reason
            except RoadbedError:
                degraded += events.outcome.missing
                raise
        for sentence in stream.finish():
            for out in checked.release(sentence):
                yield out
        for out in checked.finish():
            yield out
        if checked.is_empty:
            degraded.append(f"model {route.name}: empty answer")
            return
        rung: Rung = events.outcome.rung
        degraded += events.outcome.missing
        if found.missing:
            rung = lowest_rung(rung, "partial")
        yield self._answered(turn, checked, rung, degraded)

    def _label_of_conversation(self, turn: Turn) -> Label:
        """The label of what the caller wrote. Raises `GuardBlocked`."""
        conversation = "\n\n".join(message.text() for message in turn.request.messages)
        return self._guard().label_of(conversation, team=turn.principal.team)

    def _answered(self, turn: Turn, checked: CheckedAnswer, rung: Rung, degraded: list[str]) -> Answered:
        turn.trace.answer = self._guard().for_record(checked.text)
        turn.trace.attributes["stripped_citations"] = checked.citer.stripped
        turn.trace.attributes["unsupported_sentences"] = len(checked.unsupported)
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
            extra={"unsupported": tuple(checked.unsupported)},
        )

    async def _without_model(
        self, turn: Turn, question: str, found: Retrieved, degraded: list[str]
    ) -> AsyncGenerator[AnswerEvent, None]:
        turn.trace.rung = "extractive"
        deadline = turn.deadline.share(EXTRACT_SHARE, at_most_s=EXTRACT_S_MAX)
        with turn.trace.span("extract", "app") as span:
            extracted = await extract(
                question, found.result, self._embed_until(deadline), threshold=self._config.abstain_below
            )
            span.set(sentences=len(extracted.sentences), confidence=round(extracted.confidence, 3))
        text, citations = compose(extracted)
        for citation in citations:
            yield Cited(citation)
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
        )

    def _embed_until(self, deadline: Deadline) -> Callable[[Sequence[str]], Any]:
        async def embed(texts: Sequence[str]) -> Any:
            try:
                async with asyncio.timeout(deadline.remaining_s()):
                    return await self._searcher.embed(texts)
            except TimeoutError:
                raise EmbeddingLate("the sentences' vectors did not come in time") from None

        return embed
