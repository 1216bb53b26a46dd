"""What a process counts besides its traces, as OpenTelemetry's JSON: hedges, sheds and the queues of routes. Pure.

The conventions for generative AI have no names for these, so that they have our own, beside
``roadbed.gateway.overhead``. The sums are cumulative since the process began: a batch that a collector did not take is
made good by the next one. The invariant: labels are routes, events and reasons, never a caller.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from roadbed.ledger.metrics import Read

CUMULATIVE = 2

COUNTED: dict[str, tuple[str, str]] = {
    "roadbed_hedges_total": ("roadbed.gateway.hedges", "{hedge}"),
    "roadbed_shed_total": ("roadbed.gateway.sheds", "{request}"),
    "roadbed_queue_depth": ("roadbed.gateway.queue.depth", "{request}"),
    "roadbed_queue_wait_seconds": ("roadbed.gateway.queue.wait", "s"),
}
"""Of each metric the name and the unit that it is sent by."""


def counted_metrics(read: Mapping[str, Read], began_ns: int, now_ns: int) -> list[dict[str, Any]]:
    """The metrics, those without a series left out."""
    found = []
    for name, (sent_as, unit) in COUNTED.items():
        known = read.get(name)
        if known is None or not known.cells:
            continue
        made: dict[str, Any] = {"name": sent_as, "description": known.help, "unit": unit}
        points = [_point(known, values, began_ns, now_ns) for values in sorted(known.cells)]
        match known.kind:
            case "counter":
                made["sum"] = {"aggregationTemporality": CUMULATIVE, "isMonotonic": True, "dataPoints": points}
            case "gauge":
                made["gauge"] = {"dataPoints": points}
            case _:
                made["histogram"] = {"aggregationTemporality": CUMULATIVE, "dataPoints": points}
        found.append(made)
    return found


def _point(read: Read, values: tuple[str, ...], began_ns: int, now_ns: int) -> dict[str, Any]:
    cells = read.cells[values]
    point: dict[str, Any] = {
        "attributes": [
            {"key": f"roadbed.{label}", "value": {"stringValue": value}}
            for label, value in zip(read.labels, values, strict=True)
        ],
        "startTimeUnixNano": str(began_ns),
        "timeUnixNano": str(now_ns),
    }
    if read.kind != "histogram":
        return {**point, "asDouble": cells[0]}
    counts = [int(count) for count in cells[:-1]]
    return {
        **point,
        "count": str(sum(counts)),
        "sum": cells[-1],
        "bucketCounts": [str(count) for count in counts],
        "explicitBounds": list(read.bounds),
    }
