"""The values of a model call, in no dialect: what is asked, what comes back, what it used.

Dialects translate these from and to the bytes of a provider or a client; apps and the server build and read them.
Nothing here does I/O. The invariant: the classes of `Usage` are disjoint, so that cost is one dot product and no
dialect counts a token twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from roadbed.guard.vault import Vault
from roadbed.kernel.deadline import Deadline
from roadbed.kernel.label import PUBLIC, UNSCANNED, Label
from roadbed.kernel.principal import Principal
from roadbed.ledger.trace import Trace

ROLES = ("system", "developer", "user", "assistant", "tool")
Role = Literal["system", "developer", "user", "assistant", "tool"]
FinishReason = Literal["stop", "length", "tool_calls", "content_filter"]
Rung = Literal["full", "fallback", "local", "cached"]


Hints = dict[str, Any] | None
"""Fields of one part that only the request's ``passthrough_dialect`` knows, such as a mark for a provider's prompt
cache: passed on there as they came, left out elsewhere.
"""


class TextPart(msgspec.Struct, frozen=True):
    """A piece of text in a message of several parts."""

    text: str
    hints: Hints = None


class ImagePart(msgspec.Struct, frozen=True):
    """An image by address or as a ``data:`` URI. No detector reads it, so it carries the category ``unscanned``."""

    url: str
    detail: str = ""
    hints: Hints = None


class OtherPart(msgspec.Struct, frozen=True):
    """A part that only its own dialect knows (audio, files): passed on there as it came, refused elsewhere."""

    dialect: str
    fields: dict[str, Any]


class ReasoningPart(msgspec.Struct, frozen=True):
    """A block of a model's earlier reasoning, returned to it unchanged: its dialect alone can read the ``seal``.

    ``text`` is what was shown of it, maybe nothing. ``seal`` is the signature or the encrypted content that the
    provider wants back byte for byte; ``is_redacted`` where the provider says that the seal is all there is.
    """

    dialect: str
    text: str = ""
    seal: str = ""
    is_redacted: bool = False


Part = TextPart | ImagePart | OtherPart | ReasoningPart


class ToolCall(msgspec.Struct, frozen=True):
    """A call that a model asked for. ``arguments`` is JSON text as the model wrote it: it need not be valid."""

    id: str
    name: str
    arguments: str
    hints: Hints = None


class Message(msgspec.Struct, frozen=True):
    """One turn. A turn of role ``tool`` answers the call ``tool_call_id``; ``is_error`` says that the tool failed."""

    role: Role
    content: str | tuple[Part, ...] = ""
    name: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""
    is_error: bool = False
    hints: Hints = None

    def text(self) -> str:
        """The turn's text; pictures and other parts give none."""
        if isinstance(self.content, str):
            return self.content
        return "".join(part.text for part in self.content if isinstance(part, TextPart))


class Tool(msgspec.Struct, frozen=True):
    """A function that the model may ask for; ``parameters`` is its JSON schema."""

    name: str
    description: str = ""
    parameters: dict[str, Any] | None = None
    strict: bool | None = None
    hints: Hints = None

    @property
    def is_native(self) -> bool:
        """Whether a provider defines it: its ``hints`` name its type, and it has no schema of the caller's."""
        return self.hints is not None and "type" in self.hints


class NamedTool(msgspec.Struct, frozen=True):
    """A tool choice that forces one function."""

    name: str


ToolChoice = Literal["none", "auto", "required"] | NamedTool


class JsonSchema(msgspec.Struct, frozen=True):
    """A response format: JSON after this schema. Without a schema, any JSON object. ``description`` says what for."""

    schema: dict[str, Any] | None = None
    name: str = "answer"
    strict: bool | None = None
    description: str = ""


class ChatRequest(msgspec.Struct, frozen=True):
    """One model call. ``passthrough`` holds fields of the dialect ``passthrough_dialect`` that nothing here names.

    ``tokens_default`` is the limit that counts where the caller set no ``max_tokens``: see `output_limit`.
    """

    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop: tuple[str, ...] = ()
    response_format: JsonSchema | None = None
    passthrough: dict[str, Any] = {}
    passthrough_dialect: str = "openai"
    tokens_default: int | None = None

    def hint_names(self) -> list[str]:
        """The names of all hints of its turns and tools: what an endpoint of another dialect does not get."""
        holders: list[Message | ToolCall | Tool | Part] = [*self.messages, *self.tools]
        for message in self.messages:
            holders += message.tool_calls
            if not isinstance(message.content, str):
                holders += message.content
        return sorted({name for holder in holders for name in getattr(holder, "hints", None) or ()})

    def has_unscanned_parts(self) -> bool:
        """Whether some part holds what no detector reads (images, audio, files)."""
        return self.unscanned_parts() > 0

    def unscanned_parts(self) -> int:
        """How many parts hold what no detector reads."""
        return sum(
            isinstance(part, (ImagePart, OtherPart))
            for message in self.messages
            if not isinstance(message.content, str)
            for part in message.content
        )


