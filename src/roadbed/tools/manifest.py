"""The manifest section ``tools``: declared operations on sources."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from roadbed.kernel.config import DURATION_PATTERN

Scalar = str | int | float | bool | None


class ParameterConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One parameter of a tool, with its bounds."""

    type: Annotated[
        Literal["string", "integer", "number", "boolean", "date", "timestamp", "uuid"],
        Meta(description="its type"),
    ]
    description: Annotated[str, Meta(description="what it is, for the model")] = ""
    required: Annotated[bool, Meta(description="whether a call must give it")] = True
    default: Annotated[Scalar, Meta(description="its value when a call leaves it out")] = None
    minimum: Annotated[float | None, Meta(description="least number")] = None
    maximum: Annotated[float | None, Meta(description="greatest number")] = None
    characters_max: Annotated[int, Meta(ge=1, le=65_536, description="most characters of a string")] = 1_000
    pattern: Annotated[str, Meta(description="expression that a string must match")] = ""
    values: Annotated[
        list[str | int | float], Meta(max_length=200, description="allowed values; any when left out")
    ] = []


class ToolConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One declared operation. ``sql`` names its parameters as ``:name``."""

    source: Annotated[str, Meta(min_length=1, description="source that it works on")]
    description: Annotated[str, Meta(min_length=1, max_length=2_000, description="what it does, for the model")]
    sql: Annotated[str, Meta(description="one statement with `:name` places; for databases")] = ""
    operation: Annotated[str, Meta(description="operationId of the source's API document; for HTTP sources")] = ""
    parameters: Annotated[dict[str, ParameterConfig], Meta(description="what a call gives it")] = {}
    returns: Annotated[str, Meta(description="what it returns, for the model")] = ""
    effect: Annotated[Literal["read", "write", "irreversible", "send"], Meta(description="what a call changes")] = (
        "read"
    )
    labels: Annotated[list[str], Meta(description="classification of its results, beside the source's")] = []
    visible_to: Annotated[list[str] | None, Meta(description="teams that may call it; everyone when left out")] = None
    rate: Annotated[str, Meta(description="most calls of one caller, such as `60/min`")] = ""
    timeout: Annotated[str, Meta(pattern=DURATION_PATTERN, description="longest time for one call")] = "15s"
    rows_max: Annotated[int, Meta(ge=1, le=10_000, description="most rows of one result")] = 1_000
    stale_max: Annotated[
        str, Meta(description="how old an earlier result may be when the source is away, such as `15m`; never if empty")
    ] = ""
