"""The whole manifest, ``roadbed.yaml``: the sections that the rooms declare, joined.

Each room owns its section's types (``guard/manifest.py``, ``gateway/manifest.py``, ...); this file only puts them side
by side. The reference page, ``roadbed config explain`` and the JSON Schema are generated from these types.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from roadbed.apps.manifest import AppConfig
from roadbed.gateway.manifest import EndpointConfig, ModelConfig, PriceConfig
from roadbed.guard.access_manifest import AccessConfig
from roadbed.guard.manifest import GuardConfig, TeamConfig
from roadbed.guard.token_manifest import IdentityConfig
from roadbed.kernel.config import NAME_PATTERN
from roadbed.knowledge.manifest import CollectionConfig
from roadbed.ledger.manifest import AuditConfig, RetentionConfig, TracesConfig
from roadbed.sources.manifest import SourceConfig
from roadbed.tools.manifest import ToolConfig

Name = Annotated[str, Meta(pattern=NAME_PATTERN)]


class GovernanceConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What has to be approved before it serves."""

    require_approval: Annotated[
        bool, Meta(description="whether an app is promoted only when its model was approved as it is")
    ] = False


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One workspace."""

    name: Annotated[str, Meta(pattern=NAME_PATTERN, description="the workspace's name; also names its schema")]
    endpoints: Annotated[dict[Name, EndpointConfig], Meta(description="model servers")] = {}
    models: Annotated[dict[Name, ModelConfig], Meta(description="public model names with their ladders")] = {}
    prices: Annotated[
        dict[str, PriceConfig], Meta(description="prices by provider/model, where the shipped table is wrong or silent")
    ] = {}
    sources: Annotated[dict[Name, SourceConfig], Meta(description="systems that hold data")] = {}
    collections: Annotated[dict[Name, CollectionConfig], Meta(description="indexed documents")] = {}
    tools: Annotated[dict[Name, ToolConfig], Meta(description="declared operations on sources")] = {}
    apps: Annotated[dict[Name, AppConfig], Meta(description="AI features")] = {}
    teams: Annotated[dict[Name, TeamConfig], Meta(description="who calls")] = {}
    identity: Annotated[IdentityConfig, Meta(description="whose tokens are taken beside keys")] = IdentityConfig()
    access: Annotated[AccessConfig, Meta(description="what one person alone may not do")] = AccessConfig()
    guard: Annotated[GuardConfig, Meta(description="what detectors allow and look for")] = GuardConfig()
    traces: Annotated[TracesConfig, Meta(description="what is kept of requests")] = TracesConfig()
    audit: Annotated[AuditConfig, Meta(description="the tamper-evident record")] = AuditConfig()
    retention: Annotated[RetentionConfig, Meta(description="how long what is stored stays")] = RetentionConfig()
    governance: Annotated[GovernanceConfig, Meta(description="who has to approve what")] = GovernanceConfig()
    auto_promote: Annotated[
        bool | None, Meta(description="whether a saved change goes live; yes with the embedded database when left out")
    ] = None
