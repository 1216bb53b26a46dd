"""The app kind ``copilot``: answers from documents, each sentence checked and cited, or says that it cannot.

The ladder: a model over the found passages (``full``, ``fallback``, ``local``, ``partial``), else verbatim cited
sentences (``extractive``), else an honest "not in these documents", else a typed error. A sentence is released only
when it is whole and its citations were checked. The invariant: a stream that broke after its first text ends in an
error, never in an answer that looks complete.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from msgspec import structs

from roadbed.apps.citing import Citer, cite
from roadbed.apps.extractive import Extract, extract
from roadbed.apps.followup import question_of, search_query
from roadbed.apps.grounding import Verdict, best_support, check_sentence
from roadbed.apps.manifest import AppConfig
from roadbed.apps.prompting import NOT_FOUND, build_messages
from roadbed.apps.retrieval import Retrieved, Searcher, retrieve
from roadbed.apps.sentence_stream import SentenceStream
from roadbed.apps.types import Answered, AnswerEvent, Citation, Cited, Delta, Rung, Turn, lowest_rung
from roadbed.gateway.errors import StreamCut
from roadbed.gateway.gateway import Gateway
from roadbed.gateway.route import Route
from roadbed.gateway.types import Call, Finished, RefusalDelta, TextDelta
from roadbed.guard.gate import Guard
from roadbed.kernel.errors import InvalidRequest, RoadbedError
from roadbed.kernel.label import Label

EXTRACT_RESERVE_S = 0.5
EXTRACT_HITS = 20
ABSTENTION = "This is not in the documents that I can see."


class NoQuestion(InvalidRequest):
    """The conversation holds no user message to answer."""

    code = "apps.no_question"
    hint = "send at least one message with role user and text content"


@dataclass(slots=True)
class _Progress:
    """What has been said so far in one answer."""

    citer: Citer
    label: Label
    text: str = ""
    sentences: int = 0
    supported: int = 0
    finish_reason: str = "stop"
    abstained: bool = False


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

    async def answer(self, turn: Turn) -> AsyncIterator[AnswerEvent]:
        """Answer a turn. Raises `NoQuestion`, `KnowledgeUnavailable`, `StreamCut`."""
        question = question_of(turn.request.messages)
        if not question:
            raise NoQuestion("there is no question in the messages", param="messages")
        guard = self._guard()
        turn.trace.question = guard.for_record(question)
        query = search_query(turn.request.messages)
        k = max(self._config.passages, EXTRACT_HITS)
        found = await retrieve(self._searcher, turn, self._config.knowledge, query, k)
        label = found.label.join(guard.for_index(question, Label()).label)
        route = self._route()
        degraded = list(found.missing)
        if route is not None and found.result.hits:
            progress = _Progress(Citer(found.result.hits[: self._config.passages]), label)
            try:
                async for event in self._with_model(turn, route, found, progress, degraded):
                    yield event
                return
            except StreamCut:
                raise
            except RoadbedError as error:
                if progress.text:
                    raise
                degraded.append(f"model {route.name}: {error.code}")
        async for event in self._without_model(turn, question, found, degraded):
            yield event

    async def _with_model(
        self, turn: Turn, route: Route, found: Retrieved, progress: _Progress, degraded: list[str]
    ) -> AsyncIterator[AnswerEvent]:
        messages = build_messages(self._prompt, progress.citer.hits, turn.request.messages)
        request = structs.replace(turn.request, messages=messages, tools=(), tool_choice=None)
        deadline = turn.deadline.reserving(EXTRACT_RESERVE_S)
        call = Call(turn.principal, deadline, progress.label, turn.trace)
        stream = SentenceStream()
        async with self._gateway.stream(route, request, call) as events:
            async for event in events:
                turn.trace.rung = events.outcome.rung
                if isinstance(event, TextDelta | RefusalDelta):
                    for sentence in stream.feed(event.text):
                        for out in self._release(sentence, progress):
                            yield out
                elif isinstance(event, Finished):
                    progress.finish_reason = event.reason
            for out in self._release(stream.finish(), progress):
                yield out
        rung: Rung = events.outcome.rung
        degraded += [f"{attempt.endpoint}: {attempt.failure}" for attempt in events.outcome.attempts if attempt.failure]
        if found.missing:
            rung = lowest_rung(rung, "partial")
        yield self._answered(turn, progress, rung, degraded)

    def _release(self, sentence: str, progress: _Progress) -> list[AnswerEvent]:
        """Check one whole sentence and say it, or say that nothing was found when that is what the model wrote."""
        if progress.abstained or not sentence.strip():
            return [self._say(sentence, progress)] if sentence and progress.text and not progress.abstained else []
        if NOT_FOUND in sentence and not progress.text.strip():
            progress.abstained = True
            return [self._say(ABSTENTION, progress)]
        text, cited, fresh = progress.citer.rewrite(sentence.replace(NOT_FOUND, ""))
        verdict = check_sentence(text, [hit.text for hit in cited])
        if verdict is not Verdict.EXEMPT:
            progress.sentences += 1
            if verdict is not Verdict.SUPPORTED and not cited:
                support = best_support(text, [hit.text for hit in progress.citer.hits])
                if support is not None:
                    number, citation = progress.citer.number_of(progress.citer.hits[support], text)
                    fresh += [citation] if citation is not None else []
                    body = text.rstrip()
                    text = f"{body} [{number}]{text[len(body) :]}"
                    verdict = Verdict.SUPPORTED
            progress.supported += verdict is Verdict.SUPPORTED
        return [*(Cited(citation) for citation in fresh), self._say(text, progress)]

    @staticmethod
    def _say(text: str, progress: _Progress) -> Delta:
        progress.text += text
        return Delta(text)

    def _answered(self, turn: Turn, progress: _Progress, rung: Rung, degraded: list[str]) -> Answered:
        turn.trace.answer = self._guard().for_record(progress.text)
        turn.trace.attributes["stripped_citations"] = progress.citer.stripped
        return Answered(
            text=progress.text,
            citations=tuple(progress.citer.citations),
            rung=rung,
            degraded=tuple(dict.fromkeys(degraded)),
            usage=tuple(turn.trace.usage),
            abstained=progress.abstained,
            supported_sentences=progress.supported,
            sentences=progress.sentences,
            finish_reason=progress.finish_reason,
        )

    async def _without_model(
        self, turn: Turn, question: str, found: Retrieved, degraded: list[str]
    ) -> AsyncIterator[AnswerEvent]:
        turn.trace.rung = "extractive"
        with turn.trace.span("extract", "app") as span:
            threshold = self._config.abstain_below
            found_sentences = await extract(question, found.result, self._searcher.embed, threshold=threshold)
            span.set(sentences=len(found_sentences.sentences), confidence=round(found_sentences.confidence, 3))
        text, citations = compose(found_sentences)
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
            abstained=found_sentences.is_abstention,
            confidence=found_sentences.confidence,
            supported_sentences=len(found_sentences.sentences),
            sentences=len(found_sentences.sentences),
        )


def compose(found: Extract) -> tuple[str, tuple[Citation, ...]]:
    """Verbatim sentences as an answer, each with its citation; sentences of one span share a number."""
    if found.is_abstention:
        return ABSTENTION, ()
    lines: list[str] = []
    citations: list[Citation] = []
    for sentence in found.sentences:
        citation = cite(sentence.hit, len(citations) + 1, sentence.start, sentence.end)
        citations.append(citation)
        lines.append(f"{' '.join(citation.quote.split())} [{citation.number}]")
    return "\n\n".join(lines) if len(lines) > 1 else "".join(lines), tuple(citations)
