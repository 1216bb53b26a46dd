"""Names that come from outside, such as a file's: without what a reader cannot see and a screen obeys. Pure.

A direction override shows ``fdp.exe`` as ``exe.pdf``, a line break adds a line to a list, a control character drives a
terminal. `plain_name` takes them out of what is a name alone; `misleads` and `name_in_plain_sight` are for names that
are an address too, and so cannot be changed. The invariant: what `plain_name` gives is one line and misleads nobody.
"""

from __future__ import annotations

import re

# Controls, separators of lines, and what embeds, overrides or isolates a direction.
_MISLEADING = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
# Marks of a direction turn nothing round, and stand in honest names; nobody sees them.
_MARKS = re.compile("[\u061c\u200e\u200f\ufeff]")


def plain_name(text: str) -> str:
    """The name on one line, without controls and marks of a direction. May be empty."""
    return " ".join(_MARKS.sub("", _MISLEADING.sub(_space_or_nothing, text)).split())


def _space_or_nothing(match: re.Match[str]) -> str:
    return " " if match[0].isspace() else ""


def misleads(text: str) -> bool:
    """Whether the name holds a character that a screen would obey in place of showing it."""
    return _MISLEADING.search(text) is not None


def name_in_plain_sight(text: str) -> str:
    """The name with such characters written out, as in ``\\u202e``, to be shown to who has to mend it."""
    return _MISLEADING.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
