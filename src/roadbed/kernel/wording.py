"""Words that more than one room says to people. Pure."""

from __future__ import annotations

import re

_TYPE_NAME = re.compile(r"`([a-z]+(?: \| [a-z]+)*)`")
_TYPE_WORDS = {
    "object": "a mapping",
    "array": "a list",
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true/false",
    "null": "nothing",
}
_JSON_WORDS = {"object": "an object", "null": "null"}


def counted(count: int, noun: str) -> str:
    """``1 document``, ``2 documents``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def types_in_words(text: str, *, is_json: bool = False) -> str:
    """A message of msgspec with plain words for its names of types; what may stand there besides is said with `or`.

    ``is_json`` says that the reader wrote JSON, not YAML. Names of fields stay as they are.
    """
    words = {**_TYPE_WORDS, **_JSON_WORDS} if is_json else _TYPE_WORDS

    def said(match: re.Match[str]) -> str:
        names = match[1].split(" | ")
        # "missing required field `str`" names a field
        if match.string[: match.start()].endswith("field ") or not words.keys() >= set(names):
            return match[0]
        return " or ".join(words[name] for name in names)

    return _TYPE_NAME.sub(said, text)
