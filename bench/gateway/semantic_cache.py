"""What a semantic cache's threshold costs and brings: false hits and hits over pairs of real questions.

Two questions about one document stand for two requests in one context. A hit is right when both have the same answer
and false otherwise; a pair with a question that the document does not answer is always false. So the pairs hold both
what people ask in other words and what looks alike and is not (questions made to mislead). Each threshold is shown
with the vectors alone and with the facts compared too, as the gateway does; then with all questions in small letters,
where names are not seen as such. Paraphrases written by rule (a polite opening, other case, no question mark) show the
share of hits among questions that are the same for sure.

    python bench/gateway/semantic_cache.py FOLDER [--documents 0]

FOLDER holds ``questions.jsonl`` with ``question``, ``document_id``, ``answers`` and ``answerable``.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from roadbed.gateway.semantic import facts_of
from roadbed.knowledge.embed import MiniLmEmbedder

THRESHOLDS = (0.80, 0.85, 0.90, 0.92, 0.94, 0.95, 0.96, 0.97, 0.98, 0.99)
REWORDED = (
    "Please tell me: {}",
    "Hi, {}",
    "{} Thanks!",
    "Can you tell me {}",
    "I would like to know {}",
)


@dataclass
class Pair:
    """Two questions about one document."""

    cosine: float
    same_answer: bool
    same_facts: bool


def load(folder: Path, documents: int) -> list[list[tuple[str, frozenset[str]]]]:
    """The questions of each document with their answers."""
    found: dict[str, list[tuple[str, frozenset[str]]]] = defaultdict(list)
    for line in (folder / "questions.jsonl").read_text().splitlines():
        row = json.loads(line)
        answers = {" ".join(answer.lower().split()).strip(".") for answer in row["answers"]}
        found[row["document_id"]].append((row["question"], frozenset(answers if row.get("answerable", True) else ())))
    groups = [group for group in found.values() if len(group) > 1]
    return groups[:documents] if documents else groups


def pairs_of(groups: list[list[tuple[str, frozenset[str]]]], embedder: MiniLmEmbedder, *, small: bool) -> list[Pair]:
    """All pairs within the documents."""
    made = []
    for group in groups:
        texts = [question.lower() if small else question for question, _ in group]
        vectors = embedder.embed(texts)
        cosines, facts = vectors @ vectors.T, [facts_of(text) for text in texts]
        for one, other in itertools.combinations(range(len(group)), 2):
            same = bool(group[one][1] & group[other][1])
            made.append(Pair(float(cosines[one, other]), same, facts[one] == facts[other]))
    return made


def show(name: str, pairs: list[Pair]) -> None:
    """One table."""
    right, wrong = sum(pair.same_answer for pair in pairs), sum(not pair.same_answer for pair in pairs)
    print(f"{name}: {len(pairs)} pairs, {right} with one answer, {wrong} with two")
    print("  threshold | vectors alone: hits, false hits (of all hits) | with facts: hits, false hits (of all hits)")
    for threshold in THRESHOLDS:
        cells = []
        for guarded in (False, True):
            hit = [pair for pair in pairs if pair.cosine >= threshold and (pair.same_facts or not guarded)]
            false = sum(not pair.same_answer for pair in hit)
            share = false / len(hit) if hit else 0.0
            cells.append(f"{(len(hit) - false) / max(1, right):7.2%}, {false / max(1, wrong):8.4%} ({share:4.0%})")
        print(f"  {threshold:9.2f} | {' | '.join(cells)}")


def show_reworded(groups: list[list[tuple[str, frozenset[str]]]], embedder: MiniLmEmbedder) -> None:
    """Hits among questions that are the same for sure."""
    questions = [group[0][0] for group in groups][:400]
    vectors = embedder.embed(questions)
    hits = dict.fromkeys(THRESHOLDS, 0)
    count = 0
    for number, question in enumerate(questions):
        bare = question[0].lower() + question[1:]
        texts = [form.format(bare if form.endswith("{}") else question) for form in REWORDED]
        texts += [question.rstrip("?"), bare]
        for text, vector in zip(texts, embedder.embed(texts), strict=True):
            count += 1
            if facts_of(text) == facts_of(question):
                cosine = float(np.dot(vector, vectors[number]))
                for threshold in THRESHOLDS:
                    hits[threshold] += cosine >= threshold
    shares = ", ".join(f"{threshold:.2f} {found / count:.0%}" for threshold, found in hits.items())
    print(f"the same question reworded by rule, {count} pairs, hits with facts: {shares}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--documents", type=int, default=0, help="how many documents to take; 0 takes all")
    arguments = parser.parse_args()
    embedder = MiniLmEmbedder()
    groups = load(arguments.folder, arguments.documents)
    show("as they are written", pairs_of(groups, embedder, small=False))
    show("in small letters", pairs_of(groups, embedder, small=True))
    show_reworded(groups, embedder)


if __name__ == "__main__":
    main()
