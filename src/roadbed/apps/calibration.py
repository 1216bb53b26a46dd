"""From signals of a search to a confidence: a logistic with shipped coefficients.

``bench/qa/fit.py`` fits them on public question sets; on anybody's own documents they are a prior, no promise. Pure.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

THRESHOLD = 0.45
"""Confidence under which an extractive answer is not given."""


@dataclass(frozen=True, slots=True)
class Signals:
    """What is known about an extracted answer before it is shown; each between 0 and 1, or close to it.

    The lead of the best chunk over the next ones is no signal: the question sets hold each answer once, so there it
    predicts well, but real collections say the same thing in many places, and that is no reason to doubt it.
    """

    sentence_cosine: float
    sentence_cover: float
    passage_cover: float
    chunk_cosine: float
    lexical_share: float
    legs_agree: float
    type_present: float
    rare_missing: float
    number_missing: float = 0.0
    name_missing: float = 0.0
    opposite_said: float = 0.0
    negation_missing: float = 0.0
    value_missing: float = 0.0

    def values(self) -> tuple[float, ...]:
        """The signals in the order of their coefficients."""
        return tuple(getattr(self, field.name) for field in fields(self))


INTERCEPT = -3.962
COEFFICIENTS = (2.020, 1.391, 1.000, 2.440, 0.371, 0.217, -0.128, 0.196, -1.553, -2.500, -2.500, -2.500, -2.500)


def confidence(signals: Signals) -> float:
    """The chance that the answer is among the sentences, as the shipped prior sees it."""
    total = INTERCEPT + sum(weight * value for weight, value in zip(COEFFICIENTS, signals.values(), strict=True))
    return 1.0 / (1.0 + math.exp(-total))
