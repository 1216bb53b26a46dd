"""Which declared or saved question a person's words mean. Pure; the way of an app without a model."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from roadbed.knowledge.analysis import word_terms
from roadbed.tools.manifest import ParameterConfig

SCORE_MIN = 0.55
MARGIN_MIN = 0.1
OFFERED_MAX = 8
_DAY = re.compile(r"\b\d{4}-\d{2}-\d{2}\b")
_WHOLE = re.compile(r"(?<![\w.-])\d{1,12}(?![\w.-])")


@dataclass(frozen=True, slots=True)
class Wording:
    """One way to ask a question that has SQL."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Match:
    """``name`` is empty when none is meant clearly. ``near`` are those that come close, best first."""

    name: str
    is_exact: bool
    near: tuple[str, ...]


def match(question: str, wordings: Sequence[Wording]) -> Match:
    """The question that the words mean."""
    asked = _plain(question)
    for wording in wordings:
        if asked in (_plain(wording.text), _plain(wording.name)):
            return Match(wording.name, True, (wording.name,))
    terms = set(word_terms(question))
    scores: dict[str, float] = {}
    for wording in wordings:
        own = set(word_terms(f"{wording.text}"))
        if terms and own:
            score = len(terms & own) / len(terms | own)
            scores[wording.name] = max(scores.get(wording.name, 0.0), score)
    order = sorted(scores, key=lambda name: (-scores[name], name))
    near = tuple(name for name in order if scores[name] > 0)[:OFFERED_MAX]
    if not order or scores[order[0]] < SCORE_MIN:
        return Match("", False, near)
    if len(order) > 1 and scores[order[0]] - scores[order[1]] < MARGIN_MIN:
        return Match("", False, near)
    return Match(order[0], False, near)


def _plain(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.casefold()))


def values_in(question: str, parameters: Mapping[str, ParameterConfig]) -> dict[str, Any]:
    """The parameters' values that a question's words hold: an allowed value, or the only date or number there is."""
    found: dict[str, Any] = {}
    text = question.casefold()
    for name, parameter in parameters.items():
        named = [
            value for value in parameter.values if re.search(rf"(?<!\w){re.escape(str(value).casefold())}(?!\w)", text)
        ]
        if len(named) == 1:
            found[name] = named[0]
    for kind, pattern in (("date", _DAY), ("integer", _WHOLE)):
        open_ = [name for name, parameter in parameters.items() if parameter.type == kind and name not in found]
        values = pattern.findall(question)
        if len(open_) == 1 and len(values) == 1:
            found[open_[0]] = int(values[0]) if kind == "integer" else values[0]
    return found


def missing(parameters: Mapping[str, ParameterConfig], given: Mapping[str, Any]) -> list[str]:
    """The parameters that a run still needs."""
    return [
        name
        for name, parameter in parameters.items()
        if parameter.required and parameter.default is None and given.get(name) is None
    ]
