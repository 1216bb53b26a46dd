"""Which questions mean the same, so that one answer serves both: by their vectors, and by the facts that they name.

Vectors alone take "fees in 2024" for "fees in 2025", and "allowed" for "not allowed". So two questions are the same
only when their vectors are near and the words that carry their meaning are equal (`facts_of`).
Everything around the question is equal already: it is in the context's key. Pure but for the bounded memory of
`SemanticIndex`. The invariant: questions of two contexts are never compared.
"""

from __future__ import annotations

import re
import unicodedata
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from roadbed.gateway.types import ChatRequest, Message, TextPart

SIMILARITY_DEFAULT = 0.9
"""Measured by bench/gateway/semantic_cache.py."""

CONTEXTS_MAX = 1024
QUESTIONS_MAX = 4096
CONTEXT_QUESTIONS_MAX = 256
QUESTION_CHARACTERS_MAX = 1000
WORDS_MAX = 300
Vector = NDArray[np.float32]

_WORD = re.compile(r"\w+(?:['’.,:/@-]\w+)*", re.UNICODE)
_GROUPED_NUMBER = re.compile(r"\d{1,3}(?:[.,]\d{3})+")
_COURTESY = re.compile(
    r"\b(?:hi|hello|hey|please|kindly|thanks|thank you|bitte|danke|hallo"
    r"|(?:can|could|would|will) you (?:please )?(?:tell|show) me|do you know"
    r"|i(?:'d| would)? (?:want|like|need) to know|(?:please )?(?:tell|show) me)\b",
    re.IGNORECASE,
)
_FILLERS = frozenset(
    (
        *("a", "an", "the", "this", "that", "of", "in", "on", "at", "for", "is", "am", "are", "be", "do", "does"),
        *("what", "which", "just", "also", "so", "and", "it", "there"),
        *("der", "die", "das", "den", "dem", "ein", "eine", "einen", "einem", "einer", "ist", "sind", "und", "es"),
    )
)
_SAME = {"cannot": "not", "nor": "no", "nobody": "no", "nothing": "no", "neither": "no"}


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
    facts: tuple[str, ...]


def facts_of(text: str) -> tuple[str, ...]:
    """What must be equal in two questions that share an answer: all words in their order, in small letters and without
    the plural's ending, save those that say nothing here (articles, a few small words, courtesies).

    So numbers, dates, names, negations, opposites, tenses and who does what to whom keep questions apart. A part that
    is moved to the front does not: of the turns of a sequence, the first one in the alphabet stands for all.
    """
    text = _COURTESY.sub(" ", unicodedata.normalize("NFKC", text).replace("’", "'"))
    words = [word for word in _words(text) if word not in _FILLERS][:WORDS_MAX]
    first = min(words, default="")
    turns = (words[place:] + words[:place] for place, word in enumerate(words) if word == first)
    return tuple(min(turns, default=[]))


def _words(text: str) -> Iterator[str]:
    """The words of a text in small letters, each in the one form in which it is compared."""
    for match in _WORD.finditer(text):
        word = match[0].lower()
        stem, apostrophe, ending = word.partition("'")
        if word.endswith("n't"):
            yield from (word[:-3], "not") if word != "can't" else ("can", "not")
        elif any(character.isdecimal() for character in word):
            yield re.sub(r"[.,]", "", word) if _GROUPED_NUMBER.fullmatch(word) else word
        elif apostrophe and ending in ("s", "m", "re", "ve", "d", "ll"):
            yield _singular(stem)
        else:
            yield _SAME.get(word) or _singular(word)


def _singular(word: str) -> str:
    if word in _FILLERS or len(word) < 5:
        return word
    if word.endswith("ies"):
        return word[:-3] + "y"
    return word[:-1] if word.endswith("s") and not word.endswith(("ss", "us", "is")) else word


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
