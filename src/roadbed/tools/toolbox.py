"""`ToolBox`: the tools that serve, and the rules of a call, the same for apps, the API, the CLI and MCP clients.

A call goes: known and visible → region → arguments → taint and approval → rate → bulkhead of the source → share of the
deadline → the provider → guard and size → trace and metrics. Providers know none of it. The invariants: a call ends as
an outcome, and raises only when its caller leaves; nothing that changes a system runs without an approval; one source's
trouble fills that source's places alone.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from roadbed.kernel.deadline import Deadline
from roadbed.kernel.errors import DeadlineExceeded, InvalidRequest, RoadbedError
from roadbed.kernel.errors import Refused as RefusedError
from roadbed.kernel.label import PUBLIC, Label
from roadbed.kernel.principal import Principal
from roadbed.ledger.metrics import Metrics
from roadbed.ledger.trace import FAILED, OK, REFUSED, Trace
from roadbed.sources.bulkhead import Bulkhead
from roadbed.sources.errors import SourceMisdeclared
from roadbed.tools.approvals import Approvals, effect_key
from roadbed.tools.arguments import Checker, checker_of, digest_of
from roadbed.tools.cursors import Cursors
from roadbed.tools.regions import region_refusal
from roadbed.tools.shaping import NotJson, ResultGuard, Shaped, guarded_arguments, guarded_words, shape, shown_to_caller
from roadbed.tools.standing import CallRates, LastResults, ToolCounts
from roadbed.tools.types import Failed, NeedsApproval, Ok, Outcome, Refused, Tool, ToolRequest

log = logging.getLogger("roadbed.tools")

SOURCE_PLACES = 8
SOURCE_WAITING_MAX = 2_048
WAIT_SHARE = 0.5
RUN_SHARE = 0.95
GRACE_S = 0.1
ASKS_ALWAYS = frozenset({"write", "irreversible"})

CallKey = tuple[str, bytes, frozenset[str]]


@dataclass(frozen=True, slots=True)
class _Served:
    """A tool with what was made of it once."""

    tool: Tool
    check: Checker


class ToolBox:
    """The tools of one deployment. ``guard`` is asked for at each call, as it changes with the manifest.

    ``permits`` says whether policies let a caller see and call a tool that its label and teams let them see.
    """

    def __init__(
        self,
        guard: Callable[[], ResultGuard],
        metrics: Metrics,
        key: bytes,
        approvals: Approvals | None = None,
        permits: Callable[[Principal, Tool], bool] | None = None,
    ) -> None:
        self._guard = guard
        self._metrics = metrics
        self._cursors = Cursors(key)
        self._approvals = approvals
        self._permits = permits
        self._served: dict[str, _Served] = {}
        self.rates = CallRates()
        self._last: LastResults[CallKey] = LastResults()
        self._bulkheads: dict[str, Bulkhead] = {}
        self.counts: dict[str, ToolCounts] = {}
        metrics.declare("roadbed_tool_calls_total", "counter", "calls of a tool by how they ended", "tool", "outcome")
        metrics.declare("roadbed_tool_errors_total", "counter", "calls of a tool that failed, by code", "tool", "code")
        metrics.declare("roadbed_tool_seconds", "histogram", "how long calls of a tool took", "tool")

    def take(self, tools: Iterable[Tool]) -> None:
        """Serve these tools from now on, all at once; calls that run go on. `ValueError` for a schema that is none."""
        served: dict[str, _Served] = {}
        for tool in sorted(tools, key=lambda tool: tool.name):
            before = self._served.get(tool.name)
            same = before is not None and before.tool.input_schema == tool.input_schema
            served[tool.name] = _Served(tool, before.check if same and before else checker_of(tool.input_schema))
        self._served = served
        self._last.clear()
        sources = {entry.tool.source for entry in served.values()}
        self._bulkheads = {
            name: self._bulkheads.get(name) or Bulkhead(name, SOURCE_PLACES, SOURCE_WAITING_MAX) for name in sources
        }
        self.counts = {name: self.counts.get(name) or ToolCounts() for name in served}
        self.rates.gauges.is_on = any(entry.tool.rate for entry in served.values())

    def all_tools(self) -> list[Tool]:
        """Every tool that serves, by name, for whoever watches the deployment."""
        return [entry.tool for entry in self._served.values()]

    def tools_for(self, principal: Principal, names: Collection[str] | None = None) -> list[Tool]:
        """The tools that a caller may see, by name. ``names`` are sources, tools or beginnings of a tool's name."""
        return [
            entry.tool
            for entry in self._served.values()
            if self._is_visible(entry.tool, principal) and (names is None or is_named(entry.tool, names))
        ]

    def tool_for(self, principal: Principal, name: str) -> Tool | None:
        """The tool of this name; None where there is none, or the caller may not see it."""
        entry = self._served.get(name)
        return entry.tool if entry is not None and self._is_visible(entry.tool, principal) else None

    def _is_visible(self, tool: Tool, principal: Principal) -> bool:
        return _is_visible(tool, principal) and (self._permits is None or self._permits(principal, tool))

    async def call(
        self,
        name: str,
        arguments: Mapping[str, Any],
        *,
        principal: Principal,
        deadline: Deadline,
        trace: Trace | None = None,
        cursor: str = "",
        is_tainted: bool = False,
        label: Label = PUBLIC,
        is_for_caller: bool = False,
    ) -> Outcome:
        """Call a tool. Raises nothing but a cancellation.

        ``label`` is that of what the writer of the arguments had read; ``is_for_caller`` says that the result is
        shown as it is.
        """
        started_s = time.perf_counter()
        entry = self._served.get(name)
        if entry is None or not self._is_visible(entry.tool, principal):
            return Refused("tools.unknown", f"there is no tool {name[:64]!r}", hint=UNKNOWN_HINT)
        tool = entry.tool
        span = trace.open_span(f"tool {tool.name}", "tool") if trace is not None else None
        size = rows = 0
        try:
            outcome, shaped = await self._call(
                entry, arguments, principal, deadline, cursor, label, is_tainted=is_tainted
            )
            if shaped is not None:
                size, rows = shaped.size_bytes, shaped.rows
                if trace is not None:
                    trace.masked_count += shaped.masked_count
        except asyncio.CancelledError:
            self._count(tool, "cancelled", "", time.perf_counter() - started_s)
            if trace is not None and span is not None:
                trace.close_span(span, "cancelled", tool=tool.name, source=tool.source)
            raise
        if is_for_caller:
            outcome = shown_to_caller(outcome, self._guard(), principal.team)
        outcome = guarded_words(outcome, self._guard(), principal.team)
        code = getattr(outcome, "code", "")
        self._count(tool, type(outcome).__name__.lower(), code, time.perf_counter() - started_s)
        if trace is not None and span is not None:
            status = {Failed: FAILED, Refused: REFUSED}.get(type(outcome), OK)
            facts = {"tool": tool.name, "source": tool.source, "effect": tool.effect, "code": code}
            is_cut = isinstance(outcome, Ok) and outcome.is_truncated
            trace.close_span(span, status, **facts, rows=rows, bytes=size, is_truncated=is_cut, is_tainted=is_tainted)
        return outcome

    # -- the rules, in order ------------------------------------------------------------------------------------------

    async def _call(
        self,
        entry: _Served,
        arguments: Mapping[str, Any],
        principal: Principal,
        deadline: Deadline,
        cursor: str,
        label: Label,
        *,
        is_tainted: bool,
    ) -> tuple[Outcome, Shaped | None]:
        tool = entry.tool
        crossing = self._crossing(f"what {tool.source} holds", tool.label, principal)
        if crossing is not None:
            return crossing, None
        try:
            digest = digest_of(arguments)
            entry.check(arguments)
            inner = self._cursors.opened(cursor, tool.name, digest, principal.id)
            if tool.rate:
                wait_s = self.rates.take(principal.id, tool.name, tool.rate)
                if wait_s:
                    return _limited(tool, wait_s), None
            request = ToolRequest(arguments, principal, deadline, inner)
            if tool.effect in ASKS_ALWAYS or (tool.effect != "read" and is_tainted):
                return await self._ask(tool, request, label), None
            shaped = await self._run(tool, request, label)
        except RoadbedError as error:
            failed = outcome_of(error, tool)
            if isinstance(failed, Failed) and not cursor:
                return self._stale(tool, failed, arguments, principal), None
            return failed, None
        if not isinstance(shaped, Shaped):
            if isinstance(shaped, Failed) and not cursor:
                return self._stale(tool, shaped, arguments, principal), None
            return shaped, None
        if tool.stale_max_s and not cursor and self._guard().lets(shaped.ok.label, "cache", principal.team):
            self._last.keep((tool.name, digest, principal.groups), shaped.ok, shaped.size_bytes)
        sealed = self._cursors.sealed(_cursor_of(tool, shaped, inner), tool.name, digest, principal.id)
        return (shaped.ok if sealed == shaped.ok.cursor else replace(shaped.ok, cursor=sealed)), shaped

    async def _run(self, tool: Tool, request: ToolRequest, label: Label = PUBLIC) -> Outcome | Shaped:
        """The provider's outcome, an `Ok` guarded and cut. Holds a place of the source meanwhile."""
        bulkhead = self._bulkheads.get(tool.source)
        if bulkhead is None:
            return Refused("tools.unknown", f"there is no tool {tool.name!r} any more", hint=UNKNOWN_HINT)
        await bulkhead.enter(request.deadline.share(WAIT_SHARE))
        try:
            share = request.deadline.share(RUN_SHARE, at_most_s=tool.timeout_s)
            share.check(f"{tool.name} waited")
            sent = guarded_arguments(request.arguments, self._guard(), request.principal.team, label)
            within = replace(request, arguments=sent, deadline=share)
            outcome = await self._provide(tool, within)
        finally:
            bulkhead.leave()
        if not isinstance(outcome, Ok):
            return outcome
        try:
            shaped = shape(outcome, self._guard(), tool.label, tool.result_bytes_max, request.principal.team)
            return self._crossing("the result", shaped.ok.label, request.principal) or shaped
        except OverflowError as error:
            return Refused("tools.result_too_large", str(error), hint="ask for less: fewer rows or columns")
        except NotJson as error:
            log.error("the tool %s returned what is not JSON: %s", tool.name, error)
            return Failed("tools.broken", f"{tool.name} returned what cannot be given on", tool.source, False)

    def _crossing(self, what: str, label: Label, principal: Principal) -> Refused | None:
        """Why a caller may not have what has this label, for where they are; None when they may."""
        return region_refusal(what, label, self._guard().region_of(principal.team), principal.team)

    async def _provide(self, tool: Tool, request: ToolRequest) -> Outcome:
        try:
            async with asyncio.timeout(request.deadline.remaining_s() + GRACE_S):
                return await tool.run(request)
        except TimeoutError:
            raise DeadlineExceeded(
                f"{tool.name} did not end in time", hint="ask for less, or allow more time"
            ) from None
        except RoadbedError:
            raise
        except Exception as error:
            log.exception("the tool %s failed", tool.name, exc_info=error if log.isEnabledFor(logging.DEBUG) else None)
            return Failed("tools.broken", f"{tool.name} failed ({type(error).__name__})", tool.source, False)

    # -- what changes something ---------------------------------------------------------------------------------------

    async def _ask(self, tool: Tool, request: ToolRequest, label: Label) -> Outcome:
        """How the approval of this very call stands; asks for one, with a preview, when there is none."""
        if self._approvals is None:
            return Refused(
                "tools.approval_unavailable", f"{tool.name} needs a person's approval, and nobody can be asked here"
            )
        # What waits is stored: it is what would be sent, so that an approval is of that.
        sent = guarded_arguments(request.arguments, self._guard(), request.principal.team, label)
        request = replace(request, arguments=sent)
        known = await self._approvals.standing(tool, request)
        if known is not None:
            return known
        preview: Mapping[str, Any] = {}
        if tool.preview is not None:
            bulkhead = self._bulkheads[tool.source]
            await bulkhead.enter(request.deadline.share(WAIT_SHARE))
            try:
                share = request.deadline.share(RUN_SHARE, at_most_s=tool.timeout_s)
                preview = await tool.preview(replace(request, deadline=share))
            finally:
                bulkhead.leave()
        return await self._approvals.ask(tool, request, preview)

    async def approve(self, approval_id: str, approver: Principal, deadline: Deadline) -> Outcome:
        """Let a waiting call run, once, and return what came of it. `ApprovalInvalid`, `UnknownTool`."""
        assert self._approvals is not None
        waiting = await self._approvals.find(approval_id)
        entry = self._served.get(waiting.tool)
        if entry is None:
            return Refused("tools.unknown", f"there is no tool {waiting.tool!r} any more", hint=UNKNOWN_HINT)
        await self._approvals.begin(waiting, entry.tool, approver)
        outcome: Outcome | None = None
        try:
            request = ToolRequest(waiting.arguments, waiting.principal(), deadline, effect_key=effect_key(waiting))
            entry.check(waiting.arguments)
            ran = await self._run(entry.tool, request)
            outcome = ran.ok if isinstance(ran, Shaped) else ran
        except RoadbedError as error:
            outcome = outcome_of(error, entry.tool)
        finally:
            if outcome is not None:
                outcome = guarded_words(outcome, self._guard(), waiting.principal().team)
            await asyncio.shield(self._approvals.end(waiting, outcome))
        if isinstance(outcome, Ok) and self._crossing("the result", outcome.label, approver) is not None:
            return replace(outcome, data=None)  # it is done; the asker may see what came of it
        return outcome

    # -- what is remembered -------------------------------------------------------------------------------------------

    def _stale(self, tool: Tool, failed: Failed, arguments: Mapping[str, Any], principal: Principal) -> Outcome:
        """The last good result of the same call by the same caller, with its age; the failure when there is none."""
        if not tool.stale_max_s or tool.effect != "read":
            return failed
        return self._last.find((tool.name, digest_of(arguments), principal.groups), tool.stale_max_s) or failed

    def _count(self, tool: Tool, outcome: str, code: str, seconds: float) -> None:
        self._metrics.add("roadbed_tool_calls_total", (tool.name, outcome))
        self._metrics.observe("roadbed_tool_seconds", seconds, (tool.name,))
        counts = self.counts.get(tool.name)
        if counts is None:
            return
        counts.calls += 1
        counts.latencies_s.append(seconds)
        if outcome == "failed":
            counts.errors += 1
            counts.last_failure, counts.last_failure_at = code, time.time()
            self._metrics.add("roadbed_tool_errors_total", (tool.name, code))
        elif outcome == "refused":
            counts.refusals += 1


