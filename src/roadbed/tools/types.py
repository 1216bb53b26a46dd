"""The values of a tool call: what a tool is, what it is asked, and what came of it.

Providers (SQL, files, HTTP, upstream MCP servers) make `Tool`s from the manifest; `tools.toolbox` calls them under the
rules; apps, the API and the MCP server only see these types. An outcome is a value, because a model reads it: only what
nobody foresaw is raised. The invariant: a tool's ``effect`` and labels come from the manifest, never from the system
behind it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from roadbed.kernel.deadline import Deadline
from roadbed.kernel.label import PUBLIC, Label
from roadbed.kernel.principal import Principal

TOOL_NAME_PATTERN = r"^[a-zA-Z0-9_-]{1,64}$"
TIMEOUT_S = 15.0
RESULT_BYTES_MAX = 256 * 1024

Effect = Literal["read", "write", "irreversible", "send"]
"""What a call changes. ``send`` lets data out: a mail, a webhook, a fetched address."""


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a result came from: the source, what in it was asked, and when. ``as_of`` counts seconds from 1970."""

    source: str
    resource: str
    as_of: float
    statement: str = ""
    age_s: float = 0.0


@dataclass(frozen=True, slots=True)
class ToolRequest:
    """One call as a provider gets it: ``arguments`` have passed the tool's schema, the caller the tool's rules.

    ``effect_key`` names the one run of an approved call, for systems that can tell a request which comes twice.
    """

    arguments: Mapping[str, Any]
    principal: Principal
    deadline: Deadline
    cursor: str = ""
    effect_key: str = ""


@dataclass(frozen=True, slots=True)
class Ok:
    """The call's result. ``data`` is JSON; a table is ``{"columns": [{"name", "type"}], "rows": [[…]]}``.

    ``cursor`` asks for what follows, where ``is_truncated`` says that there is more. Decimals and times are strings
    that lose nothing.
    """

    data: Any
    provenance: tuple[Provenance, ...] = ()
    label: Label = PUBLIC
    is_truncated: bool = False
    cursor: str = ""


@dataclass(frozen=True, slots=True)
class Refused:
    """The call was not made, or its result is not given: the caller or the model can mend it. ``param`` names where.

    ``retry_after_s`` says when the same call may be made, where waiting is what mends it.
    """

    code: str
    message: str
    hint: str = ""
    param: str = ""
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """The source did not answer as it should. ``source`` is named, so that an answer can say what is missing."""

    code: str
    message: str
    source: str
    is_retryable: bool
    hint: str = ""
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class NeedsApproval:
    """The call waits for a person. ``preview`` says what it would change; ``digest`` binds the approval to it."""

    approval_id: str
    preview: Mapping[str, Any]
    digest: str
    expires_at: float


Outcome = Ok | Refused | Failed | NeedsApproval

Run = Callable[[ToolRequest], Awaitable[Outcome]]
"""Makes a call. May raise any `RoadbedError`: the toolbox turns it into `Refused` or `Failed`."""

Preview = Callable[[ToolRequest], Awaitable[Mapping[str, Any]]]
"""Says what a call would change, and changes nothing. May raise as `Run` may."""


@dataclass(frozen=True, slots=True)
class Tool:
    """One operation on one source that models may ask for.

    ``input_schema`` is JSON Schema 2020-12 of an object. ``visible_to`` are the teams that may see and call it,
    everyone when None. ``is_trusted`` says that what it returns may be taken for the workspace's own words.
    ``counts_rows`` says that its cursor is the number of rows that came before, so that rows which are cut can follow.
    ``is_outside`` says that others run its source: they wrote its description, and a call's arguments reach them.
    ``does`` says what a call reaches that its definition does not hold, such as an API's address; an approval is bound
    to it. ``pin`` is the digest of all that defines it, with the source's rules; a release names it.
    """

    name: str
    description: str
    source: str
    run: Run
    input_schema: Mapping[str, Any] = field(default_factory=lambda: {"type": "object", "properties": {}})
    output_schema: Mapping[str, Any] | None = None
    effect: Effect = "read"
    title: str = ""
    label: Label = PUBLIC
    visible_to: frozenset[str] | None = None
    timeout_s: float = TIMEOUT_S
    result_bytes_max: int = RESULT_BYTES_MAX
    is_trusted: bool = False
    rate: str = ""
    preview: Preview | None = None
    stale_max_s: float = 0.0
    counts_rows: bool = False
    is_outside: bool = False
    does: str = ""
    pin: str = ""
