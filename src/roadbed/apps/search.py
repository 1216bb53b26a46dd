"""The app kind ``search``: the best passages themselves, ranked and cited, no text of its own."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable

from roadbed.apps.citing import best_span, cite
from roadbed.apps.extract_text import readable
from roadbed.apps.followup import NoQuestion, question_of, search_query
from roadbed.apps.manifest import AppConfig
from roadbed.apps.retrieval import Searcher, retrieve
from roadbed.apps.types import Answered, AnswerEvent, Cited, Delta, Rung, Turn
from roadbed.guard.gate import Guard

NOTHING_FOUND = "Nothing was found in the documents that I can see."


class SearchApp:
    """One release of a search app: as a chat model it lists passages, each as a line with its citation."""

    def __init__(self, config: AppConfig, *, searcher: Searcher, guard: Callable[[], Guard]) -> None:
        self._config = config
        self._searcher = searcher
        self._guard = guard

    async def answer(self, turn: Turn) -> AsyncGenerator[AnswerEvent, None]:
        """List the best passages. Raises `NoQuestion`, `KnowledgeUnavailable`."""
        question = question_of(turn.request.messages)
        if not question:
            raise NoQuestion("there is no question in the messages", param="messages")
        turn.trace.question = self._guard().for_record(question)
        query = search_query(turn.request.messages)
        found = await retrieve(self._searcher, turn, self._config.knowledge, query, self._config.passages)
        citations = []
        lines = []
        for number, hit in enumerate(found.result.hits, 1):
            start, end = best_span(hit.text, question, hit.heading_path)
            citation = cite(hit, number, start, end)
            citations.append(citation)
            lines.append(f"{number}. {hit.title}: {readable(citation.quote)} [{number}]")
            yield Cited(citation)
        text = "\n".join(lines) or NOTHING_FOUND
        yield Delta(text)
        turn.trace.answer = self._guard().for_record(text)
        rung: Rung = "partial" if found.missing else "full"
        yield Answered(text, tuple(citations), rung, found.missing, abstained=not citations)
