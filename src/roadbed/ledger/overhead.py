"""What a request took besides its calls of models: Roadbed's own work, its waits and its searches. Pure."""

from __future__ import annotations

from roadbed.ledger.trace import Trace

OVERHEAD_BOUNDS_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)


def overhead_us(trace: Trace) -> int | None:
    """The microseconds of a finished trace in which no model was asked; None where none was asked at all.

    Calls that ran side by side (a hedge, an ensemble) count once.
    """
    call = trace.only_call
    if call is not None:
        return max(0, trace.duration_us - call.duration_us)
    calls = sorted(
        (span.start_us, min(span.start_us + span.duration_us, trace.duration_us))
        for span in trace.spans
        if span.kind == "model"
    )
    if not calls:
        return None
    asked_us = until_us = 0
    for start_us, end_us in calls:
        asked_us += max(0, end_us - max(start_us, until_us))
        until_us = max(until_us, end_us)
    return max(0, trace.duration_us - asked_us)
