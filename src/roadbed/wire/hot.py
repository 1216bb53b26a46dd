"""What a server of hot paths is told: which paths are hot, who answers them, the limits, and how refusals and
failures look.

Filled by whoever wires the server, read by the protocol. It opens no socket. Paths are matched exactly and raw: a
path written in another way (percent-encoded, absolute form with another case) goes to the ASGI application, never to
a different hot handler.
The invariant: the table does not change after the server has started.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from roadbed.kernel.errors import RoadbedError
from roadbed.wire.request import HotRequest

PROBLEM_HEADERS: tuple[tuple[bytes, bytes], ...] = ((b"content-type", b"application/problem+json"),)

Answer = tuple[tuple[tuple[bytes, bytes], ...], bytes]
"""Header pairs and body of an error response."""


class HotHandler(Protocol):
    """Answers the requests of one hot path."""

    def handle(self, request: HotRequest) -> None:
        """Answer now, or keep ``request`` and answer later from a callback or a task. Must not block."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of what a client may send, and how slowly. They hold for hot and ASGI paths alike."""

    header_lines_max: int = 64
    header_bytes_max: int = 32 * 1024
    target_bytes_max: int = 8 * 1024
    body_bytes_max: int = 64 * 1024 * 1024
    pipelined_bytes_max: int = 64 * 1024
    linger_bytes_max: int = 64 * 1024
    chunk_extension_bytes_max: int = 64
    trailer_bytes_max: int = 4 * 1024
    head_s: float = 10.0
    body_grace_s: float = 5.0
    body_bytes_per_s_min: int = 1024
    keep_alive_s: float = 75.0
    stalled_reader_s: float = 30.0
    linger_s: float = 2.0
    sweep_s: float = 1.0


@dataclass(frozen=True, slots=True)
class HotRoute:
    """One hot path: its handler and the limit of its bodies."""

    handler: HotHandler
    body_bytes_max: int


def problem_answer(error: RoadbedError, path: bytes = b"") -> Answer:
    """The default shape of refusals and failures, at any address: RFC 9457 problem details."""
    return PROBLEM_HEADERS, msgspec.json.encode(error.problem())


def failed_answer(request: HotRequest, error: BaseException) -> None:
    """The default end of a request whose handler raised: 500, or a broken connection once the response was
    started.
    """
    if request.is_ended:
        return
    if request.is_started:
        request.abort()
        return
    headers, body = problem_answer(error if isinstance(error, RoadbedError) else RoadbedError("the server failed"))
    request.send(error.http_status if isinstance(error, RoadbedError) else 500, headers, body)


def any_target(target: bytes) -> RoadbedError | None:
    """The default: nothing is refused for its target."""
    return None


@dataclass(slots=True)
class HotTable:
    """Hot paths by (method, path), and what else the protocol must be told.

    ``refuse`` shapes the answer to a request that the protocol itself turns down, by the raw path that was asked: empty
    or cut short where the head broke off before its end. ``fail`` ends a request whose handler or task raised (log it
    there: the wire does not). ``check_target`` says why a request is turned down for its target alone; a hot path's
    target is only shown to it with a query. With ``requires_certificate`` callers of other machines need one; those of
    this machine (its command line, its own checks) do not.
    """

    limits: Limits = field(default_factory=Limits)
    refuse: Callable[[RoadbedError, bytes], Answer] = problem_answer
    fail: Callable[[HotRequest, BaseException], None] = failed_answer
    requires_certificate: bool = False
    check_target: Callable[[bytes], RoadbedError | None] = any_target
    routes: dict[tuple[bytes, bytes], HotRoute] = field(default_factory=dict)
    body_limits: list[tuple[bytes, int]] = field(default_factory=list)

    def add(self, method: str, path: str, handler: HotHandler, body_bytes_max: int = 8 * 1024 * 1024) -> None:
        """Make ``path`` hot for ``method``."""
        self.routes[(method.encode("ascii"), path.encode("ascii"))] = HotRoute(handler, body_bytes_max)

    def limit_body(self, path_prefix: str, body_bytes_max: int) -> None:
        """Give the ASGI paths under ``path_prefix`` a body limit of their own; the longest prefix decides."""
        self.body_limits.append((path_prefix.encode("ascii"), body_bytes_max))
        self.body_limits.sort(key=lambda pair: -len(pair[0]))

    def asgi_body_bytes_max(self, path: bytes) -> int:
        """The body limit of an ASGI path."""
        for prefix, limit in self.body_limits:
            if path.startswith(prefix):
                return limit
        return self.limits.body_bytes_max