TOKENS_MAX = 2**29 - 1
"""The most tokens that are believed of one class: no model reads so many, and sums of all classes stay 32 bits."""


class Usage(msgspec.Struct, frozen=True):
    """Tokens by disjoint class; ``is_estimated`` when the endpoint did not report them."""

    input_uncached: int = 0
    cache_read: int = 0
    cache_write_5m: int = 0
    cache_write_1h: int = 0
    output_visible: int = 0
    output_reasoning: int = 0
    is_estimated: bool = False

    @property
    def input_tokens(self) -> int:
        """All input, cached or not."""
        return self.input_uncached + self.cache_read + self.cache_write_5m + self.cache_write_1h

    @property
    def output_tokens(self) -> int:
        """All output, seen or hidden."""
        return self.output_visible + self.output_reasoning

    def clamped(self) -> Usage:
        """The usage as it is believed: no class below zero or over `TOKENS_MAX`, whatever an endpoint says."""
        *classes, is_estimated = msgspec.structs.astuple(self)
        if all(0 <= count <= TOKENS_MAX for count in classes):
            return self
        fresh, read, write_5m, write_1h, visible, reasoning = (min(max(count, 0), TOKENS_MAX) for count in classes)
        return Usage(fresh, read, write_5m, write_1h, visible, reasoning, is_estimated)

    def plus(self, other: Usage) -> Usage:
        """The usage of both."""
        return Usage(
            self.input_uncached + other.input_uncached,
            self.cache_read + other.cache_read,
            self.cache_write_5m + other.cache_write_5m,
            self.cache_write_1h + other.cache_write_1h,
            self.output_visible + other.output_visible,
            self.output_reasoning + other.output_reasoning,
            self.is_estimated or other.is_estimated,
        )


NO_USAGE = Usage()


class TextDelta(msgspec.Struct, frozen=True, gc=False):
    """The next piece of the answer's text."""

    text: str


class ReasoningDelta(msgspec.Struct, frozen=True, gc=False):
    """The next piece of reasoning that the endpoint shows; not part of the answer."""

    text: str


class ReasoningSealed(msgspec.Struct, frozen=True, gc=False):
    """A block of reasoning is over; ``part`` is the whole block, as its provider wants it back in the next turn."""

    part: ReasoningPart


class RefusalDelta(msgspec.Struct, frozen=True, gc=False):
    """The next piece of a refusal that the model wrote instead of an answer."""

    text: str


class ToolCallDelta(msgspec.Struct, frozen=True, gc=False):
    """A piece of tool call ``index``: its first piece names ``id`` and ``name``, the others only add ``arguments``."""

    index: int
    id: str = ""
    name: str = ""
    arguments: str = ""


class TextEnded(msgspec.Struct, frozen=True, gc=False):
    """The text so far is a block of its own: what follows belongs to the next one. Said between two texts only."""


OWN_CITATION = "roadbed"
"""The dialect of what an app cites: ``id``, ``title``, ``url``, ``start`` and ``end`` in the document, ``quote``."""


class Cited(msgspec.Struct, frozen=True, gc=False):
    """What the text of the block that is under way cites, in the words of the endpoint's dialect, or in our own."""

    dialect: str
    fields: dict[str, Any]


class ProviderBlock(msgspec.Struct, frozen=True, gc=False):
    """A block that only the endpoint's dialect knows, such as a search that the provider ran: as it came, and whole."""

    dialect: str
    fields: dict[str, Any]


class Finished(msgspec.Struct, frozen=True, gc=False):
    """The model ended its answer. Never made for a stream that was cut.

    ``stop_sequence`` is the text of the caller's that ended it, where the endpoint says which. ``word`` is what the
    endpoint's dialect calls the reason, where that says more, and ``details`` what it adds.
    """

    reason: FinishReason
    stop_sequence: str = ""
    word: str = ""
    details: dict[str, Any] | None = None


class UsageReported(msgspec.Struct, frozen=True, gc=False):
    """What the endpoint says that the call used; the last one of an attempt counts."""

    usage: Usage


