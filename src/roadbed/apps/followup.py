"""From a conversation to one search query.

A question that stands on its own is searched as it is. One that leans on what came before (a pronoun, or hardly any
word of its own) is searched together with the rarest terms of the turn before it. No model is asked. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from roadbed.gateway.types import Message
from roadbed.kernel.errors import InvalidRequest
from roadbed.knowledge.analysis import word_terms

TERMS_ADDED_MAX = 3
OWN_TERMS_ENOUGH = 3
HISTORY_MESSAGES_MAX = 20
QUESTION_CHARACTERS_MAX = 4_000
_LEANING = re.compile(
    r"\b(it|its|this|that|these|those|they|them|their|he|she|his|her|one|ones|same|former|latter|"
    r"what about|how about|and if|why not|es|sie|er|dies|dieser|deren|dessen)\b",
    re.IGNORECASE,
)
_WORD = re.compile(r"[^\W_][\w'-]*")


class NoQuestion(InvalidRequest):
    """The conversation holds no user message to answer."""

    code = "apps.no_question"
    hint = "send at least one message with role user and text content"


def question_of(messages: Sequence[Message]) -> str:
    """The text of the last user message; empty when there is none."""
    for message in reversed(messages):
        if message.role == "user":
            return message.text().strip()[:QUESTION_CHARACTERS_MAX]
    return ""


def search_query(messages: Sequence[Message]) -> str:
    """What to search for: the last question, with the rarest terms of the turn before it where it leans on that."""
    question = question_of(messages)
    users = [message.text() for message in messages[-HISTORY_MESSAGES_MAX:] if message.role == "user"]
    if len(users) < 2 or not leans_on_history(question):
        return question
    own = set(word_terms(question))
    added = [word for word in rarest_words(users[-2]) if not own & set(word_terms(word))]
    return f"{question} {' '.join(added[:TERMS_ADDED_MAX])}".strip()


def leans_on_history(question: str) -> bool:
    """Whether a question can hardly be understood alone."""
    return bool(_LEANING.search(question)) or len(set(word_terms(question))) < OWN_TERMS_ENOUGH


def rarest_words(text: str) -> list[str]:
    """Content words, likely rarest first: names and codes, then long words, in order of appearance among equals."""
    seen: dict[str, str] = {}
    words = _WORD.findall(text)
    for position, word in enumerate(words):
        if word_terms(word):
            is_name = (word[:1].isupper() and position > 0) or any(character.isdigit() for character in word)
            seen.setdefault(word.casefold(), f"{0 if is_name else 1}{99 - min(len(word), 99):02d}")
    order = {word.casefold(): word for word in reversed(words)}
    return [order[key] for key in sorted(seen, key=lambda key: seen[key])]
