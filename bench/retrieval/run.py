"""Quality of search on judged collections: words, vectors, both fused; bm25s beside them.

``python bench/retrieval/run.py DATA_DIR [--collections cranfield cisi scifact] [--split train] [--sweep]``: DATA_DIR
holds one folder per collection. It measures the scoring itself, in memory and over whole documents, with the analyzer,
the default model and the fusion that the server uses, and with weights in one byte, where the server's are exact.
Exit 1 when a floor is missed.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ir_data import Judged, read_collection
from ir_metrics import RECALL_DEPTH, Evaluation, Run, evaluate, paired_bootstrap
from numpy.typing import NDArray

from roadbed.knowledge.analysis import ANALYZER, analyse, query_words
from roadbed.knowledge.embed import MiniLmEmbedder
from roadbed.knowledge.fusion import FusionSettings, fuse, missing_scores
from roadbed.knowledge.lexical import (
    Bm25,
    ForwardRow,
    TermPostings,
    exact_scores,
    inverse_document_frequency,
    quantise,
    score_terms,
    term_weights,
)

LEXICAL_FLOORS = {"cranfield": 0.36, "cisi": 0.34, "scifact": 0.65}
HYBRID_FLOORS = {"cranfield": 0.40, "cisi": 0.43}
CANDIDATES = 200

Scores = dict[int, float]


@dataclass
class WordIndex:
    """The lexical leg in memory: what the tables hold, as arrays."""

    parameters: Bm25
    average_length: float
    idf_of_term: dict[int, float]
    term_ids: dict[str, int]
    postings: list[TermPostings]
    rows: list[ForwardRow]

    @classmethod
    def build(cls, texts: Sequence[str], parameters: Bm25) -> WordIndex:
        """Analyse every text and lay out its postings, quantised."""
        term_ids: dict[str, int] = {}
        entries: list[list[tuple[int, int]]] = []
        rows = []
        for number, text in enumerate(texts):
            analysed = analyse(text)
            ids = []
            for term, count in analysed.frequencies.items():
                term_id = term_ids.setdefault(term, len(term_ids))
                if term_id == len(entries):
                    entries.append([])
                entries[term_id].append((number, count))
                ids.append(term_id)
            counts = np.fromiter(analysed.frequencies.values(), dtype=np.int32)
            rows.append(ForwardRow(analysed.length, np.array(ids, dtype=np.int64), counts))
        lengths = np.array([row.length for row in rows])
        average = float(lengths.mean())
        idfs = {number: inverse_document_frequency(len(rows), len(entry)) for number, entry in enumerate(entries)}
        postings = []
        for number, entry in enumerate(entries):
            chunks, counts = np.array(entry).T
            weights = term_weights(counts, lengths[chunks], average, parameters)
            postings.append(TermPostings(idfs[number], chunks, quantise(weights, parameters)))
        return cls(parameters, average, idfs, term_ids, postings, rows)

    def _query(self, query: str) -> dict[int, float]:
        words = query_words(query)
        found = {self.term_ids[term]: factor for (term, *_), factor in words if term in self.term_ids}
        return {term_id: factor * self.idf_of_term[term_id] for term_id, factor in found.items()}

    def search(self, query: str) -> Scores:
        """The best candidates, found by impacts and rescored exactly, as the server does."""
        asked = [self.postings[term_id]._replace(idf=idf) for term_id, idf in self._query(query).items()]
        found = score_terms(asked, len(self.rows), 2 * CANDIDATES, parameters=self.parameters)
        return self.score(query, [int(chunk) for chunk in found.chunks[:CANDIDATES]])

    def score(self, query: str, chunks: Sequence[int]) -> Scores:
        """Exact scores of given chunks."""
        rows = [self.rows[chunk] for chunk in chunks]
        scores = exact_scores(rows, self._query(query), self.average_length, self.parameters)
        return {chunk: float(score) for chunk, score in zip(chunks, scores, strict=True)}


def document_vectors(embedder: MiniLmEmbedder, texts: Sequence[str], cache: Path) -> NDArray[np.float32]:
    """Vectors of all texts, kept in ``cache`` under the hash of model and texts: embedding is most of the run."""
    name = hashlib.sha256("\0".join([embedder.digest, *texts]).encode()).hexdigest()[:24]
    path = cache / f"{name}.npy"
    if path.is_file():
        return np.asarray(np.load(path), dtype=np.float32)
    vectors = embedder.embed(texts)
    cache.mkdir(parents=True, exist_ok=True)
    np.save(path, vectors)
    return vectors


def ranked(scores: Scores) -> list[int]:
    """Chunks by falling score, then by number."""
    return sorted(scores, key=lambda chunk: (-scores[chunk], chunk))


def bm25s_run(judged: Judged) -> dict[str, list[str]]:
    """The same task by the bm25s library, Lucene scoring, its English stop words, Snowball stems."""
    import bm25s
    import Stemmer

    stemmer = Stemmer.Stemmer("english")
    names = list(judged.documents)
    options: dict[str, Any] = {"stopwords": "en_plus", "stemmer": stemmer, "show_progress": False}
    retriever = bm25s.BM25(k1=1.2, b=0.75)
    retriever.index(bm25s.tokenize(list(judged.documents.values()), **options), show_progress=False)
    asked = bm25s.tokenize(list(judged.queries.values()), **options)
    found, _ = retriever.retrieve(asked, k=RECALL_DEPTH, show_progress=False)
    return {query: [names[int(place)] for place in row] for query, row in zip(judged.queries, found, strict=True)}


@dataclass
class Legs:
    """Both legs' scores for each query, each candidate scored by both."""

    names: list[str]
    words: dict[str, Scores]
    vectors: dict[str, Scores]
    words_complete: dict[str, Scores]
    vectors_complete: dict[str, Scores]

    def run(self, scores: dict[str, Scores]) -> Run:
        """A run of one leg."""
        return {query: [self.names[chunk] for chunk in ranked(found)] for query, found in scores.items()}

    def fused(self, settings: FusionSettings) -> Run:
        """A run of both legs."""
        return {
            query: [
                self.names[item.chunk]
                for item in fuse(self.vectors_complete[query], self.words_complete[query], settings)
            ]
            for query in self.words
        }


