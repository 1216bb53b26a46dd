"""``/api/tools``: what tools there are, calling one, and the approvals that wait.

An outcome is answered as itself, with a status that fits: 200 for a result, 202 for a call that waits for a person,
4xx and 5xx as problem details. The invariant: every call has a trace, and a trace holds no argument and no row.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from roadbed.kernel.deadline import Deadline
from roadbed.kernel.errors import Forbidden, InvalidRequest, problem_type
from roadbed.kernel.principal import ADMIN, AUDITOR, EVERYONE, MEMBER, Principal
from roadbed.ledger.trace import CANCELLED, FAILED, OK, REFUSED
from roadbed.server.admission import Admission
from roadbed.server.http import Json, endpoint, json_of
from roadbed.server.services import Services
from roadbed.sources.caller_errors import NOT_TAKEN
from roadbed.tools.approvals import Approval, effect_key
from roadbed.tools.regions import REGION_CODE
from roadbed.tools.types import Failed, NeedsApproval, Ok, Outcome, Refused, Tool

CALL_DEADLINE_S = 60.0
TRACE_APP = "_tools"
_STATUS = {
    "tools.unknown": 404,
    "limits.rate_limited": 429,
    "tools.result_too_large": 413,
    "tools.denied": 403,
    REGION_CODE: 403,
}
_LATE = ("sources.deadline_exceeded", "deadline_exceeded")


class ToolCall(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``POST /api/tools/{name}/call``. ``as_team`` calls as a member of that team, for admins."""

    arguments: dict[str, Any] = {}
    cursor: Annotated[str, Meta(max_length=2_048)] = ""
    as_team: Annotated[str, Meta(max_length=63)] = ""
    is_tainted: bool = False


