"""Tools of sources of type ``http``: the listed and declared operations of an OpenAPI document of the workspace.

Names and schemas need no reachable API. What a tool changes is ours to say: GET and HEAD read, all else writes unless
the manifest lists it under ``reads`` or declares another effect. A change waits for a person, who is shown the request,
and is sent once, with an Idempotency-Key. The invariant: an operation that the manifest does not name is no tool, and
one that cannot be offered costs none of the others.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from roadbed.kernel.config import parse_duration_s
from roadbed.kernel.errors import ConfigError
from roadbed.kernel.ids import new_id
from roadbed.kernel.label import Label, parse_label
from roadbed.sources.egress import EgressResponse
from roadbed.sources.http import base_url, check_http_auth
from roadbed.sources.manifest import HttpSource, SourceConfig
from roadbed.sources.reach import Reach
from roadbed.tools.manifest import ToolConfig
from roadbed.tools.openapi.answer import query_of_cursor, read_answer, refusal_message
from roadbed.tools.openapi.document import read_document
from roadbed.tools.openapi.operations import Operation, read_operations
from roadbed.tools.openapi.request import build_request
from roadbed.tools.types import RESULT_BYTES_MAX, Effect, Ok, Outcome, Provenance, Refused, Tool, ToolRequest

IDEMPOTENCY_KEY = b"idempotency-key"
"""By it an API can tell a request that reaches it twice (draft-ietf-httpapi-idempotency-key-header)."""
NAME_CHARACTERS_MAX = 64
_DIGEST_CHARACTERS = 8
_NAME = re.compile(r"[^a-zA-Z0-9_-]+")


@dataclass(frozen=True, slots=True)
class SkippedTool:
    """An operation that the manifest names and that is no tool, with the reason."""

    source: str
    operation: str
    reason: str


@dataclass(frozen=True, slots=True)
class HttpTools:
    """The tools of all HTTP sources, and what was left out."""

    tools: tuple[Tool, ...]
    skipped: tuple[SkippedTool, ...]


def http_tools(
    sources: Mapping[str, SourceConfig], declared: Mapping[str, ToolConfig], workspace: Path, reach: Reach
) -> HttpTools:
    """The tools of every HTTP source. Raises `ConfigError` for a document or declaration that cannot be read."""
    tools: list[Tool] = []
    skipped: list[SkippedTool] = []
    for name, config in sources.items():
        if isinstance(config, HttpSource):
            own = {key: tool for key, tool in declared.items() if tool.source == name}
            found = _tools_of(name, config, own, workspace, reach)
            tools += found.tools
            skipped += found.skipped
    return HttpTools(tuple(tools), tuple(skipped))


def _tools_of(
    name: str, config: HttpSource, declared: Mapping[str, ToolConfig], workspace: Path, reach: Reach
) -> HttpTools:
    base_url(name, config)
    document = read_document(workspace / config.openapi, shown_as=config.openapi)
    by_operation: dict[str, list[tuple[str, ToolConfig]]] = {}
    for tool_name, tool in declared.items():
        if not tool.operation or tool.sql:
            raise ConfigError(f"tools.{tool_name} needs an operation", hint=f"{name} is an HTTP API: no sql")
        if tool.parameters:
            raise ConfigError(f"tools.{tool_name}: parameters come from the document of {name}")
        by_operation.setdefault(tool.operation, []).append((tool_name, tool))
    hidden: list[str] = []
    check_http_auth(name, config)
    if config.auth is not None:
        hidden = [part for part in (config.auth.header, config.auth.query) if part]
    elif config.caller_auth is not None and config.caller_auth.name:
        hidden = [config.caller_auth.name]
    operations, left_out = read_operations(document, [*config.operations, *by_operation], hidden)
    skipped = [SkippedTool(name, part.operation_id, part.reason) for part in left_out]
    tools: dict[str, Tool] = {}
    for operation in operations:
        entries: list[tuple[str, ToolConfig | None]] = [*by_operation.get(operation.operation_id, [])]
        for tool_name, tool_config in entries or [(tool_name_of(name, operation.operation_id), None)]:
            if tool_name in tools:
                skipped.append(SkippedTool(name, operation.operation_id, f"another tool is called {tool_name}"))
            else:
                tools[tool_name] = _tool(tool_name, name, config, tool_config, operation, reach)
    return HttpTools(tuple(tools.values()), tuple(skipped))


def tool_name_of(source: str, operation_id: str) -> str:
    """The name of a listed operation's tool: ``<source>_<operationId>``, shortened by a digest where it is too long."""
    plain = _NAME.sub("_", f"{source}_{operation_id}")
    if len(plain) <= NAME_CHARACTERS_MAX:
        return plain
    digest = hashlib.sha256(operation_id.encode()).hexdigest()[:_DIGEST_CHARACTERS]
    return f"{plain[: NAME_CHARACTERS_MAX - _DIGEST_CHARACTERS - 1]}_{digest}"


