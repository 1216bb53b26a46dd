"""The embedding seam: what a vector may depend on, and that queries do not wait behind ingest."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from roadbed.knowledge.embed import (
    QUERIES_WAITING_MAX,
    Embedder,
    EmbedderBusy,
    EmbeddingNotFinite,
    EmbeddingWorker,
    MiniLmEmbedder,
    encodable,
    vector_key,
)
from roadbed.testing.embedder import ScriptedEmbedder


@pytest.fixture(scope="module")
def minilm() -> MiniLmEmbedder:
    embedder = MiniLmEmbedder()
    embedder.warm()
    return embedder


def test_similarities_are_those_of_the_model_card(minilm: MiniLmEmbedder) -> None:
    texts = ["That is a happy person", "That is a happy dog", "That is a very happy person", "Today is a sunny day"]
    vectors = minilm.embed(texts)
    assert vectors.shape == (4, 384)
    assert vectors.dtype == np.float32
    assert vectors[1:] @ vectors[0] == pytest.approx([0.695, 0.943, 0.257], abs=0.05)  # int8 moves short texts by .03
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(4), abs=1e-5)


def test_vector_does_not_depend_on_its_batch(minilm: MiniLmEmbedder) -> None:
    texts = ["short", "a much longer text about the flow of air over a slender wing at supersonic speed", "x y z"]
    together = minilm.embed(texts)
    alone = np.concatenate([minilm.embed([text]) for text in texts])
    assert np.array_equal(together, alone)


def test_window_is_256_tokens_not_the_128_of_the_shipped_tokenizer(minilm: MiniLmEmbedder) -> None:
    words = ["river"] * 150
    changed = [*words[:-1], "budget"]
    assert minilm.token_count(" ".join(words)) == 150
    first, second = minilm.embed([" ".join(words), " ".join(changed)])
    assert not np.array_equal(first, second)
    long = ["river"] * 254
    same = minilm.embed([" ".join(long), " ".join([*long, "budget"])])
    assert np.array_equal(same[0], same[1])
    assert minilm.tokens_max == 254


@pytest.mark.parametrize("text", ["", " \n\t", "\x00\x01"])
def test_text_without_tokens_has_no_vector(minilm: MiniLmEmbedder, text: str) -> None:
    assert not minilm.embed([text]).any()


@pytest.mark.parametrize("text", ["a\ud800b", "tab\tand\x07bell", "word " * 20_000, "x" * 100_000, "日本語の文章"])
def test_odd_text_has_a_vector(minilm: MiniLmEmbedder, text: str) -> None:
    assert np.linalg.norm(minilm.embed([text])[0]) == pytest.approx(1.0, abs=1e-5)


def test_lone_surrogate_is_replaced() -> None:
    assert encodable("a\udfffb") == "a\ufffdb"
    assert encodable("plain é") == "plain é"


def test_vector_key_separates_models_and_texts() -> None:
    keys = {vector_key("a", "text"), vector_key("b", "text"), vector_key("a", "texts"), vector_key("a", "\ud800")}
    assert len(keys) == 4
    assert all(len(key) == 32 for key in keys)


class _Broken(ScriptedEmbedder):
    """Gives NaN for one text, as a damaged model would, and reports it as the seam says."""

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        bad = [place for place, text in enumerate(texts) if text == "bad"]
        if bad:
            raise EmbeddingNotFinite(bad)
        return super().embed(texts)


async def test_worker_reports_the_place_in_the_whole_call() -> None:
    worker = EmbeddingWorker(_Broken(8))
    try:
        with pytest.raises(EmbeddingNotFinite) as caught:
            await worker.embed_documents(["good"] * 19 + ["bad"])
        assert caught.value.positions == (19,)
    finally:
        await worker.aclose()


async def test_worker_gives_the_embedders_vectors() -> None:
    embedder = ScriptedEmbedder(16)
    worker = EmbeddingWorker(embedder)
    try:
        texts = [f"text number {number}" for number in range(21)]
        assert np.array_equal(await worker.embed_documents(texts), embedder.embed(texts))
        assert np.array_equal(await worker.embed_query("wing"), embedder.embed(["wing"])[0])
        assert (await worker.embed_documents([])).shape == (0, 16)
    finally:
        await worker.aclose()


class _Gated(ScriptedEmbedder):
    """Documents wait at a gate; queries (single short texts marked so) pass, or wait at a gate of their own."""

    def __init__(self) -> None:
        super().__init__(8)
        self.document_gate = threading.Event()
        self.query_gate = threading.Event()
        self.documents_begun = threading.Event()

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        if texts[0].startswith("document"):
            self.documents_begun.set()
            assert self.document_gate.wait(60)
        if texts[0].startswith("slow query"):
            assert self.query_gate.wait(60)
        return super().embed(texts)


async def test_query_does_not_wait_behind_ingest() -> None:
    embedder = _Gated()
    worker = EmbeddingWorker(embedder)
    try:
        ingest = asyncio.create_task(worker.embed_documents([f"document {number}" for number in range(40)]))
        assert await asyncio.to_thread(embedder.documents_begun.wait, 30)
        assert (await worker.embed_query("query")).shape == (8,)
        assert not ingest.done()
        embedder.document_gate.set()
        assert (await ingest).shape == (40, 8)
    finally:
        embedder.document_gate.set()
        await worker.aclose()


async def test_cancelled_ingest_stops_after_its_piece() -> None:
    embedder = _Gated()
    worker = EmbeddingWorker(embedder)
    try:
        ingest = asyncio.create_task(worker.embed_documents([f"document {number}" for number in range(400)]))
        assert await asyncio.to_thread(embedder.documents_begun.wait, 30)
        ingest.cancel()
        with pytest.raises(asyncio.CancelledError):
            await ingest
        embedder.document_gate.set()
    finally:
        embedder.document_gate.set()
        await worker.aclose()
    assert embedder.texts_embedded <= 8


async def test_waiting_queries_are_bounded() -> None:
    embedder = _Gated()
    worker = EmbeddingWorker(embedder)
    try:
        waiting = [asyncio.create_task(worker.embed_query("slow query")) for _ in range(QUERIES_WAITING_MAX)]
        await asyncio.sleep(0)
        with pytest.raises(EmbedderBusy):
            await worker.embed_query("one more")
        embedder.query_gate.set()
        assert len(await asyncio.gather(*waiting)) == QUERIES_WAITING_MAX
        assert (await worker.embed_query("one more")).shape == (8,)
    finally:
        embedder.query_gate.set()
        await worker.aclose()


def test_scripted_embedder_is_deterministic_and_tells_near_from_far() -> None:
    embedder: Embedder = ScriptedEmbedder(scripted={"fixed": [1.0] * 384})
    near, other, far, blank, fixed = embedder.embed(
        ["red apple pie", "Apple pie, red", "quantum chromodynamics", "", "fixed"]
    )
    assert np.allclose(near, other)
    assert near @ far < 0.3
    assert not blank.any()
    assert fixed[0] == pytest.approx(384**-0.5)
    assert embedder.token_count("red apple pie") == 3
