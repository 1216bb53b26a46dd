"""How much a model is to think: read from a caller's dialect, told to an endpoint of another.

Levels and budgets are each other's like as Google documents them for its own OpenAI address. Pure; called by encoders
for requests of other dialects than theirs. The invariant: a model that is not known to take such a field is sent none,
as servers refuse it; the field is then left out by its name.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from roadbed.gateway.types import ChatRequest, NamedTool, ReasoningPart

BUDGETS = {"none": 0, "minimal": 1024, "low": 1024, "medium": 8192, "high": 24576, "xhigh": 24576, "max": 24576}
"""Tokens of thought by level."""

BUDGET_MIN = 1024
"""The smallest budget that Claude models take."""

BUDGET_SHARE = 2
"""One part in so many of the output limit is thought at most: a model that may only think has nothing left to say."""

TOP_P_MIN = 0.95
_TAKES_BUDGET = re.compile(
    r"claude-(?:3-7-sonnet|(?:sonnet|opus)-4(?:-[01])?(?:-?\d{8}|@|-v\d|$)|(?:sonnet|haiku)-4-5)"
)
_TAKES_EFFORT = re.compile(r"(?:^|/)(?:o[134](?!-preview|-mini-20|1-mini)|gpt-5(?!.*chat)|gpt-oss|codex)")
_KNOWS_NONE = re.compile(r"gpt-5\.\d")


class Effort(msgspec.Struct, frozen=True):
    """What a caller wants: a ``level`` of `BUDGETS`, empty for none, and the ``budget`` in tokens where it gave one.

    ``told`` names the fields that said so, ``rest`` what else they say.
    """

    level: str = ""
    budget: int | None = None
    told: frozenset[str] = frozenset()
    rest: tuple[str, ...] = ()

    def tokens(self, output_tokens: int | None) -> int:
        """Its budget in tokens, within what an answer may have of them."""
        wanted = BUDGETS[self.level] if self.budget is None else self.budget
        return wanted if output_tokens is None else min(wanted, output_tokens // BUDGET_SHARE)


NO_EFFORT = Effort()


def effort_of(request: ChatRequest) -> Effort:
    """What the caller's dialect says of it; `NO_EFFORT` where it says nothing that is known."""
    given = request.passthrough
    match request.passthrough_dialect:
        case "openai":
            level = _level(given.get("reasoning_effort"))
            return Effort(level, told=frozenset({"reasoning_effort"})) if level else NO_EFFORT
        case "responses":
            reasoning = _fields(given.get("reasoning"))
            level = _level(reasoning.get("effort"))
            rest = tuple(f"reasoning.{name}" for name in reasoning if name != "effort")
            return Effort(level, None, frozenset({"reasoning"}), rest) if level else NO_EFFORT
        case "anthropic":
            return _anthropic(_fields(given.get("thinking")), _fields(given.get("output_config")))
        case _:
            return NO_EFFORT


def _anthropic(thinking: dict[str, Any], output: dict[str, Any]) -> Effort:
    level, budget = _level(output.get("effort")), thinking.get("budget_tokens")
    told = {"output_config"} if level else set[str]()
    if thinking.get("type") == "disabled":
        level, budget = "none", None
    elif thinking.get("type") != "enabled" or not isinstance(budget, int) or isinstance(budget, bool) or budget < 1:
        budget = None
    if budget is not None and not level:
        level = next((name for name in ("low", "medium") if budget <= BUDGETS[name]), "high")
    if not level:
        return NO_EFFORT
    if thinking:
        told.add("thinking")
    rest = [f"thinking.{name}" for name in thinking if name not in ("type", "budget_tokens")]
    rest += [f"output_config.{name}" for name in output if name != "effort" and "output_config" in told]
    return Effort(level, budget, frozenset(told), tuple(rest))


def _level(value: Any) -> str:
    return value if isinstance(value, str) and value in BUDGETS else ""


def _fields(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def openai_level(effort: Effort, model: str) -> str:
    """The level for a model behind OpenAI's APIs; empty where it is not known to take one."""
    if not effort.level or not _TAKES_EFFORT.search(model) or model.rpartition("/")[2].startswith("o1-mini"):
        return ""
    if effort.level == "none":
        return "none" if _KNOWS_NONE.search(model) else ""
    return "high" if effort.level in ("xhigh", "max") else effort.level


def takes_budget(model: str) -> bool:
    """Whether a Claude model thinks by budget; the later ones take a level."""
    return _TAKES_BUDGET.search(model) is not None


def claude_budget(effort: Effort, request: ChatRequest, dialect: str, output_tokens: int) -> int:
    """Tokens of thought for a model that `takes_budget`; 0 where it would refuse to think, or has no room for it.

    It refuses beside a forced tool, beside other sampling than its own, and where the thought that led to the calls of
    tools under way is not given back.
    """
    choice = request.tool_choice
    if isinstance(choice, NamedTool) or choice == "required":
        return 0
    if request.temperature not in (None, 1) or (request.top_p is not None and request.top_p < TOP_P_MIN):
        return 0
    for message in reversed(request.messages):
        if message.role == "user":
            break
        if message.tool_calls and not any(
            isinstance(part, ReasoningPart) and part.dialect == dialect and part.seal for part in message.content
        ):
            return 0
    tokens = effort.tokens(output_tokens) if effort.level else 0
    return tokens if tokens >= BUDGET_MIN else 0
