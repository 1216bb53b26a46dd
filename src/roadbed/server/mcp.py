"""The MCP server: an `Offering` for clients of every protocol era. The only file that imports the SDK's server.

The SDK is imported in a thread, in an idle moment after the start (`mcp_loading.py`) or at the first request, if that
comes sooner: it takes about a second, and no start waits for it. Both eras share one low-level server without sessions.
Two transports stand over it: one answers with plain JSON, the other with an event stream for calls that last or tell
their progress. The invariant: whatever a handler raises becomes a result or a protocol error here; its text reaches a
client only when it is a `RoadbedError`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from starlette.types import Receive, Scope, Send

from roadbed.kernel.errors import InvalidRequest, RoadbedError
from roadbed.server.mcp_loading import wait_until_idle
from roadbed.server.mcp_questions import Questions, call_name
from roadbed.server.mcp_results import failed_result
from roadbed.server.mcp_session import Session, Sessions
from roadbed.server.mcp_types import (
    BODY_BYTES_MAX,
    INTERNAL_ERROR,
    INVALID_PARAMS,
    LEGACY_VERSIONS,
    REQUEST_CANCELLED,
    VERSIONS,
    Caller,
    Json,
    McpFault,
    Offering,
)

if TYPE_CHECKING:
    from mcp.server.context import ServerRequestContext
    from mcp.server.lowlevel import Server
    from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

    Context = ServerRequestContext[Any, Any]

log = logging.getLogger("roadbed.mcp")

T = TypeVar("T")
SCOPE_KEY = "roadbed.caller"
STATE_S = 600.0
COMPLETIONS_MAX = 100
STOP_S = 5.0
LOG_LEVEL_KEY = "io.modelcontextprotocol/logLevel"
_CAPABILITIES = "io.modelcontextprotocol/clientCapabilities"
_asking: ContextVar[Caller | None] = ContextVar("roadbed_mcp_caller", default=None)


class Mcp:
    """The MCP server of one process. It loads itself at the first request, or before; `close` it when the server stops.

    ``state_key`` seals what clients keep for us between two requests; all processes of a deployment share it.
    ``questions`` reaches the other processes. ``waking`` are the events of open streams, set when this process ends.
    """

    def __init__(self, offering: Offering, state_key: bytes, questions: Questions | None = None) -> None:
        self.offering = offering
        self.questions = questions or Questions()
        self.sessions = Sessions(state_key)
        self.waking: set[asyncio.Event] = set()
        self.is_ending = False
        self._state_key = state_key
        self._plain: StreamableHTTPSessionManager | None = None
        self._streaming: StreamableHTTPSessionManager | None = None
        self._loading = asyncio.Lock()
        self._running: asyncio.Task[None] | None = None
        self._soon: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()

    @property
    def is_loaded(self) -> bool:
        """Whether the SDK was imported and the transports run."""
        return self._plain is not None

    async def load(self) -> None:
        """Import the SDK and start the transports, once."""
        async with self._loading:
            if self.is_loaded:
                return
            plain, streaming = await asyncio.to_thread(self._build)
            ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._running = asyncio.create_task(self._run(plain, streaming, ready), name="mcp")
            await ready
            self._plain, self._streaming = plain, streaming

    def load_soon(self, ready: asyncio.Event, idle: Callable[[], Awaitable[None]] = wait_until_idle) -> None:
        """Load in the first idle moment after ``ready``, in the background."""

        async def load() -> None:
            await ready.wait()
            await idle()
            if not self.is_ending:
                await self.load()
                log.debug("the MCP library was loaded before a client asked for it")

        self._soon = asyncio.create_task(load(), name="mcp-load")

    def session_of(self, sealed: bytes, caller: Caller) -> Session | None:
        """The session of an id; None when it is none of this caller, or over."""
        session = self.sessions.opened(sealed, caller.principal)
        return None if session is None or self.questions.has_ended(session.name) else session

    def begin_end(self) -> None:
        """End what could last for long: open streams, and waiting for people's answers."""
        self.is_ending = True
        self.questions.give_up()
        for event in self.waking:
            event.set()

    async def close(self) -> None:
        """End the transports and every call that still runs."""
        self.begin_end()
        if self._soon is not None:
            self._soon.cancel()
            await asyncio.gather(self._soon, return_exceptions=True)
        task, self._running = self._running, None
        self._plain = self._streaming = None
        if task is not None:
            self._stopping.set()
            await asyncio.wait({task}, timeout=STOP_S)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def answer(self, caller: Caller, scope: Scope, receive: Receive, send: Send, *, in_stream: bool) -> None:
        """Answer one POST. Cancelling this cancels the call."""
        if not self.is_loaded:
            await self.load()
        scope[SCOPE_KEY] = caller
        _asking.set(caller)
        transport = self._streaming if in_stream else self._plain
        assert transport is not None
        await transport.handle_request(scope, receive, send)

    async def _run(
        self,
        plain: StreamableHTTPSessionManager,
        streaming: StreamableHTTPSessionManager,
        ready: asyncio.Future[None],
    ) -> None:
        # Entered and left by one task, as the transports' task groups ask for.
        async with plain.run(), streaming.run():
            ready.set_result(None)
            await self._stopping.wait()

    def _build(self) -> tuple[StreamableHTTPSessionManager, StreamableHTTPSessionManager]:
        from mcp.server.caching import CacheHint
        from mcp.server.lowlevel import Server
        from mcp.server.request_state import RequestStateBoundary, RequestStateSecurity
        from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
        from mcp.server.transport_security import TransportSecuritySettings

        offering = self.offering
        handlers = _Handlers(offering, self.questions)
        follows = offering.follows is not None
        hint = CacheHint(ttl_ms=int(offering.lists_ttl_s * 1000), scope="private")
        server: Server[Any] = Server(
            offering.name,
            version=offering.version,
            instructions=offering.instructions or None,
            cache_hints={
                "server/discover": hint,
                "tools/list": hint,
                "prompts/list": hint,
                "resources/list": hint,
                "resources/templates/list": hint,
                "resources/read": CacheHint(ttl_ms=0, scope="private"),
            },
            get_tool_input_schema=handlers.input_schema,
            on_list_tools=handlers.tools,
            on_call_tool=handlers.call,
            on_list_resources=handlers.resources,
            on_list_resource_templates=handlers.templates,
            on_read_resource=handlers.read,
            on_subscribe_resource=handlers.subscribe if follows else None,
            on_unsubscribe_resource=handlers.unsubscribe if follows else None,
            on_list_prompts=handlers.prompts,
            on_get_prompt=handlers.prompt,
            on_completion=handlers.complete,
        )
        self._add_own(server)
        # Its own tracing is replaced by ours; what clients keep for us is sealed for one principal.
        security = RequestStateSecurity(keys=[self._state_key], ttl=STATE_S, bind_principal=_principal_of)
        server.middleware[:] = [RequestStateBoundary(security, default_audience=offering.name)]
        # Origins are checked before this, in `mcp_http`, with the other headers.
        settings = TransportSecuritySettings(enable_dns_rebinding_protection=False)

        def transport(json_response: bool) -> StreamableHTTPSessionManager:
            return StreamableHTTPSessionManager(
                server,
                stateless=True,
                json_response=json_response,
                security_settings=settings,
                max_request_body_size=BODY_BYTES_MAX,
            )

        return transport(True), transport(False)

    def _add_own(self, server: Server[Any]) -> None:
        """What the SDK has no argument for, or answers for its own newest era alone."""
        from mcp_types import DiscoverResult, EmptyResult, RequestParams, SetLevelRequestParams

        async def discover(ctx: Context, params: RequestParams) -> DiscoverResult:
            return DiscoverResult(
                supported_versions=list(VERSIONS),
                capabilities=server.get_capabilities(protocol_version=ctx.protocol_version),
                instructions=server.instructions,
            )

        async def set_level(ctx: Context, params: SetLevelRequestParams) -> EmptyResult:
            return EmptyResult()  # without sessions there is nothing to set

        server.add_request_handler("server/discover", RequestParams, discover)
        if getattr(self.offering, "tells_logs", False):
            server.add_request_handler("logging/setLevel", SetLevelRequestParams, set_level)


