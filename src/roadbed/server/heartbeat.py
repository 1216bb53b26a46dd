"""Comments to a caller who streams and waits, so that no proxy between takes the connection for dead.

Server-sent events have comment lines for it, which every client passes over. The first one answers 200, and what fails
later can only be told inside the stream: so it is sent when a route's answer has begun and is held back, where other
routes would have answered, or earlier where the route's ``heartbeat`` asks for it. The invariant: nothing of an answer
is in a heartbeat, so that the next endpoint may still give all of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType

from roadbed.gateway.policy import Policy
from roadbed.server.reply import Reply


class Heartbeat:
    """Beats while its context runs, until the reply has begun to tell the answer. ``is_begun`` says that the answer's
    first content is here, ``dropped`` gives the fields that the head names.
    """

    def __init__(
        self,
        reply: Reply,
        policy: Policy,
        dropped: Callable[[], tuple[str, ...]],
        is_begun: Callable[[], bool] = lambda: False,
    ) -> None:
        self._reply = reply
        self._every_s = policy.heartbeat_s if reply.is_streamed else 0.0
        self._is_early = policy.is_heard_early
        self._is_begun = is_begun
        self._dropped = dropped
        self._timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> None:
        self._wait()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _wait(self) -> None:
        if self._every_s:
            self._timer = asyncio.get_running_loop().call_later(self._every_s, self._beat)

    def _beat(self) -> None:
        if self._reply.is_telling:
            return
        if self._is_early or self._is_begun():
            self._reply.heartbeat(self._dropped())
        self._wait()
