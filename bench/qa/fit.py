"""Fits the confidence of extractive answers and reports it on questions that it has not seen.

``python bench/qa/fit.py DATA_DIR [--sample 1500]`` prints the coefficients for ``apps/calibration.py``. It fits on half
of each set (SQuAD by article, the others by question) and adds, for each answerable question, the same question with
the documents that answer it held out: the plain case of "not in these documents", where SQuAD's own are adversarial.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import itertools
import sys
import tempfile
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from memory_search import CachedEmbedder, MemoryCollection
from numpy.typing import NDArray
from qa_data import Question, read_set
from run import EXAMPLE, holds_all, shown

from roadbed.apps.calibration import Signals
from roadbed.apps.extractive import extract

SETS = ("squad2", "clapnq", "hotpotqa", "example")
RIDGE = 3.0
STEPS_MAX = 50
COEFFICIENT_MIN = -2.5
"""A cue that is rare in the sets counts no more than that, so that none overrules a very good match alone."""
ANSWERED_SHARE = 0.65
"""The share of questions with an answer that the prior supposes; people mostly ask what documents are about."""


@dataclass
class Sample:
    """One question as asked, or with its documents held out."""

    set_name: str
    kind: str
    signals: Signals
    is_right: bool
    is_for_fitting: bool


def is_for_fitting(group: str) -> bool:
    """Half of the groups, by hash."""
    return hashlib.sha256(f"fit:{group}".encode()).digest()[0] % 2 == 0


async def sample_of(
    question: Question, collection: MemoryCollection, set_name: str, *, held_out: bool
) -> Sample | None:
    """What the product knows about one question, and whether its answer is right."""
    result = collection.search(question.text, without=frozenset(question.holders) if held_out else frozenset())
    found = await extract(question.text, result, collection.embedder.embed_async, threshold=0.0)
    if found.signals is None:
        return None
    texts = [shown(item) for item in found.sentences]
    right = question.is_answerable and holds_all(question, texts)
    if held_out and right:
        return None  # another document holds it too
    kind = "held out" if held_out else "answerable" if question.is_answerable else "adversarial"
    return Sample(set_name, kind, found.signals, right, is_for_fitting(question.group))


async def gather(set_name: str, options: argparse.Namespace) -> list[Sample]:
    """All samples of one set."""
    embedder = CachedEmbedder(options.cache / f"qa-{set_name}.npz")
    questions = read_set(set_name, options.data_dir, EXAMPLE).sampled(options.sample)
    collection = MemoryCollection(questions, embedder)
    samples = []
    for question in questions.questions:
        samples.append(await sample_of(question, collection, set_name, held_out=False))
        if question.is_answerable:
            samples.append(await sample_of(question, collection, set_name, held_out=True))
    embedder.save()
    return [sample for sample in samples if sample is not None]


def logistic(
    inputs: NDArray[np.float64], targets: NDArray[np.float64], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Intercept and coefficients by Newton's method, with a ridge on standardised inputs."""
    mean, spread = inputs.mean(axis=0), inputs.std(axis=0) + 1e-9
    scaled = np.hstack([np.ones((len(inputs), 1)), (inputs - mean) / spread])
    ridge = np.diag([0.0, *([RIDGE] * inputs.shape[1])])
    found = np.zeros(scaled.shape[1])
    for _ in range(STEPS_MAX):
        chance = 1 / (1 + np.exp(-scaled @ found))
        slope = scaled.T @ (weights * (targets - chance)) - ridge @ found
        curvature = (scaled * (weights * chance * (1 - chance))[:, None]).T @ scaled + ridge
        step = np.linalg.solve(curvature, slope)
        found = found + step
        if np.abs(step).max() < 1e-8:
            break
    slopes = found[1:] / spread
    return np.array([found[0] - float(slopes @ mean), *slopes])


