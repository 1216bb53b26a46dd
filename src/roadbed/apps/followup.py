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
_ASKING = re.compile(
    r"\bhow (?:much|many)\b|"
    r"\b(?:tell|show|explain|describe|summari[sz]e|list|give|know|want|like|please|question|zeig|erkläre|nenne|bitte)\b",
    re.IGNORECASE,
)
"""How somebody asks, and nothing of what about."""
_MEASURE = re.compile(
    r"\bhow (long|often|far|fast|quickly|quick|soon|old|big|large|high|tall|wide|deep|heavy|well)\b", re.IGNORECASE
)
"""What a turn wants to be told: headings ask the same way, so these are taken where nothing better is left."""
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
    """What to search for: the last question, with the rarest terms of the turn before it where it leans on that.

    Where that turn leans on an earlier one too, terms of the earlier one fill what is left.
    """
    question = question_of(messages)
    users = [message.text() for message in messages[-HISTORY_MESSAGES_MAX:] if message.role == "user"]
    if len(users) < 2 or not leans_on_history(question):
        return question
    turns = [users[-2]]
    for before in reversed(users[:-2]):
        if not leans_on_history(turns[-1]):
            break
        turns.append(before)
    words = [word for turn in turns for word in rarest_words(turn)]
    measures = {found.casefold() for turn in turns for found in _MEASURE.findall(turn)}
    known = set(word_terms(question))
    added: list[str] = []
    for word in sorted(words, key=lambda word: word.casefold() in measures):
        terms = set(word_terms(word))
        if len(added) < TERMS_ADDED_MAX and not known & terms:
            added.append(word)
            known |= terms
    return f"{question} {' '.join(added)}".strip()


def leans_on_history(question: str) -> bool:
    """Whether a question can hardly be understood alone."""
    return bool(_LEANING.search(question)) or len(set(word_terms(question))) < OWN_TERMS_ENOUGH


def rarest_words(text: str) -> list[str]:
    """Content words, likely rarest first: names and codes, then long words, in order of appearance among equals.

    A capital that begins the text names nothing, so it is taken off.
    """
    order: dict[str, tuple[bool, int, str]] = {}
    for position, match in enumerate(_WORD.finditer(_ASKING.sub(" ", text))):
        word = match[0]
        if position == 0 and word.istitle():
            word = word.lower()
        if word_terms(word):
            is_name = word[:1].isupper() or any(character.isdigit() for character in word)
            order.setdefault(word.casefold(), (not is_name, -len(word), word))
    return [word for _, _, word in sorted(order.values(), key=lambda entry: entry[:2])]
