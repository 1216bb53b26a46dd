"""Going on with an answer that broke off, at an endpoint that continues a prefix, with a seam that nobody can see.

Pure: the request that asks for the rest, and the `Seam` that checks where it begins. Blanks at the end of what was
sent are left out of the prefix, because servers trim them; the continuation has to begin with the same blanks. The
invariant: what a seam releases joins what was sent with nothing repeated and no blank lost, or the seam raises.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec.structs import replace

from roadbed.gateway.dialects.base import EncodedRequest
from roadbed.gateway.endpoints import Endpoint
from roadbed.gateway.errors import UpstreamError
from roadbed.gateway.types import ChatRequest, Message

CONTINUATIONS_MAX = 2
OVERLAP_MIN = 16
"""So many characters repeated at a seam are taken for a repetition, not for the text."""

ECHO_MIN = 3
"""So many characters that are all of what was sent are taken for a new beginning when they come again."""

HELD_CHARACTERS_MAX = 48


def broken(what: str) -> UpstreamError:
    """The failure of a continuation that does not join."""
    return UpstreamError("invalid", f"its continuation {what}")


def continued(request: ChatRequest, prefix: str, tokens_given: int) -> ChatRequest:
    """The request for the rest of an answer, of which ``prefix`` without its last blanks is there."""
    limit, default = (
        None if given is None else max(1, given - tokens_given)
        for given in (request.max_tokens, request.tokens_default)
    )
    turn = Message("assistant", prefix.rstrip())
    return replace(request, messages=(*request.messages, turn), max_tokens=limit, tokens_default=default)


def told_to_continue(encoded: EncodedRequest, endpoint: Endpoint) -> EncodedRequest:
    """The bytes of such a request, with the fields that the server needs to see its last turn as unfinished."""
    if endpoint.continues != "vllm":
        return encoded
    body: dict[str, Any] = msgspec.json.decode(encoded.body)
    body |= {"continue_final_message": True, "add_generation_prompt": False}
    return EncodedRequest(encoded.path, encoded.headers, msgspec.json.encode(body), encoded.dropped)


class Seam:
    """Takes the continuation's text and gives what joins. ``sent`` is the prefix as the endpoint was given it,
    ``blanks`` what the caller has after it.
    """

    def __init__(self, sent: str, blanks: str) -> None:
        self._sent = sent
        self._blanks = blanks
        self._held = ""
        self._is_open = False

    def feed(self, text: str) -> str:
        """The text to pass on; nothing while it may still be a repetition. Raises `UpstreamError` for one."""
        if self._is_open:
            return text
        self._held += text
        if len(self._held) < HELD_CHARACTERS_MAX + len(self._blanks):
            return ""
        return self._join()

    def finish(self) -> str:
        """The continuation is over: the rest of it."""
        return "" if self._is_open else self._join()

    def _join(self) -> str:
        self._is_open = True
        text, self._held = self._held, ""
        begin = self._sent[:OVERLAP_MIN]
        if len(begin) >= ECHO_MIN and text.startswith(begin):
            raise broken("begins anew")
        own = text.removeprefix(self._blanks)
        if len(own) >= HELD_CHARACTERS_MAX and own[:HELD_CHARACTERS_MAX] in self._sent:
            raise broken("repeats what was sent")
        longest = min(len(own), len(self._sent))
        if any(self._sent.endswith(own[:length]) for length in range(OVERLAP_MIN, longest + 1)):
            raise broken("repeats what was sent")
        if not text.startswith(self._blanks):
            if not text and self._blanks:
                return ""  # the answer was over but for its finish
            raise broken("has lost a blank")
        return text[len(self._blanks) :]
