"""Usage where an endpoint reports none: tokens estimated from bytes, with a ratio learned from the answers that did
report.

One exponentially weighted ratio per model, seeded with what English text gives. It prices nothing. The invariant: an
estimate is always marked as one.
"""

from __future__ import annotations

import math

import msgspec

from roadbed.gateway.types import TOKENS_MAX, ChatRequest, ReasoningPart, TextPart, Usage

TOKENS_PER_BYTE_SEED = 0.30
RATIO_MIN, RATIO_MAX = 0.05, 1.0
WEIGHT = 0.05
LEARNED_EVERY = 8
LEARNED_BYTES_MIN = 200
MODELS_MAX = 1000


class TokenEstimator:
    """Learns tokens per byte of each model."""

    def __init__(self) -> None:
        self._ratios: dict[str, float] = {}
        self._settled = 0

    def tokens(self, model: str, byte_count: int) -> int:
        """An estimate of the tokens in so many bytes of text."""
        return math.ceil(byte_count * self._ratios.get(model, TOKENS_PER_BYTE_SEED))

    def learn(self, model: str, byte_count: int, tokens: int) -> None:
        """An endpoint reported so many tokens for so many bytes."""
        if (
            byte_count < LEARNED_BYTES_MIN
            or tokens <= 0
            or (model not in self._ratios and len(self._ratios) >= MODELS_MAX)
        ):
            return
        ratio = min(max(tokens / byte_count, RATIO_MIN), RATIO_MAX)
        known = self._ratios.get(model, TOKENS_PER_BYTE_SEED)
        self._ratios[model] = known + WEIGHT * (ratio - known)

    def settle(self, model: str, reported: Usage | None, bytes_in: int, bytes_out: int, *, is_complete: bool) -> Usage:
        """The usage of an attempt: as reported, or estimated where it is not, or broke off before it was."""
        if reported is not None and is_complete:
            # One in a few teaches as much: the ratio moves slowly.
            self._settled = settled = self._settled + 1
            if not settled % LEARNED_EVERY or model not in self._ratios:
                self.learn(model, bytes_in, reported.input_tokens)
            if reported.input_uncached > TOKENS_MAX or reported.output_visible > TOKENS_MAX or reported.cache_read < 0:
                return reported.clamped()
            return reported
        if reported is None:
            reported = Usage()
        if not reported.input_tokens:
            reported = replace_input(reported, self.tokens(model, bytes_in))
        visible = max(reported.output_visible, self.tokens(model, bytes_out))
        return _estimated(reported, visible)


def text_bytes(request: ChatRequest) -> int:
    """The bytes of all text that a model reads of a request: turns, calls, tools and schemas. Pictures and files give
    none.
    """
    count = 0
    for message in request.messages:
        count += len(message.name.encode())
        if isinstance(message.content, str):
            count += len(message.content.encode())
        else:
            for part in message.content:
                if isinstance(part, TextPart | ReasoningPart):
                    count += len(part.text.encode())
        count += sum(len(call.name.encode()) + len(call.arguments.encode()) for call in message.tool_calls)
    for tool in request.tools:
        count += len(tool.name.encode()) + len(tool.description.encode())
        count += len(msgspec.json.encode(tool.parameters)) if tool.parameters is not None else 0
    wanted = request.response_format
    return count + (len(msgspec.json.encode(wanted.schema)) if wanted is not None and wanted.schema is not None else 0)


def replace_input(usage: Usage, input_tokens: int) -> Usage:
    """The same usage with all input uncached."""
    return Usage(input_tokens, 0, 0, 0, usage.output_visible, usage.output_reasoning, usage.is_estimated)


def _estimated(usage: Usage, output_visible: int) -> Usage:
    return Usage(
        usage.input_uncached,
        usage.cache_read,
        usage.cache_write_5m,
        usage.cache_write_1h,
        output_visible,
        usage.output_reasoning,
        is_estimated=True,
    )
