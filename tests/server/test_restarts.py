"""When a serving process starts again, and how connections are divided."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from roadbed.server.restarts import (
    CRASH_WINDOW_S,
    CRASHES_MAX,
    POOL_ALONE,
    POOL_WORKER_MIN,
    RESTART_DELAY_S_MAX,
    divide_connections,
    plan_restart,
)
from roadbed.server.settings import WORKERS_MAX
from roadbed.store.embedded_roles import CONNECTIONS_MAX


@given(st.lists(st.floats(0.01, 100), max_size=40))
def test_a_process_is_never_started_more_often_than_allowed(gaps: list[float]) -> None:
    crashes: tuple[float, ...] = ()
    starts, now = [], 0.0
    for gap in gaps:
        now += gap
        plan = plan_restart(crashes, now)
        crashes = plan.crashes
        if plan.delay_s is None:
            break
        assert 0 <= plan.delay_s <= RESTART_DELAY_S_MAX
        starts.append(now)
    for at in starts:
        assert sum(at <= other < at + CRASH_WINDOW_S for other in starts) < CRASHES_MAX


def test_the_first_end_is_mended_at_once_and_old_ones_are_forgotten() -> None:
    assert plan_restart((), 5.0).delay_s == 0
    assert plan_restart((5.0,), 6.0).delay_s
    old = tuple(float(at) for at in range(CRASHES_MAX))
    assert plan_restart(old, CRASH_WINDOW_S + CRASHES_MAX).delay_s == 0
    assert plan_restart(old, CRASHES_MAX + 1.0).delay_s is None


@given(st.integers(1, WORKERS_MAX))
def test_all_pools_fit_in_what_postgresql_allows(workers: int) -> None:
    found = divide_connections(workers)
    serving = workers * (found.worker + 1) if workers > 1 else 0
    assert found.owner + 1 + serving < found.needed
    if workers <= 7:
        assert found.needed <= CONNECTIONS_MAX
    if workers > 1:
        assert POOL_WORKER_MIN <= found.worker <= POOL_ALONE
