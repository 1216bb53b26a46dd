"""What a turn may still do once it has read what others wrote: decisions before each call of a tool. Pure.

A model that read a document, a row, an error or another system's description of its tools may be following it, so
what it asks for is judged by where the values come from and never by what a text says. The rules: what changes or
sends waits for a person, unless it is the user's own words to where the user said; where something is sent is what the
user typed; confidential data, others' text and a way out never meet in one turn. Nothing here believes a model. The
invariant: reading more never allows more.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from roadbed.apps.own_words import plain, quotations
from roadbed.kernel.label import PERSONAL, PUBLIC, Label, Level
from roadbed.tools.types import Refused, Tool

TRUSTED_VALUES_MAX = 2_000
DEPTH_MAX = 32
_NUMBER = re.compile(r"-?\d+(?:[.,]\d+)?")
_PLACE_NAMES = re.compile(
    r"(?i)(?:^|_)(?:to|cc|bcc|recipients?|receivers?|address(?:es)?|e?mails?|urls?|uri|links?|hosts?|domain|webhook|"
    r"callback|endpoint|channel|phone|number|account|iban|path|file(?:name)?|folder|destination|target)(?:$|_)"
)
_PLACE_VALUES = re.compile(
    r"(?i)@|//|\bwww\.|^(?:mailto|tel|data):|^[~/\\]|[\w-]\.[a-z]{2,24}(?:[/:]|$)|\d[\d\s-]{5,}\d"
)


@dataclass(frozen=True, slots=True)
class TurnData:
    """Where the values in a turn come from.

    ``typed`` are the user's own messages; ``trusted`` the values that trusted sources gave. ``label`` is that of the
    passages and results that were read, and ``has_untrusted`` whether any of it was written by others.
    """

    typed: tuple[str, ...] = ()
    trusted: frozenset[str] = frozenset()
    label: Label = PUBLIC
    has_untrusted: bool = False

    def reading(self, label: Label) -> TurnData:
        """After text that others wrote was read."""
        return replace(self, label=self.label.join(label), has_untrusted=True)

    def trusting(self, label: Label, data: Any) -> TurnData:
        """After a result of a trusted source was read; its values are as good as typed ones."""
        values = self.trusted | {text for text in leaves(data) if text}
        kept = values if len(values) <= TRUSTED_VALUES_MAX else self.trusted
        return replace(self, label=self.label.join(label), trusted=kept)

    @property
    def is_confidential(self) -> bool:
        """Whether what was read is confidential or personal."""
        return self.label.level >= Level.CONFIDENTIAL or PERSONAL in self.label.categories

    @property
    def may_let_out(self) -> bool:
        """Whether anything may still leave by a way that a model chooses."""
        return not (self.has_untrusted and self.is_confidential)


@dataclass(frozen=True, slots=True)
class Judged:
    """``refusal`` when a call must not be made; ``is_tainted`` when whatever it changes or sends needs a person."""

    is_tainted: bool = False
    refusal: Refused | None = field(default=None)


def judge(tool: Tool, arguments: Mapping[str, Any], data: TurnData) -> Judged:
    """Whether a call that a model asked for may be made, with what was read so far.

    What is sent needs a person, unless every argument `is_users_own`. A turn that has read nothing of others is free.
    """
    if not data.has_untrusted:
        return Judged()
    if tool.effect == "send" and not data.may_let_out:
        return Judged(True, _refused(tool, "it would send what may be confidential, after text of others was read"))
    if tool.is_outside and not data.may_let_out:
        name = next((name for name, value in _named(tool, arguments) if not _is_own(tool, name, value, data)), None)
        if name is not None:
            return Judged(True, _refused(tool, f"{name} is no value that the user typed, and others run {tool.source}"))
    if tool.effect == "send":
        for name, value in _named(tool, arguments):
            if is_place(name, value) and not _is_own(tool, name, value, data):
                return Judged(True, _refused(tool, f"{name} says where to send, and the user did not type it"))
        return Judged(is_tainted=not is_users_own(tool, arguments, data))
    return Judged(is_tainted=True)


def is_users_own(tool: Tool, arguments: Mapping[str, Any], data: TurnData) -> bool:
    """Whether a call says nothing but what the user said in this request, our own constants and trusted values, to
    where the user said.

    An injected text may choose the tool, and pick its arguments from the question. So words count only as a whole that
    the user set apart (`own_words.quotations`), places and numbers as they stand in the last message; and a tool that
    is told no place, so that another one could take its place, always needs a person.
    """
    said = data.typed[-1:]
    apart = quotations(said[0]) if said else frozenset[str]()
    last = replace(data, typed=said, trusted=frozenset())
    has_place = False
    for name, value in (*_named(tool, arguments), *_flags("", arguments, 0)):
        if not value.strip() or value in data.trusted or value in _constants(tool, name):
            continue
        is_where = is_place(name, value)
        is_token = (is_where or _NUMBER.fullmatch(value) is not None) and not any(map(str.isspace, value))
        if plain(value) not in apart and not (is_token and is_typed(value, last)):
            return False
        has_place |= is_where
    return has_place


def _flags(name: str, value: Any, depth: int) -> Iterator[tuple[str, str]]:
    """Each truth value inside some arguments, which nobody types; deep ones are refused by their other leaves."""
    if isinstance(value, bool):
        yield name, str(value)
    elif depth <= DEPTH_MAX and isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flags(f"{name}.{key}" if name else str(key), inner, depth + 1)
    elif depth <= DEPTH_MAX and isinstance(value, list | tuple):
        for inner in value:
            yield from _flags(name, inner, depth + 1)


def _refused(tool: Tool, why: str) -> Refused:
    return Refused("apps.egress_refused", f"{tool.name}: {why}", EGRESS_HINT)


EGRESS_HINT = "leave it out and say so; the user may ask for it in a new conversation, with the values in the question"


def is_place(name: str, value: str) -> bool:
    """Whether an argument says where something goes: a recipient, an address, a path, an account."""
    last = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name.rpartition(".")[2])
    return bool(_PLACE_NAMES.search(last) or _PLACE_VALUES.search(value))


def is_typed(value: str, data: TurnData) -> bool:
    """Whether a value stands as a whole in what the user typed, or is a whole value of a trusted source."""
    if not value.strip() or value in data.trusted:
        return True
    wanted = _folded(value)
    around = rf"(?<![\w@/\\:+%-])(?<![\w]\.){re.escape(wanted)}(?![\w@/\\:+%-])(?!\.\w)"
    return any(re.search(around, _folded(text)) for text in data.typed)


def _is_own(tool: Tool, name: str, value: str, data: TurnData) -> bool:
    return value in _constants(tool, name) or is_typed(value, data)


def _constants(tool: Tool, name: str) -> frozenset[str]:
    """The values that the tool's own schema spells out for an argument; a source of others may not spell any."""
    schema = tool.input_schema.get("properties", {}).get(name)
    if tool.is_outside or not isinstance(schema, Mapping):
        return frozenset()
    values = [schema.get("const"), schema.get("default"), *(schema.get("enum") or ())]
    return frozenset(_text(value) for value in values if isinstance(value, str | int | float))


def _named(tool: Tool, arguments: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Each value inside some arguments, and each name that the model made up in them, with the path to it."""
    known = tool.input_schema.get("properties", {})
    for name, value in arguments.items():
        if name not in known:
            yield f"{name} (name)", name
        yield from _walk(name, value, 0)


def _walk(name: str, value: Any, depth: int) -> Iterator[tuple[str, str]]:
    if depth > DEPTH_MAX:
        yield name, "nested too deeply"
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield f"{name} (name)", str(key)
            yield from _walk(f"{name}.{key}", inner, depth + 1)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _walk(name, inner, depth + 1)
    elif value is not None and not isinstance(value, bool):
        yield name, _text(value)


def leaves(data: Any) -> Iterable[str]:
    """Every value inside some JSON, as text."""
    return (text for _, text in _walk("", data, 0))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else f"{value:.15g}" if isinstance(value, float) else str(value)


def _folded(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).casefold().split())
