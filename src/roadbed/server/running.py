"""`RunningCalls`: the answers under way in this process, by caller, so that they end when the caller's access does.

An answer costs one entry when it begins and one removal when it ends, and nothing while it streams. What ends access
(a key revoked, expired or found in an address; an account that a directory switched off) is looked for when the keys
change and every `CHECK_S`. The invariant: an answer that is ended here says so in its dialect; it never looks whole.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Final, Protocol, TypeVar

from roadbed.guard.identity import Identity
from roadbed.kernel.errors import RoadbedError, Unauthorized
from roadbed.kernel.principal import Principal
from roadbed.ledger.trace import Trace

CHECK_S: Final = 0.25
T = TypeVar("T")


class AccessEnded(Unauthorized):
    """The caller's key, account or certificate ended while this was being answered."""

    code = "auth.access_ended"
    hint = "what came before this is not the whole answer; ask again with a key that is live"

    def __init__(self) -> None:
        super().__init__("the access of this caller has ended, and with it this answer")


class Running(Protocol):
    """An answer under way."""

    def end(self, error: RoadbedError) -> None:
        """Say so to the caller, and stop."""


class RunningCalls:
    """One per process. It watches once `watch` is called."""

    def __init__(self) -> None:
        self._calls: dict[Running, str] = {}
        self._identity: Identity | None = None
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, identity: Identity) -> None:
        """End what runs for callers whom ``identity`` no longer knows."""
        self._identity = identity
        identity.on_change(self.check)
        self._tick()

    def close(self) -> None:
        """Watch no more."""
        if self._timer is not None:
            self._timer.cancel()

    def add(self, principal_id: str, call: Running) -> None:
        """An answer for this caller begins."""
        self._calls[call] = principal_id

    def discard(self, call: Running) -> None:
        """It is over; harmless for one that is not here."""
        self._calls.pop(call, None)

    def enter(self, principal: Principal, trace: Trace | None = None) -> RunningTask:
        """This task answers a caller from now on, until `RunningTask.leave`."""
        call = RunningTask(self, trace)
        self.add(principal.id, call)
        return call

    async def while_live(self, principal: Principal, events: AsyncIterator[T]) -> AsyncGenerator[T, None]:
        """Pass events on while the caller may have them. Raises `AccessEnded`."""
        call = self.enter(principal)
        try:
            while True:
                try:
                    event = await anext(events)
                except StopAsyncIteration:
                    return
                except asyncio.CancelledError:
                    raise call.ended() from None
                call.pause()
                yield event
                call.go_on()
        finally:
            call.leave()

    def check(self) -> None:
        """End what runs for those who are not live."""
        identity = self._identity
        if identity is None or not self._calls:
            return
        gone = {known for known in set(self._calls.values()) if not identity.is_live(known)}
        if gone:
            for call in [call for call, principal_id in self._calls.items() if principal_id in gone]:
                call.end(AccessEnded())

    def _tick(self) -> None:
        self.check()
        self._timer = asyncio.get_running_loop().call_later(CHECK_S, self._tick)


class RunningTask:
    """A task that answers one caller."""

    __slots__ = ("_calls", "_error", "_is_inside", "_task", "_trace")

    def __init__(self, calls: RunningCalls, trace: Trace | None) -> None:
        self._calls = calls
        self._trace = trace
        self._task = asyncio.current_task()
        self._error: RoadbedError | None = None
        self._is_inside = True

    def end(self, error: RoadbedError) -> None:
        """See `Running`: the task is cancelled, and finds out why by `ended`."""
        if self._error is not None:
            return
        self._error = error
        if self._trace is not None:
            self._trace.cut_by = error.code
        if self._is_inside and self._task is not None:
            self._task.cancel()

    def ended(self) -> RoadbedError:
        """Why the task was cancelled, to be asked where `CancelledError` is handled; raises it again where it came from
        elsewhere.
        """
        if self._error is None:
            raise
        if self._task is not None:
            self._task.uncancel()
        return self._error

    def pause(self) -> None:
        """Whoever reads goes on with the task: it must not be cancelled there."""
        self._is_inside = False

    def go_on(self) -> None:
        """The task is here again, maybe another one. Raises why it has to end, if it has."""
        self._is_inside, self._task = True, asyncio.current_task()
        if self._error is not None:
            raise self._error

    def leave(self) -> None:
        """The call has ended: nothing that happens to its key reaches it any more."""
        self._calls.discard(self)
