"""A tool's result on its way out: secrets replaced, personal data labelled, cut to its bound by whole rows. Pure.

A table is ``{"columns": […], "rows": [[…]]}``. The invariant: what leaves has passed the guard as a whole, and a row is
in it whole or not at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import msgspec

from roadbed.guard.rules import Direction, SinkName
from roadbed.guard.untrusted import without_invisible
from roadbed.kernel.errors import InvalidRequest
from roadbed.kernel.errors import Refused as RefusedError
from roadbed.kernel.guarded import Guarded
from roadbed.kernel.label import PUBLIC, Label
from roadbed.tools.types import Failed, Ok, Outcome, Refused

DEPTH_MAX = 64


class ResultGuard(Protocol):
    """What a result needs of the guard."""

    def scan_bytes(self, body: bytes) -> frozenset[str]:
        """The types of what a JSON body holds."""
        ...

    def for_tool(self, text: str, label: Label, *, is_sent: bool, team: str = "") -> Guarded:
        """A text of the arguments (``is_sent``), or of the result or error, as the rules let it go, and its label."""
        ...

    def region_of(self, team: str) -> str:
        """The region that a team's callers are in; empty when that was not said."""
        ...

    def check_label(self, label: Label, sink: SinkName, team: str = "", *, direction: Direction = "out") -> None:
        """Raises `GuardBlocked` where a rule by label alone keeps such data from a sink, or from coming out of it."""
        ...

    def lets(self, label: Label, sink: SinkName, team: str = "") -> bool:
        """Whether the rules by label alone let such data to a sink."""
        ...


@dataclass(frozen=True, slots=True)
class Shaped:
    """A result as it may leave, with how many rows were kept of a table and its size."""

    ok: Ok
    rows: int
    size_bytes: int
    masked_count: int


class NotJson(ValueError):
    """A provider returned something that is not JSON, or nests too deeply."""


def is_table(data: Any) -> bool:
    """Whether a result is a table."""
    return isinstance(data, Mapping) and isinstance(data.get("rows"), list) and isinstance(data.get("columns"), list)


def shape(ok: Ok, guard: ResultGuard, label: Label, bytes_max: int, team: str = "") -> Shaped:
    """Guard and cut a result. `NotJson`, `GuardBlocked`, and `OverflowError` when not even a part of it fits."""
    try:
        body = msgspec.json.encode(ok.data)
    except (TypeError, ValueError, RecursionError) as error:
        raise NotJson(type(error).__name__) from None
    joined = ok.label.join(label)
    if joined != ok.label:
        ok = replace(ok, label=joined)
    masked = 0
    if guard.scan_bytes(body) or not body.isascii():
        walk = _Walk(guard, ok.label, team)
        ok = replace(ok, data=walk.guarded(ok.data, 0), label=walk.label)
        masked = walk.masked_count
        if masked or not body.isascii():
            body = msgspec.json.encode(ok.data)
    guard.check_label(ok.label, "tool", team, direction="in")
    size = len(body)
    if size > bytes_max:
        ok, size = _cut(ok, size, bytes_max)
    return Shaped(ok, len(ok.data["rows"]) if is_table(ok.data) else 0, size, masked)


def guarded_arguments(
    arguments: Mapping[str, Any], guard: ResultGuard, team: str, label: Label = PUBLIC
) -> Mapping[str, Any]:
    """A call's arguments as they may go to the system behind a tool. `GuardBlocked`, `InvalidRequest`.

    ``label`` is that of all that whoever wrote them had read.
    """
    guard.check_label(label, "tool", team)
    try:
        if not guard.scan_bytes(msgspec.json.encode(arguments)):
            return arguments
        found: Mapping[str, Any] = _Walk(guard, label, team, is_sent=True).guarded(arguments, 0)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRequest(f"the arguments cannot be read ({type(error).__name__})") from None
    return found


def shown_to_caller(outcome: Outcome, guard: ResultGuard, team: str) -> Outcome:
    """A result for whoever called the tool themselves: a refusal where its label keeps it from them."""
    if isinstance(outcome, Ok):
        try:
            guard.check_label(outcome.label, "caller", team)
        except RefusedError as error:
            return Refused(error.code, error.message, error.hint)
    return outcome


def guarded_words(outcome: Outcome, guard: ResultGuard, team: str) -> Outcome:
    """A refusal or failure whose message is the system's own, as the rules let its words go."""
    if not isinstance(outcome, Refused | Failed):
        return outcome
    try:
        message, hint = (
            guard.for_tool(text, PUBLIC, is_sent=False, team=team).text for text in (outcome.message, outcome.hint)
        )
    except RefusedError as error:
        message, hint = error.message, error.hint
    return replace(outcome, message=message, hint=hint)


def _cut(ok: Ok, size: int, bytes_max: int) -> tuple[Ok, int]:
    if not is_table(ok.data):
        raise OverflowError(f"the result has {size} bytes, and the bound is {bytes_max}")
    rows = ok.data["rows"]
    frame = len(msgspec.json.encode({**ok.data, "rows": []}))
    kept, used = 0, frame
    for row in rows:
        used += len(msgspec.json.encode(row)) + 1
        if used > bytes_max:
            break
        kept += 1
    if not kept:
        raise OverflowError(f"one row of the result is over the bound of {bytes_max} bytes")
    data = {**ok.data, "rows": rows[:kept]}
    return replace(ok, data=data, is_truncated=True), len(msgspec.json.encode(data))


class _Walk:
    """Guards every text of a JSON value."""

    def __init__(self, guard: ResultGuard, label: Label, team: str, *, is_sent: bool = False) -> None:
        self._guard = guard
        self._team = team
        self._is_sent = is_sent
        self.label = label
        self.masked_count = 0

    def guarded(self, value: Any, depth: int) -> Any:
        if depth > DEPTH_MAX:
            raise NotJson("nested too deeply")
        match value:
            case str():
                return self._text(value)
            case Mapping():
                return {self._text(str(key)): self.guarded(inner, depth + 1) for key, inner in value.items()}
            case list() | tuple():
                return [self.guarded(inner, depth + 1) for inner in value]
            case _:
                return value

    def _text(self, text: str) -> str:
        if len(text) < 5:  # shorter than any finding
            return text
        found = self._guard.for_tool(text, self.label, is_sent=self._is_sent, team=self._team)
        self.label = found.label
        shown = found.text if self._is_sent else without_invisible(found.text)
        self.masked_count += found.masked_count
        return shown
