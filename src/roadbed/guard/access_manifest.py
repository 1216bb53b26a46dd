"""The manifest section ``access``: what one person alone may not do."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

TwoPersonDuty = Literal["promotions", "approvals", "models"]


class AccessConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What needs two persons. What was switched on here is switched off by two persons too."""

    two_persons: Annotated[
        tuple[TwoPersonDuty, ...],
        Meta(
            max_length=3,
            description="what a second person has to approve: `promotions` of releases and of all other settings, "
            "`approvals` of tool calls, `models`",
        ),
    ] = ()
    persons_only: Annotated[
        bool,
        Meta(description="whether only people who sign in, and keys that belong to one, count as persons for it"),
    ] = False
