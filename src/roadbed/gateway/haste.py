"""Whether an endpoint was given a fair time before it was found too slow. Pure.

An attempt ends at the endpoint's own limits or, earlier, because the time of its caller is over. Who asks for an answer
in 50 ms learns that there is none, and nothing about the endpoint: else a few hasty callers would open its breaker for
everybody. The invariant: a timeout at one of the endpoint's own limits always counts.
"""

from __future__ import annotations

from roadbed.gateway.errors import UpstreamError

FAIR_S = 1.0
"""What is fair to an endpoint of which too little is known."""

FAIR_S_MIN = 0.3
FAIR_S_MAX = 2.0
FAIR_TIMES = 2.0
"""What is fair to another one, as a multiple of the time in which nearly all of its answers begin."""

FAIR_CONNECT_S = 0.25


def waited_s(began_s: float, now_s: float, *, is_own_limit: bool, has_begun: bool) -> float | None:
    """How long an endpoint was waited for that is too slow for its caller: not at all where it was answering already,
    None where it is too slow by a limit of its own.
    """
    if is_own_limit:
        return None
    return 0.0 if has_begun else now_s - began_s


def was_hasty(error: UpstreamError, usual_s: float | None) -> bool:
    """Whether a failure says nothing about the endpoint. ``usual_s`` is when its answers begin, where that is known."""
    if error.failure != "timeout" or error.waited_s is None:
        return False
    if not error.was_sent:
        return error.waited_s < FAIR_CONNECT_S
    fair_s = FAIR_S if usual_s is None else min(max(FAIR_TIMES * usual_s, FAIR_S_MIN), FAIR_S_MAX)
    return error.waited_s < fair_s
