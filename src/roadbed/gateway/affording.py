"""What a call may cost at most, and holding that much of its budgets before it is sent.

The bound is an upper one: a token for each byte of the body, the dearest class of input, and as many output tokens as
the limit that is always sent along. Endpoints of price 0 need no money. The invariant: where a budget applies, no body
goes to a paid endpoint without an output limit, a known price and a reservation of the bound.
"""

from __future__ import annotations

from functools import cache

import msgspec

from roadbed.gateway.dialects.openai_plain import PlainChat
from roadbed.gateway.dialects.openai_server import Incoming
from roadbed.gateway.endpoints import Endpoint
from roadbed.gateway.prices import Price
from roadbed.gateway.types import AttemptRecord, ChatRequest
from roadbed.kernel.errors import Refused, RoadbedError
from roadbed.ledger.budget import Reservation
from roadbed.ledger.budgets import BudgetExceeded, BudgetUnavailable
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
    sent: tuple[bytes, bytes], incoming: Incoming, endpoint: Endpoint
) -> tuple[tuple[bytes, bytes], int] | None:
    """What a relay sends, with an output limit in it, and what that may cost. None when the ordinary way must say why
    it cannot be sent.
    """
    price = endpoint.price
    if price is None:
        return None
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
    if trace is None or trace.purse is None or request.max_tokens is not None:
        return request
    return msgspec.structs.replace(request, max_tokens=OUTPUT_TOKENS_DEFAULT)


async def hold_for(trace: Trace | None, endpoint: Endpoint, body: bytes, request: ChatRequest) -> Reservation | None:
    """Hold what an attempt may cost; None where no budget applies, or nothing is paid. Raises `UNAFFORDABLE`."""
    if trace is None or trace.purse is None:
        return None
    price = endpoint.price
    if price is None:
        raise PriceUnknown(f"the price of {endpoint.name} is not known, and a budget applies to this call")
    if price.is_free:
        return None
    images = body.count(b'"image') if request.has_unscanned_parts() else 0
    return await trace.purse.obtain(worth(price, len(body), request.max_tokens or OUTPUT_TOKENS_DEFAULT, images))


def settle_hold(hold: Reservation, record: AttemptRecord, *, is_complete: bool) -> None:
    """Settle what an attempt held. One that broke off while nothing was seen of its work may have reasoned unseen."""
    if not is_complete and record.status == 200 and record.first_event_s is None:
        hold.settle(hold.amount)
    else:
        hold.settle(microusd(record.cost_picousd))


def unpaid(errors: list[RoadbedError]) -> RoadbedError | None:
    """The error to give when nobody could be paid: the budget's word before the price's."""
    return next((e for e in errors if not isinstance(e, PriceUnknown)), errors[0] if errors else None)
