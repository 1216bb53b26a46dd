"""What can go wrong with a tool call, as typed errors. The toolbox turns each into a `Refused`; the API answers them.

The invariant: no message holds an argument's value or a row.
"""

from __future__ import annotations

from roadbed.kernel.errors import Conflict, InvalidRequest, NotFound


class UnknownTool(NotFound):
    """No tool of this name exists for this caller."""

    code = "tools.unknown"
    hint = "list the tools that you may call: roadbed tools list, or GET /api/tools"


class ArgumentsInvalid(InvalidRequest):
    """The arguments do not fit the tool's schema; ``param`` names the field."""

    code = "tools.arguments_invalid"


class CursorInvalid(InvalidRequest):
    """The cursor is not one of this tool, these arguments and this caller, or it is too old."""

    code = "tools.cursor_invalid"
    hint = "call again without a cursor, with the arguments of the first call"


class ApprovalInvalid(Conflict):
    """The approval does not exist, was decided or run before, has expired, or is not this person's to give."""

    code = "tools.approval_invalid"
    hint = "see what waits: GET /api/tools/approvals; an expired one is asked for again by the same call"


class ToolMisdeclared(InvalidRequest):
    """A declared tool does not fit its source or its own parameters."""

    code = "tools.misdeclared"