UNKNOWN_HINT = "list the tools that you may call: roadbed tools list, or GET /api/tools"


def outcome_of(error: RoadbedError, tool: Tool) -> Refused | Failed:
    """An error as the outcome of a call: what a caller can mend is refused, all else has failed."""
    if isinstance(error, InvalidRequest | RefusedError | SourceMisdeclared):
        return Refused(error.code, error.message, error.hint, getattr(error, "param", None) or "", error.retry_after_s)
    is_retryable = error.retryable and tool.effect == "read"
    return Failed(error.code, error.message, tool.source, is_retryable, error.hint, error.retry_after_s)


def _limited(tool: Tool, wait_s: float) -> Refused:
    return Refused(
        "limits.rate_limited",
        f"{tool.name} takes {tool.rate} of one caller",
        hint=f"ask again in {wait_s:.1f} s",
        retry_after_s=wait_s,
    )


def _cursor_of(tool: Tool, shaped: Shaped, before: str) -> str:
    """The provider's cursor for what follows; of a table that counts its rows, also when rows were cut here."""
    if not tool.counts_rows:
        return shaped.ok.cursor
    return str(int(before or 0) + shaped.rows) if shaped.ok.is_truncated and shaped.rows else ""


def _is_visible(tool: Tool, principal: Principal) -> bool:
    if tool.label.level > principal.clearance:
        return False
    return tool.visible_to is None or principal.team in tool.visible_to


def is_named(tool: Tool, names: Collection[str]) -> bool:
    """Whether some name is the tool's, its source's, or how its name begins."""
    return any(name in (tool.name, tool.source) or tool.name.startswith(name) for name in names)


__all__ = ["NeedsApproval", "ToolBox", "is_named", "outcome_of"]