def search_all(judged: Judged, index: WordIndex, embedder: MiniLmEmbedder, cache: Path) -> Legs:
    """Every query by both legs, then each leg's candidates scored by the other."""
    names, texts = list(judged.documents), list(judged.documents.values())
    vectors = document_vectors(embedder, texts, cache)
    legs = Legs(names, {}, {}, {}, {})
    for query, text in judged.queries.items():
        words = index.search(text)
        similarity = vectors @ embedder.embed([text])[0]
        nearest = np.argsort(-similarity, kind="stable")[:CANDIDATES]
        near = {int(chunk): float(similarity[chunk]) for chunk in nearest}
        for_vectors, for_words = missing_scores(near, words)
        legs.words[query], legs.vectors[query] = words, near
        legs.words_complete[query] = words | index.score(text, for_words)
        legs.vectors_complete[query] = near | {chunk: float(similarity[chunk]) for chunk in for_vectors}
    return legs


def difference(name: str, first: Evaluation, second: Evaluation) -> str:
    """One line: mean difference of nDCG and its interval."""
    mean, low, high = paired_bootstrap(first.ndcg, second.ndcg)
    return f"    {name}: {mean:+.4f}  95 % [{low:+.4f}, {high:+.4f}]"


def measure(judged: Judged, embedder: MiniLmEmbedder, cache: Path, parameters: Bm25) -> list[str]:
    """Print one collection's figures; the floors it missed."""
    index = WordIndex.build(list(judged.documents.values()), parameters)
    legs = search_all(judged, index, embedder, cache)
    found = {
        "words": evaluate(legs.run(legs.words), judged.judgements),
        "vectors": evaluate(legs.run(legs.vectors), judged.judgements),
        "hybrid": evaluate(legs.fused(FusionSettings()), judged.judgements),
        "ranks": evaluate(legs.fused(FusionSettings("ranks", 0.5)), judged.judgements),
        "bm25s": evaluate(bm25s_run(judged), judged.judgements),
    }
    print(f"{judged.name}: {len(judged.documents)} documents, {len(judged.queries)} queries")
    for name, evaluation in found.items():
        print(f"  {name:8} {evaluation.line()}")
    for first, second in (("words", "bm25s"), ("hybrid", "words"), ("hybrid", "vectors"), ("hybrid", "ranks")):
        print(difference(f"{first} - {second}", found[first], found[second]))
    means = {name: float(evaluation.ndcg.mean()) for name, evaluation in found.items()}
    floors = [
        ("words", LEXICAL_FLOORS.get(judged.name, 0.0)),
        ("hybrid", max(HYBRID_FLOORS.get(judged.name, 0.0), means["words"], means["vectors"])),
    ]
    return [f"{judged.name} {name} {means[name]:.4f} < {floor:.4f}" for name, floor in floors if means[name] < floor]


def sweep(judged: Judged, embedder: MiniLmEmbedder, cache: Path) -> None:
    """Print nDCG for a grid of settings. For training splits: what it chooses must not have seen the test queries."""
    texts = list(judged.documents.values())
    for k1 in (0.9, 1.2, 1.6, 2.0):
        for b in (0.4, 0.6, 0.75):
            index = WordIndex.build(texts, Bm25(k1, b))
            run = {
                query: [list(judged.documents)[chunk] for chunk in ranked(index.search(text))]
                for query, text in judged.queries.items()
            }
            print(f"  {judged.name} k1 {k1} b {b}: {evaluate(run, judged.judgements).ndcg.mean():.4f}")
    legs = search_all(judged, WordIndex.build(texts, Bm25()), embedder, cache)
    for method in ("convex", "ranks"):
        for share in (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9):
            run_fused = legs.fused(FusionSettings(method, share))  # type: ignore[arg-type]
            value = evaluate(run_fused, judged.judgements).ndcg.mean()
            print(f"  {judged.name} {method} vector share {share}: {value:.4f}")


def main() -> int:
    """Parse, measure, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("--collections", nargs="+", default=["cranfield", "cisi", "scifact"])
    parser.add_argument("--split", default="")
    parser.add_argument("--sweep", action="store_true")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "roadbed-bench-vectors")
    options = parser.parse_args()
    embedder = MiniLmEmbedder()
    print(f"{ANALYZER} {embedder.digest[:40]} {FusionSettings()}")
    missed: list[str] = []
    for name in options.collections:
        judged = read_collection(options.data_dir / name, options.split)
        if options.sweep:
            sweep(judged, embedder, options.cache)
        else:
            missed += measure(judged, embedder, options.cache, Bm25())
    for line in missed:
        print(f"BELOW THE FLOOR: {line}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
