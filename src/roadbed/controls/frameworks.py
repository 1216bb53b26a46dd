"""The map of controls to frameworks: data with a version (``frameworks.json``), read once. Pure."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import msgspec

FILE = Path(__file__).parent / "frameworks.json"


class Framework(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One framework."""

    title: str


class Applies(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Since when a part of a framework applies. ``start`` is a day."""

    framework: str
    what: str
    start: str = msgspec.field(name="from")


class NotCovered(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What no control shows, and why."""

    what: str
    why: str


class ControlMap(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which clauses each control is evidence for: control, framework, clauses."""

    version: str
    note: str
    frameworks: dict[str, Framework]
    dates: list[Applies]
    controls: dict[str, dict[str, list[str]]]
    not_covered: list[NotCovered]

    def clauses(self, control: str) -> dict[str, list[str]]:
        """The clauses of a control by framework; none for a control that the map does not know."""
        return {name: found for name, found in self.controls.get(control, {}).items() if found}


@cache
def control_map() -> ControlMap:
    """The map that is shipped."""
    return msgspec.json.decode(FILE.read_bytes(), type=ControlMap)
