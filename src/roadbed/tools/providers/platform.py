"""The tool ``platform_status``: which sources are well, which are not, and since when. Asks nobody.

A caller is told of the sources that their team may see; those who run the deployment are told of all.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from roadbed.kernel.principal import ADMIN, AUDITOR, Principal
from roadbed.sources.health import SourceHealth
from roadbed.sources.manifest import SourceConfig
from roadbed.tools.types import Ok, Outcome, Provenance, Tool, ToolRequest

NAME = "platform_status"
SOURCE = "roadbed"


def platform_tools(states: Callable[[], Sequence[SourceHealth]], declared: Mapping[str, SourceConfig]) -> list[Tool]:
    """The one tool of the deployment itself."""

    async def run(request: ToolRequest) -> Outcome:
        sources = []
        for found in states():
            if not _may_know_of(declared.get(found.name), request.principal):
                continue
            pool = found.pool
            failed_at = pool.last_failure_at if pool is not None else None
            sources.append(
                {
                    "source": found.name,
                    "type": found.type,
                    "is_well": found.is_well,
                    "breaker": pool.phase if pool is not None else "closed",
                    "asked_again_in_s": round(pool.retry_after_s, 1) if pool is not None else 0.0,
                    "last_failure": pool.last_failure if pool is not None else "",
                    "last_failure_at": failed_at.isoformat() if failed_at is not None else None,
                    "waiting": pool.waiting if pool is not None else 0,
                    "notes": list(found.notes),
                }
            )
        return Ok({"sources": sources}, (Provenance(SOURCE, NAME, time.time()),))

    description = "Which data sources are well and which are not, with the last failure of each and when it was."
    schema = {"type": "object", "properties": {}, "additionalProperties": False}
    return [Tool(NAME, description, SOURCE, run, input_schema=schema, timeout_s=1.0, is_trusted=True)]


def _may_know_of(source: SourceConfig | None, principal: Principal) -> bool:
    if principal.roles & {ADMIN, AUDITOR}:
        return True
    return source is not None and (source.visible_to is None or principal.team in source.visible_to)
