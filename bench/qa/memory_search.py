"""The product's search over a few thousand chunks in memory: same chunks, words, vectors and fusion, no database."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from qa_data import QuestionSet

from roadbed.kernel.label import PUBLIC
from roadbed.knowledge.analysis import analyse, query_words
from roadbed.knowledge.chunk import Chunk, chunk_document
from roadbed.knowledge.embed import MiniLmEmbedder
from roadbed.knowledge.fusion import FusionSettings, fuse, limit_per_document
from roadbed.knowledge.lexical import best, inverse_document_frequency
from roadbed.knowledge.lexical import term_weights as bm25_weights
from roadbed.knowledge.search import Hit, SearchResult

CANDIDATES = 200


class CachedEmbedder:
    """The default model behind a cache in memory that `save` keeps in a file."""

    def __init__(self, path: Path) -> None:
        self.model = MiniLmEmbedder()
        self._path = path
        self._known: dict[str, NDArray[np.float32]] = {}
        self._is_changed = False
        if path.is_file():
            stored = np.load(path)
            self._known = dict(zip(stored["keys"].tolist(), stored["vectors"], strict=True))

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors of texts."""
        keys = [hashlib.sha256(f"{self.model.digest}\0{text}".encode()).hexdigest()[:24] for text in texts]
        for key, text in zip(keys, texts, strict=True):
            if key not in self._known:
                self._known[key] = self.model.embed([text])[0]
                self._is_changed = True
        return np.stack([self._known[key] for key in keys]).astype(np.float32)

    async def embed_async(self, texts: Sequence[str]) -> Any:
        """`embed` as the apps call it."""
        return self.embed(texts)

    def save(self) -> None:
        """Keep what is known."""
        if self._is_changed:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            vectors = np.stack(list(self._known.values())).astype(np.float16)
            np.savez(self._path, keys=np.array(list(self._known)), vectors=vectors)


class MemoryCollection:
    """All chunks of a set, searchable."""

    def __init__(self, questions: QuestionSet, embedder: CachedEmbedder, *, has_titles: bool = False) -> None:
        self.embedder = embedder
        self.chunks: list[tuple[Chunk, int]] = []
        self.documents = questions.documents
        self._settings = FusionSettings()
        for number, document in enumerate(self.documents):
            text = f"# {document.title}\n\n{document.text}" if has_titles and document.blocks is None else document.text
            cut = chunk_document(document.id, text, document.blocks, embedder.model.token_count)
            self.chunks += [(chunk, number) for chunk in cut]
        texts = [chunk.embed_text() for chunk, _ in self.chunks]
        self.vectors = embedder.embed(texts)
        analysed = [analyse(text) for text in texts]
        lengths = np.array([item.length for item in analysed])
        entries: dict[str, list[tuple[int, int]]] = {}
        for number, item in enumerate(analysed):
            for term, count in item.frequencies.items():
                entries.setdefault(term, []).append((number, count))
        self._postings: dict[str, tuple[NDArray[np.int64], NDArray[np.float32]]] = {}
        for term, entry in entries.items():
            rows, counts = np.array(entry).T
            self._postings[term] = (rows, bm25_weights(counts, lengths[rows], float(lengths.mean())))

    def search(self, query: str, k: int = 20, without: frozenset[str] = frozenset()) -> SearchResult:
        """The best ``k`` chunks; documents named in ``without`` are as if they were not there."""
        words = np.zeros(len(self.chunks), dtype=np.float32)
        idfs: dict[str, float] = {}
        for (term, *_), factor in query_words(query):
            rows, weights = self._postings.get(term, (np.zeros(0, np.int64), np.zeros(0, np.float32)))
            idfs[term] = inverse_document_frequency(len(self.chunks), len(rows))
            words[rows] += weights * np.float32(idfs[term] * factor)
        cosines = self.vectors @ self.embedder.embed([query])[0]
        gone = np.array([self.documents[number].id in without for _, number in self.chunks])
        words[gone], cosines[gone] = 0.0, -1.0
        touched = np.flatnonzero(words > 0)
        chosen = set(best(touched, words[touched], CANDIDATES)[0].tolist())
        chosen |= set(best(np.arange(len(cosines)), cosines, CANDIDATES)[0].tolist())
        lexical = {chunk: float(words[chunk]) for chunk in chosen if words[chunk] > 0}
        vector = {chunk: float(cosines[chunk]) for chunk in chosen if cosines[chunk] > -1.0}
        owners = {chunk: self.chunks[chunk][1] for chunk in chosen}
        ranked = limit_per_document(fuse(vector, lexical, self._settings), owners)
        hits = []
        for item in ranked:
            chunk, number = self.chunks[item.chunk]
            if len(hits) == k:
                break
            document = self.documents[number]
            hits.append(
                Hit(
                    chunk_id=chunk.chunk_id,
                    document_id=document.id,
                    version="1",
                    title=document.title,
                    uri=document.id,
                    source="bench",
                    collection="bench",
                    text=chunk.text,
                    start=chunk.start,
                    end=chunk.end,
                    page=chunk.page,
                    location=chunk.location,
                    heading_path=chunk.heading_path,
                    score=item.score,
                    vector_score=item.vector_score,
                    lexical_score=item.lexical_score,
                    label=PUBLIC,
                )
            )
        return SearchResult(tuple(hits), term_weights=idfs)
