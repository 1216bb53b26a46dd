"""`Guarded`: text that has passed the guard, the only text that a sink takes.

Models, embedders, indexes, caches, logs, traces and exports accept `Guarded`, never ``str``; only the room ``guard/``
may call `make_guarded` (``tests/test_tidy.py`` holds that). So a path that forgets the guard does not type-check.
"""

from __future__ import annotations

from typing import NoReturn

from roadbed.kernel.label import PUBLIC, Label


class Guarded:
    """Text as it may be sent to the sink it was guarded for, with the label that it carries."""

    __slots__ = ("label", "masked_count", "sink", "text")

    text: str
    label: Label
    sink: str
    masked_count: int

    def __init__(self) -> None:
        raise TypeError("Guarded text is made by roadbed.guard alone")

    def __repr__(self) -> str:
        return f"Guarded({len(self.text)} characters, {'+'.join(self.label.words())}, for {self.sink})"

    __str__ = __repr__

    def __reduce__(self) -> NoReturn:
        raise TypeError("Guarded text is not pickled")


_new = object.__new__


def make_guarded(text: str, label: Label = PUBLIC, *, sink: str, masked_count: int = 0) -> Guarded:
    """For ``roadbed.guard`` only: declare that ``text`` may go to ``sink`` as it is."""
    guarded = _new(Guarded)
    guarded.text, guarded.label, guarded.sink, guarded.masked_count = text, label, sink, masked_count
    return guarded
