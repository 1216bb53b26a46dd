"""The manifest sections that the guard reads: ``teams`` and ``guard``."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from roadbed.guard.rules import RULES_MAX, GuardRule

REGION_PATTERN = r"^[a-z0-9-]{0,32}$"
Slots = Annotated[int, Meta(ge=1, le=100_000)]


class KeyLimits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What each key of a team may do at most."""

    budget: Annotated[
        str, Meta(description="a spending cap such as `5 USD/day`; `keys create --budget` overrides it")
    ] = ""
    rate: Annotated[str, Meta(description="most requests, such as `600/min`")] = ""
    tokens: Annotated[str, Meta(description="most tokens, read and written, such as `100k/min`")] = ""
    input_tokens: Annotated[str, Meta(description="most tokens read, such as `80k/min`")] = ""
    output_tokens: Annotated[str, Meta(description="most tokens written, such as `20k/min`")] = ""
    concurrency: Annotated[Slots | None, Meta(description="most requests at a time")] = None


class AlertsConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who is told when a budget nears its end."""

    at: Annotated[tuple[str, ...], Meta(max_length=20, description="shares of the budget, such as `80%`")] = (
        "50%",
        "80%",
        "100%",
    )
    webhook: Annotated[str, Meta(description="reference to an address that takes a POST: env:NAME or file:PATH")] = ""


class DowngradeConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A cheaper route when a budget nears its end."""

    to: Annotated[str, Meta(min_length=1, description="route that answers in place of the one asked for")]
    at: Annotated[str, Meta(description="share of the budget, such as `90%`")] = "90%"


class TeamConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A team: the apps and routes that its keys may call, and what it may spend."""

    apps: Annotated[list[str] | None, Meta(description="apps and routes its keys may call; all when left out")] = None
    budget: Annotated[str, Meta(description="a spending cap such as `200 USD/month`")] = ""
    rate: Annotated[str, Meta(description="most requests, such as `600/min`")] = ""
    tokens: Annotated[str, Meta(description="most tokens, read and written, such as `100k/min`")] = ""
    input_tokens: Annotated[str, Meta(description="most tokens read, such as `80k/min`")] = ""
    output_tokens: Annotated[str, Meta(description="most tokens written, such as `20k/min`")] = ""
    concurrency: Annotated[Slots | None, Meta(description="most requests at a time")] = None
    per_key: Annotated[KeyLimits | None, Meta(description="limits of each of its keys alone")] = None
    alerts: Annotated[AlertsConfig | None, Meta(description="who is told when the budget nears its end")] = None
    downgrade: Annotated[DowngradeConfig | None, Meta(description="a cheaper route near the budget's end")] = None
    region: Annotated[str, Meta(pattern=REGION_PATTERN, description="region that its callers are in, such as `eu`")] = (
        ""
    )
    unmask: Annotated[bool, Meta(description="whether tokenised personal data is restored in its answers")] = True


class PatternConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A pattern of the workspace's own: values that it matches are personal data of the type ``custom``."""

    pattern: Annotated[
        str, Meta(min_length=1, max_length=1_000, description="a regular expression with bounded repeats")
    ]
    case: Annotated[bool, Meta(description="whether capitals matter")] = True


class DictionaryConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Words and phrases of the workspace's own, found as whole words whatever their case."""

    terms: Annotated[list[str], Meta(description="words and phrases")] = []
    file: Annotated[str, Meta(description="a file of the workspace, one term a line")] = ""


class RecognizerConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A recognizer that is code: it finds what no pattern can, such as names, by a model."""

    name: Annotated[str, Meta(min_length=1, description="dotted path `package.module:Class`, or an entry point")]
    timeout_ms: Annotated[int, Meta(ge=10, le=60_000, description="longest time for one text")] = 500
    required: Annotated[
        bool, Meta(description="whether text that it failed to read leaves for nowhere and is recorded nowhere")
    ] = False
    answers: Annotated[
        Literal["", "patterns"],
        Meta(description="`patterns`: rules on models' answers act on what patterns find alone; refused when left out"),
    ] = ""


class GuardConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the detectors look for beyond their defaults."""

    allow: Annotated[list[str], Meta(description="exact values that are never treated as personal or secret")] = []
    allow_patterns: Annotated[
        list[str], Meta(max_length=100, description="patterns of whole values that are never treated so")
    ] = []
    phone_regions: Annotated[tuple[str, ...], Meta(description="countries of phone numbers written without +")] = (
        "US",
        "GB",
        "DE",
        "NO",
    )
    off: Annotated[
        list[str], Meta(max_length=500, description="types and rules that are not looked for, such as `ip`, `us_ein`")
    ] = []
    optional: Annotated[
        list[str], Meta(max_length=10, description="types that are off by default and wanted here: `person`, `address`")
    ] = []
    strict: Annotated[
        bool, Meta(description="whether a number with a weak checksum counts without a telling word beside it")
    ] = False
    patterns: Annotated[dict[str, PatternConfig], Meta(description="patterns of your own, by name")] = {}
    dictionaries: Annotated[dict[str, DictionaryConfig], Meta(description="words of your own, by name")] = {}
    recognizer: Annotated[RecognizerConfig | None, Meta(description="a recognizer that is code")] = None
    region: Annotated[str, Meta(pattern=REGION_PATTERN, description="region that this deployment stores data in")] = ""
    links: Annotated[
        list[str] | None,
        Meta(description="hosts that links in models' answers may lead to; any when left out"),
    ] = None
    rules: Annotated[
        list[GuardRule],
        Meta(max_length=RULES_MAX, description="what is done with what is found, before the defaults; the first fits"),
    ] = []
    alerts: Annotated[str, Meta(description="reference to an address that takes a POST: env:NAME or file:PATH")] = ""
