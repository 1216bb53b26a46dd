"""When the library of MCP is loaded: in an idle moment after the process is ready, so that no client waits for it.

It takes a second of CPU, which would otherwise be the first client's to wait for, several times over on a loaded
machine. `wait_until_idle` finds the moment; `mcp.Mcp` loads. The invariant: a start to ready is not made longer, as
what a start has to do keeps the process busy.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

LOOK_EVERY_S: Final = 0.5
IDLE_LOOKS: Final = 6
"""So many looks in a row have to find the process idle."""
IDLE_SHARE_MAX: Final = 0.1
LOOKS_MAX: Final = 240
"""After two minutes without an idle moment it is done anyway: a client would not find a better one."""


async def wait_until_idle(
    used_s: Callable[[], float] = time.process_time,
    now_s: Callable[[], float] = time.monotonic,
    wait: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Wait until this process has used next to no CPU for a while. ``used_s`` gives what it used in all."""
    idle_looks = 0
    used, then = used_s(), now_s()
    for _ in range(LOOKS_MAX):
        await wait(LOOK_EVERY_S)
        before, since = used, then
        used, then = used_s(), now_s()
        idle_looks = idle_looks + 1 if used - before <= IDLE_SHARE_MAX * (then - since) else 0
        if idle_looks == IDLE_LOOKS:
            return
