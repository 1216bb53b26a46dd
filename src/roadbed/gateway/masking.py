"""The way through the guard: every string of a request on its way to a model, every string of an answer on its way to
the caller.

`guard_request` is the only maker of `GuardedRequest`, and an attempt takes nothing else. Pictures, audio and files
are not read: they carry the label ``unscanned`` and go only where that is accepted. The invariant: no text of a
caller reaches a dialect's encoder unguarded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from roadbed.gateway.errors import InvalidChatRequest
from roadbed.gateway.types import (
    ChatRequest,
    Cited,
    Event,
    Finished,
    ImagePart,
    JsonSchema,
    Message,
    NamedTool,
    Part,
    ProviderBlock,
    ReasoningDelta,
    ReasoningPart,
    ReasoningSealed,
    RefusalDelta,
    TextDelta,
    TextEnded,
    TextPart,
    Tool,
    ToolCall,
    ToolCallDelta,
)
from roadbed.guard.gate import Guard
from roadbed.guard.vault import StreamUnmasker, Vault
from roadbed.kernel.label import Label
from roadbed.kernel.principal import Principal

DEPTH_MAX = 64


@dataclass(frozen=True, slots=True)
class GuardedRequest:
    """A request as it may be sent to one kind of endpoint."""

    request: ChatRequest
    label: Label
    is_local: bool
    masked_count: int


class _Masker:
    """Guards string after string, and joins their labels."""

    def __init__(self, guard: Guard, label: Label, is_local: bool, vault: Vault, team: str) -> None:
        self._guard = guard
        self._team = team
        self._given = label
        self._is_local = is_local
        self._vault = vault
        self.label = label
        self.masked_count = 0

    def text(self, text: str) -> str:
        """A string as the endpoint may see it; what was masked and the label that was found are added to the fields."""
        if not text:
            return text
        guarded = self._guard.for_model(text, self._given, is_local=self._is_local, vault=self._vault, team=self._team)
        self.masked_count += guarded.masked_count
        self.label = self.label.join(guarded.label)
        return guarded.text

    def tree(self, value: Any, depth: int = 0) -> Any:
        """Every string in plain JSON data, keys too."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict | list) and depth >= DEPTH_MAX:
            raise InvalidChatRequest(f"the request holds JSON nested deeper than {DEPTH_MAX}")
        if isinstance(value, dict):
            return {self.text(key): self.tree(item, depth + 1) for key, item in value.items()}
        if isinstance(value, list):
            return [self.tree(item, depth + 1) for item in value]
        return value

    def message(self, message: Message) -> Message:
        """A turn with every string in it as `text` gives it: content, names, calls of tools and their arguments."""
        content: str | tuple[Part, ...]
        if isinstance(message.content, str):
            content = self.text(message.content)
        else:
            content = tuple(part for given in message.content for part in self.part(given))
        calls = tuple(
            ToolCall(call.id, call.name, self.text(call.arguments), self.tree(call.hints))
            for call in message.tool_calls
        )
        name, hints = self.text(message.name), self.tree(message.hints)
        return Message(message.role, content, name, calls, message.tool_call_id, message.is_error, hints)

    def part(self, part: Part) -> tuple[Part, ...]:
        """One part. Reasoning is returned to its provider byte for byte or, where something in it must be masked, not
        at all: a changed block would be refused.
        """
        match part:
            case TextPart(text, hints):
                return (TextPart(self.text(text), self.tree(hints)),)
            case ImagePart(url, detail, hints):
                return (ImagePart(url, detail, self.tree(hints)),)
            case ReasoningPart(_, text) if self.text(text) != text:
                return ()
            case _:
                return (part,)

    def tool(self, tool: Tool) -> Tool:
        """One tool's description and schema; its name is an identifier."""
        description, parameters = self.text(tool.description), self.tree(tool.parameters)
        return Tool(tool.name, description, parameters, tool.strict, self.tree(tool.hints))

    def format(self, wanted: JsonSchema) -> JsonSchema:
        """The schema of the answer and what is said of it; its name is an identifier."""
        return JsonSchema(self.tree(wanted.schema), wanted.name, wanted.strict, self.text(wanted.description))

    def identifiers(self, message: Message) -> Message:
        """The ids of calls, alike in a call and in its answer; a name that must not be sent ends the request."""
        if not message.tool_calls and not message.tool_call_id:
            return message
        for call in message.tool_calls:
            self.name(call.name)
        calls = tuple(msgspec.structs.replace(call, id=self.text(call.id)) for call in message.tool_calls)
        return msgspec.structs.replace(message, tool_calls=calls, tool_call_id=self.text(message.tool_call_id))

    def name(self, name: str) -> str:
        """A name that comes back in the answer, so that it cannot be replaced."""
        if self.text(name) != name:
            raise InvalidChatRequest("the name of a tool or schema holds a secret or personal data")
        return name


