"""Who is embedded first: people before documents, questions whole one after the other, no document for ever last."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from roadbed.knowledge.embed import PIECE_TEXTS
from roadbed.knowledge.embedding_queue import DOCUMENT_WAIT_S_MAX, PEOPLE_THREADS, EmbeddingQueue, Kind, Piece, choose
from roadbed.testing.embedder import ScriptedEmbedder

KINDS: tuple[Kind, ...] = ("query", "sentences", "document")
_PIECES = st.lists(st.builds(Piece, st.sampled_from(KINDS), st.integers(0, 9), st.floats(0, 3)), max_size=12)
_RUNNING = st.fixed_dictionaries(
    {"query": st.integers(0, 1), "sentences": st.integers(0, 1), "document": st.integers(0, 1)}
)


@given(_PIECES, _RUNNING, st.floats(0, 4))
def test_what_is_chosen_goes_first_by_every_rule(waiting: list[Piece], running: dict[Kind, int], now: float) -> None:
    chosen = choose(waiting, running, now)
    busy = running["query"] + running["sentences"]
    people = [piece for piece in waiting if piece.kind != "document"]
    documents = [piece for piece in waiting if piece.kind == "document"]
    if people and busy < PEOPLE_THREADS:
        queries = [piece for piece in people if piece.kind == "query"]
        assert chosen is not None
        assert chosen in (queries or people)
        assert chosen.order == min(piece.order for piece in queries or people)
    elif documents and not running["document"]:
        oldest = min(piece.since for piece in documents)
        if people or busy:
            assert (chosen is not None) == (now - oldest >= DOCUMENT_WAIT_S_MAX)
        else:
            assert chosen is not None
        assert chosen is None or (chosen.kind == "document" and chosen.since == oldest)
    else:
        assert chosen is None


@given(st.lists(st.sampled_from(KINDS), min_size=1, max_size=30))
def test_everything_is_chosen_in_the_end_and_no_thread_is_asked_for_twice(kinds: list[Kind]) -> None:
    waiting = [Piece(kind, order, 0.0) for order, kind in enumerate(kinds)]
    running: Counter[Kind] = Counter()
    now = 0.0
    while waiting or running.total():
        while (piece := choose(waiting, running, now)) is not None:
            waiting.remove(piece)
            running[piece.kind] += 1
            assert running["document"] <= 1
            assert running["query"] + running["sentences"] <= PEOPLE_THREADS
        assert running.total(), "nothing runs and nothing may begin"
        running[next(kind for kind in KINDS if running[kind])] -= 1
        now += 0.1


def test_questions_without_end_do_not_stop_documents() -> None:
    document = Piece("document", 1, 0.0)
    sentences = [Piece("sentences", order, 5.0) for order in (2, 3)]
    full: dict[Kind, int] = {"sentences": PEOPLE_THREADS}
    assert choose([document, *sentences], full, DOCUMENT_WAIT_S_MAX - 0.01) is None
    assert choose([document, *sentences], full, DOCUMENT_WAIT_S_MAX) is document


async def test_a_document_is_begun_when_its_time_is_up_though_nothing_ends() -> None:
    queue = EmbeddingQueue()
    queue.document_wait_s = 0.05
    people_may_end = threading.Event()
    try:
        asking = asyncio.create_task(queue.run("query", [people_may_end.wait]))
        await asyncio.sleep(0)
        assert await queue.run("document", [lambda: "read"]) == ["read"]
        assert not asking.done()
    finally:
        people_may_end.set()
        await queue.aclose()


async def test_a_call_that_is_given_up_begins_no_further_piece() -> None:
    queue = EmbeddingQueue()
    may_end = threading.Event()
    begun: list[int] = []
    try:

        def begin(number: int) -> bool:
            begun.append(number)
            return may_end.wait(30)

        asking = asyncio.create_task(queue.run("sentences", [partial(begin, number) for number in range(6)]))
        await asyncio.sleep(0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        may_end.set()
        assert await queue.run("query", [lambda: "next"]) == ["next"]
        assert sorted(begun) == list(range(PEOPLE_THREADS))
    finally:
        may_end.set()
        await queue.aclose()


class _Recorded(ScriptedEmbedder):
    """Notes what it embeds; a piece of a document and those of people wait until they may go on."""

    def __init__(self) -> None:
        super().__init__()
        self.order: list[str] = []
        self.is_reading = threading.Event()
        self.may_go = threading.Event()
        self.people_may_go = threading.Event()

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        kind = texts[0].split()[0] if texts[0].startswith("asked") else "document"
        if kind == "document":
            self.is_reading.set()
            assert self.may_go.wait(30)
        if kind != "document":
            assert self.people_may_go.wait(30)
        self.order.append(kind)
        return super().embed(texts)


async def test_four_who_ask_while_documents_are_read_are_answered_before_the_next_document(make_bench: Any) -> None:
    embedder = _Recorded()
    async with make_bench(embedder=embedder) as bench:
        bench.worker.queue.document_wait_s = 60.0  # however slow this machine is
        try:
            parts = (f"# Part {part}\n\n" + f"Word {part} of many. " * 50 for part in range(100))
            bench.write("long.md", "\n\n".join(parts))
            reading = asyncio.create_task(bench.configure())
            assert await asyncio.to_thread(embedder.is_reading.wait, 30)

            sentences = [[f"asked{who} sentence {number}" for number in range(25)] for who in range(4)]
            asking = [asyncio.create_task(bench.knowledge.embed(texts)) for texts in sentences]
            await asyncio.sleep(0)
            embedder.may_go.set()
            for _ in range(3_000):
                if "document" in (waiting.piece.kind for waiting in bench.worker.queue.waiting):
                    break  # its next piece may not begin
                await asyncio.sleep(0.01)
            embedder.people_may_go.set()
            answers = await asyncio.gather(*asking)
            await reading
        finally:
            embedder.may_go.set()
            embedder.people_may_go.set()

        for texts, vectors in zip(sentences, answers, strict=True):
            assert np.array_equal(vectors, ScriptedEmbedder().embed(texts))
        pieces = -(-25 // PIECE_TEXTS)
        last = max(place for place, kind in enumerate(embedder.order) if kind.startswith("asked"))
        assert embedder.order[: last + 1].count("document") == 1  # the one that the model had already
        assert sum(kind.startswith("asked") for kind in embedder.order) == 4 * pieces
        begun = embedder.order[: last + 1]
        whole_at = [len(begun) - begun[::-1].index(f"asked{who}") for who in range(4)]
        assert whole_at[0] < whole_at[2]
        assert whole_at[1] < whole_at[3]
