"""The rules on what models answer, over the events of one answer, after tokens were restored: secrets are replaced,
and whatever the manifest says.

Where the manifest shows secrets and says nothing else, answers pass `Unmasker` alone. The invariant: no text of an
answer that a rule speaks of reaches the caller before the rule has seen it, however it was cut into pieces.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from roadbed.gateway.masking import Unmasker
from roadbed.gateway.types import (
    Cited,
    Event,
    Finished,
    ProviderBlock,
    ReasoningDelta,
    ReasoningSealed,
    RefusalDelta,
    TextDelta,
    TextEnded,
    ToolCallDelta,
)
from roadbed.guard.gate import AnswerPasser, Guard
from roadbed.guard.vault import Vault
from roadbed.kernel.label import Label
from roadbed.kernel.principal import Principal

_Key = tuple[type[Event], int]


_CALLS: _Key = (ToolCallDelta, 0)


class RuledUnmasker(Unmasker):
    """As `Unmasker`, then the rules. `GuardBlocked` ends the answer."""

    def __init__(
        self, guard: Guard, vault: Vault, principal: Principal, label: Label, *, is_local: bool | None = None
    ) -> None:
        super().__init__(guard, vault, principal)
        self._is_local = is_local
        self._team = principal.team
        self._label = label
        self._maskers: dict[_Key, AnswerPasser] = {}
        self.feed_text: Callable[[str], str] | None = None
        """`feed` for a `TextDelta` of an answer in which nothing is to be restored: what of the text can be said. None
        where a text would not be the next piece of one that is running; then `feed` must be asked.
        """

    @property
    def holds_back(self) -> bool:
        """Always: the last word at least."""
        return True

    def feed(self, event: Event) -> list[Event]:
        """The event as the rules let it go, after what was held back before it."""
        return [ruled for restored in super().feed(event) for ruled in self._ruled(restored)]

    def _ruled(self, event: Event) -> list[Event]:
        self.feed_text = None
        match event:
            case TextDelta(text) | RefusalDelta(text) | ReasoningDelta(text):
                key: _Key = (type(event), 0)
                ended, masker = self._ended(but=key), self._masker(key)
                if type(event) is TextDelta:
                    self.feed_text = masker.feed
                return [*ended, *_events(key, masker.feed(text))]
            case ToolCallDelta(index, id, name, arguments):
                key = (ToolCallDelta, index)
                head: list[Event] = [ToolCallDelta(index, self._tree(id), self._tree(name))] if id or name else []
                before = [] if key in self._maskers else self._ended(but=key)
                return [*before, *head, *_events(key, self._masker(key).feed(arguments))]
            case Cited(dialect, fields):
                return [Cited(dialect, self._tree(fields))]
            case ProviderBlock(dialect, fields):
                return [*self._ended(but=_CALLS), ProviderBlock(dialect, self._tree(fields))]
            case TextEnded():
                return [*self._ended(but=_CALLS), event]
            case ReasoningSealed(part):
                # What was held of a block belongs before its seal; calls have nothing to do with it.
                ended = self._ended(but=_CALLS)
                return [*ended, event] if self._is_clean(part.text) else ended
            case Finished():
                return [*self._ended(but=None), event]
            case _:
                return [event]

    def _tree(self, value: Any) -> Any:
        """What is cited, what a provider found and a call's id and name are read by the rules as the text is."""
        if isinstance(value, str):
            passer = self._guard.stream_of_answer(self._team, self._label, is_local=self._is_local)
            return passer.feed(value) + passer.finish()
        if isinstance(value, dict):
            return {name: self._tree(inner) for name, inner in value.items()}
        return [self._tree(inner) for inner in value] if isinstance(value, list) else value

    def _masker(self, key: _Key) -> AnswerPasser:
        if key not in self._maskers:
            self._maskers[key] = self._guard.stream_of_answer(
                self._team, self._label, is_shown=key[0] is not ToolCallDelta, is_local=self._is_local
            )
        return self._maskers[key]

    def _is_clean(self, text: str) -> bool:
        """Whether a sealed text may go as it is: changed, its provider would refuse it, so it is left out then."""
        passer = self._guard.stream_of_answer(self._team, self._label, is_local=self._is_local)
        return passer.feed(text) + passer.finish() == text

    def _ended(self, but: _Key | None) -> list[Event]:
        """What was held back in texts that have ended: calls go on beside each other, all else one after the other."""
        ended = [
            key
            for key in self._maskers
            if but is None or (key != but and not (key[0] is ToolCallDelta and but[0] is ToolCallDelta))
        ]
        return [event for key in ended for event in _events(key, self._maskers.pop(key).finish())]


def answer_filter(
    guard: Guard, vault: Vault, principal: Principal, label: Label, *, is_local: bool | None = None
) -> Unmasker:
    """What an answer's events pass on their way to the caller. ``is_local``: whether the model is a local one."""
    if guard.reads_answers or guard.hides_secrets:
        return RuledUnmasker(guard, vault, principal, label, is_local=is_local)
    return Unmasker(guard, vault, principal)


def _events(key: _Key, text: str) -> list[Event]:
    kind, index = key
    if not text:
        return []
    if kind is ToolCallDelta:
        return [ToolCallDelta(index, arguments=text)]
    if kind is RefusalDelta:
        return [RefusalDelta(text)]
    return [ReasoningDelta(text) if kind is ReasoningDelta else TextDelta(text)]
