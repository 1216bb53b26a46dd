"""Quality of the answers that need no model: are they among the sentences, and are unanswerable questions declined?

``python bench/qa/run.py DATA_DIR [--sets squad2 clapnq hotpotqa example] [--sample 1500] [--read N]``: DATA_DIR holds
a folder per public set. It searches in memory with the product's chunks, words, vectors and fusion, and extracts with
the product's code. Exit 1 when the floor on SQuAD 2.0 is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from memory_search import CachedEmbedder, MemoryCollection
from qa_data import Question, QuestionSet, read_set

from roadbed.apps.calibration import THRESHOLD
from roadbed.apps.extractive import Extract, extract
from roadbed.knowledge.search import SearchResult

FLOORS = {"squad2": 0.70}
EXAMPLE = Path(__file__).parents[2] / "examples" / "appraisals"
COVERAGES = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


@dataclass(frozen=True)
class Asked:
    """One question, what was found and what was extracted, with no threshold."""

    question: Question
    result: SearchResult
    found: Extract
    seconds: float

    @property
    def is_right(self) -> bool:
        """Whether all that is wanted stands in the sentences."""
        return self.question.is_answerable and holds_all(self.question, [shown(item) for item in self.found.sentences])

    def is_within(self, hits: int) -> bool:
        """Whether all that is wanted stands in the best hits."""
        return holds_all(self.question, [hit.text for hit in self.result.hits[:hits]])


def shown(item: object) -> str:
    """A sentence with the header or line that it is shown under."""
    hit, lead = item.hit, item.lead  # type: ignore[attr-defined]
    return f"{hit.text[slice(*lead)] if lead else ''} {item.text}"  # type: ignore[attr-defined]


def plain(text: str) -> str:
    """Text without differences of case and blanks."""
    return " ".join(text.casefold().split())


def holds_all(question: Question, texts: Sequence[str]) -> bool:
    """Whether each wanted thing occurs, by one of its alternatives, within one text each."""
    folded = [plain(text) for text in texts]
    return all(any(plain(option) in text for option in options for text in folded) for options in question.wanted)


async def ask_all(questions: QuestionSet, collection: MemoryCollection) -> list[Asked]:
    """Every question once."""
    asked = []
    for question in questions.questions:
        result = collection.search(question.text)
        began = time.perf_counter()
        found = await extract(question.text, result, collection.embedder.embed_async, threshold=0.0)
        asked.append(Asked(question, result, found, time.perf_counter() - began))
    return asked


def share(values: Sequence[bool]) -> float:
    """The share of true ones."""
    return sum(values) / len(values) if values else float("nan")


def report(name: str, asked: Sequence[Asked], threshold: float) -> float:
    """Print the figures of one set; the share of answerable questions whose answer is shown."""
    answerable = [item for item in asked if item.question.is_answerable]
    others = [item for item in asked if not item.question.is_answerable]
    print(f"{name}: {len(answerable)} answerable, {len(others)} not")
    ceilings = [f"top {hits} {share([item.is_within(hits) for item in answerable]):.3f}" for hits in (1, 5, 10, 20)]
    print(f"  answer within chunks: {', '.join(ceilings)}")
    print(f"  answer within the sentences, no threshold: {share([item.is_right for item in answerable]):.3f}")
    given = [item for item in answerable if item.found.confidence >= threshold]
    right = sum(item.is_right for item in given) / len(answerable)
    print(f"  at threshold {threshold:.2f}: right {right:.3f}, declined {1 - len(given) / len(answerable):.3f}")
    if others:
        print(f"  unanswerable declined: {share([item.found.confidence < threshold for item in others]):.3f}")
    characters = sorted(sum(item.end - item.start for item in one.found.sentences) for one in asked)
    times = sorted(item.seconds for item in asked)
    print(
        f"  characters p50 {characters[len(characters) // 2]}; "
        f"ms with cached vectors p50 {times[len(times) // 2] * 1e3:.1f}"
    )
    curve = risk_coverage(asked)
    print("  risk at coverage: " + "  ".join(f"{coverage:.0%} {risk:.2f}" for coverage, risk in curve))
    return right


def risk_coverage(asked: Sequence[Asked]) -> list[tuple[float, float]]:
    """The share of wrong ones among the surest questions, answerable or not, at growing shares of all."""
    ranked = sorted(asked, key=lambda item: -item.found.confidence)
    return [
        (coverage, 1 - share([item.is_right for item in ranked[: max(1, round(coverage * len(ranked)))]]))
        for coverage in COVERAGES
    ]


def read_aloud(asked: Sequence[Asked], count: int) -> None:
    """Print some answers for people to judge."""
    for item in random.Random(7).sample(list(asked), min(count, len(asked))):
        kind = "answerable" if item.question.is_answerable else "UNANSWERABLE"
        print(f"\n? {item.question.text}  ({kind}, right: {item.is_right}, sure: {item.found.confidence:.2f})")
        print(f"  wanted: {item.question.wanted}")
        for sentence in item.found.sentences:
            print(f"  {sentence.score:.2f} [{sentence.hit.title}] {' '.join(shown(sentence).split())[:300]}")


def main() -> int:
    """Parse, measure, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("--sets", nargs="+", default=["squad2", "clapnq", "hotpotqa", "example"])
    parser.add_argument("--sample", type=int, default=0)
    parser.add_argument("--read", type=int, default=0)
    parser.add_argument("--threshold", type=float, default=THRESHOLD)
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "roadbed-bench-vectors")
    options = parser.parse_args()
    missed = []
    for name in options.sets:
        embedder = CachedEmbedder(options.cache / f"qa-{name}.npz")
        questions = read_set(name, options.data_dir, EXAMPLE).sampled(options.sample)
        asked = asyncio.run(ask_all(questions, MemoryCollection(questions, embedder)))
        embedder.save()
        right = report(name, asked, options.threshold)
        if right < FLOORS.get(name, 0.0):
            missed.append(f"{name}: {right:.3f} < {FLOORS[name]:.2f}")
        read_aloud(asked, options.read)
    for line in missed:
        print(f"BELOW THE FLOOR: {line}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
