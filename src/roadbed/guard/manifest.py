"""The manifest sections that the guard reads: ``teams`` and ``guard``."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta


class TeamConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A team: the apps and routes that its keys may call, and what it may spend."""

    apps: Annotated[list[str] | None, Meta(description="apps and routes its keys may call; all when left out")] = None
    budget: Annotated[str, Meta(description="a spending cap such as `200 USD/month`")] = ""
    rate: Annotated[str, Meta(description="a request rate such as `600/min`")] = ""
    unmask: Annotated[bool, Meta(description="whether tokenised personal data is restored in its answers")] = True


class GuardConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the detectors look for beyond their defaults."""

    allow: Annotated[list[str], Meta(description="exact values that are never treated as personal or secret")] = []
    phone_regions: Annotated[tuple[str, ...], Meta(description="countries of phone numbers written without +")] = (
        "US",
        "GB",
        "DE",
        "NO",
    )
