"""The tools of one turn, fixed before anything that others wrote is read: those that the app's release names.

A tool whose definition is no longer the one that was released is left out and named; nothing that a model reads can
add one. The copilot asks for an `Offer` as the first step of a turn.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from roadbed.gateway.types import Tool as WireTool
from roadbed.kernel.deadline import Deadline
from roadbed.kernel.label import PUBLIC, Label
from roadbed.kernel.principal import Principal
from roadbed.ledger.trace import Trace
from roadbed.tools.types import Outcome, Tool


class ToolCaller(Protocol):
    """What apps need of `tools.toolbox.ToolBox`."""

    def all_tools(self) -> list[Tool]:
        """Every tool that serves."""
        ...

    def tools_for(self, principal: Principal, names: Collection[str] | None = None) -> list[Tool]:
        """The tools that a caller may see. ``names`` are sources, tools or beginnings of a tool's name."""
        ...

    async def call(
        self,
        name: str,
        arguments: Mapping[str, Any],
        *,
        principal: Principal,
        deadline: Deadline,
        trace: Trace | None = None,
        is_tainted: bool = False,
        label: Label = PUBLIC,
    ) -> Outcome:
        """Call a tool under all rules. Raises nothing but a cancellation."""
        ...


@dataclass(frozen=True, slots=True)
class Offer:
    """The tools of one turn by name, and those of the release that are not what was released."""

    tools: Mapping[str, Tool]
    changed: tuple[str, ...] = ()

    def wire_tools(self) -> tuple[WireTool, ...]:
        """The tools as a model is told of them."""
        return tuple(WireTool(tool.name, tool.description, dict(tool.input_schema)) for tool in self.tools.values())

    @property
    def is_of_others(self) -> bool:
        """Whether others wrote the description of some tool, which a model reads as it reads any text."""
        return any(tool.is_outside for tool in self.tools.values())


@dataclass(frozen=True, slots=True)
class AppTools:
    """The tools of one release of an app: ``pins`` are the digests of their definitions by name."""

    caller: Callable[[], ToolCaller]
    pins: Mapping[str, str]

    def offer(self, principal: Principal) -> Offer:
        """The tools that this caller may use now."""
        if not self.pins:
            return Offer({})
        caller = self.caller()
        found = {tool.name: tool for tool in caller.tools_for(principal) if tool.name in self.pins}
        there = {tool.name for tool in caller.all_tools()}
        gone = [name for name in self.pins if name not in there]
        changed = [name for name, tool in found.items() if tool.pin != self.pins[name]]
        return Offer({name: tool for name, tool in found.items() if name not in changed}, (*changed, *gone))

    def is_current(self, tool: Tool, principal: Principal) -> bool:
        """Whether a tool of an offer is still defined as it was."""
        return any(now.name == tool.name and now.pin == tool.pin for now in self.caller().tools_for(principal))


NO_TOOLS = Offer({})