def area_under_curve(scores: NDArray[np.float64], targets: NDArray[np.float64]) -> float:
    """The chance that a right one scores above a wrong one."""
    order = scores.argsort()
    ranks = np.empty(len(scores))
    ranks[order] = np.arange(1, len(scores) + 1)
    positive = targets > 0
    count = positive.sum()
    others = len(targets) - count
    return (
        float((ranks[positive].sum() - count * (count + 1) / 2) / (count * others))
        if count and others
        else float("nan")
    )


def weights_of(samples: list[Sample]) -> NDArray[np.float64]:
    """Each set counts alike (by the root of its size), and within it the answerable as the prior supposes."""
    weights = np.zeros(len(samples))
    for name in SETS:
        own = [place for place, sample in enumerate(samples) if sample.set_name == name]
        positive = [place for place in own if samples[place].kind == "answerable"]
        for kind in ("answerable", "adversarial", "held out"):
            places = [place for place in own if samples[place].kind == kind]
            kinds = len({samples[place].kind for place in own} - {"answerable"}) or 1
            part = ANSWERED_SHARE if kind == "answerable" else (1 - ANSWERED_SHARE) / kinds
            if places and positive:
                weights[places] = part * np.sqrt(len(own)) / len(places)
    return weights / weights.mean()


def main() -> int:
    """Gather, fit, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("--sample", type=int, default=1_500)
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "roadbed-bench-vectors")
    parser.add_argument("--keep", type=Path)
    options = parser.parse_args()
    samples = [sample for name in SETS for sample in asyncio.run(gather(name, options))]
    inputs = np.array([sample.signals.values() for sample in samples])
    targets = np.array([float(sample.is_right) for sample in samples])
    if options.keep:
        names = np.array([f"{sample.set_name}/{sample.kind}" for sample in samples])
        seen_flags = np.array([sample.is_for_fitting for sample in samples])
        np.savez(options.keep, inputs=inputs, targets=targets, names=names, seen=seen_flags)
    seen = np.array([sample.is_for_fitting for sample in samples])
    weights = weights_of(samples)
    found = logistic(inputs[seen], targets[seen], weights[seen])
    found[1:] = np.maximum(found[1:], COEFFICIENT_MIN)
    chances = 1 / (1 + np.exp(-(found[0] + inputs @ found[1:])))
    print(f"INTERCEPT = {found[0]:.3f}")
    for field, value, own in zip(fields(Signals), found[1:], inputs.T, strict=True):
        print(f"  {field.name:16} {value:+.3f}   alone {area_under_curve(own[~seen], targets[~seen]):.3f}")
    print(f"COEFFICIENTS = ({', '.join(f'{value:.3f}' for value in found[1:])})")
    print(f"unseen: area under curve {area_under_curve(chances[~seen], targets[~seen]):.3f}")
    for name in SETS:
        own = np.array([sample.set_name == name for sample in samples]) & ~seen
        for against in ("adversarial", "held out"):
            kinds = np.array([sample.kind in ("answerable", against) for sample in samples])
            print(f"  {name:9} against {against:11} {area_under_curve(chances[own & kinds], targets[own & kinds]):.3f}")
    for threshold in np.arange(0.1, 0.95, 0.05):
        parts = [f"{threshold:.2f}"]
        for name in SETS:
            for kind in ("answerable", "adversarial", "held out"):
                own = np.array([s.set_name == name and s.kind == kind and not s.is_for_fitting for s in samples])
                if own.any():
                    value = (
                        (targets[own] * (chances[own] >= threshold)).mean()
                        if kind == "answerable"
                        else (chances[own] < threshold).mean()
                    )
                    parts.append(f"{name[:6]} {kind[:5]} {value:.2f}")
        print("  ".join(parts))
    edges = np.arange(0, 1.01, 0.1)
    for low, high in itertools.pairwise(edges):
        inside = ~seen & (chances >= low) & (chances < high)
        if inside.any():
            print(
                f"  said {low:.1f}-{high:.1f}: "
                f"is {np.average(targets[inside], weights=weights[inside]):.2f} ({inside.sum()})"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
