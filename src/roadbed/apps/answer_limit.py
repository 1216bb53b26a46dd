"""How long a model's answer to an app may get, and what is said of one that the limit cut off. Pure.

Models write on until something stops them, and a caller waits and pays for it; so an app always has a limit. Where it
does not say which, an engine of this house keeps to its own (`gateway.output_limit`). The invariant: an answer that was
cut off ends with a whole sentence and says that more was to come.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from msgspec import structs

from roadbed.apps.citing import without_markers
from roadbed.gateway.types import ChatRequest, FinishReason
from roadbed.kernel.errors import Unavailable

ANSWER_TOKENS_DEFAULT = 4096
CUT_NOTE = "The answer was cut off here, at its limit of length."
_WHOLE = re.compile(r"(?:[.!?…。！？][ '\"»”’)\]*_`]*|\n)\Z")


class AnswerCut(Unavailable):
    """The model's answer reached its limit of tokens before it was of any use."""

    code = "apps.answer_cut"
    hint = "raise `answer_tokens_max` of the app, or the caller's own limit"


def limited(request: ChatRequest, answer_tokens_max: int | None) -> ChatRequest:
    """The request with the app's limit, or with the caller's where that is smaller; None for an app that sets none."""
    asked = request.max_tokens
    if answer_tokens_max is None:
        limit = None if asked is None else min(asked, ANSWER_TOKENS_DEFAULT)
        return structs.replace(request, max_tokens=limit, tokens_default=ANSWER_TOKENS_DEFAULT)
    return structs.replace(request, max_tokens=answer_tokens_max if asked is None else min(asked, answer_tokens_max))


def whole_sentences(last: Iterable[str], reason: FinishReason) -> list[str]:
    """The last sentences of an answer, without one that the limit cut off: it may mean what it was not to say."""
    kept = list(last)
    if reason == "length" and kept and not is_whole(kept[-1]):
        kept.pop()
    return kept


def is_whole(sentence: str) -> bool:
    """Whether a sentence ends as one does; what ends a line is whole, too."""
    bare = without_markers(sentence).rstrip(" \t")
    return not bare or _WHOLE.search(bare) is not None