def effect_of(operation: Operation, config: HttpSource, declared: ToolConfig | None) -> Effect:
    """What a call changes. Leaving ``effect`` out makes no POST a read: that takes the source's ``reads``."""
    is_read = operation.method in ("GET", "HEAD") or operation.operation_id in config.reads
    if declared is not None and declared.effect != "read":
        return declared.effect
    return "read" if is_read else "write"


def _tool(
    tool_name: str,
    source: str,
    config: HttpSource,
    declared: ToolConfig | None,
    operation: Operation,
    reach: Reach,
) -> Tool:
    effect = effect_of(operation, config, declared)
    labels = [*config.labels, *(declared.labels if declared is not None else ())]
    visible_to = declared.visible_to if declared is not None else None
    seen = [frozenset(teams) for teams in (config.visible_to, visible_to) if teams is not None]
    timeout_s = parse_duration_s(config.timeout)
    label = parse_label(labels, where=f"sources.{source}.labels")
    caller = _Caller(source, config.url.rstrip("/"), effect, label, operation, reach)
    return Tool(
        name=tool_name,
        title=operation.operation_id[:120],
        description=declared.description if declared is not None else operation.description,
        source=source,
        run=caller.run,
        preview=caller.preview if effect != "read" else None,
        input_schema=operation.input_schema,
        effect=effect,
        label=label,
        visible_to=frozenset.intersection(*seen) if seen else None,
        timeout_s=min(timeout_s, parse_duration_s(declared.timeout)) if declared is not None else timeout_s,
        rate=declared.rate if declared is not None else "",
        is_outside=True,
        does=caller.does,
    )


class _Caller:
    """Makes the calls of one tool."""

    def __init__(self, source: str, url: str, effect: Effect, label: Label, operation: Operation, reach: Reach) -> None:
        self.does = f"{operation.method} {url}{operation.path}"
        self._source = source
        self._url = url
        self._effect = effect
        self._label = label
        self._operation = operation
        self._reach = reach

    async def run(self, request: ToolRequest) -> Outcome:
        """One call: encoded, sent, read. As `HttpSystem.ask`, and `ArgumentRefused`, `AnswerRefused`."""
        operation, source = self._operation, self._source
        built = build_request(operation, request.arguments)
        if request.cursor:
            following = query_of_cursor(operation, request.cursor)
            kept = [(name, value) for name, value in built.query if name not in following]
            built = replace(built, query=(*kept, *((name, quote(value, safe="")) for name, value in following.items())))
        headers = built.headers
        if self._effect != "read":
            # An approved call has the key of its one run; another is sent once, whatever comes of it.
            headers = (*headers, (IDEMPOTENCY_KEY, (request.effect_key or new_id()).encode("ascii")))
        response = await self._reach.http(source).ask(
            operation.method,
            built.target,
            headers,
            built.body,
            request.deadline,
            is_repeatable=self._effect == "read" and operation.method in ("GET", "HEAD"),
            principal=request.principal,
        )
        if not 200 <= response.status < 300:
            return self._refused(response)
        answer = read_answer(operation, response, RESULT_BYTES_MAX)
        resource = f"{operation.method} {operation.path}"
        return Ok(
            answer.data,
            (Provenance(source, resource, time.time()),),
            self._label,
            is_truncated=answer.is_cut or bool(answer.cursor),
            cursor=answer.cursor,
        )

    async def preview(self, request: ToolRequest) -> Mapping[str, Any]:
        """The request that would be sent, without credentials; nothing is. `ArgumentRefused`.

        An API that knows its callers must know this one before a person is asked.
        """
        await self._reach.http(self._source).hold(request.principal, request.deadline)
        built = build_request(self._operation, request.arguments)
        shown: dict[str, Any] = {
            "source": self._source,
            "request": f"{self._operation.method} {self._url}{built.target}",
        }
        headers = {name.decode("ascii"): value.decode("ascii") for name, value in built.headers if name != b"accept"}
        if headers:
            shown["headers"] = headers
        if built.body:
            shown["body"] = request.arguments.get(self._operation.body_argument)
        return shown

    def _refused(self, response: EgressResponse) -> Refused:
        said = refusal_message(response)
        message = f"{self._source} refuses the call with status {response.status}"
        hint = _HINTS.get(response.status, "change the arguments; the API says why")
        return Refused("tools.api_refused", f"{message}: {said}" if said else message, hint)


_HINTS: dict[int, Any] = {
    403: "the source's credentials may not do this",
    404: "the API has nothing under these arguments",
    409: "what was to be changed is not as the arguments say; read it again",
}
