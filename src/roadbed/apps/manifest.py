"""The manifest section ``apps``: the AI features that a workspace serves."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from roadbed.apps.analytics_manifest import MetricConfig, QuestionConfig
from roadbed.gateway.manifest import CacheConfig
from roadbed.kernel.config import DURATION_PATTERN

Duration = Annotated[str, Meta(pattern=DURATION_PATTERN)]
Slots = Annotated[int, Meta(ge=1, le=100_000)]
ToolsEntry = Annotated[str, Meta(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
LinkHost = Annotated[str, Meta(pattern=r"^(\*\.)?[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$")]
Share = Annotated[float, Meta(ge=0.0, le=1.0)]


class AppConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One AI feature."""

    kind: Annotated[
        Literal["search", "copilot", "analytics"],
        Meta(description="search lists passages; copilot answers with citations; analytics answers from databases"),
    ]
    knowledge: Annotated[list[str], Meta(description="collections that it answers from")] = []
    model: Annotated[
        str, Meta(description="route it asks; when left out the first model, or a local engine if none is declared")
    ] = ""
    prompt: Annotated[str, Meta(description="file with its instructions to the model, relative to the workspace")] = ""
    deadline: Annotated[Duration, Meta(description="longest time for one answer")] = "60s"
    passages: Annotated[int, Meta(ge=1, le=50, description="passages shown to the model")] = 8
    answer_tokens_max: Annotated[
        Annotated[int, Meta(ge=16, le=1_000_000)] | None,
        Meta(
            description="most tokens that its model writes at a time; a caller may ask for fewer; left out, 4096, "
            "which an engine of your own is not told, as it has limits of its own"
        ),
    ] = None
    tools: Annotated[
        list[ToolsEntry],
        Meta(max_length=64, description="tools that its model may ask for: a source, a tool, or how names begin"),
    ] = []
    tool_rounds: Annotated[int, Meta(ge=1, le=16, description="most times that its model may ask for tools")] = 4
    tool_calls_max: Annotated[int, Meta(ge=1, le=64, description="most calls of tools for one answer")] = 16
    links: Annotated[
        list[LinkHost],
        Meta(max_length=64, description="hosts that links in its answers may lead to, such as `*.office.example`"),
    ] = []
    abstain_below: Annotated[
        Share | None, Meta(description="confidence under which it says `not in these documents`")
    ] = None
    examples: Annotated[list[str], Meta(max_length=12, description="questions to try, shown to people")] = []
    description: Annotated[str, Meta(description="what it is for, shown to people")] = ""
    cache: Annotated[
        CacheConfig | None, Meta(description="answers of its model that are given again; none when left out")
    ] = None
    budget: Annotated[str, Meta(description="a spending cap over all callers, such as `50 USD/day`")] = ""
    rate: Annotated[str, Meta(description="most requests, such as `600/min` over all callers")] = ""
    tokens: Annotated[str, Meta(description="most tokens, read and written, such as `100k/min`")] = ""
    input_tokens: Annotated[str, Meta(description="most tokens read, such as `80k/min`")] = ""
    output_tokens: Annotated[str, Meta(description="most tokens written, such as `20k/min`")] = ""
    concurrency: Annotated[Slots | None, Meta(description="most requests at a time")] = None
    owner: Annotated[
        str, Meta(max_length=200, description="who answers for it: a person or a team, with an address")
    ] = ""
    purpose: Annotated[str, Meta(max_length=500, description="what it may be used for, in a sentence")] = ""
    risk: Annotated[
        Literal["", "minimal", "limited", "high"], Meta(description="its class of risk under the EU AI Act, as judged")
    ] = ""
    runbook: Annotated[str, Meta(max_length=500, description="address or file of what to do when it fails")] = ""
    review_by: Annotated[
        str, Meta(pattern=r"^$|^\d{4}-\d{2}-\d{2}$", description="day by which somebody looks at it again")
    ] = ""
    sources: Annotated[list[str], Meta(max_length=16, description="databases that an analytics app asks")] = []
    metrics: Annotated[dict[str, MetricConfig], Meta(max_length=200, description="named measures of analytics")] = {}
    dimensions: Annotated[
        dict[str, str], Meta(max_length=200, description="what is grouped by: a name to `table.column`")
    ] = {}
    synonyms: Annotated[
        dict[str, str], Meta(max_length=500, description="a word of people's to the metric or dimension meant")
    ] = {}
    questions: Annotated[
        dict[str, QuestionConfig], Meta(max_length=200, description="declared questions, answered without a model")
    ] = {}
    time_zone: Annotated[str, Meta(description="zone in which an analytics app's days begin")] = "UTC"
    fiscal_year_start: Annotated[int, Meta(ge=1, le=12, description="month in which the fiscal year begins")] = 1
    currency: Annotated[str, Meta(description="currency of amounts, where a metric names no unit")] = ""
