"""The manifest sections that the gateway reads: ``endpoints`` and ``models``."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from roadbed.kernel.config import DURATION_PATTERN

Duration = Annotated[str, Meta(pattern=DURATION_PATTERN)]
OPTIONAL_DURATION_PATTERN = f"^$|{DURATION_PATTERN}"
Price = Annotated[float, Meta(ge=0)]


KEYS_MAX = 32


class EndpointConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One reachable model server."""

    type: Annotated[Literal["openai", "anthropic"], Meta(description="the dialect that the server speaks")]
    model: Annotated[str, Meta(min_length=1, description="the model's name as the server knows it")]
    url: Annotated[str, Meta(description="base address, for example http://10.0.0.5:8000/v1")] = ""
    key: Annotated[
        str | Annotated[list[str], Meta(max_length=KEYS_MAX)],
        Meta(description="reference to the key: env:NAME or file:PATH; or a list of them, used in turn"),
    ] = ""
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

    @property
    def key_references(self) -> list[str]:
        """The references to its keys, however many there are."""
        given = [self.key] if isinstance(self.key, str) else self.key
        return [reference for reference in dict.fromkeys(given) if reference]


class CacheConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which answers are given again instead of asking an endpoint. Off unless it is written."""

    exact: Annotated[
        str, Meta(pattern=OPTIONAL_DURATION_PATTERN, description="how long an answer is given again to equal requests")
    ] = ""
    stale: Annotated[
        str,
        Meta(
            pattern=OPTIONAL_DURATION_PATTERN,
            description="how old an answer may be that is given when no endpoint answers",
        ),
    ] = ""
    any_temperature: Annotated[
        bool, Meta(description="whether answers are kept of requests whose temperature is not 0, too")
    ] = False


class ModelConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A route: a public model name with its ladder of endpoints."""

    ladder: Annotated[list[str], Meta(min_length=1, description="endpoints or provider/model, best first")]
    deadline: Annotated[Duration, Meta(description="longest time for one answer")] = "60s"
    labels: Annotated[list[str], Meta(description="labels of what callers send to it directly")] = []
    cache: Annotated[CacheConfig | None, Meta(description="answers that are given again; none when left out")] = None