class Denial(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``POST /api/tools/approvals/{id}/deny``."""

    reason: Annotated[str, Meta(max_length=500)] = ""


def tool_routes(services: Services) -> list[Route]:
    """The addresses."""
    calls = ToolCalls(services)

    def route(path: str, handler: Any, role: str, method: str = "GET") -> Route:
        return Route(path, endpoint(services, handler, role=role), methods=[method])

    return [
        route("/api/tools", calls.tools, MEMBER),
        route("/api/tools/approvals", calls.approvals, AUDITOR),
        route("/api/tools/approvals/{id}/approve", calls.approve, ADMIN, "POST"),
        route("/api/tools/approvals/{id}/deny", calls.deny, ADMIN, "POST"),
        route("/api/tools/{name}/call", calls.call, MEMBER, "POST"),
    ]


class ToolCalls:
    """The handlers."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def tools(self, request: Request, admission: Admission) -> Any:
        """The tools that the caller may see, with their schemas."""
        names = [name for name in (request.query_params.get("names") or "").split(",") if name]
        tools = self._services.toolbox.tools_for(admission.principal, names or None)
        is_auditor = bool(admission.principal.roles & {ADMIN, AUDITOR})
        return {"tools": [self._tool_object(tool, is_auditor=is_auditor) for tool in tools]}

    def _tool_object(self, tool: Tool, *, is_auditor: bool) -> dict[str, Any]:
        shown = {
            "name": tool.name,
            "title": tool.title or tool.name,
            "description": tool.description,
            "source": tool.source,
            "effect": tool.effect,
            "labels": tool.label.words(),
            "timeout_s": tool.timeout_s,
            "input_schema": tool.input_schema,
            "output_schema": tool.output_schema,
        }
        counts = self._services.toolbox.counts.get(tool.name)
        if is_auditor and counts is not None:
            shown["visible_to"] = sorted(tool.visible_to) if tool.visible_to is not None else [EVERYONE]
            shown["standing"] = {
                "calls": counts.calls,
                "errors": counts.errors,
                "refusals": counts.refusals,
                "last_failure": counts.last_failure,
                "p50_ms": counts.quantile_ms(0.5),
                "p95_ms": counts.quantile_ms(0.95),
            }
        return shown

    async def call(self, request: Request, admission: Admission) -> Any:
        """Call a tool. A caller who leaves cancels it, down to the source."""
        asked = await json_of(request, ToolCall)
        principal = admission.principal
        if asked.as_team:
            if not principal.is_admin:
                raise Forbidden("only an admin calls as another team")
            principal = Principal(
                id=f"{principal.id}:as:{asked.as_team}",
                team=asked.as_team,
                region=principal.region,
                break_glass=principal.break_glass,
            )
        name = request.path_params["name"]
        call = traced_call(
            self._services,
            name,
            asked.arguments,
            principal,
            admission.deadline(CALL_DEADLINE_S),
            cursor=asked.cursor,
            is_tainted=asked.is_tainted,
        )
        running = asyncio.ensure_future(call)
        leaving = asyncio.ensure_future(_left(request))
        try:
            await asyncio.wait({running, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if not running.done():
                running.cancel()
            return answer_of(await running)
        except asyncio.CancelledError:
            if running.cancelled():
                return Response(status_code=499)
            raise
        finally:
            running.cancel()
            leaving.cancel()
            await asyncio.gather(running, leaving, return_exceptions=True)

    async def approvals(self, request: Request, admission: Admission) -> Any:
        """The approvals that wait, or with ``all=1`` the newest of any state."""
        only_waiting = request.query_params.get("all") not in ("1", "true")
        found = await self._services.tools.approvals.listed(only_waiting=only_waiting)
        return {"approvals": [approval_object(approval) for approval in found]}

    async def approve(self, request: Request, admission: Admission) -> Any:
        """Let a call run, once; the answer is what came of it."""
        deadline = admission.deadline(CALL_DEADLINE_S)
        running = self._services.toolbox.approve(request.path_params["id"], admission.principal, deadline)
        return answer_of(await asyncio.shield(asyncio.ensure_future(running)))

    async def deny(self, request: Request, admission: Admission) -> Any:
        """Decide against a call."""
        asked = await json_of(request, Denial)
        await self._services.tools.approvals.deny(request.path_params["id"], admission.principal, asked.reason)
        return {"denied": request.path_params["id"]}


async def traced_call(
    services: Services,
    name: str,
    arguments: Mapping[str, Any],
    principal: Principal,
    deadline: Deadline,
    *,
    cursor: str = "",
    is_tainted: bool = False,
) -> Outcome:
    """Call a tool with a trace of its own, which is finished once, however the call ends."""
    trace = services.ledger.start_trace(TRACE_APP, principal, "")
    status, code = CANCELLED, "client_left"
    try:
        outcome = await services.toolbox.call(
            name,
            arguments,
            principal=principal,
            deadline=deadline,
            trace=trace,
            cursor=cursor,
            is_tainted=is_tainted,
            is_for_caller=True,
        )
        status = {Failed: FAILED, Refused: REFUSED}.get(type(outcome), OK)
        code = getattr(outcome, "code", "")
        return outcome
    finally:
        services.ledger.finish(trace, status=status, error_code=code)


async def _left(request: Request) -> None:
    """Return when the caller is gone. The body was read before."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def answer_of(outcome: Outcome) -> Response:
    """An outcome on the wire."""
    match outcome:
        case Ok():
            body = {
                "outcome": "ok",
                "data": outcome.data,
                "provenance": [dataclasses.asdict(origin) for origin in outcome.provenance],
                "labels": outcome.label.words(),
                "is_truncated": outcome.is_truncated,
                "cursor": outcome.cursor,
            }
            return Json(body)
        case NeedsApproval():
            body = {"outcome": "needs_approval", **dataclasses.asdict(outcome)}
            return Json(body, 202)
        case Refused():
            status = _STATUS.get(outcome.code, 429 if outcome.retry_after_s is not None else 400)
            again = {"retryable": outcome.retry_after_s is not None}
            return _problem("refused", outcome, status, {**again, "param": outcome.param} if outcome.param else again)
        case Failed():
            more = {"source": outcome.source, "retryable": outcome.is_retryable}
            status = 403 if outcome.code in NOT_TAKEN else 504 if outcome.code in _LATE else 503
            return _problem("failed", outcome, status, more)
    raise InvalidRequest("the call ended in no known way")


def _problem(kind: str, outcome: Refused | Failed, status: int, more: dict[str, Any]) -> Response:
    body = {
        "type": problem_type(outcome.code),
        "title": outcome.code,
        "status": status,
        "detail": outcome.message,
        "code": outcome.code,
        "outcome": kind,
        **({"hint": outcome.hint} if outcome.hint else {}),
        **more,
    }
    headers = {}
    if outcome.retry_after_s is not None:
        headers["retry-after"] = str(max(1, round(outcome.retry_after_s)))
    answer = Json(body, status, headers)
    answer.headers["content-type"] = "application/problem+json"
    return answer


def approval_object(found: Approval) -> dict[str, Any]:
    """One approval on the wire. Its arguments are shown: a person decides by them."""
    return {
        "id": found.id,
        "tool": found.tool,
        "source": found.source,
        "effect": found.effect,
        "arguments": found.arguments,
        "preview": found.preview,
        "digest": found.digest,
        "idempotency_key": effect_key(found),
        "asker": found.asker,
        "asker_name": found.asker_name,
        "team": found.team,
        "state": found.state if found.is_waiting or found.state != "waiting" else "expired",
        "decided_by": found.decided_by,
        "reason": found.reason,
        "asked": found.asked,
        "expires": found.expires,
        "effect_state": found.effect_state,
    }
