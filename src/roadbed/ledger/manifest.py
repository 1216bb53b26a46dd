"""The manifest section ``traces``: what is kept of requests, and for how long."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from roadbed.kernel.config import DURATION_PATTERN


class TracesConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Trace retention. ``masked`` keeps questions and answers with personal data and secrets as placeholders."""

    content: Annotated[Literal["off", "masked"], Meta(description="whether masked text of requests is kept")] = "masked"
    keep: Annotated[str, Meta(pattern=DURATION_PATTERN, description="how long traces are kept")] = "7d"
