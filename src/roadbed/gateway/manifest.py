"""The manifest sections that the gateway reads: ``endpoints`` and ``models``."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from roadbed.gateway.profiles import ProfileName
from roadbed.kernel.config import DURATION_PATTERN

Duration = Annotated[str, Meta(pattern=DURATION_PATTERN)]
OPTIONAL_DURATION_PATTERN = f"^$|{DURATION_PATTERN}"
Slots = Annotated[int, Meta(ge=1, le=100_000)]
Price = Annotated[float, Meta(ge=0)]
Tokens = Annotated[int, Meta(ge=1)]
Similarity = Annotated[float, Meta(ge=0.8, le=1.0)]
Task = Literal["chat", "embeddings", "rerank"]
Target = Annotated[str, Meta(max_length=200)]
Strategy = Literal[
    "ordered", "weighted", "least-loaded", "cheapest", "sticky", "first-valid", "majority", "best-of"
]  # fmt: skip
OnCut = Literal["error", "continue", "restart"]
HOURS_PATTERN = r"^([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d$"
HEADER_PATTERN = r"^[A-Za-z0-9-]{1,100}$"
RULES_MAX = 32
HEADERS_MAX = 8


KEYS_MAX = 32


class EndpointConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One reachable model server."""

    type: Annotated[
        Literal["openai", "anthropic", "responses", "azure", "gemini", "ollama", "bedrock", "cohere", "tei"],
        Meta(description="the dialect that the server speaks"),
    ]
    model: Annotated[str, Meta(min_length=1, description="the model's name as the server knows it")]
    url: Annotated[str, Meta(description="base address, for example http://10.0.0.5:8000/v1")] = ""
    key: Annotated[
        str | Annotated[list[str], Meta(max_length=KEYS_MAX)],
        Meta(description="reference to the key: env:NAME or file:PATH; or a list of them, used in turn"),
    ] = ""
    region: Annotated[str, Meta(description="AWS region of an endpoint of type bedrock")] = ""
    access_key: Annotated[str, Meta(description="reference to an AWS access key's id, for type bedrock")] = ""
    secret_key: Annotated[str, Meta(description="reference to the AWS secret access key that goes with it")] = ""
    session_token: Annotated[str, Meta(description="reference to the AWS session token of a temporary key")] = ""
    local: Annotated[
        bool | None, Meta(description="whether it runs inside your house; by its address when left out")
    ] = None
    labels: Annotated[list[str], Meta(description="labels that it is cleared for beyond its default")] = []
    ca_file: Annotated[str, Meta(description="extra certificate authorities, a PEM file")] = ""
    client_cert: Annotated[str, Meta(description="client certificate and key, a PEM file")] = ""
    first_event: Annotated[
        Duration | None,
        Meta(description="longest wait for the first token; left out, 20s, and 120s for ollama, which loads models"),
    ] = None
    stall: Annotated[Duration, Meta(description="longest silence between two tokens")] = "15s"
    max_connections: Annotated[int, Meta(ge=1, le=1024, description="most connections to it at a time")] = 64
    profile: Annotated[
        ProfileName | None,
        Meta(description="for type openai: the server whose quirks it has; by its host when left out"),
    ] = None
    api_version: Annotated[
        str, Meta(description="for type azure: a dated API such as 2024-10-21; the v1 API when left out")
    ] = ""
    context_tokens: Annotated[
        Tokens | None, Meta(description="for type ollama: the window that the model is loaded with")
    ] = None
    context: Annotated[Tokens | None, Meta(description="the model's window in tokens; not checked when left out")] = (
        None
    )
    continues: Annotated[
        bool | Literal["vllm"],
        Meta(description="whether it goes on from a last assistant turn; `vllm` for its continue_final_message"),
    ] = False
    provider_tools: Annotated[
        bool,
        Meta(description="for type anthropic: whether callers may use tools that the provider runs (web search, code)"),
    ] = False
    price_input: Annotated[Price | None, Meta(description="USD per million input tokens")] = None
    price_output: Annotated[Price | None, Meta(description="USD per million output tokens")] = None
    rate: Annotated[str, Meta(description="most attempts, such as `600/min`; over it the next is asked")] = ""
    tokens: Annotated[str, Meta(description="most tokens, read and written, such as `100k/min`; then the next")] = ""
    input_tokens: Annotated[str, Meta(description="most tokens read, such as `80k/min`; then the next is asked")] = ""
    output_tokens: Annotated[str, Meta(description="most tokens written, such as `20k/min`; then the next")] = ""
    concurrency: Annotated[Slots | None, Meta(description="most attempts at a time; over it the next is asked")] = None

    @property
    def key_references(self) -> list[str]:
        """The references to its keys, however many there are."""
        given = [self.key] if isinstance(self.key, str) else self.key
        return [reference for reference in dict.fromkeys(given) if reference]


class PriceConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a provider's model costs, in USD per million tokens, in place of the shipped table's row."""

    input: Annotated[Price, Meta(description="fresh input")]
    output: Annotated[Price, Meta(description="output, reasoning too")]
    cache_read: Annotated[Price | None, Meta(description="input read from the cache; as fresh input when left out")] = (
        None
    )
    cache_write: Annotated[Price | None, Meta(description="input written to it; as fresh input when left out")] = None


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
    kind: Annotated[
        Literal["exact", "semantic"],
        Meta(description="semantic: an answer is given again to a last question that means the same, too"),
    ] = "exact"
    similarity: Annotated[
        Similarity | None,
        Meta(description="for semantic: how near two questions must be; 0.9 when left out"),
    ] = None


class WhenConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A rule of a route: for requests that meet all of its conditions, these endpoints in place of the ladder."""

    use: Annotated[list[str], Meta(min_length=1, description="endpoints or provider/model, best first")]
    label: Annotated[str, Meta(description="the data's label is this one, or higher")] = ""
    team: Annotated[str, Meta(description="the caller's team")] = ""
    tokens_over: Annotated[Tokens | None, Meta(description="the prompt is longer than this, as estimated")] = None
    header: Annotated[dict[str, str], Meta(max_length=HEADERS_MAX, description="request headers and their values")] = {}
    hours: Annotated[str, Meta(description="a time of day in UTC, for example 22:00-06:00")] = ""


class OnConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a request goes on after an outcome: `next`, `fail`, or the name of an endpoint to ask next."""

    timeout: Annotated[Target, Meta(description="no first token in time")] = "next"
    stall: Annotated[Target, Meta(description="it fell silent before its answer was whole")] = "next"
    rate_limit: Annotated[Target, Meta(description="it throttled us (429)")] = "next"
    server_error: Annotated[Target, Meta(description="it failed or was overloaded (5xx), or could not be reached")] = (
        "next"
    )
    content_filter: Annotated[Target, Meta(description="its filter stopped the request or all of the answer")] = "fail"
    context_length: Annotated[Target, Meta(description="the prompt is longer than its window")] = "fail"
    invalid_json: Annotated[
        Target,
        Meta(description="the whole answer does not fit the JSON schema that was asked for; not checked if `fail`"),
    ] = "fail"


class ModelConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A route: a public model name with its ladder of endpoints."""

    ladder: Annotated[list[str], Meta(min_length=1, description="endpoints or provider/model, best first")]
    task: Annotated[Task, Meta(description="what its endpoints are asked for")] = "chat"
    deadline: Annotated[Duration, Meta(description="longest time for one answer")] = "60s"
    labels: Annotated[list[str], Meta(description="labels of what callers send to it directly")] = []
    rate: Annotated[str, Meta(description="most requests, such as `600/min` over all callers")] = ""
    tokens: Annotated[str, Meta(description="most tokens, read and written, such as `100k/min`")] = ""
    input_tokens: Annotated[str, Meta(description="most tokens read, such as `80k/min`")] = ""
    output_tokens: Annotated[str, Meta(description="most tokens written, such as `20k/min`")] = ""
    concurrency: Annotated[Slots | None, Meta(description="most requests at a time")] = None
    strategy: Annotated[Strategy, Meta(description="which endpoint of the ladder is asked first")] = "ordered"
    weights: Annotated[
        dict[str, Annotated[float, Meta(ge=0)]],
        Meta(description="shares for weighted, least-loaded and sticky; 1 when left out, 0 takes an endpoint out"),
    ] = {}
    when: Annotated[
        list[WhenConfig], Meta(max_length=RULES_MAX, description="rules; the first that applies holds")
    ] = []
    on: Annotated[OnConfig, Meta(description="where a request goes on after an outcome")] = OnConfig()
    on_cut: Annotated[
        OnCut,
        Meta(description="what becomes of an answer that breaks off: told, continued, or made anew while buffered"),
    ] = "error"
    heartbeat: Annotated[
        Duration | None,
        Meta(
            description="how often streaming callers who wait are sent a comment, the first with status 200; 0s for "
            "never; left out, every 10s while `on_cut: restart` holds an answer back"
        ),
    ] = None
    hedge: Annotated[bool, Meta(description="ask a second endpoint too when the first is slower than usual")] = False
    queue: Annotated[
        int, Meta(ge=0, le=10_000, description="how many requests may wait for it, fairly between teams; 0 queues none")
    ] = 0
    priority: Annotated[
        Literal["interactive", "batch"], Meta(description="batch is refused first while the server is behind")
    ] = "interactive"
    judge: Annotated[str, Meta(description="the route that chooses among the answers of best-of")] = ""

    def endpoints(self) -> list[str]:
        """Every endpoint that the route may ask, once each."""
        targets = [target for target in msgspec.structs.astuple(self.on) if target not in ("next", "fail")]
        return list(dict.fromkeys([*self.ladder, *(name for rule in self.when for name in rule.use), *targets]))

    cache: Annotated[CacheConfig | None, Meta(description="answers that are given again; none when left out")] = None
