"""The manifest section ``traces``: what is kept of requests, and for how long."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from roadbed.kernel.config import DURATION_PATTERN


class OtlpConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An OpenTelemetry collector that gets every trace, by OTLP over HTTP (JSON)."""

    endpoint: Annotated[
        str, Meta(min_length=1, description="base address, for example http://collector:4318; /v1/traces is added")
    ]
    headers: Annotated[
        str, Meta(description="reference to headers as name=value with commas between: env:NAME or file:PATH")
    ] = ""
    content: Annotated[
        bool, Meta(description="whether masked questions and answers are sent, where traces.content keeps them")
    ] = False


class TracesConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Trace retention. ``masked`` keeps questions and answers with personal data and secrets as placeholders."""

    content: Annotated[Literal["off", "masked"], Meta(description="whether masked text of requests is kept")] = "masked"
    keep: Annotated[str, Meta(pattern=DURATION_PATTERN, description="how long traces are kept")] = "7d"
    otlp: Annotated[OtlpConfig | None, Meta(description="an OpenTelemetry collector that gets every trace")] = None
