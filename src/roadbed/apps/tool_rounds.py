"""`ToolRounds`: the exchange between a model and the tools of one turn, until the model has what it needs.

It is given the calls that a model asked for, makes them at once, and keeps the messages, the rows, and what was
missing. It streams nothing and knows no gateway; the copilot drives it. The invariants: no call is made that `judge`
refuses; text of a tool, an error's too, stands in ``tool`` messages alone, fenced; rounds and calls are bounded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from msgspec import structs

from roadbed.apps.egress import TurnData, judge
from roadbed.apps.tool_offer import AppTools, Offer
from roadbed.apps.tool_rows import NUMBER_MAX, ToolRow, fenced, harmless, rows_of, shown_result
from roadbed.apps.types import Turn
from roadbed.gateway.types import Answer, Message, ToolCall
from roadbed.kernel.deadline import Deadline
from roadbed.tools.types import Failed, NeedsApproval, Ok, Outcome, Refused, Tool

TOOLS_SHARE = 0.5
TOOLS_RESERVE_S = 1.0
ERROR_CHARACTERS_MAX = 600
RESULTS_CHARACTERS_MAX = 96_000
ARGUMENTS_CHARACTERS_MAX = 32 * 1024
SHOWN_APPROVALS_MAX = 8
WHERE_APPROVED = "on the console's page Tools, or with POST /api/tools/approvals/ID/approve"


@dataclass(slots=True)
class ToolRounds:
    """One turn's exchange. ``first_number`` is the number of the first row, behind the passages'."""

    turn: Turn
    tools: AppTools
    offer: Offer
    data: TurnData
    first_number: int
    rounds_max: int
    calls_max: int
    rounds: int = 0
    calls: int = 0
    rows: list[ToolRow] = field(default_factory=list)
    exchange: list[Message] = field(default_factory=list)
    approvals: list[dict[str, Any]] = field(default_factory=list)
    _missing: dict[str, str] = field(default_factory=dict)
    _refused: dict[str, str] = field(default_factory=dict)

    @property
    def is_over(self) -> bool:
        """Whether no more calls may be asked for."""
        return self.rounds >= self.rounds_max or self.calls >= self.calls_max

    @property
    def has_failed(self) -> bool:
        """Whether some tool did not give what was asked of it, and never did later."""
        return bool(self._missing)

    def missing(self) -> list[str]:
        """What was not there, for ``degraded``."""
        return [*self._missing.values(), *self._refused.values()]

    def sources_of(self, calls: Sequence[ToolCall]) -> list[str]:
        """The sources that some calls would ask, for a person who waits."""
        named = [self.offer.tools[call.name].source for call in calls if call.name in self.offer.tools]
        return list(dict.fromkeys(named))

    async def run(self, answer: Answer) -> None:
        """Make the calls of one answer, all at once, and keep what came of them.

        All are judged by what had been read when the model asked for them.
        """
        self.rounds += 1
        wanted = answer.tool_calls[: self.calls_max]
        asked = [_named(call, self.rounds, place) for place, call in enumerate(wanted)]
        data = self.data
        deadline = self.turn.deadline.reserving(TOOLS_RESERVE_S).share(TOOLS_SHARE)
        with self.turn.trace.span(f"tools, round {self.rounds}", "app", calls=len(asked)):
            outcomes = await asyncio.gather(*(self._call(call, data, deadline) for call in asked))
        self.exchange.append(
            Message("assistant", _reasoning_of(answer), tool_calls=tuple(_sendable(call) for call in asked))
        )
        for call, (outcome, arguments) in zip(asked, outcomes, strict=True):
            text = self._taken(call, outcome, arguments)
            is_error = not isinstance(outcome, Ok)
            self.exchange.append(Message("tool", text, tool_call_id=call.id, is_error=is_error))

    async def _call(self, call: ToolCall, data: TurnData, deadline: Deadline) -> tuple[Outcome, Mapping[str, Any]]:
        """One call. The tool set of the turn is fixed, so any other name is refused here."""
        self.calls += 1
        if self.calls > self.calls_max:
            return Refused("apps.tool_calls_exceeded", f"an answer may make {self.calls_max} calls"), {}
        tool = self.offer.tools.get(call.name)
        if tool is None:
            return Refused(
                "tools.unknown", "there is no tool of this name", "use only the tools that you were given"
            ), {}
        arguments = _decoded(call.arguments)
        if arguments is None:
            return Refused("tools.arguments_invalid", "the arguments are no JSON object"), {}
        if not self.tools.is_current(tool, self.turn.principal):
            return Refused("tools.changed", f"{tool.name} was changed meanwhile"), arguments
        judged = judge(tool, arguments, data)
        if judged.refusal is not None:
            self.turn.trace.attributes["refused_egress"] = True
            return judged.refusal, arguments
        outcome = await self.tools.caller().call(
            tool.name,
            arguments,
            principal=self.turn.principal,
            deadline=deadline,
            trace=self.turn.trace,
            is_tainted=judged.is_tainted,
            label=data.label.join(self.turn.trace.label),
        )
        return outcome, arguments

    def _taken(self, call: ToolCall, outcome: Outcome, arguments: Mapping[str, Any]) -> str:
        """What the model is told of an outcome; the turn remembers the rest."""
        tool = self.offer.tools.get(call.name)
        if tool is None:
            return fenced("unknown", _problem("refused", outcome))
        self._missing.pop(tool.name, None)
        self._refused.pop(tool.name, None)
        match outcome:
            case Ok():
                return self._shown(outcome, tool, arguments)
            case Failed():
                self._read(tool)
                self._missing[tool.name] = f"tool {tool.name} of {tool.source}: {outcome.code}"
                return fenced(tool.name, _problem("source_unavailable", outcome))
            case Refused():
                self._read(tool)
                self._refused[tool.name] = f"tool {tool.name}: {outcome.code}"
                return fenced(tool.name, _problem("refused", outcome))
            case NeedsApproval():
                if len(self.approvals) < SHOWN_APPROVALS_MAX:
                    waiting = {"id": outcome.approval_id, "tool": tool.name, "expires_at": outcome.expires_at}
                    self.approvals.append(waiting)
                return fenced(tool.name, f"Not done. A person must approve it first, {WHERE_APPROVED}. Say so.")

    def _shown(self, ok: Ok, tool: Tool, arguments: Mapping[str, Any]) -> str:
        if tool.is_trusted and not tool.is_outside:
            self.data = self.data.trusting(ok.label, ok.data)
        else:
            self.data = self.data.reading(ok.label)
        first = self.first_number + len(self.rows)
        age_s = max((origin.age_s for origin in ok.provenance), default=0.0)
        if age_s:
            self._missing[tool.name] = f"tool {tool.name} of {tool.source}: away, its result is {age_s:.0f} s old"
        room = RESULTS_CHARACTERS_MAX - sum(row.characters for row in self.rows)
        rows = rows_of(ok, tool, arguments, room)[: max(0, NUMBER_MAX + 1 - first)]
        self.rows += rows
        return shown_result(ok, tool, rows, first)

    def _read(self, tool: Tool) -> None:
        """An error of a source is text of others, too."""
        if not tool.is_trusted:
            self.data = self.data.reading(tool.label)

    def results(self) -> str:
        """All that tools gave, as quoted data, for a last request that offers none."""
        return "\n\n".join(message.text() for message in self.exchange if message.role == "tool")

    def approvals_note(self) -> str:
        """What a reader must be told when calls wait for a person; empty when none does."""
        if not self.approvals:
            return ""
        waiting = ", ".join(f"{approval['tool']} ({approval['id']})" for approval in self.approvals)
        return f"Not done yet: {waiting} must be approved by a person, {WHERE_APPROVED}."


def _named(call: ToolCall, number: int, place: int) -> ToolCall:
    """The call with an id, where its model gave none."""
    return call if call.id else structs.replace(call, id=f"call_{number}_{place}")


def _sendable(call: ToolCall) -> ToolCall:
    """The call as it goes back to the model: what is no JSON object would be refused by its dialect."""
    return call if _decoded(call.arguments) is not None else structs.replace(call, arguments="{}")


def _decoded(text: str) -> dict[str, Any] | None:
    if len(text) > ARGUMENTS_CHARACTERS_MAX:
        return None
    try:
        found = msgspec.json.decode(text or "{}")
    except (msgspec.DecodeError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _reasoning_of(answer: Answer) -> Any:
    """The model's own sealed reasoning, which its provider wants back; what it said before a call is left out."""
    return tuple(answer.sealed) if answer.sealed else ""


def _problem(kind: str, outcome: Outcome) -> str:
    """An outcome that is no result, for the model: typed, bounded, harmless."""
    facts: dict[str, Any] = {"error": kind, "code": getattr(outcome, "code", "")}
    for name in ("source", "message", "hint", "param"):
        text = getattr(outcome, name, "")
        if text:
            facts[name] = harmless(str(text))[:ERROR_CHARACTERS_MAX]
    facts["do"] = (
        "Answer from what there is, and say what is missing." if kind != "refused" else "Mend the call or leave it."
    )
    return msgspec.json.encode(facts).decode()
