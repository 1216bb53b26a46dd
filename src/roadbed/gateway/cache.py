"""Which answers may be given again, under which key, and the bounded memory that holds them.

A key is the SHA-256 of the RFC 8785 form of all that an answer depends on: who may share it, the release, the model and
the request as it reads once masked. Pure but for the memory; `CachedStream` decides when to look and to keep. The
invariants: callers of two teams never share an entry, nor do callers with different views of documents where documents
or tools were used; only a whole answer without tool calls is kept.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

import msgspec
import rfc8785

from roadbed.gateway.manifest import CacheConfig
from roadbed.gateway.semantic import SIMILARITY_DEFAULT
from roadbed.gateway.types import (
    Answer,
    ChatRequest,
    Event,
    Finished,
    Outcome,
    ReasoningDelta,
    TextDelta,
)
from roadbed.kernel.config import parse_duration_s
from roadbed.kernel.label import Label
from roadbed.kernel.principal import Principal

ENTRIES_MAX = 4096
BYTES_MAX = 64 * 1024 * 1024
ENTRY_BYTES_MAX = 1024 * 1024
ENTRY_OVERHEAD_BYTES = 512
SEMANTIC_S = 600.0
"""How long a semantic cache keeps an answer where `exact` says nothing."""

NOT_IN_KEY = frozenset(("user", "metadata", "store", "safety_identifier", "prompt_cache_key", "service_tier"))
"""Fields that a provider is told and that change nothing of the answer."""


class CacheRule(msgspec.Struct, frozen=True):
    """What a route, or an app's way to its route, keeps and for how long. ``release`` is part of every key.

    ``exact_s`` is how long an answer stands in for a call; ``stale_s`` how long for an error of all endpoints.
    ``uses_knowledge`` says that what is asked holds documents, which not all of a team may see. ``similarity`` is how
    near two last questions must be that share an answer; 0 where only equal ones do.
    """

    exact_s: float = 0.0
    stale_s: float = 0.0
    any_temperature: bool = False
    release: str = ""
    uses_knowledge: bool = False
    similarity: float = 0.0

    @property
    def keep_s(self) -> float:
        """How long an answer is of use."""
        return max(self.exact_s, self.stale_s)


def cache_rule(config: CacheConfig | None, release: str, *, uses_knowledge: bool = False) -> CacheRule | None:
    """The rule that a manifest's section asks for; None when it asks for none."""
    if config is None:
        return None
    is_semantic = config.kind == "semantic"
    exact_s = parse_duration_s(config.exact) if config.exact else (SEMANTIC_S if is_semantic else 0.0)
    stale_s = parse_duration_s(config.stale) if config.stale else 0.0
    if not exact_s and not stale_s:
        return None
    similarity = (config.similarity or SIMILARITY_DEFAULT) if is_semantic else 0.0
    return CacheRule(exact_s, stale_s, config.any_temperature, release, uses_knowledge, similarity)


def is_repeatable(rule: CacheRule, request: ChatRequest) -> bool:
    """Whether an answer to the request may be given again: the caller asked for no variety, or the rule says so."""
    return rule.any_temperature or request.temperature == 0


def exact_key(
    rule: CacheRule,
    model: Iterable[str],
    masked: ChatRequest,
    principal: Principal,
    label: Label,
    *,
    may_unmask: bool,
) -> bytes | None:
    """The key of a request's answer; None for a request that has no canonical form.

    ``model`` names what was resolved; ``masked`` is the request as the guard lets it out, personal data as tokens that
    are the same for the same value.
    """
    is_personal_view = rule.uses_knowledge or bool(masked.tools)
    sampling = {
        "temperature": masked.temperature,
        "top_p": masked.top_p,
        "max_tokens": masked.max_tokens,
        "stop": list(masked.stop),
        "tool_choice": msgspec.to_builtins(masked.tool_choice),
        "parallel": masked.parallel_tool_calls,
        "dialect": masked.passthrough_dialect,
        "other": {name: value for name, value in masked.passthrough.items() if name not in NOT_IN_KEY},
    }
    form: dict[str, Any] = {
        "scope": {
            "team": principal.team,
            "sees": sorted(principal.groups) if is_personal_view else None,
            "unmasked": may_unmask,
            "label": sorted(label.words()),
        },
        "release": rule.release,
        "model": list(model),
        "messages": msgspec.to_builtins(masked.messages),
        "tools": msgspec.to_builtins(masked.tools),
        "sampling": sampling,
        "format": msgspec.to_builtins(masked.response_format),
    }
    try:
        return hashlib.sha256(rfc8785.dumps(form)).digest()
    except (rfc8785.CanonicalizationError, RecursionError):
        return None


class CachedAnswer(msgspec.Struct, frozen=True):
    """A whole answer, as its callers saw it, and where it came from. ``made_s`` is the process's clock."""

    text: str
    reasoning: str
    endpoint: str
    model: str
    made_s: float

    @property
    def size_bytes(self) -> int:
        """What it takes of the memory, roughly: a character may be four bytes."""
        return ENTRY_OVERHEAD_BYTES + 4 * (len(self.text) + len(self.reasoning))

    def events(self) -> list[Event]:
        """The answer as a stream gives it."""
        shown: list[Event] = [ReasoningDelta(self.reasoning)] if self.reasoning else []
        return [*shown, TextDelta(self.text), Finished("stop")]


def keepable(answer: Answer, outcome: Outcome, made_s: float) -> CachedAnswer | None:
    """The answer as it is kept; None where it must not be: cut, refused, with calls, seals or citations."""
    is_whole = outcome.is_complete and answer.finish_reason == "stop" and bool(answer.text)
    if not is_whole or answer.tool_calls or answer.refusal or answer.sealed or answer.marks:
        return None
    made = CachedAnswer(answer.text, answer.reasoning, outcome.endpoint, outcome.model, made_s)
    return made if made.size_bytes <= ENTRY_BYTES_MAX else None


class ExactCache:
    """Answers by their keys; the least used go first when there are too many, or they are too large together."""

    def __init__(self, entries_max: int = ENTRIES_MAX, bytes_max: int = BYTES_MAX) -> None:
        self._entries_max = entries_max
        self._bytes_max = bytes_max
        self._entries: OrderedDict[bytes, tuple[CachedAnswer, float]] = OrderedDict()
        self.size_bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: bytes, now_s: float, age_s_max: float) -> CachedAnswer | None:
        """The answer under a key, when it is not older than ``age_s_max``."""
        found = self._entries.get(key)
        if found is None:
            return None
        answer, until_s = found
        if now_s >= until_s:
            self._drop(key)
            return None
        if now_s - answer.made_s >= age_s_max:
            return None
        self._entries.move_to_end(key)
        return answer

    def put(self, key: bytes, answer: CachedAnswer, keep_s: float) -> None:
        """Keep an answer for ``keep_s``, in place of an older one."""
        self._drop(key)
        self._entries[key] = (answer, answer.made_s + keep_s)
        self.size_bytes += answer.size_bytes
        while len(self._entries) > self._entries_max or self.size_bytes > self._bytes_max:
            self._drop(next(iter(self._entries)))

    def clear(self) -> None:
        """Forget every answer."""
        self._entries.clear()
        self.size_bytes = 0

    def _drop(self, key: bytes) -> None:
        found = self._entries.pop(key, None)
        if found is not None:
            self.size_bytes -= found[0].size_bytes
