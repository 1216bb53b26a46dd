"""From the failures of a ladder's attempts to the one error that the caller sees.

Pure. The kind of the last failure decides the status, as the field's table of failure classes says; our own
credential's trouble is a 502, never a 401. Messages name endpoints, classes and waits; a provider's words do not get
here.
"""

from __future__ import annotations

from collections.abc import Sequence

from roadbed.gateway.errors import (
    ContextTooLong,
    EndpointsFailed,
    EndpointsOverloaded,
    EndpointsThrottled,
    EndpointsTimedOut,
    GatewayDeadline,
    RejectedByEndpoint,
    UpstreamError,
)
from roadbed.kernel.errors import RoadbedError

Failure = tuple[str, UpstreamError]
"""An endpoint's name and how it failed."""


def rejected(endpoint: str, failure: UpstreamError) -> RoadbedError:
    """The error of a request that an endpoint called wrong."""
    said = f"the endpoint {endpoint} rejected the request: {failure.reason}"
    if failure.failure == "context":
        return ContextTooLong(said)
    return RejectedByEndpoint(said, param=failure.param or None)


def ladder_spent(
    route: str, failures: Sequence[Failure], skipped: Sequence[str], retry_after_s: float | None
) -> RoadbedError:
    """The error when no endpoint is left. ``retry_after_s`` says when the first one may be asked again."""
    tried = [f"{endpoint}: {failure.failure}, {failure.reason}" for endpoint, failure in failures]
    message = f"no endpoint of the route {route!r} answered ({'; '.join([*tried, *skipped])})"
    last = failures[-1][1].failure if failures else "overload"
    match last:
        case "rate":
            return EndpointsThrottled(message, retry_after_s=retry_after_s)
        case "overload" | "quota":
            return EndpointsOverloaded(message, retry_after_s=retry_after_s)
        case "timeout":
            return EndpointsTimedOut(message)
        case _:
            return EndpointsFailed(message, retry_after_s=retry_after_s)


def deadline_passed(route: str, failures: Sequence[Failure]) -> RoadbedError:
    """The error when time ran out before an endpoint answered."""
    tried = "; ".join(f"{name}: {failure.failure}, {failure.reason}" for name, failure in failures)
    return GatewayDeadline(f"the deadline passed before the route {route!r} answered ({tried})")
