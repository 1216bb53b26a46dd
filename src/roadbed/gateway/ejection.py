"""Endpoints that fail clearly more often than their peers are put to rest, though their circuits stay closed.

Pure: counts in, names out. A circuit opens at half of all results; an endpoint that fails one time in five beside
peers that never do is found here (as Envoy's outlier detection does by success rate). The invariant: of a group never
more than half is out, and never the last one that can be asked.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

import msgspec

RESULTS_MIN = 50
SIGMAS = 3.0
SWEEP_S = 10.0
WINDOW_S = 300.0
EJECTION_S = 30.0
EJECTIONS_MAX = 20


class Results(msgspec.Struct, frozen=True):
    """How many attempts of an endpoint ended, and how many of them failed by its fault."""

    count: int = 0
    faults: int = 0


class Tally(msgspec.Struct):
    """What an endpoint had counted when its window began, and how often in a row it was ejected."""

    base: Results = Results()
    since_s: float = 0.0
    ejections: int = 0

    def results(self, counted: Results) -> Results:
        """What came in the window."""
        return Results(max(0, counted.count - self.base.count), max(0, counted.faults - self.base.faults))


def is_outlier(own: Results, peers: Results) -> bool:
    """Whether an endpoint's failure rate lies `SIGMAS` above its peers' rate, by the spread of so many results."""
    if own.count < RESULTS_MIN or peers.count < RESULTS_MIN:
        return False
    usual = (peers.faults + 1) / (peers.count + 2)  # never 0: a first fault is no proof
    spread = math.sqrt(usual * (1 - usual) / own.count)
    return own.faults / own.count > usual + SIGMAS * spread


def outliers(groups: Sequence[Collection[str]], results: Mapping[str, Results], is_out: Collection[str]) -> list[str]:
    """Whom to put to rest now, the worst first. ``is_out`` are those that cannot be asked anyway."""
    found = set()
    for group in groups:
        for name in group:
            peers = [results.get(other, Results()) for other in group if other != name]
            together = Results(sum(peer.count for peer in peers), sum(peer.faults for peer in peers))
            if name not in is_out and is_outlier(results.get(name, Results()), together):
                found.add(name)
    ejected: list[str] = []
    for name in sorted(found, key=lambda name: (-results[name].faults / results[name].count, name)):
        if all(_has_room(group, {*is_out, *ejected}) for group in groups if name in group):
            ejected.append(name)
    return ejected


def _has_room(group: Collection[str], is_out: Collection[str]) -> bool:
    """Whether one more of the group may rest."""
    names = set(group)
    out = len(names & set(is_out)) + 1
    return out <= len(names) // 2 and len(names) - out >= 1
