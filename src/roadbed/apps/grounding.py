"""Whether a sentence says what the passages it cites say: numbers, dates, names, negation, and enough of its words.

A check of surface facts, quick enough for every streamed sentence; it proves nothing about meaning, so a clean verdict
is "nothing contradicts", never "true". The copilot calls it. Pure; the invariant: a number, date or name that stands
in no cited passage is never ``SUPPORTED``.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import combinations

from roadbed.apps.citing import without_markers
from roadbed.apps.numbers import Quantity, are_equal, dates, is_borne_out, is_month, quantities
from roadbed.knowledge.analysis import word_terms
from roadbed.knowledge.sentences import sentences

COVER_MIN = 0.6
SUPPORT_COVER_MIN = 0.7
PASSAGE_CHARACTERS_MAX = 8_000
COMPUTED_NUMBERS_MAX = 24
CLAIMED_NUMBERS_MAX = 64  # more than that is no sentence; each is compared with each of the passages'
SOURCE_NUMBERS_MAX = 2_000
ALIGNED_SHARE_MIN = 0.5
VERBATIM_SHARE_MIN = 0.95


class Verdict(Enum):
    """What the check found. ``COMPUTED``: a number is the sum, difference or share of cited ones."""

    SUPPORTED = "supported"
    COMPUTED = "computed"
    UNSUPPORTED = "unsupported"
    EXEMPT = "exempt"


_EXEMPT = re.compile(
    r"\W*(?:(?:yes|no|sure|certainly|of course|hello|hi|thanks|thank you|okay|ok|ja|nein|gerne)\W*$"
    r"|(?:here (?:is|are)|below (?:is|are)|the following|in summary|to summari[sz]e|in short|hope this helps|i hope|"
    r"let me know|feel free|if you (?:need|have|want)|please (?:let|ask|note)|according to the (?:documents|passages)|"
    r"based on the (?:documents|passages)|i (?:could not|couldn't|cannot|can't|did not|didn't) find|"
    r"the (?:documents|passages) (?:do not|don't|say nothing))\b.*)",
    re.IGNORECASE | re.DOTALL,
)
_LEAD_IN = re.compile(
    r"^\W*(?:according to the (?:documents|passages)|based on the (?:documents|passages)|in summary|in short)\W+\w",
    re.IGNORECASE,
)
_LEAD_WORDS = re.compile(
    r"^\W*(?:according to|based on|as stated in|in) the (?:documents?|passages?|sources?|context)[,:]?\s+",
    re.IGNORECASE,
)
_NEGATION = re.compile(
    r"\b(?:not|no|never|none|nobody|nothing|neither|nor|without|cannot|except|unless|only|hardly|rarely|"
    r"un(?:able|likely|available|changed|paid|limited|necessary|lawful|safe|supported)|"
    r"(?:is|im)possible|impossible|prohibited|forbidden|nicht|kein\w*|nie|niemals|ohne|ikke|ingen|pas|jamais|sans)\b"
    r"|n['’]t\b",
    re.IGNORECASE,
)
_WORD = re.compile(r"[^\W\d_][\w'’&.-]*")
_NAME_JOIN = frozenset(["of", "de", "van", "von", "der", "the", "and", "for", "la", "le", "du", "di", "da"])


@dataclass(frozen=True, slots=True)
class Finding:
    """A verdict and its reason, which is empty when the sentence is supported."""

    verdict: Verdict
    reason: str = ""


def check_sentence(sentence: str, cited_texts: Sequence[str]) -> Verdict:
    """The verdict on one sentence against the passages it cites. No passages: unsupported, unless exempt."""
    return examine(sentence, cited_texts).verdict


def examine(sentence: str, cited_texts: Sequence[str]) -> Finding:
    """`check_sentence` with its reason: ``number``, ``date``, ``name``, ``negation``, ``words`` or ``no citation``."""
    text = without_markers(sentence).strip()
    if is_exempt(text):
        return Finding(Verdict.EXEMPT)
    if not cited_texts:
        return Finding(Verdict.UNSUPPORTED, "no citation")
    text = _LEAD_WORDS.sub("", text)
    passages = [passage[:PASSAGE_CHARACTERS_MAX] for passage in cited_texts]
    joined = "\n\n".join(passages)
    if not _dates_hold(text, joined):
        return Finding(Verdict.UNSUPPORTED, "date")
    numbers = _numbers_hold(text, joined)
    if numbers is Verdict.UNSUPPORTED:
        return Finding(numbers, "number")
    wanted = set(word_terms(text))
    found = set(word_terms(joined))
    if not _names_hold(text, joined):
        return Finding(Verdict.UNSUPPORTED, "name")
    if not _polarity_holds(text, wanted, passages):
        return Finding(Verdict.UNSUPPORTED, "negation")
    if _cover(wanted, found) < COVER_MIN:
        return Finding(Verdict.UNSUPPORTED, "words")
    return Finding(numbers)


def is_exempt(text: str) -> bool:
    """Whether a sentence claims nothing: chatter, or no content word at all."""
    if not word_terms(text) and not any(character.isdigit() for character in text):
        return True
    if any(character.isdigit() for character in text):
        return False
    if text.endswith("?"):
        return True
    return _EXEMPT.fullmatch(text) is not None and _LEAD_IN.match(text) is None


def best_support(sentence: str, passages: Sequence[str]) -> int | None:
    """The passage that bears the sentence out best, or None when none does."""
    text = without_markers(sentence).strip()
    wanted = set(word_terms(text))
    if not wanted:
        return None
    terms = [set(word_terms(passage[:PASSAGE_CHARACTERS_MAX])) for passage in passages]
    frequency = Counter(term for found in terms for term in found)
    weights = {term: math.log1p(len(terms) / (1 + frequency[term])) + 0.1 for term in wanted}
    total = sum(weights.values())
    ranked = sorted(
        ((sum(weights[term] for term in wanted & found) / total, -place) for place, found in enumerate(terms)),
        reverse=True,
    )
    for cover, place in ranked:
        if cover < SUPPORT_COVER_MIN:
            return None
        if check_sentence(text, [passages[-place]]) is Verdict.SUPPORTED:
            return -place
    return None


def _cover(wanted: set[str], found: set[str]) -> float:
    """The share of a sentence's words that the passages hold; longer ones weigh more, as rarer ones.

    Numbers are left out: they were checked by value, and are written in many ways.
    """
    wanted = {term for term in wanted if not any(map(str.isdigit, term))}
    total = sum(_weight(term) for term in wanted)
    return sum(_weight(term) for term in wanted & found) / total if total else 1.0


def _weight(term: str) -> float:
    return 1.0 + min(len(term), 10) / 10


def _dates_hold(text: str, passages: str) -> bool:
    claimed = dates(text)
    if not claimed:
        return True
    if len(claimed) > CLAIMED_NUMBERS_MAX:
        return False
    sources = dates(passages)[:SOURCE_NUMBERS_MAX]
    return all(any(day.lies_in(source) for source in sources) for day in claimed)


def _numbers_hold(text: str, passages: str) -> Verdict:
    claimed = quantities(text, dates(text))
    if not claimed:
        return Verdict.SUPPORTED
    if len(claimed) > CLAIMED_NUMBERS_MAX:
        return Verdict.UNSUPPORTED
    sources = quantities(passages)[:SOURCE_NUMBERS_MAX]
    verdict = Verdict.SUPPORTED
    for quantity in claimed:
        if is_borne_out(quantity, sources) or _is_idle(quantity):
            continue
        if not _follows(quantity, sources):
            return Verdict.UNSUPPORTED
        verdict = Verdict.COMPUTED
    return verdict


def _is_idle(quantity: Quantity) -> bool:
    """Whether a number word is grammar rather than a figure: "one", "first", "second"."""
    return quantity.is_word and not quantity.family and quantity.value in (0.0, 1.0, 2.0)


def _follows(quantity: Quantity, sources: Sequence[Quantity]) -> bool:
    """Whether a number is the sum, difference or percentage of two cited ones of its kind."""
    values = list(dict.fromkeys(source.value for source in sources if source.family == quantity.family))
    for first, second in combinations(values[:COMPUTED_NUMBERS_MAX], 2):
        if are_equal(quantity.value, first + second) or are_equal(quantity.value, abs(first - second)):
            return quantity.value not in (0.0, 1.0)
    return False


def _names_hold(text: str, passages: str) -> bool:
    folded = passages.casefold()
    return all(name in folded or name.removesuffix("'s").removesuffix("’s") in folded for name in names(text))


def names(text: str) -> list[str]:
    """The capitalised words of a sentence behind its first, casefolded."""
    found = []
    previous_end = True
    for match in _WORD.finditer(text):
        word = match.group().rstrip(".'’-")
        is_first = previous_end
        before = text[: match.start()].rstrip()
        previous_end = not before or before[-1] in '.!?:•-–|\n"“(*'
        if previous_end or (is_first and match.start() == 0):
            continue
        if word[:1].isupper() and len(word) > 1 and word.casefold() not in _NAME_JOIN and not is_month(word):
            found.append(word.casefold())
    return found


def _polarity_holds(text: str, wanted: set[str], passages: Sequence[str]) -> bool:
    """Whether the sentence negates as the cited sentence does that it resembles most."""
    best, best_share = "", 0.0
    for passage in passages:
        for start, end in sentences(passage):
            candidate = passage[start:end]
            found = set(word_terms(candidate))
            share = len(wanted & found) / (len(wanted) or 1) - 0.01 * len(found - wanted) / (len(found) or 1)
            if share > best_share:
                best, best_share = candidate, share
    if best_share < ALIGNED_SHARE_MIN:
        return True
    said, meant = len(_NEGATION.findall(text)), len(_NEGATION.findall(best))
    if best_share >= VERBATIM_SHARE_MIN and abs(said - meant) == 1:
        return False
    return bool(said) == bool(meant)
