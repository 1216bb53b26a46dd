"""Tools: what there is on each source and how it goes, a form to try one, and the approvals that wait for a person.

Everybody sees the tools that they may call; how they go is for auditors, approvals are for admins. A tool is tried as
whoever is signed in, under the same rules as everywhere. The arguments of a waiting call are shown, because a person
decides by them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import msgspec
from starlette.responses import Response
from starlette.routing import Route

from roadbed.console.pills import Pill
from roadbed.console.services import ToolsView
from roadbed.console.visits import Console, Page, Visit, seen
from roadbed.kernel.errors import DeadlineExceeded, NotFound, Unavailable
from roadbed.kernel.principal import ADMIN, MEMBER
from roadbed.sources.registry import SourceHealth
from roadbed.tools.approvals import Approval
from roadbed.tools.shaping import is_table
from roadbed.tools.standing import ToolCounts
from roadbed.tools.types import Failed, NeedsApproval, Ok, Outcome, Refused, Tool

ROWS_SHOWN = 100
LONG_CHARACTERS = 1_000


class NoSuchTool(NotFound):
    """The caller has no tool of this name."""

    code = "console.no_such_tool"
    hint = "the page Tools lists those that you may call"


@dataclass(frozen=True, slots=True)
class ToolLine:
    """One tool as the page lists it."""

    tool: Tool
    counts: ToolCounts | None
    p50_ms: float | None
    p95_ms: float | None


@dataclass(frozen=True, slots=True)
class SourceGroup:
    """The tools of one source, with how it is reached; ``health`` is None where there are no connections."""

    name: str
    health: SourceHealth | None
    pill: Pill
    lines: Sequence[ToolLine]


@dataclass(frozen=True, slots=True)
class Field:
    """One field of the form, made from a property of a tool's schema."""

    name: str
    kind: str
    is_required: bool
    description: str
    choices: Sequence[Any]
    value: str
    minimum: Any = None
    maximum: Any = None
    characters_max: int | None = None


def tool_routes(console: Console) -> list[Route]:
    """The routes of the page."""
    return [
        *console.page("/console/tools", tools),
        *console.action("/console/tools/approvals", decide, role=ADMIN),
        *console.action("/console/tools/credentials", keep_credential, role=MEMBER),
        *console.page("/console/tools/{name}", one),
        *console.action("/console/tools/{name}", try_it, role=MEMBER),
    ]


async def tools(visit: Visit) -> Page:
    """The list, by source, with the approvals that wait."""
    view = visit.services.tools
    lines = [] if view is None else [_line(view, tool) for tool in view.tools_for(visit.principal)]
    health = {found.name: found for found in visit.services.connections()}
    told = {name for name, found in health.items() if visit.is_auditor and (found.notes or not found.is_well)}
    names = sorted(told | {line.tool.source for line in lines})
    groups = [
        SourceGroup(name, health.get(name), source_pill(health.get(name)), [x for x in lines if x.tool.source == name])
        for name in names
    ]
    waiting: list[Approval] | None = []
    if view is not None and visit.principal.is_admin:
        try:
            waiting = await view.waiting()
        except (Unavailable, DeadlineExceeded):
            waiting = None
    own: list[dict[str, Any]] | None = []
    if view is not None:
        try:
            own = await view.credentials(visit.principal)
        except (Unavailable, DeadlineExceeded):
            own = None
    context = {
        "groups": groups,
        "waiting": waiting,
        "own": own,
        "told": visit.query("told"),
        "summary": _summary(groups, waiting),
    }
    data = {
        "tools": [
            {
                "name": line.tool.name,
                "source": line.tool.source,
                "effect": line.tool.effect,
                "calls": line.counts.calls if line.counts and visit.is_auditor else None,
                "errors": line.counts.errors if line.counts and visit.is_auditor else None,
                "p50_ms": line.p50_ms,
                "p95_ms": line.p95_ms,
            }
            for line in lines
        ],
        "waiting": len(waiting) if waiting is not None else None,
        "credentials": own,
    }
    return Page("tools.html", "Tools", context, data)


def _line(view: ToolsView, tool: Tool) -> ToolLine:
    counts = view.counts(tool.name)
    if counts is None:
        return ToolLine(tool, None, None, None)
    return ToolLine(tool, counts, counts.quantile_ms(0.5), counts.quantile_ms(0.95))


def source_pill(health: SourceHealth | None) -> Pill:
    """How a source stands. Green only for one that was asked and whose breaker is closed."""
    if health is None or health.pool is None:
        return Pill("plain", "→", "ready to ask")
    if not health.is_well:
        return Pill("bad", "!", "not answering")
    return Pill("warn", "!", "may write") if health.warnings else Pill("good", "✓", "answering")


def _summary(groups: Sequence[SourceGroup], waiting: Sequence[Approval] | None) -> str:
    count = sum(len(group.lines) for group in groups)
    if not count:
        return "No source offers tools yet."
    away = [group.name for group in groups if group.health is not None and not group.health.is_well]
    text = f"{count} {'tool' if count == 1 else 'tools'} on {len(groups)} {'source' if len(groups) == 1 else 'sources'}"
    text += f"; {', '.join(away)} not answering" if away else ""
    return text + (f"; {len(waiting)} waiting for approval." if waiting else ".")