def _caller_of(ctx: Context) -> Caller:
    assert ctx.request is not None
    caller: Caller = ctx.request.scope[SCOPE_KEY]
    return caller


def _principal_of(ctx: Context) -> str:
    principal = _caller_of(ctx).principal
    return f"{principal.team}/{principal.id}"


class _Handlers:
    """The SDK's handlers over an offering: contexts to callers, errors to results or protocol errors."""

    def __init__(self, offering: Offering, questions: Questions) -> None:
        self._offering = offering
        self._questions = questions

    def input_schema(self, name: str) -> Mapping[str, Any] | None:
        caller = _asking.get()
        return self._offering.input_schema(name, caller) if caller is not None else None

    async def tools(self, ctx: Context, params: Any) -> Any:
        return await _answered(self._offering.tools(_caller(ctx), _cursor(params)))

    async def call(self, ctx: Context, params: Any) -> Any:
        import anyio

        caller = _caller(ctx, params)
        work = partial(self._called, caller, params.name, params.arguments or {})
        if caller.session is None:
            return await work()
        scope = anyio.CancelScope()

        def cancel() -> None:
            caller.is_cancelled = True
            scope.cancel()

        with self._questions.running(call_name(caller.session.name, ctx.request_id), cancel), scope:
            return await work()
        raise _protocol_error(McpFault(REQUEST_CANCELLED, "the client cancelled this request"))

    async def _called(self, caller: Caller, name: str, arguments: Json) -> Json:
        try:
            return _complete(await self._offering.call(caller, name, arguments))
        except McpFault as fault:
            raise _protocol_error(fault) from None
        except RoadbedError as error:
            return _complete(failed_result(error.code, error.message, error.hint))
        except Exception as error:  # an escaped exception would lose `isError`, and with it the model's chance to mend
            _log_failure("tools/call", error)
            return _complete(failed_result("internal", "the server failed on this call"))

    async def resources(self, ctx: Context, params: Any) -> Any:
        return await _answered(self._offering.resources(_caller(ctx), _cursor(params)))

    async def templates(self, ctx: Context, params: Any) -> Any:
        return await _answered(self._offering.templates(_caller(ctx), _cursor(params)))

    async def read(self, ctx: Context, params: Any) -> Any:
        return await _answered(self._offering.read(_caller(ctx, params), str(params.uri)))

    async def subscribe(self, ctx: Context, params: Any) -> Any:
        assert self._offering.follows is not None
        await _guarded(self._offering.follows.add(_caller(ctx), str(params.uri)))
        return {}

    async def unsubscribe(self, ctx: Context, params: Any) -> Any:
        assert self._offering.follows is not None
        await _guarded(self._offering.follows.remove(_caller(ctx), str(params.uri)))
        return {}

    async def prompts(self, ctx: Context, params: Any) -> Any:
        return await _answered(self._offering.prompts(_caller(ctx), _cursor(params)))

    async def prompt(self, ctx: Context, params: Any) -> Any:
        return await _answered(self._offering.prompt(_caller(ctx, params), params.name, params.arguments or {}))

    async def complete(self, ctx: Context, params: Any) -> Any:
        reference = params.ref.model_dump(by_alias=True, mode="json")
        argument = params.argument
        work = self._offering.complete(_caller(ctx), reference, argument.name, argument.value or "")
        values = await _guarded(work)
        shown = values[:COMPLETIONS_MAX]
        completion = {"values": shown, "total": len(values), "hasMore": len(values) > len(shown)}
        return _complete({"completion": completion})


