"""Two decisions about serving processes, as pure functions: when one that ended starts again, and how many database
connections each may hold.

`workers.py` acts on them. The invariant of `plan_restart`: a process that ends again and again is started at most
`CRASHES_MAX` times in `CRASH_WINDOW_S`. That of `divide_connections`: all pools together fit in ``needed``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from roadbed.store.embedded_roles import CONNECTIONS_MAX

CRASHES_MAX = 5
CRASH_WINDOW_S = 60.0
RESTART_DELAY_S_MIN = 0.1
RESTART_DELAY_S_MAX = 1.0
POOL_ALONE = 16
POOL_OWNER = 12
POOL_WORKER_MIN = 4
LISTENERS = 1
OTHER_CONNECTIONS = 8
"""The superuser's reserve of three, and readings of source databases."""


@dataclass(frozen=True, slots=True)
class Restart:
    """Start again after ``delay_s``, or not at all when it is ``None``; ``crashes`` are those still counted."""

    crashes: tuple[float, ...]
    delay_s: float | None


def plan_restart(crashes: Sequence[float], now: float) -> Restart:
    """What to do about a process that ended by itself ``now``, after earlier ends at ``crashes``."""
    recent = (*(at for at in crashes if now - at < CRASH_WINDOW_S), now)
    if len(recent) >= CRASHES_MAX:
        return Restart(recent, None)
    if len(recent) == 1:
        return Restart(recent, 0.0)
    return Restart(recent, min(RESTART_DELAY_S_MAX, RESTART_DELAY_S_MIN * 2.0 ** (len(recent) - 2)))


@dataclass(frozen=True, slots=True)
class Connections:
    """Pool sizes of the owner and of each serving process, and what PostgreSQL must allow for all."""

    owner: int
    worker: int
    needed: int


def divide_connections(workers: int) -> Connections:
    """The pools of a deployment with ``workers`` serving processes; with one, the owner serves itself."""
    if workers == 1:
        return Connections(POOL_ALONE, 0, POOL_ALONE + LISTENERS + OTHER_CONNECTIONS)
    rest = CONNECTIONS_MAX - OTHER_CONNECTIONS - POOL_OWNER - LISTENERS
    worker = max(POOL_WORKER_MIN, min(POOL_ALONE, rest // workers - LISTENERS))
    needed = OTHER_CONNECTIONS + POOL_OWNER + LISTENERS + workers * (worker + LISTENERS)
    return Connections(POOL_OWNER, worker, needed)