def guard_request(
    guard: Guard, request: ChatRequest, label: Label, *, is_local: bool, vault: Vault, team: str = ""
) -> GuardedRequest:
    """The request as endpoints of one kind may see it: secrets replaced, and for those not local personal data
    tokenised, where no rule of the manifest says otherwise. Raises `GuardBlocked`.
    """
    masker = _Masker(guard, label, is_local, vault, team)
    wanted, choice = request.response_format, request.tool_choice
    for name in (*(tool.name for tool in request.tools), wanted.name if wanted else ""):
        masker.name(name)
    if isinstance(choice, NamedTool):
        masker.name(choice.name)
    guarded = msgspec.structs.replace(
        request,
        messages=tuple(masker.identifiers(masker.message(message)) for message in request.messages),
        tools=tuple(masker.tool(tool) for tool in request.tools),
        stop=tuple(masker.text(text) for text in request.stop),
        response_format=masker.format(wanted) if wanted else None,
        passthrough=masker.tree(request.passthrough),
    )
    return GuardedRequest(guarded, masker.label, is_local, masker.masked_count)


_Key = tuple[type[Event], int]


class Unmasker:
    """Restores what the caller may see, over the events of one answer. ``feed`` gives the events to pass on;
    ``is_needed`` says whether there is anything to restore, ``holds_back`` whether some text may not be out yet.
    """

    def __init__(self, guard: Guard, vault: Vault, principal: Principal) -> None:
        self._guard = guard
        self._vault = vault
        self._principal = principal
        self.is_needed = len(vault) > 0 and guard.may_unmask(principal)
        self._streams: dict[_Key, StreamUnmasker] = {}

    def renew(self) -> None:
        """The answer goes on from another endpoint, for which more may have become a token."""
        self.is_needed = len(self._vault) > 0 and self._guard.may_unmask(self._principal)

    @property
    def holds_back(self) -> bool:
        """Whether some text of the answer may be held back."""
        return self.is_needed

    def feed(self, event: Event) -> list[Event]:
        """The event restored, after what had been held back before it."""
        if not self.is_needed:
            return [event]
        match event:
            case TextDelta(text) | RefusalDelta(text) | ReasoningDelta(text):
                return self._pieces((type(event), 0), text)
            case ToolCallDelta(index, id, name, arguments):
                key: _Key = (ToolCallDelta, index)
                before = [] if key in self._streams else self._flush(but=ToolCallDelta)
                head: list[Event] = [ToolCallDelta(index, id, name)] if id or name else []
                return before + head + self._pieces(key, arguments)
            case ReasoningSealed():
                # What was held back of a block belongs before its seal; calls have nothing to do with it.
                return [*self._flush(but=ToolCallDelta), event]
            case TextEnded() | ProviderBlock():
                # A block goes as it came: it comes back in the next turn, where no detector reads it.
                return [*self._flush(but=ToolCallDelta), event]
            case Cited(dialect, fields):
                return [Cited(dialect, {name: self._shown(value) for name, value in fields.items()})]
            case Finished(_, stop_sequence):
                shown = self._guard.for_caller(stop_sequence, self._vault, self._principal)
                return [*self._flush(), msgspec.structs.replace(event, stop_sequence=shown)]
            case _:
                return [event]

    def _shown(self, value: Any) -> Any:
        return self._guard.for_caller(value, self._vault, self._principal) if isinstance(value, str) else value

    def _pieces(self, key: _Key, text: str) -> list[Event]:
        before: list[Event] = []
        if key not in self._streams:
            before = self._flush(but=key[0])
            self._streams[key] = self._guard.stream_for_caller(self._vault, self._principal)
        shown = self._streams[key].feed(text)
        return [*before, _piece(key, shown)] if shown else before

    def _flush(self, but: type[Event] | None = None) -> list[Event]:
        """What was held back in texts of other kinds: they have ended when a new kind begins."""
        ended = [key for key in self._streams if key[0] is not but]
        return [piece for key in ended for piece in self._end(key)]

    def _end(self, key: _Key) -> list[Event]:
        """What was held back in one text, which has ended."""
        stream = self._streams.pop(key, None)
        rest = stream.finish() if stream is not None else ""
        return [_piece(key, rest)] if rest else []


def _piece(key: _Key, text: str) -> Event:
    kind, index = key
    if kind is ToolCallDelta:
        return ToolCallDelta(index, arguments=text)
    if kind is RefusalDelta:
        return RefusalDelta(text)
    return ReasoningDelta(text) if kind is ReasoningDelta else TextDelta(text)
