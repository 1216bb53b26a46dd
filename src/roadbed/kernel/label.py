"""Labels: the classification that travels with data and bounds where it may go (a lattice, `field` of every sink).

A label is (level, categories, regions). Joining two labels takes the higher level, all categories of both, and only
the regions that both allow. Data may flow to a `Sink` only when `Label.may_flow_to` says so; an empty set of
candidates is a refusal, never a wider set.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import IntEnum

from roadbed.kernel.errors import ConfigError


class Level(IntEnum):
    """How sensitive data is, lowest first."""

    PUBLIC = 0
    INTERNAL = 1
    CONFIDENTIAL = 2
    RESTRICTED = 3


LEVELS = {level.name.lower(): level for level in Level}
PERSONAL = "personal"
UNSCANNED = "unscanned"
LOCAL_ONLY = "local-only"
CATEGORIES = frozenset({PERSONAL, UNSCANNED, LOCAL_ONLY})


@dataclass(frozen=True, slots=True)
class Label:
    """Level, categories and regions of some data. ``regions is None`` means that any region will do."""

    level: Level = Level.PUBLIC
    categories: frozenset[str] = frozenset()
    regions: frozenset[str] | None = None

    def join(self, other: Label) -> Label:
        """The label of data made from both."""
        if other is PUBLIC or self is other:
            return self
        if self is PUBLIC:
            return other
        if self.regions is None:
            regions = other.regions
        elif other.regions is None:
            regions = self.regions
        else:
            regions = self.regions & other.regions
        return Label(max(self.level, other.level), self.categories | other.categories, regions)

    def with_category(self, category: str) -> Label:
        """This label and one more category."""
        return self if category in self.categories else Label(self.level, self.categories | {category}, self.regions)

    def without_category(self, category: str) -> Label:
        """This label less a category, for text from which every value of that category was masked."""
        if category not in self.categories:
            return self
        return Label(self.level, self.categories - {category}, self.regions)

    def may_flow_to(self, sink: Sink) -> bool:
        """Whether data with this label may go to ``sink``."""
        if self.level > sink.clearance or not self.categories <= sink.accepts:
            return False
        return self.regions is None or sink.region in self.regions

    def words(self) -> list[str]:
        """The label as the manifest writes it, for example ``["confidential", "personal", "region:eu"]``."""
        regions = sorted(f"region:{region}" for region in self.regions) if self.regions is not None else []
        return [self.level.name.lower(), *sorted(self.categories), *regions]


@dataclass(frozen=True, slots=True)
class Sink:
    """Where data may go: the highest level it is cleared for, the categories it takes, and its region."""

    name: str
    clearance: Level = Level.RESTRICTED
    accepts: frozenset[str] = field(default=CATEGORIES)
    region: str = "local"


PUBLIC = Label()
"""The label that says nothing; the one of its kind, as those made here are, so that it is told by identity."""


def parse_label(words: Iterable[str], *, where: str = "labels") -> Label:
    """A label from the manifest's words: one level, categories, and regions (``eu`` or ``region:eu``)."""
    level, categories, regions = Level.PUBLIC, set(), set()
    for word in words:
        if word in LEVELS:
            level = max(level, LEVELS[word])
        elif word in CATEGORIES:
            categories.add(word)
        else:
            name = word.removeprefix("region:")
            if not name.replace("-", "").isalnum():
                hint = f"levels: {', '.join(LEVELS)}; or region:NAME"
                raise ConfigError(f"{where}: {word!r} is not a label", hint=hint)
            regions.add(name)
    found = Label(level, frozenset(categories), frozenset(regions) if regions else None)
    return PUBLIC if found == PUBLIC else found


def join_labels(labels: Iterable[Label]) -> Label:
    """The join of many labels; `PUBLIC` for none."""
    result = PUBLIC
    for label in labels:
        result = result.join(label)
    return result
