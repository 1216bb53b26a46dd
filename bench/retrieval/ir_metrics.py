"""Ranking metrics and their comparison. nDCG has linear gain, as trec_eval; exponential gain gives other figures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from ir_data import Judgements
from numpy.typing import NDArray

DEPTH = 10
RECALL_DEPTH = 100
RESAMPLES = 10_000
SEED = 20_240_601

Run = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Evaluation:
    """Per-query values, in the order of the judgements' queries, and their means."""

    ndcg: NDArray[np.float64]
    recall: NDArray[np.float64]
    reciprocal_rank: NDArray[np.float64]

    def line(self) -> str:
        """The three means."""
        return (
            f"nDCG@{DEPTH} {self.ndcg.mean():.4f}  recall@{RECALL_DEPTH} {self.recall.mean():.4f}  "
            f"MRR@{DEPTH} {self.reciprocal_rank.mean():.4f}"
        )


def ndcg(ranking: Sequence[str], grades: Mapping[str, int], depth: int = DEPTH) -> float:
    """DCG over the ideal DCG, with ``grade / log2(rank + 1)``."""
    gained = sum(grades.get(document, 0) / math.log2(rank + 2) for rank, document in enumerate(ranking[:depth]))
    ideal = sum(grade / math.log2(rank + 2) for rank, grade in enumerate(sorted(grades.values(), reverse=True)[:depth]))
    return gained / ideal if ideal else 0.0


def evaluate(run: Run, judgements: Judgements) -> Evaluation:
    """Metrics of a run (query -> documents, best first); a query missing from the run scores 0."""
    gains, recalls, firsts = [], [], []
    for query, grades in judgements.items():
        ranking = run.get(query, ())
        gains.append(ndcg(ranking, grades))
        recalls.append(sum(document in grades for document in ranking[:RECALL_DEPTH]) / len(grades))
        hits = [rank for rank, document in enumerate(ranking[:DEPTH], start=1) if document in grades]
        firsts.append(1.0 / hits[0] if hits else 0.0)
    return Evaluation(np.array(gains), np.array(recalls), np.array(firsts))


def paired_bootstrap(first: NDArray[np.float64], second: NDArray[np.float64]) -> tuple[float, float, float]:
    """Mean of ``first - second`` over queries with its 95 % percentile interval, 10,000 resamples."""
    differences = first - second
    chooser = np.random.default_rng(SEED)
    means = np.array(
        [differences[chooser.integers(0, len(differences), len(differences))].mean() for _ in range(RESAMPLES)]
    )
    low, high = np.percentile(means, [2.5, 97.5])
    return float(differences.mean()), float(low), float(high)
