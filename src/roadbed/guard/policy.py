"""Where data may flow, as pure functions: which sink an endpoint is, and whether a label may go there.

Called by the gateway for each candidate endpoint; who may read a document is ``knowledge/permissions``. A refusal is
final: no caller may answer it by widening the set of candidates.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from roadbed.kernel.errors import Refused
from roadbed.kernel.label import CATEGORIES, LEVELS, LOCAL_ONLY, PERSONAL, Label, Level, Sink


class RegionCrossing(Refused):
    """Data must stay in a region that the caller is not in."""

    code = "guard.region_crossing"
    hint = "ask from a team in that region; `teams.NAME.region` and the source's labels say where data may be"


LOCAL_CLEARANCE: Final = Level.RESTRICTED
REMOTE_CLEARANCE: Final = Level.INTERNAL


def sink_for_endpoint(name: str, *, is_local: bool, labels: Iterable[str] = (), region: str = "local") -> Sink:
    """The sink that an endpoint is. ``labels`` are the manifest's words for what the endpoint may take beyond defaults.

    A local endpoint takes everything but unscanned media. A remote one is cleared for internal data; a level among
    ``labels`` sets another clearance, ``unscanned`` lets media through, ``personal`` lets personal data through as it
    is, where it is otherwise replaced by tokens first.
    """
    words = set(labels)
    levels = [LEVELS[word] for word in words if word in LEVELS]
    categories = frozenset(words & CATEGORIES)
    if is_local:
        return Sink(name, max(levels, default=LOCAL_CLEARANCE), categories | {PERSONAL, LOCAL_ONLY}, region)
    return Sink(name, max(levels, default=REMOTE_CLEARANCE), categories - {LOCAL_ONLY}, region)


def may_flow(label: Label, sink: Sink, *, is_tokenised: bool = False) -> bool:
    """Whether data may go to the sink; ``is_tokenised`` when its personal values were replaced by tokens."""
    return (label.without_category(PERSONAL) if is_tokenised else label).may_flow_to(sink)


def why_forbidden(label: Label, sink: Sink, *, is_tokenised: bool = False) -> str:
    """Why data may not go to the sink, in words; empty exactly when `may_flow` says that it may."""
    label = label.without_category(PERSONAL) if is_tokenised else label
    reasons = []
    if label.level > sink.clearance:
        reasons.append(f"not cleared for {label.level.name.lower()}")
    reasons += [f"takes no {category} data" for category in sorted(label.categories - sink.accepts)]
    if label.regions is not None and sink.region not in label.regions:
        allowed = " or ".join(sorted(label.regions)) or "no region at all"
        reasons.append(f"it is in {sink.region}, and this must stay in {allowed}")
    return "; ".join(reasons)
