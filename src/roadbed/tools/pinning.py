"""What a release pins of a tool: one digest over its definition, what the manifest declares, and its source's rules.

Pure. A changed description, schema, statement, effect, label, mask or row filter is another digest, so that an app
never serves with a tool that its release does not name. Connections and secrets are no part of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace

import msgspec

from roadbed.sources.manifest import SourceConfig
from roadbed.tools.canonical import canonical_json
from roadbed.tools.manifest import ToolConfig
from roadbed.tools.types import Tool

SOURCE_RULES = frozenset(
    {"type", "labels", "visible_to", "explore", "mask", "rows", "cost_max", "include", "exclude", "operations", "reads"}
)


def pinned(tool: Tool, declared: ToolConfig | None, source: SourceConfig | None) -> Tool:
    """The tool with its `pin`."""
    rules = msgspec.to_builtins(source) if source is not None else {}
    definition = {
        "name": tool.name,
        "description": tool.description,
        "source": tool.source,
        "effect": tool.effect,
        "input_schema": tool.input_schema,
        "output_schema": tool.output_schema,
        "labels": tool.label.words(),
        "visible_to": sorted(tool.visible_to) if tool.visible_to is not None else None,
        "is_trusted": tool.is_trusted,
        "declared": msgspec.to_builtins(declared) if declared is not None else None,
        "rules": {name: value for name, value in rules.items() if name in SOURCE_RULES},
    }
    return replace(tool, pin=hashlib.sha256(canonical_json(definition)).hexdigest())


def pin_all(tools: list[Tool], declared: Mapping[str, ToolConfig], sources: Mapping[str, SourceConfig]) -> list[Tool]:
    """Every tool with its `pin`."""
    return [pinned(tool, declared.get(tool.name), sources.get(tool.source)) for tool in tools]