Mark = TextEnded | Cited | ProviderBlock
Event = TextDelta | ReasoningDelta | ReasoningSealed | RefusalDelta | ToolCallDelta | Mark | Finished | UsageReported
CONTENT_EVENTS = (TextDelta, RefusalDelta, ToolCallDelta, ProviderBlock)
"""The events that commit an attempt: once one is out, the answer's endpoint does not change."""


class Call(msgspec.Struct):
    """Who calls, until when, and what the call's data may reach.

    ``label`` is the join of all that went into the request. ``vault`` keeps the tokens that stand for personal data
    (the guard's); None makes a fresh one. ``trace`` takes the spans of the attempts (the ledger's); None records
    none. ``headers`` are those of the request that the route's rules read.
    """

    principal: Principal
    deadline: Deadline
    label: Label = PUBLIC
    trace: Trace | None = None
    vault: Vault | None = None
    headers: Mapping[str, str] = {}

    def label_of(self, request: ChatRequest) -> Label:
        """The call's label with what the request's parts add to it."""
        return self.label.with_category(UNSCANNED) if request.has_unscanned_parts() else self.label


@dataclass(slots=True)
class AttemptRecord:
    """One try at one endpoint, as the trace and the ledger show it.

    ``failure`` is its error class; empty when it answered.
    """

    endpoint: str
    model: str
    failure: str = ""
    status: int = 0
    reason: str = ""
    started_s: float = 0.0
    first_event_s: float | None = None
    ended_s: float = 0.0
    usage: Usage = NO_USAGE
    cost_picousd: int = 0


@dataclass(slots=True)
class Outcome:
    """What became of a call; filled while its stream runs and final when the stream has ended.

    ``age_s`` is how old an answer is that was given again; None for others. ``is_begun`` where content is here, though
    it may be held back.
    """

    route: str = ""
    endpoint: str = ""
    model: str = ""
    rung: Rung = "full"
    attempts: list[AttemptRecord] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    usage: Usage = NO_USAGE
    cost_picousd: int = 0
    price: str = ""
    finish_reason: FinishReason | None = None
    is_complete: bool = False
    cut_by: str = ""
    dropped: tuple[str, ...] = ()
    continued: int = 0
    hedged: bool = False
    age_s: float | None = None
    is_begun: bool = False

    @property
    def cost_microusd(self) -> int:
        """The cost in millionths of a dollar, rounded up once."""
        return -(-self.cost_picousd // 1_000_000)

    @property
    def missing(self) -> list[str]:
        """The endpoints that did not answer, each with why: tried, or passed over on the way to a lower rung."""
        tried = [f"{attempt.endpoint}: {attempt.failure}" for attempt in self.attempts if attempt.failure]
        return tried + (self.skipped if self.rung != "full" else [])


@dataclass(slots=True)
class Answer:
    """A whole answer put together from its events."""

    text: str = ""
    refusal: str = ""
    reasoning: str = ""
    sealed: list[ReasoningPart] = field(default_factory=list)
    tool_calls: list[ToolCall] = field(default_factory=list)
    finish_reason: FinishReason | None = None
    usage: Usage | None = None
    stop_sequence: str = ""
    stop_word: str = ""
    stop_details: dict[str, Any] | None = None
    marks: list[tuple[int, Mark]] = field(default_factory=list)
    """Where in the text a block ended, something was cited, or a provider's own block stands."""
    _calls: dict[int, list[str]] = field(default_factory=dict, repr=False)

    def add(self, event: Event) -> None:
        """Take the next event."""
        match event:
            case TextDelta(text):
                self.text += text
            case ToolCallDelta(index, id, name, arguments):
                parts = self._calls.setdefault(index, ["", "", ""])
                parts[0] = parts[0] or id
                parts[1] = parts[1] or name
                parts[2] += arguments
                calls = sorted(self._calls.items())
                self.tool_calls = [ToolCall(id, name, arguments) for _, (id, name, arguments) in calls]
            case RefusalDelta(text):
                self.refusal += text
            case ReasoningDelta(text):
                self.reasoning += text
            case ReasoningSealed(part):
                self.sealed.append(part)
            case TextEnded() | Cited() | ProviderBlock():
                self.marks.append((len(self.text), event))
            case Finished(reason, stop_sequence, word, details):
                self.finish_reason, self.stop_sequence = reason, stop_sequence
                self.stop_word, self.stop_details = word, details
            case UsageReported(usage):
                self.usage = usage
