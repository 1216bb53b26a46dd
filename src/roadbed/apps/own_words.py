"""What a user set apart in their own message: quotations, by quotation marks, code fences or quoted lines. Pure.

A model that follows others' orders could pick any words out of a question; what its writer set apart it can only take
as a whole. Used by `egress`. The invariant: nothing is a quotation that the message does not hold between two marks of
one kind, or as quoted lines.
"""

from __future__ import annotations

import re
import unicodedata

QUOTATIONS_MAX = 200
_QUOTED = re.compile(
    r"```[^\n`]*\n(?P<fence>.+?)\n?```"
    r"|`(?P<code>[^`\n]+)`"
    r'|(?<!\w)"(?P<straight>[^"]+)"(?!\w)'
    r"|[“„](?P<curly>[^“”„]+)[”“]"
    r"|«(?P<angle>[^«»]+)»"
    r"|(?m:^)(?P<lines>(?:>[^\n]*(?:\n|\Z))+)",
    re.DOTALL,
)
_LINE_MARK = re.compile(r"(?m)^> ?")


def quotations(text: str) -> frozenset[str]:
    """What is set apart in a text, with its white space made plain."""
    found = set()
    for match in _QUOTED.finditer(text):
        quoted = match[match.lastgroup or 0]
        found.add(plain(_LINE_MARK.sub("", quoted) if match.lastgroup == "lines" else quoted))
        if len(found) >= QUOTATIONS_MAX:
            break
    return frozenset(found - {""})


def plain(text: str) -> str:
    """A text with single spaces and composed characters, for comparing."""
    return " ".join(unicodedata.normalize("NFC", text).split())
