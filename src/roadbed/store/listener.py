"""Notifications that survive lost connections: one connection outside the pool, shared by all channels of a `Database`.

Made by `store/database.py` alone. Channels are named per schema, for PostgreSQL's are shared by a whole database.
The invariant: after a gap every subscriber is called once with ``None`` before it gets any newer payload.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from roadbed.store.driver_errors import LOST, translated
from roadbed.store.errors import StoreTimeout, StoreUnavailable

CHANNEL_NAME_BYTES_MAX = 63
RECONNECT_DELAY_S_MIN = 0.05
RECONNECT_DELAY_S_MAX = 2.0
CLOSE_TIMEOUT_S = 2.0

Callback = Callable[[str | None], None]

logger = logging.getLogger(__name__)


class Subscription:
    """One callback on one channel, until `close`."""

    def __init__(self, listener: Listener, channel: str, callback: Callback) -> None:
        self.channel = channel
        self._callback = callback
        self._listener = listener

    async def close(self) -> None:
        """Stop the calls; harmless when they were stopped already."""
        await self._listener.unsubscribe(self)

    def deliver(self, payload: str | None) -> None:
        """Call the callback. Its exceptions are bugs of the room that owns it: shown, and not ours to die of."""
        self._callback(payload)


class Listener:
    """Keeps one connection listening while there are subscriptions; reconnects with a growing pause."""

    def __init__(self, connect: Callable[[], Awaitable[Any]], schema: str) -> None:
        self._connect = connect
        self._schema = schema
        self._subscriptions: dict[str, list[Subscription]] = {}
        self._connection: Any = None
        self._task: asyncio.Task[None] | None = None
        self._lost = asyncio.Event()
        self._missed_some = False
        self._lock = asyncio.Lock()

    def channel_name(self, channel: str) -> str:
        """PostgreSQL's name of a channel of this schema: readable, and hashed where it would be too long."""
        name = f"{self._schema}.{channel}"
        if len(name.encode()) <= CHANNEL_NAME_BYTES_MAX:
            return name
        return "roadbed." + hashlib.sha256(name.encode()).hexdigest()[:40]

    async def subscribe(self, channel: str, callback: Callback) -> Subscription:
        """Listen on a channel; returns when it is listened on. `StoreUnavailable`."""
        name = self.channel_name(channel)
        subscription = Subscription(self, name, callback)
        async with self._lock:
            await self._ensure_open()
            if name not in self._subscriptions:
                with translated():  # it may be lost or closed meanwhile
                    await self._connection.add_listener(name, self._on_notification)
            self._subscriptions.setdefault(name, []).append(subscription)
            if self._task is None:
                self._task = asyncio.create_task(self._keep_connected(), name="store-listener")
        return subscription

    async def unsubscribe(self, subscription: Subscription) -> None:
        """Forget a subscription, and the channel with its last one."""
        async with self._lock:
            others = self._subscriptions.get(subscription.channel, [])
            if subscription not in others:
                return
            others.remove(subscription)
            if others:
                return
            del self._subscriptions[subscription.channel]
            if self._connection is not None and not self._connection.is_closed():
                with contextlib.suppress(*LOST):
                    await self._connection.remove_listener(subscription.channel, self._on_notification)

    async def close(self) -> None:
        """Stop listening to everything."""
        self._subscriptions.clear()
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        connection, self._connection = self._connection, None
        if connection is not None and not connection.is_closed():
            connection.remove_termination_listener(self._on_lost)
            with contextlib.ExitStack() as at_end, contextlib.suppress(*LOST):
                at_end.callback(connection.terminate)  # a channel may be begun just now, and then it cannot be reset
                await connection.reset(timeout=CLOSE_TIMEOUT_S)
                await connection.close(timeout=CLOSE_TIMEOUT_S)

    async def _ensure_open(self) -> None:
        if self._connection is not None and not self._connection.is_closed():
            return
        connection = await self._connect()
        self._lost.clear()
        connection.add_termination_listener(self._on_lost)
        with contextlib.ExitStack() as on_failure:
            on_failure.callback(connection.terminate)
            with translated():
                for name in self._subscriptions:
                    await connection.add_listener(name, self._on_notification)
            on_failure.pop_all()
        self._connection = connection

    async def _keep_connected(self) -> None:
        while True:
            await self._lost.wait()
            delay_s = RECONNECT_DELAY_S_MIN
            while self._missed_some:
                try:
                    async with self._lock:
                        await self._ensure_open()
                    self._missed_some = False
                except (StoreUnavailable, StoreTimeout):
                    await asyncio.sleep(delay_s)
                    delay_s = min(delay_s * 2, RECONNECT_DELAY_S_MAX)
            for subscriptions in list(self._subscriptions.values()):
                for subscription in list(subscriptions):
                    subscription.deliver(None)

    def _on_lost(self, connection: Any) -> None:
        self._missed_some = True
        self._lost.set()

    def _on_notification(self, connection: Any, pid: int, channel: str, payload: str) -> None:
        for subscription in list(self._subscriptions.get(channel, ())):
            subscription.deliver(payload)
