"""The output limit of whoever asks for a caller who gave none: an app's, or a budget's.

An engine of this house has limits of its own, set by whoever runs it, and a request that asks for more than its window
has room for is refused there. So the default is not sent to it: it is kept by leaving once so much has come. Others are
sent it, cut to what their window leaves. Pure. The invariant: the limit never makes an endpoint write more than it
would have without it, and a limit that the caller gave is sent as it is.
"""

from __future__ import annotations

from msgspec import structs

from roadbed.gateway.endpoints import Endpoint
from roadbed.gateway.meter import TokenEstimator, text_bytes
from roadbed.gateway.types import ChatRequest


def has_own_limit(endpoint: Endpoint) -> bool:
    """Whether an endpoint keeps to limits of its own: one of this house that nothing is paid for."""
    return endpoint.is_local and (endpoint.price is None or endpoint.price.is_free)


def kept_here(request: ChatRequest, endpoint: Endpoint) -> int | None:
    """How many tokens are taken of the endpoint's answer; None where the endpoint was told."""
    return request.tokens_default if request.max_tokens is None and has_own_limit(endpoint) else None


def told(request: ChatRequest, endpoint: Endpoint, estimator: TokenEstimator) -> ChatRequest:
    """The request with the limit that the endpoint is sent."""
    limit = request.tokens_default
    if request.max_tokens is not None or limit is None or has_own_limit(endpoint):
        return request
    if endpoint.context_tokens is not None:
        left = endpoint.context_tokens - estimator.tokens(endpoint.model, text_bytes(request))
        limit = min(limit, left) if left > 0 else limit  # too long a prompt: the endpoint says so
    return structs.replace(request, max_tokens=limit)