async def one(visit: Visit) -> Page:
    """One tool with its form."""
    return _page(visit, _find(visit), {}, None)


def _find(visit: Visit) -> Tool:
    name = visit.request.path_params["name"]
    view = visit.services.tools
    for tool in view.tools_for(visit.principal) if view is not None else ():
        if tool.name == name:
            return tool
    raise NoSuchTool(f"you have no tool named {name[:64]!r}")


def _page(visit: Visit, tool: Tool, given: Mapping[str, str], outcome: Outcome | None) -> Page:
    data = outcome.data if isinstance(outcome, Ok) else None
    context = {
        "tool": tool,
        "fields": fields_of(tool, given),
        "outcome": outcome,
        "ending": {Ok: "ok", Refused: "refused", Failed: "failed", NeedsApproval: "waits"}.get(type(outcome), ""),
        "table": {"columns": data["columns"], "rows": data["rows"][:ROWS_SHOWN], "count": len(data["rows"])}
        if isinstance(data, Mapping) and is_table(data)
        else None,
        "shown": msgspec.json.format(msgspec.json.encode(data), indent=2).decode() if data is not None else "",
    }
    status = 200 if not isinstance(outcome, Refused | Failed) else 400 if isinstance(outcome, Refused) else 503
    twin = {"tool": tool.name, "input_schema": tool.input_schema, "outcome": _plain(outcome)}
    return Page("tool.html", tool.name, context, twin, status=status)


def _plain(outcome: Outcome | None) -> Any:
    if outcome is None:
        return None
    return {"data": outcome.data} if isinstance(outcome, Ok) else asdict(outcome)


async def try_it(visit: Visit) -> Page:
    """Call the tool with what the form says."""
    tool = _find(visit)
    view = visit.services.tools
    assert view is not None
    names = tool.input_schema.get("properties", {})
    given = {name: text for name in names if (text := visit.text(name))}
    outcome = await view.call(tool.name, arguments_of(tool, given), visit.principal)
    return _page(visit, tool, given, outcome)


async def decide(visit: Visit) -> Response:
    """Approve or deny a waiting call."""
    view = visit.services.tools
    assert view is not None
    approval_id = visit.text("approval")
    if visit.text("order") == "approve":
        outcome = await view.approve(approval_id, visit.principal)
        told = "It ran." if isinstance(outcome, Ok) else f"It did not run: {getattr(outcome, 'message', '')}"
    else:
        await view.deny(approval_id, visit.principal, visit.text("reason"))
        told = "It was denied."
    return seen("/console/tools", told=told[:200])


async def keep_credential(visit: Visit) -> Response:
    """Store or remove the caller's own credential for a source. It is audited where it is done."""
    view = visit.services.tools
    assert view is not None
    source = visit.text("source")
    if visit.text("order") == "remove":
        await view.remove_credential(source, visit.principal)
        told = f"Your credential for {source} was removed."
    else:
        await view.store_credential(source, visit.text("credential"), visit.principal)
        told = f"Your credential for {source} is stored."
    return seen("/console/tools", told=told[:200])


def fields_of(tool: Tool, given: Mapping[str, str]) -> list[Field]:
    """The fields of a tool's form, in the order of its schema. Pure."""
    required = tool.input_schema.get("required", ())
    fields = []
    for name, schema in tool.input_schema.get("properties", {}).items():
        kind = _kind(schema)
        default = schema.get("default")
        fields.append(
            Field(
                name=name,
                kind=kind,
                is_required=name in required,
                description=str(schema.get("description", "")),
                choices=[value for value in schema.get("enum", ()) if value is not None],
                value=given.get(name, "" if default is None else str(default)),
                minimum=schema.get("minimum"),
                maximum=schema.get("maximum"),
                characters_max=schema.get("maxLength"),
            )
        )
    return fields


def _kind(schema: Mapping[str, Any]) -> str:
    kinds = schema.get("type", "string")
    kind = next((one for one in kinds if one != "null"), "string") if isinstance(kinds, list) else str(kinds)
    if schema.get("enum"):
        return "choice"
    if kind == "string":
        if schema.get("format") == "date":
            return "date"
        return "long" if schema.get("maxLength", 0) > LONG_CHARACTERS else "text"
    return kind if kind in ("integer", "number", "boolean") else "json"


def arguments_of(tool: Tool, given: Mapping[str, str]) -> dict[str, Any]:
    """The arguments that a form's texts mean; a text that is not of its type stays, for the tool to refuse. Pure."""
    arguments: dict[str, Any] = {}
    for name, schema in tool.input_schema.get("properties", {}).items():
        text = given.get(name, "")
        if not text:
            continue
        choices = {str(value): value for value in schema.get("enum", ()) if value is not None}
        kind = _kind(schema)
        if text in choices:
            arguments[name] = choices[text]
        elif kind in ("integer", "number", "boolean", "json"):
            try:
                arguments[name] = msgspec.json.decode(text)
            except msgspec.DecodeError:
                arguments[name] = text
        else:
            arguments[name] = text
    return arguments
