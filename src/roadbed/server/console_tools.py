"""The console's view of the tools: the same toolbox, with a trace for each call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from roadbed.kernel.deadline import Deadline
from roadbed.kernel.principal import Principal
from roadbed.server.credential_routes import credentials_of, remove_credential, store_credential
from roadbed.server.services import Services
from roadbed.server.tool_calls import CALL_DEADLINE_S, traced_call
from roadbed.tools.approvals import Approval
from roadbed.tools.standing import ToolCounts
from roadbed.tools.types import Outcome, Tool


class ConsoleTools:
    """What the page Tools shows and does."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def tools_for(self, principal: Principal) -> list[Tool]:
        """Those that the caller may see, by name."""
        return self._services.toolbox.tools_for(principal)

    def counts(self, tool: str) -> ToolCounts | None:
        """How a tool has gone in this process."""
        return self._services.toolbox.counts.get(tool)

    async def call(self, tool: str, arguments: Mapping[str, Any], principal: Principal) -> Outcome:
        """Call one, with a trace."""
        return await traced_call(self._services, tool, arguments, principal, Deadline.after(CALL_DEADLINE_S))

    async def waiting(self) -> list[Approval]:
        """The approvals that wait."""
        return await self._services.tools.approvals.listed(only_waiting=True)

    async def approve(self, approval_id: str, principal: Principal) -> Outcome:
        """Let a call run."""
        return await self._services.toolbox.approve(approval_id, principal, Deadline.after(CALL_DEADLINE_S))

    async def deny(self, approval_id: str, principal: Principal, reason: str) -> None:
        """Decide against a call."""
        await self._services.tools.approvals.deny(approval_id, principal, reason)

    async def credentials(self, principal: Principal) -> list[dict[str, Any]]:
        """The sources that are asked with the caller's own credential."""
        return await credentials_of(self._services, principal)

    async def store_credential(self, source: str, value: str, principal: Principal) -> None:
        """Store one."""
        await store_credential(self._services, principal, source, value, actor=principal)

    async def remove_credential(self, source: str, principal: Principal) -> None:
        """Remove one."""
        await remove_credential(self._services, principal, source, actor=principal)
