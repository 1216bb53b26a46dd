"""`NumberRule`: a kind of number that is written in digits alone, and the index by which runs find their rules.

A rule names the ways it is written: ``999-99-9999`` (in which ``_`` is a space) is a formatted shape that speaks for
itself; a shape in ``shapes`` needs a telling word before it. Read by `guard.digit_runs`; the rules themselves are in
`guard.national_ids`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

_GROUP = re.compile(r"9+")


class NumberRule(NamedTuple):
    """One kind. ``formats`` speak for themselves; ``is_bare_enough``: the checksum is strong, no word is needed."""

    name: str
    type: str
    check: Callable[[str], bool]
    lengths: tuple[int, ...]
    formats: str  # separated by blanks
    shapes: str  # separated by blanks; any separators
    words: str  # separated by commas
    is_bare_enough: bool
    confidence: float


def sizes_of(written: str) -> tuple[int, ...]:
    """``999-99-9999`` as ``(3, 2, 4)``."""
    return tuple(len(group) for group in _GROUP.findall(written))


def separators_of(written: str) -> str:
    """``999-99-9999`` as ``--``."""
    return _GROUP.sub("", written).replace("_", " ")


class NumberRules:
    """Rules by length and by shape."""

    def __init__(self, rules: Iterable[NumberRule]) -> None:
        self.all: Final = tuple(rules)
        self.by_length: dict[int, list[NumberRule]] = {}
        self.by_shape: dict[tuple[int, ...], list[NumberRule]] = {}
        self.speaking: dict[str, set[tuple[tuple[int, ...], str]]] = {}
        for rule in self.all:
            for length in rule.lengths:
                self.by_length.setdefault(length, []).append(rule)
            for written in f"{rule.formats} {rule.shapes}".split():
                rules_of_shape = self.by_shape.setdefault(sizes_of(written), [])
                if rule not in rules_of_shape:
                    rules_of_shape.append(rule)
            self.speaking[rule.name] = {(sizes_of(text), separators_of(text)) for text in rule.formats.split()}
        self.shapes: Final = sorted(self.by_shape, key=len, reverse=True)
