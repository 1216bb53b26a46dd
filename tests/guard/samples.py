"""Made values of every kind that the guard knows, and the ways in which someone may write them oddly.

Shared by the tests of the detectors. Values are made by a seed, so that a failure comes again.
"""

from __future__ import annotations

import base64
import html
import random
import urllib.parse
from importlib import import_module
from typing import Any

from roadbed.guard.secret_table import PREFIX_TABLE, SERVICE_TABLE

_parser: Any = import_module("re._parser")


def matching(expression: str, dice: random.Random) -> str:
    """A text that a simple pattern matches whole, of many different characters."""
    return _made(_parser.parse(expression), dice)


def _made(tree: Any, dice: random.Random) -> str:
    out = ""
    for operation, value in tree:
        name = str(operation)
        if name == "LITERAL":
            out += chr(value)
        elif name == "IN":
            out += dice.choice(_choices(value))
        elif name == "ANY":
            out += dice.choice("abc123")
        elif name in ("MAX_REPEAT", "MIN_REPEAT"):
            low, high, inner = value
            out += "".join(_made(inner, dice) for _ in range(dice.randint(low, min(int(high), low + 3))))
        elif name == "SUBPATTERN":
            out += _made(value[-1], dice)
        elif name == "BRANCH":
            out += _made(dice.choice(value[1]), dice)
        else:
            raise AssertionError(name)
    return out


def _choices(items: Any) -> str:
    found = ""
    for operation, value in items:
        name = str(operation)
        if name == "LITERAL":
            found += chr(value)
        elif name == "RANGE":
            found += "".join(map(chr, range(value[0], value[1] + 1)))
        elif name == "CATEGORY":
            found += "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
    return "".join(c for c in found if c.isalnum()) or found


def secrets_by_prefix(seed: int = 7) -> list[tuple[str, str]]:
    """``(rule, value)`` for every prefix."""
    dice = random.Random(seed)
    return [(name, prefix + matching(rest, dice)) for name, prefixes, rest in PREFIX_TABLE for prefix in prefixes]


def secrets_by_service(seed: int = 7) -> list[tuple[str, str, str]]:
    """``(rule, text, value)`` for every service."""
    dice = random.Random(seed)
    rows = []
    for name, words, shape in SERVICE_TABLE:
        value = matching(shape, dice)
        while not (any(c.isdigit() for c in value) and any(c.isalpha() for c in value) and len(set(value)) > 6):
            value = matching(shape, dice)
        rows.append((name, f"{words.split()[0].strip('_')}_api_key = '{value}'", value))
    return rows


def full_width(value: str) -> str:
    """Letters and digits as full-width ones."""
    return "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in value)


def zero_width(value: str) -> str:
    """An invisible character after each third."""
    return "".join(c + ("\u200b" if index % 3 == 2 and index + 1 < len(value) else "") for index, c in enumerate(value))


def homoglyphs(value: str) -> str:
    """Latin letters as the Cyrillic ones that look alike, and digits as Arabic ones."""
    return value.translate(str.maketrans("aeopcxAEOPCX0123456789", "аеорсхАЕОРСХ٠١٢٣٤٥٦٧٨٩"))


def percent(value: str) -> str:
    """Every character percent-encoded."""
    return "".join(f"%{byte:02X}" for byte in value.encode())


def entities(value: str) -> str:
    """Every character as an HTML entity."""
    return "".join(f"&#{ord(c)};" for c in value)


def quoted(value: str) -> str:
    """As in an address or in HTML."""
    return urllib.parse.quote(html.escape(value), safe="")


def base64_of(value: str) -> str:
    """Base64 of a sentence with the value."""
    return base64.b64encode(f"it is: {value} yes".encode()).decode()


def base64_twice(value: str) -> str:
    """Base64 in base64."""
    return base64.b64encode(base64_of(value).encode()).decode()


def percent_of_base64(value: str) -> str:
    """Base64, percent-encoded."""
    return percent(base64_of(value))


WRITINGS = {
    writing.__name__: writing
    for writing in (
        full_width, zero_width, homoglyphs, percent, entities, quoted, base64_of, base64_twice, percent_of_base64,
    )
}  # fmt: skip