def _complete(result: Json) -> Json:
    """A result that says what it is, as the newest era asks for; the SDK leaves it out for the others."""
    return result if "resultType" in result else {"resultType": "complete", **result}


def _cursor(params: Any) -> str:
    return str(params.cursor) if params is not None and params.cursor else ""


def _caller(ctx: Context, params: Any = None) -> Caller:
    """The request's caller, with what this one request says about its client."""
    caller = _caller_of(ctx)
    given = ctx.params or {}
    meta = given.get("_meta")
    caller.meta = meta if isinstance(meta, Mapping) else {}
    caller.is_legacy = ctx.protocol_version not in VERSIONS or ctx.protocol_version in LEGACY_VERSIONS
    capabilities = caller.meta.get(_CAPABILITIES)
    if caller.is_legacy:
        caller.capabilities = caller.session.capabilities() if caller.session is not None else {}
    else:
        caller.capabilities = capabilities if isinstance(capabilities, Mapping) else {}
    caller.progress = ctx.session.report_progress
    answers = given.get("inputResponses")
    caller.answers = answers if isinstance(answers, Mapping) else {}
    caller.state = getattr(params, "request_state", None)

    async def tell(level: str, data: Any) -> None:
        from mcp_types import LoggingMessageNotification, LoggingMessageNotificationParams

        if caller.is_legacy or LOG_LEVEL_KEY in caller.meta:
            params = LoggingMessageNotificationParams(level=level, data=data)  # type: ignore[arg-type]
            await ctx.session.send_notification(LoggingMessageNotification(params=params), ctx.request_id)

    caller.log = tell
    return caller


async def _answered(work: Awaitable[Json]) -> Json:
    """A whole result, or the protocol error that it ended in."""
    return _complete(await _guarded(work))


async def _guarded(work: Awaitable[T]) -> T:
    try:
        return await work
    except McpFault as fault:
        raise _protocol_error(fault) from None
    except InvalidRequest as error:
        raise _protocol_error(McpFault(INVALID_PARAMS, error.message, {"code": error.code})) from None
    except RoadbedError as error:
        raise _protocol_error(McpFault(INTERNAL_ERROR, error.message, {"code": error.code})) from None
    except Exception as error:  # the SDK would log it with its text, which could quote a request
        _log_failure("a request", error)
        raise _protocol_error(McpFault(INTERNAL_ERROR, "the server failed on this request")) from None


def _protocol_error(fault: McpFault) -> Exception:
    from mcp.shared.exceptions import MCPError

    return MCPError(fault.number, fault.message, fault.data)


def _log_failure(what: str, error: Exception) -> None:
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    where = f"{frame.tb_frame.f_code.co_filename.rpartition('/')[2]}:{frame.tb_lineno}" if frame is not None else "?"
    log.error("%s failed: %s at %s", what, type(error).__name__, where)
