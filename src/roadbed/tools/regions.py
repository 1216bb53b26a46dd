"""Which region a tool's results must stay in, and which one a caller is in. Pure.

The label of a source (``region:eu``) travels with every result; models are chosen by it in `gateway/`, and callers
here. The invariant: a team whose region is said is given nothing whose label does not name that region.
"""

from __future__ import annotations

from roadbed.kernel.label import Label
from roadbed.tools.types import Refused

REGION_CODE = "guard.region_crossing"


def is_across(label: Label, region: str) -> bool:
    """Whether data must stay where a caller is not; a caller of whom no region is said is anywhere."""
    return bool(region) and label.regions is not None and region not in label.regions


def region_refusal(what: str, label: Label, region: str, team: str) -> Refused | None:
    """Why a caller is not given ``what``; None when they may have it."""
    if not is_across(label, region):
        return None
    allowed = " or ".join(sorted(label.regions or ())) or "no region at all"
    return Refused(
        REGION_CODE,
        f"{what} must stay in {allowed}, and the team {team} is in {region}",
        hint="ask from a team in that region; `teams.NAME.region` and the source's labels say where data may be",
    )
