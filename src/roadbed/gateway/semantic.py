"""Which questions mean the same, so that one answer serves both: by their vectors, and by the facts that they name.

Vectors alone would take "fees in 2024" for "fees in 2025". So two questions are the same only when their vectors are
near and their facts are equal: numbers, dates, names, negations and words that turn a question round (`facts_of`).
Everything around the question is equal already: it is in the context's key. Pure but for the bounded memory of
`SemanticIndex`. The invariant: questions of two contexts are never compared.
"""

from __future__ import annotations

import re
import unicodedata
from collections import OrderedDict
from collections.abc import Sequence
from typing import Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from roadbed.gateway.types import ChatRequest, Message, TextPart

SIMILARITY_DEFAULT = 0.95
"""Measured by bench/gateway/semantic_cache.py."""

CONTEXTS_MAX = 1024
QUESTIONS_MAX = 4096
CONTEXT_QUESTIONS_MAX = 256
QUESTION_CHARACTERS_MAX = 1000
Vector = NDArray[np.float32]

_WORD = re.compile(r"\w+(?:['’.,:/@-]\w+)*", re.UNICODE)
_SENTENCE_END = re.compile(r"[.!?:]\s*\Z|\n\s*\Z|\A\s*\Z|[\"“„(]\s*\Z")
_PLAIN_NUMBER = re.compile(r"\d[\d.,]*")
_OPENERS = frozenset(
    "a an and are as at be by can could did do does for from give had has have how i if in is it kindly list may me my "
    "of on or our please show so tell that the there these this those to was we were what what's when where which who "
    "who's whom whose why will with would you your hello hi hey thanks "
    "was wer wie wo wann warum welche welcher welches wieviel kann können darf ist sind gibt bitte der die das ein eine "
    "ich wir".split()
)
_COUNTS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred thousand million billion half "
    "quarter third double twice once first second fourth fifth sixth seventh eighth ninth tenth last next previous"
)
_DATES = (
    "monday tuesday wednesday thursday friday saturday sunday january february march april june july august september "
    "october november december today tomorrow yesterday morning evening night day week month year daily weekly monthly "
    "yearly spring summer autumn winter"
)
_TURNS = (
    "not no never none without except only before after above below over under more less most least fewer min max "
    "minimum maximum increase decrease raise lower reduce add remove enable disable allow forbid start stop open close "
    "buy sell import export send receive win lose accept reject include exclude up down left right inside outside "
    "internal external public private male female old new best worst highest lowest larger smaller bigger faster slower "
    "cheaper pro con advantage disadvantage cause effect input output north south east west true false and or any all "
    "every some who when where why"
)
_TELLING = {word: word for word in f"{_COUNTS} {_DATES} {_TURNS}".split()}
_TELLING |= {f"{word}s": word for word in f"{_DATES} advantage disadvantage cause effect pro con".split()}
_TELLING |= {"cannot": "not", "nor": "no", "nobody": "no", "nothing": "no"}


class TextEmbedder(Protocol):
    """Turns a question into a vector of length 1; the built-in one is `knowledge.embed.EmbeddingWorker`."""

    @property
    def digest(self) -> str:
        """The name of the function: vectors of two digests are never compared."""

    async def embed_query(self, text: str) -> Vector:
        """The vector of a question. Raises `RoadbedError` where there is none."""

    def fits(self, text: str) -> bool:
        """Whether the vector reflects all of the text."""


class Question(msgspec.Struct, frozen=True):
    """A question as it is compared: within one context, by its vector and its facts."""

    context: bytes
    vector: Vector
    facts: frozenset[str]


def facts_of(text: str) -> frozenset[str]:
    """What must be equal in two questions that share an answer, in lower case: words with a digit, words that count or
    date or turn the sense, and words written large, save those that open a sentence because every sentence has one.
    """
    text = unicodedata.normalize("NFKC", text)
    found: set[str] = set()
    for match in _WORD.finditer(text):
        word = match[0].replace("’", "'")
        small = word.lower()
        if any(character.isdecimal() for character in word):
            found.add(_plain(small))
        elif small.endswith("n't"):
            found.add("not")
        elif small in _TELLING:
            found.add(_TELLING[small])
        elif word[0].isupper() or any(character.isupper() for character in word):
            opens = _SENTENCE_END.search(text, 0, match.start()) is not None
            if not (opens and small.partition("'")[0] in _OPENERS) and small not in ("i", "i'm"):
                found.add(small.removesuffix("'s"))
    return frozenset(found)


def last_question(request: ChatRequest) -> str | None:
    """The text of the last turn, where that is the user's and nothing but text, and not too long to be compared."""
    if not request.messages or request.messages[-1].role != "user":
        return None
    content = request.messages[-1].content
    if not isinstance(content, str):
        if len(content) != 1 or not isinstance(content[0], TextPart):
            return None
        content = content[0].text
    return content if 0 < len(content) <= QUESTION_CHARACTERS_MAX else None


def without_question(request: ChatRequest) -> ChatRequest:
    """The request with the last turn's text left out: what has to be equal in any case."""
    last = request.messages[-1]
    bare = Message(last.role, "", last.name, hints=last.hints)
    return msgspec.structs.replace(request, messages=(*request.messages[:-1], bare))


def _plain(number: str) -> str:
    """Figures that are written with a point or comma between thousands are the same as without."""
    if _PLAIN_NUMBER.fullmatch(number) and re.fullmatch(r"\d{1,3}(?:[.,]\d{3})+", number):
        return re.sub(r"[.,]", "", number)
    return number.rstrip(".,")


class SemanticIndex:
    """Questions by their contexts, each with the key of its answer; the least used context goes first."""

    def __init__(self, questions_max: int = QUESTIONS_MAX) -> None:
        self._questions_max = questions_max
        self._contexts: OrderedDict[bytes, list[tuple[Question, bytes]]] = OrderedDict()
        self.count = 0

    def __len__(self) -> int:
        return self.count

    def near(self, question: Question, similarity: float) -> list[bytes]:
        """The keys of the answers to questions of the same facts that are this near, nearest first."""
        entries = self._contexts.get(question.context)
        if not entries:
            return []
        self._contexts.move_to_end(question.context)
        alike = [(entry, key) for entry, key in entries if entry.facts == question.facts]
        if not alike:
            return []
        scores = similarities(question.vector, [entry.vector for entry, _ in alike])
        ranked = sorted(zip(scores, (key for _, key in alike), strict=True), reverse=True)
        return [key for score, key in ranked if score >= similarity]

    def put(self, question: Question, key: bytes) -> None:
        """Remember which answer a question has."""
        self.forget(question.context, key)
        entries = self._contexts.setdefault(question.context, [])
        self._contexts.move_to_end(question.context)
        entries.append((question, key))
        self.count += 1
        if len(entries) > CONTEXT_QUESTIONS_MAX:
            del entries[0]
            self.count -= 1
        while self.count > self._questions_max or len(self._contexts) > CONTEXTS_MAX:
            _, gone = self._contexts.popitem(last=False)
            self.count -= len(gone)

    def forget(self, context: bytes, key: bytes) -> None:
        """The answer under a key is there no more."""
        entries = self._contexts.get(context)
        if entries is None:
            return
        left = [(question, known) for question, known in entries if known != key]
        self.count -= len(entries) - len(left)
        if left:
            self._contexts[context] = left
        else:
            del self._contexts[context]


def similarities(vector: Vector, others: Sequence[Vector]) -> list[float]:
    """The cosines of a vector with others, all of length 1."""
    scores: list[float] = (np.stack(others) @ vector).tolist()
    return scores
