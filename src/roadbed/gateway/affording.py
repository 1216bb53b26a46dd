"""What a call may cost at most, and holding that much of its budgets before it is sent.

The bound is an upper one: a token for each byte of the body, the dearest class of input, and as many output tokens as
the limit that is always sent along. Endpoints of price 0 need no money. The invariant: where a budget applies, no body
goes to a paid endpoint without an output limit, a known price and a reservation of the bound.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import msgspec

from roadbed.gateway.dialects.openai_plain import PlainChat
from roadbed.gateway.dialects.openai_server import Incoming
from roadbed.gateway.endpoints import Endpoint
from roadbed.gateway.output_limit import has_own_limit
from roadbed.gateway.prices import Price
from roadbed.gateway.types import AttemptRecord, ChatRequest
from roadbed.kernel.errors import Refused, RoadbedError
from roadbed.ledger.accounts import BudgetUnavailable
from roadbed.ledger.budget import Reservation
from roadbed.ledger.budgets import BudgetExceeded
from roadbed.ledger.trace import Trace

OUTPUT_TOKENS_DEFAULT = 4096
"""The output limit that is sent where a budget applies and the caller gave none."""

IMAGE_TOKENS_MAX = 3000
PICOUSD_PER_MICROUSD = 1_000_000

Sent = tuple[bytes, bytes]
"""A body, and the part of it that holds the caller's texts."""


class PriceUnknown(Refused):
    """A budget applies, and nobody knows what the route's endpoints cost."""

    code = "gateway.price_unknown"
    hint = "declare `price_input` and `price_output` of the endpoint (0 for your own engine), or a row of `prices`"


UNAFFORDABLE = (BudgetExceeded, BudgetUnavailable, PriceUnknown)


def microusd(picousd: int) -> int:
    """Rounded up, so that what is charged is never less than what it cost."""
    return -(-picousd // PICOUSD_PER_MICROUSD)


def worth(price: Price, body_bytes: int, output_tokens: int, images: int = 0) -> int:
    """The most that a call can cost, in micro-USD."""
    tokens = body_bytes + images * IMAGE_TOKENS_MAX
    return -(-(tokens * price.input_max + output_tokens * price.output) // PICOUSD_PER_MICROUSD)


def bounded(
    sent: tuple[bytes, str | bytes], incoming: Incoming, endpoint: Endpoint
) -> tuple[tuple[bytes, str | bytes], int] | None:
    """What a relay sends, with an output limit in it, and what that may cost. None when the ordinary way must say why
    it cannot be sent.
    """
    price = endpoint.price
    if price is None:
        return None
    if has_own_limit(endpoint):
        return sent, 0
    body, texts = sent
    if type(incoming) is PlainChat:
        limit, images = incoming.max_tokens, 0
        if limit is msgspec.UNSET:  # `PlainChat.encoded` ends with the brace
            limit, body = OUTPUT_TOKENS_DEFAULT, body[:-1] + _limit_field(endpoint.profile.limit_field)
    else:
        limit, images = incoming.request.max_tokens or msgspec.UNSET, body.count(b'"image_url"')
        if limit is msgspec.UNSET:
            limit = OUTPUT_TOKENS_DEFAULT
            body = texts = body[: body.rindex(b"}")] + _limit_field(endpoint.profile.limit_field)
    return (body, texts), 0 if price.is_free else worth(price, len(body), limit, images)


@cache
def _limit_field(name: str) -> bytes:
    return b',"%b":%d}' % (name.encode(), OUTPUT_TOKENS_DEFAULT)


def limited(request: ChatRequest, trace: Trace | None) -> ChatRequest:
    """The request with an output limit, where a budget applies."""
    if trace is None or trace.purse is None or request.max_tokens is not None or request.tokens_default is not None:
        return request
    return msgspec.structs.replace(request, tokens_default=OUTPUT_TOKENS_DEFAULT)


async def hold_for(trace: Trace | None, endpoint: Endpoint, body: bytes, request: ChatRequest) -> Reservation | None:
    """Hold what an attempt may cost; None where no budget applies, or nothing is paid. Raises `UNAFFORDABLE`."""
    return await hold_tokens(trace, endpoint, len(body), limit_of(request), request.unscanned_parts())


async def hold_tokens(
    trace: Trace | None, endpoint: Endpoint, input_bytes: int, output_tokens: int = 0, images: int = 0
) -> Reservation | None:
    """As `hold_for`, for so much input and output."""
    price = _payable(trace, endpoint)
    if price is None or trace is None or trace.purse is None:
        return None
    return await trace.purse.obtain(worth(price, input_bytes, output_tokens, images))


def hold_at_once(trace: Trace | None, endpoint: Endpoint, body: bytes, request: ChatRequest) -> Reservation | None:
    """As `hold_for` without a wait, for what can be left undone: `BudgetUnavailable` where a lease has no room."""
    price = _payable(trace, endpoint)
    if price is None or trace is None or trace.purse is None:
        return None
    hold = trace.purse.reserve(worth(price, len(body), limit_of(request), request.unscanned_parts()))
    if hold is None:
        raise BudgetUnavailable("what is leased of the budget has no room for another attempt")
    return hold


def _payable(trace: Trace | None, endpoint: Endpoint) -> Price | None:
    """The price to hold money for; None where there is nothing to hold. `PriceUnknown`."""
    if trace is None or trace.purse is None:
        return None
    if endpoint.price is None:
        raise PriceUnknown(f"the price of {endpoint.name} is not known, and a budget applies to this call")
    return None if endpoint.price.is_free else endpoint.price


def limit_of(request: ChatRequest) -> int:
    """The output limit that is sent with a request."""
    return request.max_tokens or request.tokens_default or OUTPUT_TOKENS_DEFAULT


@contextmanager
def kept(hold: Reservation | None) -> Iterator[None]:
    """Whoever is begun inside settles ``hold``; where nothing could be begun it is given back."""
    is_begun = False
    try:
        yield
        is_begun = True
    finally:
        if hold is not None and not is_begun:
            hold.settle(0)


def settle_hold(hold: Reservation, record: AttemptRecord, *, is_complete: bool) -> None:
    """Settle what an attempt held. One that broke off while nothing was seen of its work may have reasoned unseen."""
    if not is_complete and record.status == 200 and record.first_event_s is None:
        hold.settle(hold.amount)
    else:
        hold.settle(microusd(record.cost_picousd))


def unpaid(errors: list[RoadbedError]) -> RoadbedError | None:
    """The error to give when nobody could be paid: the budget's word before the price's."""
    return next((e for e in errors if not isinstance(e, PriceUnknown)), errors[0] if errors else None)
