"""The moment in which the MCP library is loaded, and that it is loaded without a request."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from roadbed.server.mcp_loading import IDLE_LOOKS, IDLE_SHARE_MAX, LOOK_EVERY_S, LOOKS_MAX, wait_until_idle


async def looks_until_idle(shares: Iterator[float]) -> int:
    """How many looks it takes while the process uses these shares of a core, one from look to look."""
    now_s = used_s = 0.0
    looks = 0

    async def wait(seconds: float) -> None:
        nonlocal now_s, used_s, looks
        looks += 1
        now_s += seconds
        used_s += seconds * next(shares, 1.0)

    await wait_until_idle(lambda: used_s, lambda: now_s, wait)
    return looks


@given(st.lists(st.sampled_from((0.0, IDLE_SHARE_MAX / 2, IDLE_SHARE_MAX * 2, 1.0)), max_size=60))
def test_it_waits_for_a_while_without_work_and_not_for_ever(shares: list[float]) -> None:
    idle = [share <= IDLE_SHARE_MAX for share in shares]
    wanted = [n for n in range(IDLE_LOOKS, len(idle) + 1) if all(idle[n - IDLE_LOOKS : n])]
    assert asyncio.run(looks_until_idle(iter(shares))) == (wanted[0] if wanted else LOOKS_MAX)


def test_a_start_that_takes_its_time_is_not_disturbed() -> None:
    assert IDLE_LOOKS * LOOK_EVERY_S >= 3.0  # as long as a second start to ready may take
