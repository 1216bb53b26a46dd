"""What can go wrong with a model call, and how each kind is treated on the ladder.

    RoadbedError
    ├── InvalidRequest
    │   ├── InvalidChatRequest       the request's shape; param names the field
    │   ├── UnsupportedFeature       the endpoint's dialect cannot carry a field whose loss would change the meaning
    │   ├── RejectedByEndpoint       an endpoint called the request wrong (`client`), or too long (ContextTooLong)
    │   ├── WrongTask                the route answers another kind of request
    │   └── UnknownRoute
    ├── Refused: NoCandidate         no endpoint of the ladder may take the data
    ├── RouteOverloaded, TeamQueueFull  the route's queue is full, or would begin too late
    ├── Unavailable: LadderSpent     every endpoint failed; its code, status and wait follow the last kind of failure
    └── StreamCut                    the answer broke after its first words had gone out
`UpstreamError` is inner: one attempt's failure with its class. It never leaves the gateway, nor does any text of a
provider's body.
"""

from __future__ import annotations

from typing import Literal, get_args

from roadbed.kernel.errors import (
    DeadlineExceeded,
    InvalidRequest,
    NotFound,
    RateLimited,
    Refused,
    RoadbedError,
    Unavailable,
)

FailureClass = Literal[
    "client", "context", "auth", "quota", "rate", "overload", "fault", "timeout", "filtered", "invalid"
]
FAILURE_CLASSES: tuple[FailureClass, ...] = get_args(FailureClass)

SILENT = "it fell silent in its answer"

BREAKER_FAILURES = frozenset({"overload", "fault", "timeout"})
"""Classes that count against an endpoint's health."""

RETRIED_ON_THE_SAME_ENDPOINT = frozenset({"rate", "overload", "fault"})
ENDS_THE_LADDER = frozenset({"client", "context"})
"""The caller's request is at fault: another endpoint would say the same.

(`context` moves on to a larger window only.)
"""


class UpstreamError(Exception):
    """One attempt failed.

    ``reason`` is ours, made of names and numbers; ``provider_code`` is a short word of the provider's. ``waited_s`` of
    a timeout says how long the caller's time let it be waited for; None where a limit of the endpoint's own was over.
    """

    def __init__(
        self,
        failure: FailureClass,
        reason: str,
        *,
        status: int = 0,
        retry_after_s: float | None = None,
        provider_code: str = "",
        param: str = "",
        was_sent: bool = True,
        waited_s: float | None = None,
    ) -> None:
        super().__init__(f"{failure}: {reason}")
        self.failure: FailureClass = failure
        self.reason = reason
        self.status = status
        self.retry_after_s = retry_after_s
        self.provider_code = provider_code
        self.param = param
        self.was_sent = was_sent
        self.waited_s = waited_s


class InvalidChatRequest(InvalidRequest):
    """A chat request has a wrong type, an unknown role, or a field that contradicts another.

    ``param`` names the field.
    """

    code = "gateway.invalid_request"


class UnsupportedFeature(InvalidRequest):
    """The request needs something that no endpoint of the route can do; leaving it out would change the answer's
    meaning.
    """

    code = "gateway.unsupported_feature"


class WrongTask(InvalidRequest):
    """The route's endpoints answer another kind of request: chat, embeddings or rerank."""

    code = "gateway.wrong_task"


class UnknownRoute(NotFound):
    """No route, and no app, has this model name."""

    code = "gateway.unknown_model"


class RejectedByEndpoint(InvalidRequest):
    """The model server called the request wrong, so another one was not tried."""

    code = "gateway.rejected_by_endpoint"


class ContextTooLong(InvalidRequest):
    """The messages are longer than the model's window."""

    code = "gateway.context_too_long"
    hint = "send fewer or shorter messages, or use a route with a larger window"


class NoCandidate(Refused):
    """Labels or the missing key of every endpoint leave none that may take this request; a wider set is never tried."""

    code = "gateway.no_candidate"


class NoModel(Unavailable):
    """No model is configured and no local engine answers."""

    code = "gateway.no_model"
    hint = "start a local engine such as Ollama, or run: roadbed models add openai"


class EndpointsFailed(Unavailable):
    """Every endpoint of the route failed; the trace lists the attempts."""

    code = "gateway.endpoints_failed"
    http_status = 502


class EndpointsOverloaded(Unavailable):
    """Every endpoint of the route is overloaded, out of quota, or resting after failures."""

    code = "gateway.endpoints_overloaded"
    http_status = 503


class RouteOverloaded(Unavailable):
    """The route has more requests than it can serve in time; ``retry_after_s`` says when to ask again."""

    code = "gateway.route_overloaded"
    http_status = 503
    hint = "ask again after the time that retry-after names, or allow more time with x-roadbed-deadline-ms"


class TeamQueueFull(RateLimited):
    """The places of the caller's team in the route's queue are taken; other teams have theirs."""

    code = "gateway.team_queue_full"
    hint = "send fewer requests at a time, or lengthen the route's queue"


class EndpointsThrottled(RateLimited):
    """Every endpoint of the route limits our rate; ``retry_after_s`` says when the first one will take requests
    again.
    """

    code = "gateway.endpoints_throttled"


class EndpointsTimedOut(DeadlineExceeded):
    """No endpoint of the route began to answer within its time."""

    code = "gateway.endpoints_timed_out"


class GatewayDeadline(DeadlineExceeded):
    """The request's deadline passed before an endpoint answered."""

    code = "gateway.deadline_exceeded"
    hint = "allow more time with x-roadbed-deadline-ms, or raise the route's deadline"


class StreamCut(RoadbedError):
    """The answer broke off after its first words had been sent: what was sent is not the whole answer."""

    code = "gateway.stream_cut"
    http_status = 502
    retryable = True
    hint = "ask again; what was received is incomplete"
