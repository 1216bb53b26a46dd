"""The chat request that nearly every caller sends, decoded in one step: texts, and the few numbers beside them.

`openai_server.decode_chat` tries it first and judges all else itself. Whatever decodes as `PlainChat` is valid and
means to an endpoint of the same dialect what it means to us: no field is unknown, null or bound to another one. The
invariant: it accepts nothing that `decode_chat` refuses, and reads in it the same request.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from roadbed.gateway.types import ChatRequest, Message

MESSAGES_MAX = 4096
MAX_TOKENS_MAX = 1_000_000_000


class PlainTurn(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """One turn that is one text."""

    role: Literal["system", "user", "assistant"]
    content: str


class PlainChat(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """A plain request as its body says it; it shows what `IncomingChat` shows."""

    model: str
    messages: Annotated[list[PlainTurn], msgspec.Meta(min_length=1, max_length=MESSAGES_MAX)]
    stream: bool = False
    max_tokens: Annotated[int, msgspec.Meta(ge=1, le=MAX_TOKENS_MAX)] | msgspec.UnsetType = msgspec.UNSET
    temperature: Annotated[float, msgspec.Meta(ge=0, le=2)] | msgspec.UnsetType = msgspec.UNSET
    top_p: Annotated[float, msgspec.Meta(ge=0, le=1)] | msgspec.UnsetType = msgspec.UNSET

    @property
    def include_usage(self) -> bool:
        """Never: that takes a field which is not plain."""
        return False

    @property
    def is_plain(self) -> bool:
        """Always."""
        return True

    @property
    def limit_field(self) -> str:
        """The name under which the caller gave the limit of tokens."""
        return "max_tokens" if self.max_tokens is not msgspec.UNSET else ""

    @property
    def request(self) -> ChatRequest:
        """The request, made anew each time: only the ordinary way needs it."""
        unset = msgspec.UNSET
        return ChatRequest(
            messages=tuple([Message(turn.role, turn.content) for turn in self.messages]),
            max_tokens=self.max_tokens if self.max_tokens is not unset else None,
            temperature=self.temperature if self.temperature is not unset else None,
            top_p=self.top_p if self.top_p is not unset else None,
        )

    def question(self) -> str:
        """The last text of the user; empty where there is none."""
        for turn in reversed(self.messages):
            if turn.role == "user":
                return turn.content
        return ""

    def encoded(self, model: bytes, *, stream: bool, with_usage: bool, is_literal: bool = False) -> tuple[bytes, str]:
        """The body for an endpoint of the same dialect, written anew: it holds what was read, and each field once.

        ``model`` is its JSON. Beside the body stands the part of it that holds the caller's texts, unescaped.
        ``is_literal`` where the caller's own body has no backslash: then no text holds what JSON would escape, and what
        is to be looked at is what is sent, which takes a fifth of the time.
        """
        parts: list[str] = []
        for turn in self.messages:
            parts += ('"},{"role":"', turn.role, '","content":"', turn.content)
        parts[0] = '[{"role":"'
        parts.append('"}]')
        said = "".join(parts)  # the texts are copied once
        turns = said.encode() if is_literal else _encode(self.messages)
        if not stream:
            options = b""
        else:
            options = b',"stream":true,"stream_options":{"include_usage":true}' if with_usage else b',"stream":true'
        if self.max_tokens is not _UNSET:
            options += b',"max_tokens":%d' % self.max_tokens
        if self.temperature is not _UNSET:
            options += b',"temperature":%b' % _encode(self.temperature)
        if self.top_p is not _UNSET:
            options += b',"top_p":%b' % _encode(self.top_p)
        return b'{"model":%b,"messages":%b%b}' % (model, turns, options), said


_UNSET = msgspec.UNSET
_encode = msgspec.json.encode
_decode = msgspec.json.Decoder(PlainChat).decode


def decode_plain(body: bytes) -> PlainChat | None:
    """The request in a body; None when it is not plain, or not valid: `decode_chat` says which."""
    try:
        return _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
