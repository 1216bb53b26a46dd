"""How long something took, on a machine that others use too.

"Within a second" is a promise of the product on a machine that has a core for it. A test that holds such a promise
takes a `Stopwatch`, which leaves out the time in which something on this machine waited for a core, the disk or
memory. On a quiet machine that is the wall clock; on a busy one a promise is kept or broken by the product alone.
At least one part in `PATIENCE` of the wall clock counts always, so that what hangs fails everywhere.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path

PATIENCE = 10
PRESSURES = tuple(Path("/proc/pressure") / what for what in ("cpu", "io", "memory"))


class Stopwatch:
    """Runs from its making on."""

    def __init__(self) -> None:
        self._began_s, self._lost_s = time.monotonic(), lost_s()

    def elapsed_s(self) -> float:
        """Seconds since it was made, without those in which the machine was short of something."""
        wall_s, lost = time.monotonic() - self._began_s, lost_s()
        if lost is None or self._lost_s is None:
            return wall_s / PATIENCE
        return max(wall_s - (lost - self._lost_s), wall_s / PATIENCE)


def lost_s() -> float | None:
    """Seconds since the machine's start in which something had to wait (Linux 4.20, PSI); None where nobody counts."""
    try:
        lines = [path.read_text().partition("\n")[0] for path in PRESSURES]
        stolen = Path("/proc/stat").read_text().split(maxsplit=9)[8]
        waited_us = sum(int(line.rpartition("total=")[2]) for line in lines)
    except (OSError, ValueError, IndexError):
        return None
    return waited_us / 1e6 + int(stolen) / os.sysconf("SC_CLK_TCK") / (os.cpu_count() or 1)


async def comes_true(holds: Callable[[], bool], *, within_s: float) -> None:
    """Return when ``holds()`` is true; the test fails when that takes longer than is promised."""
    watch = Stopwatch()
    while not holds():
        assert watch.elapsed_s() < within_s, f"not true within {within_s} s"
        await asyncio.sleep(0.005)


def is_in_proportion(work: Callable[[int], object], size: int, *, within_s: float) -> bool:
    """Whether ``work(size)`` takes the core for no longer than that, or, where a machine is slow, for no longer than
    it takes a quarter of the size to explain: time squared would be sixteen times as long.
    """
    took_s = _core_s(work, size)
    return took_s < within_s or took_s < 8 * min(_core_s(work, size // 4) for _ in range(3))


def _core_s(work: Callable[[int], object], size: int) -> float:
    began_s = time.process_time()
    work(size)
    return time.process_time() - began_s
