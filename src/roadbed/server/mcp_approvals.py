"""Approvals for clients of the older MCP versions that can ask their user: asked on the stream of the waiting call.

The newest version has no such way back; there `mcp_results` answers with an input request. The invariant: an answer of
the client approves nothing; it only has the call tried again, and the approval is the one given in the console.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from roadbed.server.mcp_results import approval_form, approval_message
from roadbed.server.mcp_types import Caller
from roadbed.tools.types import NeedsApproval, Outcome, Refused, Tool

ASKED_TIMES_MAX = 3
ASK_S = 300.0


def asks_legacy(caller: Caller) -> bool:
    """Whether the caller's client is of an older version and can be asked on this call's stream."""
    return caller.ask is not None and caller.session is not None and bool(caller.session.asks)


async def approved(
    outcome: NeedsApproval, tool: Tool, caller: Caller, console_url: str, again: Callable[[], Awaitable[Outcome]]
) -> Outcome:
    """Ask the client's user to have a call approved in the console, and try the call again when it is said to be.

    A form says that it was approved; a client that only opens addresses says that its user agreed to see one, so it is
    asked once.
    """
    assert caller.ask is not None
    assert caller.session is not None
    mode = "form" if "form" in caller.session.asks else "url"
    deadline = caller.admission.deadline(ASK_S)
    found: Outcome = outcome
    for _ in range(ASKED_TIMES_MAX if mode == "form" else 1):
        if not isinstance(found, NeedsApproval) or deadline.has_passed():
            break
        message, link = approval_message(found, tool, console_url)
        params = approval_form(mode, message, link)
        if mode == "url":
            params["elicitationId"] = found.approval_id
        answer = await caller.ask("elicitation/create", params, min(ASK_S, deadline.remaining_s()))
        if answer is None:
            break
        if answer.get("action") != "accept":
            return Refused("tools.approval_declined", f"{tool.name} was not approved", "do not call it again as it is")
        content = answer.get("content")
        if mode == "form" and not (isinstance(content, Mapping) and content.get("approved") is True):
            continue
        found = await again()
    return found
