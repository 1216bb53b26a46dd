"""What tells that a passage is about something else than the question, however many of its words it holds.

A number or a name of the question that no quoted document has, the opposite of a word of the question, a negation
that only the question has, a value that was asked for and that no quoted sentence holds. Surface cues: opposites and
negations in English alone, names by their capital letters. Pure; the extractive answer's confidence uses it. The
invariant: each is 0 where the question gives no such cue, so that a question without names, numbers and opposites is
judged by its words and vectors as ever.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from roadbed.apps.answer_type import AnswerType, holds
from roadbed.knowledge.analysis import word_terms

CLOSE_MIN = 0.75
"""How alike a name and a word of the document are that may be the same one, with a slip of the pen."""
CLOSE_CHARACTERS_MIN = 5
CLOSE_LENGTHS = 2
STEM_CHARACTERS_MIN = 4
DOCUMENT_WORDS_MAX = 4_000
TITLE_SHARE = 0.6
"""A question with more capitals than that is written in title case: they name nothing."""
_TOKEN = re.compile(r"[^\W_]+(?:[.,'’&/-][^\W_]+)*")
_SENTENCE_END = re.compile(r"[.!?:\"“„(]\s*$")
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_LETTERS = re.compile(r"[^\W\d_]{3,}")
_NOT_WORD = re.compile(r"[\W_]+")
_ROMAN = {"2": "II", "3": "III", "4": "IV", "5": "V", "6": "VI", "7": "VII", "8": "VIII"}
_YEARS = re.compile(r"(\d\d)(\d)0s")
"""``1950s`` and ``1600s``: spoken of as a span, told as its years or its century."""
_CENTURY = re.compile(r"(\d{1,2})(?:st|nd|rd|th) century")
_OF_CENTURY = re.compile(r"[ -]century\b", re.IGNORECASE)
_DESCRIBING = re.compile(r"(?:\d+|[a-z]+)-(?:letters?|words?|digits?|syllables?)", re.IGNORECASE)
"""``a 4-letter acronym`` describes the answer, and no document says it."""
_COUNTED = {"1": "one", "2": "two", "3": "three", "4": "four", "5": "five", "6": "six", "10": "ten"}
_DENIALS = (
    r"not|never|no|none|nobody|nothing|without|except|cannot|neither|nor|unable|exclud(?:e|es|ed|ing)|"
    r"prohibit(?:s|ed|ing)?|forbid(?:s|den)?"
)
_NEGATION = re.compile(rf"\b(?:{_DENIALS})\b|n['’]t\b", re.IGNORECASE)
_DENIED = re.compile(
    rf"\b(?:{_DENIALS}|fail(?:s|ed|ing|ure)?|lack(?:s|ed|ing)?|refus(?:e|es|ed|ing|al))\b|n['’]t\b", re.IGNORECASE
)
"""What answers a negation, too; a question with "fails" is none."""
_OPPOSITES = (
    "first last|increase decrease|more less|more fewer|most least|north south|northern southern|east west|"
    "eastern western|largest smallest|larger smaller|biggest smallest|bigger smaller|highest lowest|higher lower|"
    "high low|large small|big small|longest shortest|longer shorter|fastest slowest|oldest youngest|"
    "oldest newest|best worst|begin end|start stop|start end|open closed|male female|allow prohibit|"
    "allowed forbidden|permitted prohibited|win lose|rise fall|old new|minimum maximum|internal external|"
    "legal illegal|legal unlawful|same different|similar different|possible impossible|public private|"
    "major minor|majority minority|upper lower|left right|early late|earliest latest|strong weak|stronger weaker|"
    "positive negative|arrive leave|gain lose|success failure|support oppose|accept reject|approve reject|"
    "include exclude|import export|inside outside|entry exit|buy sell|true false|add remove|enable disable|"
    "hot cold|wet dry|hard soft|heavy light|rich poor|simple complex|easy difficult|temporary permanent|"
    "voluntary mandatory|optional mandatory|optional required|indoor outdoor|domestic foreign|urban rural|"
    "ancient modern|expand contract|encourage discourage|agree disagree|advantage disadvantage|above below|"
    "before after"
)

_VALUES = frozenset(["money", "percent", "distance", "pace", "contact"])
_HOW_MANY = re.compile(r"how many|(?:what|which) number|wie viele?\b|combien|cuánt[oa]s|hvor mange", re.IGNORECASE)
"""``How often`` has too many answers without a number ("on an annual basis")."""

Weight = Callable[[str], float]


@dataclass(frozen=True, slots=True)
class Mismatch:
    """What the question has and the passage lacks; each between 0 and 1."""

    number_missing: float
    name_missing: float
    opposite_said: float
    negation_missing: float
    value_missing: float


def _opposites() -> dict[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for pair in _OPPOSITES.split("|"):
        terms = [word_terms(word) for word in pair.split()]
        if all(terms):  # some are stop words
            (one, *_), (other, *_) = terms
            found.setdefault(one, set()).add(other)
            found.setdefault(other, set()).add(one)
    return {term: frozenset(others) for term, others in found.items()}


OPPOSITES = _opposites()


def mismatch(
    question: str, kind: AnswerType, sentences: Sequence[str], document: str, language: str, weight_of: Weight
) -> Mismatch:
    """What the question says and the quoted ``sentences``, the best one first, and their documents do not.

    ``document`` is what was found of their text, titles included; ``weight_of`` gives a term's share, 0 to 1, of the
    weight of the question's rarest word: a name that every document of a collection has says little.
    """
    asked, said = set(word_terms(question)), set(word_terms(sentences[0]))
    opposite = any(
        term not in said and any(other in said and other not in asked for other in OPPOSITES[term])
        for term in asked & OPPOSITES.keys()
    )
    numbers, names = named_things(question, has_capital_nouns=language == "de")
    return Mismatch(
        number_missing=float(any(not _has_number(number, document) for number in numbers)),
        name_missing=_heaviest_missing(names, document, language, weight_of) if names else 0.0,
        opposite_said=float(opposite),
        negation_missing=float(bool(_NEGATION.search(question)) and not _DENIED.search(sentences[0])),
        value_missing=float(
            (kind in _VALUES or (kind == "number" and _HOW_MANY.search(question) is not None))
            and not any(holds(kind, text, question) for text in sentences)
        ),
    )


def named_things(question: str, *, has_capital_nouns: bool = False) -> tuple[list[str], list[str]]:
    """The numbers and the names in a question: tokens with a digit, and words with a capital that begin no sentence.

    Where nouns have capitals only words in capitals are names.
    """
    tokens = list(_TOKEN.finditer(question))
    in_title_case = len(tokens) > 3 and sum(token[0][0].isupper() for token in tokens) > TITLE_SHARE * len(tokens)
    numbers, names = [], []
    for token in tokens:
        word = token[0].removesuffix("'s").removesuffix("’s")
        begins = not question[: token.start()].strip() or _SENTENCE_END.search(question[: token.start()])
        if any(character.isdigit() for character in word):
            if not _DESCRIBING.fullmatch(word):
                numbers.append(f"{word} century" if _OF_CENTURY.match(question, token.end()) else word)
        elif (
            len(word) > 1
            and not in_title_case
            and (word.isupper() or (word[0].isupper() and not (begins or has_capital_nouns)))
        ):
            names.append(word)
    return numbers, names


def _has_number(number: str, document: str) -> bool:
    """Whether the document has a number, or a code with digits, however it is set apart.

    ``1950s`` is there with one of its years, ``16th century`` with one of the 1500s, the 2 of a war as ``II``.
    """
    if (spoken := _of_years(number)) is not None:
        return re.search(spoken, document, re.IGNORECASE) is not None
    if number in _ROMAN and re.search(rf"\b{_ROMAN[number]}\b", document):
        return True
    runs = _NUMBER.findall(number)
    if runs == [number]:
        plain = rf"(?<!\d)(?<!\d[.,]){re.escape(number)}(?![.,]?\d)"
        return re.search(plain, document) is not None or _COUNTED.get(number, number) in document.casefold()
    if _folded(number) in _folded(document):
        return True
    return not number[0].isalpha() and all(re.search(rf"(?<!\d){re.escape(run)}(?!\d)", document) for run in runs)


def _of_years(span: str) -> str | None:
    """What a document has that speaks of these years; None for what are no years."""
    if (years := _YEARS.fullmatch(span)) is not None:
        hundreds, ten = years.groups()
        year = rf"{hundreds}{ten if ten != '0' else '[0-9]'}\d"
        century = rf"|\b{int(hundreds) + 1}(?:st|nd|rd|th)[ -]century" if ten == "0" else ""
        return rf"(?<!\d){year}(?!\d){century}"
    if (century_of := _CENTURY.fullmatch(span)) is not None:
        number = int(century_of[1])
        return (
            rf"\b{number}(?:st|nd|rd|th)(?:[ -]century|[ -](?:and|to|or|through)\b)|(?<!\d){number - 1:02d}\d\d(?!\d)"
        )
    return None


def _heaviest_missing(names: Sequence[str], document: str, language: str, weight_of: Weight) -> float:
    """The weight of the heaviest name that the document does not have, nor anything that is nearly it."""
    terms = frozenset(word_terms(document, language))
    missing = [name for name in names if not _has_name(name, document, terms)]
    if not missing:
        return 0.0
    words = list(dict.fromkeys(word.casefold() for word in _LETTERS.findall(document)))[:DOCUMENT_WORDS_MAX]
    return max((weight_of(name) for name in missing if not _is_near(name.casefold(), words)), default=0.0)


def _has_name(name: str, document: str, terms: frozenset[str]) -> bool:
    own = word_terms(name)
    if not own or any(term in terms for term in own):
        return True
    if len(name) >= STEM_CHARACTERS_MIN and _folded(name) in _folded(document):
        return True
    return name.isupper() and len(name) <= 6 and _spelled_out(name).search(document) is not None


def _spelled_out(acronym: str) -> re.Pattern[str]:
    """Words that begin with its letters, small words between them."""
    between = r"\w*[\s-]+(?:(?:of|and|the|for|de|in|on)\s+){0,2}"
    return re.compile(r"\b" + between.join(map(re.escape, acronym)), re.IGNORECASE)


def _is_near(name: str, words: Sequence[str]) -> bool:
    """Whether a word is the same name in another form (``Italian`` for ``Italy``) or with a slip."""
    stem = name[: max(STEM_CHARACTERS_MIN, len(name) - 3)]
    if len(name) >= STEM_CHARACTERS_MIN and any(word.startswith(stem) for word in words):
        return True
    if len(name) < CLOSE_CHARACTERS_MIN:
        return False
    alike = [word for word in words if word[0] == name[0] and abs(len(word) - len(name)) <= CLOSE_LENGTHS]
    return bool(get_close_matches(name, alike, 1, CLOSE_MIN))


def _folded(text: str) -> str:
    return _NOT_WORD.sub("", text.casefold())
