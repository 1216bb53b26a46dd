"""The manifest sections that the gateway reads: ``endpoints`` and ``models``."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from roadbed.kernel.config import DURATION_PATTERN

Duration = Annotated[str, Meta(pattern=DURATION_PATTERN)]
Slots = Annotated[int, Meta(ge=1, le=100_000)]
Price = Annotated[float, Meta(ge=0)]


class EndpointConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One reachable model server."""

    type: Annotated[Literal["openai", "anthropic"], Meta(description="the dialect that the server speaks")]
    model: Annotated[str, Meta(min_length=1, description="the model's name as the server knows it")]
    url: Annotated[str, Meta(description="base address, for example http://10.0.0.5:8000/v1")] = ""
    key: Annotated[str, Meta(description="reference to the key: env:NAME or file:PATH")] = ""
    local: Annotated[
        bool | None, Meta(description="whether it runs inside your house; by its address when left out")
    ] = None
    labels: Annotated[list[str], Meta(description="labels that it is cleared for beyond its default")] = []
    ca_file: Annotated[str, Meta(description="extra certificate authorities, a PEM file")] = ""
    client_cert: Annotated[str, Meta(description="client certificate and key, a PEM file")] = ""
    first_event: Annotated[Duration, Meta(description="longest wait for the first token")] = "20s"
    stall: Annotated[Duration, Meta(description="longest silence between two tokens")] = "15s"
    max_connections: Annotated[int, Meta(ge=1, le=1024, description="most connections to it at a time")] = 64
    price_input: Annotated[Price | None, Meta(description="USD per million input tokens")] = None
    price_output: Annotated[Price | None, Meta(description="USD per million output tokens")] = None
    rate: Annotated[str, Meta(description="most attempts, such as `600/min`; over it the next is asked")] = ""


class PriceConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a provider's model costs, in USD per million tokens, in place of the shipped table's row."""

    input: Annotated[Price, Meta(description="fresh input")]
    output: Annotated[Price, Meta(description="output, reasoning too")]
    cache_read: Annotated[Price | None, Meta(description="input read from the cache; as fresh input when left out")] = (
        None
    )
    cache_write: Annotated[Price | None, Meta(description="input written to it; as fresh input when left out")] = None


class ModelConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A route: a public model name with its ladder of endpoints."""

    ladder: Annotated[list[str], Meta(min_length=1, description="endpoints or provider/model, best first")]
    deadline: Annotated[Duration, Meta(description="longest time for one answer")] = "60s"
    labels: Annotated[list[str], Meta(description="labels of what callers send to it directly")] = []
    rate: Annotated[str, Meta(description="most requests, such as `600/min` over all callers")] = ""
    tokens: Annotated[str, Meta(description="most tokens, read and written, such as `100k/min`")] = ""
    input_tokens: Annotated[str, Meta(description="most tokens read, such as `80k/min`")] = ""
    output_tokens: Annotated[str, Meta(description="most tokens written, such as `20k/min`")] = ""
    concurrency: Annotated[Slots | None, Meta(description="most requests at a time")] = None
