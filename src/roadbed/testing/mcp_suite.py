"""A server for the MCP conformance suite: the tools, prompts and resources that it asks for, through our own adapter.

Run it as ``python -m roadbed.testing.mcp_suite --port PORT``; it needs no key and no database. Everything but the
offering is what a deployment runs: `server.mcp`, `server.mcp_http` and the wire. It shows nothing of a deployment.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import json
import os
from collections.abc import Awaitable, Iterator, Mapping
from typing import Any, ClassVar

from roadbed.gateway.limits import Pass
from roadbed.kernel.errors import RoadbedError
from roadbed.kernel.principal import Principal
from roadbed.server.admission import Admission
from roadbed.server.mcp import Mcp
from roadbed.server.mcp_entry import Origins, mcp_routes
from roadbed.server.mcp_streams import add_mcp
from roadbed.server.mcp_types import (
    INVALID_PARAMS,
    INVALID_REQUEST,
    MISSING_CAPABILITY,
    Caller,
    Follows,
    Json,
    McpFault,
)
from roadbed.wire.hot import HotTable
from roadbed.wire.request import HotRequest
from roadbed.wire.server import bind, make_server

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
SILENCE = base64.b64encode(
    b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0\1\0\1\0\x40\x1f\0\0\x40\x1f\0\0\1\0\x08\0data\0\0\0\0"
).decode()
EMPTY = {"type": "object", "properties": {}}
HEADER_SCHEMA: Json = {
    "type": "object",
    "properties": {"region": {"type": "string", "x-mcp-header": "Region"}, "query": {"type": "string"}},
}
ASKING = ("test_sampling", "test_elicitation", "test_elicitation_sep1034_defaults", "test_elicitation_sep1330_enums")
STREAMED = frozenset(("test_tool_with_logging", "test_tool_with_progress", "test_logging_tool", *ASKING))
ASK_S = 20.0
STEP_S = 0.05
CALLER = Principal("conformance", "suite")


def text(value: str) -> Json:
    """A block of text."""
    return {"type": "text", "text": value}


def image() -> Json:
    """A block with an image."""
    return {"type": "image", "data": PIXEL, "mimeType": "image/png"}


def embedded(uri: str, value: str) -> Json:
    """A block with a resource in it."""
    return {"type": "resource", "resource": {"uri": uri, "mimeType": "text/plain", "text": value}}


def ask(key: str, message: str, field: str, type_: str = "string") -> Json:
    """A form with one field."""
    schema = {"type": "object", "properties": {field: {"type": type_}}, "required": [field]}
    return {key: {"method": "elicitation/create", "params": {"message": message, "requestedSchema": schema}}}


def sample(key: str, message: str) -> Json:
    """A question to the client's model."""
    messages = [{"role": "user", "content": text(message)}]
    return {key: {"method": "sampling/createMessage", "params": {"messages": messages, "maxTokens": 50}}}


def roots(key: str) -> Json:
    """A question for the client's folders."""
    return {key: {"method": "roots/list", "params": {}}}


def wants(requests: Json, state: str | None = None) -> Json:
    """A result that asks for more."""
    return {
        "resultType": "input_required",
        "inputRequests": requests,
        **({"requestState": state} if state is not None else {}),
    }


class MemoryFollows:
    """See `Follows`: in the memory of one process. ``touch`` says that a resource changed."""

    def __init__(self) -> None:
        self._followed: dict[tuple[str, str], bool] = {}
        self._watching: set[asyncio.Event] = set()

    async def add(self, caller: Caller, uri: str) -> None:
        """See `Follows`."""
        self._followed[session_name(caller), uri] = False

    async def remove(self, caller: Caller, uri: str) -> None:
        """See `Follows`."""
        self._followed.pop((session_name(caller), uri), None)

    async def end(self, caller: Caller) -> None:
        """See `Follows`."""
        name = session_name(caller)
        self._followed = {key: is_new for key, is_new in self._followed.items() if key[0] != name}

    async def changed(self, caller: Caller) -> list[str]:
        """See `Follows`."""
        name = session_name(caller)
        found = [key for key, is_new in self._followed.items() if is_new and key[0] == name]
        self._followed.update(dict.fromkeys(found, False))
        return [uri for _, uri in found]

    @contextlib.contextmanager
    def watching(self) -> Iterator[asyncio.Event]:
        """See `Follows`."""
        event = asyncio.Event()
        self._watching.add(event)
        try:
            yield event
        finally:
            self._watching.discard(event)

    def touch(self, uri: str) -> None:
        """A resource changed."""
        self._followed.update({key: True for key in self._followed if key[1] == uri})
        for event in self._watching:
            event.set()


def session_name(caller: Caller) -> str:
    """What a caller follows is its session's."""
    if caller.session is None:
        raise McpFault(INVALID_REQUEST, "following needs a session")
    return caller.session.name


class Suite:
    """What the conformance suite calls. Names and texts are the suite's."""

    name = "roadbed-conformance"
    version = "1"
    instructions = ""
    lists_ttl_s = 60.0
    tells_logs = True
    follows: Follows | None = MemoryFollows()

    TOOLS: ClassVar[dict[str, str]] = {
        "test_simple_text": "Gives text",
        "test_image_content": "Gives an image",
        "test_audio_content": "Gives sound",
        "test_embedded_resource": "Gives a resource",
        "test_multiple_content_types": "Gives text, an image and a resource",
        "test_tool_with_logging": "Tells what it does",
        "test_logging_tool": "Tells what it does",
        "test_tool_with_progress": "Tells how far it is",
        "test_error_handling": "Fails",
        "test_missing_capability": "Needs sampling",
        "test_sampling": "Asks the client's model on its stream",
        "test_elicitation": "Asks the client's user on its stream",
        "test_elicitation_sep1034_defaults": "Asks with a form that is filled in already",
        "test_elicitation_sep1330_enums": "Asks with a form of choices",
        "test_streaming_elicitation": "Asks on its stream",
        "test_input_required_result_elicitation": "Asks for a name",
        "test_input_required_result_sampling": "Asks the client's model",
        "test_input_required_result_list_roots": "Asks for folders",
        "test_input_required_result_request_state": "Keeps state with the client",
        "test_input_required_result_multiple_inputs": "Asks for three things",
        "test_input_required_result_multi_round": "Asks twice",
        "test_input_required_result_tampered_state": "Keeps state that nobody may change",
        "test_input_required_result_capabilities": "Asks what the client can answer",
    }

    def input_schema(self, name: str, caller: Caller) -> Mapping[str, Any] | None:
        """See `Offering`."""
        return HEADER_SCHEMA if name == "test_headers" else EMPTY if name in self.TOOLS else None

    def needs_stream(self, name: str, caller: Caller) -> bool:
        """See `Offering`."""
        return name in STREAMED

    async def tools(self, caller: Caller, cursor: str) -> Json:
        """See `Offering`."""
        found = [{"name": name, "description": said, "inputSchema": EMPTY} for name, said in self.TOOLS.items()]
        headers = {"name": "test_headers", "description": "Mirrors an argument", "inputSchema": HEADER_SCHEMA}
        return {"tools": [*found, SCHEMA_TOOL, headers]}

    async def call(self, caller: Caller, name: str, arguments: Json) -> Json:
        """See `Offering`."""
        if name.startswith("test_input_required_result_"):
            return self._asks(caller, name.removeprefix("test_input_required_result_"))
        if name in ASKING:
            return await self._asked(caller, name, arguments)
        if name == "test_missing_capability" and not caller.can("sampling"):
            needed: Json = {"requiredCapabilities": {"sampling": {}}}
            raise McpFault(MISSING_CAPABILITY, "this tool needs the client capability sampling", needed)
        if name in ("test_tool_with_logging", "test_logging_tool"):
            for said in ("Tool execution started", "Tool processing data", "Tool execution completed"):
                await caller.log("info", said)
                await asyncio.sleep(STEP_S)
        if name == "test_tool_with_progress":
            for done in (0, 50, 100):
                await caller.progress(done, 100, f"Completed step {done} of 100")
                await asyncio.sleep(STEP_S)
        if name == "test_error_handling":
            return {"content": [text("This tool intentionally returns an error for testing")], "isError": True}
        if name not in (*self.TOOLS, "test_headers", SCHEMA_TOOL["name"]):
            raise McpFault(INVALID_PARAMS, f"there is no tool {name[:80]!r}")
        return {"content": _CONTENT.get(name, [text("This is a simple text response for testing.")])}

    async def _asked(self, caller: Caller, name: str, arguments: Json) -> Json:
        """The result of a tool that asks on its stream, as the older versions do."""
        needed = "sampling" if name == "test_sampling" else "elicitation"
        if caller.ask is None or not caller.can(needed):
            return {"content": [text(f"this client cannot be asked by {needed}")], "isError": True}
        if name == "test_sampling":
            prompt = {"role": "user", "content": text(str(arguments.get("prompt", "")))}
            found = await caller.ask("sampling/createMessage", {"messages": [prompt], "maxTokens": 100}, ASK_S)
            said = found.get("content", {}).get("text", "") if found is not None else "none"
            return {"content": [text(f"LLM response: {said}")]}
        message = str(arguments.get("message", "Please fill this in"))
        form = {"message": message, "requestedSchema": FORMS[name]}
        found = await caller.ask("elicitation/create", form, ASK_S) or {"action": "none"}
        said = f"action={found.get('action')}, content={json.dumps(found.get('content'))}"
        return {
            "content": [
                text(f"User response: {said}" if name == "test_elicitation" else f"Elicitation completed: {said}")
            ]
        }

    def _asks(self, caller: Caller, kind: str) -> Json:
        answers, state = caller.answers, caller.state
        name_form = ask("user_name", "What is your name?", "name")
        confirm = ask("confirm", "Please confirm", "ok", "boolean")
        done: Json = {"content": [text("done, state-ok")]}
        if kind == "elicitation":
            return _greeting(answers["user_name"]) if _has_form(answers, "user_name", "name") else wants(name_form)
        if kind == "sampling":
            return done if "capital_question" in answers else wants(sample("capital_question", "Capital of France?"))
        if kind == "list_roots":
            return done if "client_roots" in answers else wants(roots("client_roots"))
        if kind in ("request_state", "tampered_state"):
            return done if state == "first" and "confirm" in answers else wants(confirm, "first")
        if kind == "multiple_inputs":
            three = {**name_form, **sample("greeting", "Generate a greeting"), **roots("client_roots")}
            return done if state == "three" and three.keys() <= answers.keys() else wants(three, "three")
        if kind == "multi_round":
            if state == "one" and "step1" in answers:
                return wants(ask("step2", "Step 2: What is your favorite color?", "color"), "two")
            if state == "two" and "step2" in answers:
                return done
            return wants(ask("step1", "Step 1: What is your name?", "name"), "one")
        asked: Json = {}
        if caller.can("elicitation"):
            asked |= name_form
        if caller.can("sampling"):
            asked |= sample("greeting", "Generate a greeting")
        return done if not asked or asked.keys() <= answers.keys() else wants(asked)

    async def resources(self, caller: Caller, cursor: str) -> Json:
        """See `Offering`."""
        return {
            "resources": [
                {"uri": "test://static-text", "name": "Static text", "mimeType": "text/plain"},
                {"uri": "test://static-binary", "name": "Static binary", "mimeType": "image/png"},
            ]
        }

    async def templates(self, caller: Caller, cursor: str) -> Json:
        """See `Offering`."""
        found = {"uriTemplate": "test://template/{id}/data", "name": "Data by id", "mimeType": "application/json"}
        return {"resourceTemplates": [found]}

    async def read(self, caller: Caller, uri: str) -> Json:
        """See `Offering`."""
        if uri == "test://static-text":
            found: Json = {"mimeType": "text/plain", "text": "This is the content of the static text resource."}
        elif uri == "test://static-binary":
            found = {"mimeType": "image/png", "blob": PIXEL}
        elif uri.startswith("test://template/") and uri.endswith("/data"):
            number = uri.split("/")[3]
            found = {"mimeType": "application/json", "text": f'{{"id": "{number}", "data": "Data for {number}"}}'}
        else:
            raise McpFault(INVALID_PARAMS, "there is no such resource", {"uri": uri})
        return {"contents": [{"uri": uri, **found}]}

    async def prompts(self, caller: Caller, cursor: str) -> Json:
        """See `Offering`."""
        two = [{"name": "arg1", "required": True}, {"name": "arg2", "required": True}]
        return {
            "prompts": [
                {"name": "test_simple_prompt", "description": "Simple"},
                {"name": "test_prompt_with_arguments", "description": "With arguments", "arguments": two},
                {
                    "name": "test_prompt_with_embedded_resource",
                    "description": "With a resource",
                    "arguments": [{"name": "resourceUri", "required": True}],
                },
                {"name": "test_prompt_with_image", "description": "With an image"},
                {"name": "test_input_required_result_prompt", "description": "Asks first"},
            ]
        }

    async def prompt(self, caller: Caller, name: str, arguments: Mapping[str, str]) -> Json:
        """See `Offering`."""
        if name == "test_input_required_result_prompt" and "user_context" not in caller.answers:
            return wants(ask("user_context", "What context should the prompt use?", "context"))
        blocks: list[Json] = {
            "test_prompt_with_arguments": [
                text(f"Prompt with arguments: arg1='{arguments.get('arg1')}', arg2='{arguments.get('arg2')}'")
            ],
            "test_prompt_with_embedded_resource": [
                embedded(str(arguments.get("resourceUri", "")), "Embedded resource content for testing."),
                text("Please process the embedded resource above."),
            ],
            "test_prompt_with_image": [image(), text("Please analyze the image above.")],
        }.get(name, [text("This is a simple prompt for testing.")])
        return {"messages": [{"role": "user", "content": block} for block in blocks]}

    async def complete(self, caller: Caller, reference: Json, argument: str, value: str) -> list[str]:
        """See `Offering`."""
        return [word for word in ("paris", "park", "party") if word.startswith(value)]


def _choices(*pairs: tuple[str, str]) -> list[Json]:
    return [{"const": value, "title": title} for value, title in pairs]


FORMS: dict[str, Json] = {
    "test_elicitation": {
        "type": "object",
        "properties": {
            "username": {"type": "string", "description": "User's response"},
            "email": {"type": "string", "description": "User's email address"},
        },
        "required": ["username", "email"],
    },
    "test_elicitation_sep1034_defaults": {
        "type": "object",
        "properties": {
            "name": {"type": "string", "default": "John Doe"},
            "age": {"type": "integer", "default": 30},
            "score": {"type": "number", "default": 95.5},
            "status": {"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
            "verified": {"type": "boolean", "default": True},
        },
    },
    "test_elicitation_sep1330_enums": {
        "type": "object",
        "properties": {
            "untitledSingle": {"type": "string", "enum": ["option1", "option2", "option3"]},
            "titledSingle": {"type": "string", "oneOf": _choices(("value1", "First"), ("value2", "Second"))},
            "legacyEnum": {
                "type": "string",
                "enum": ["opt1", "opt2", "opt3"],
                "enumNames": ["Option One", "Option Two", "Option Three"],
            },
            "untitledMulti": {"type": "array", "items": {"type": "string", "enum": ["option1", "option2", "option3"]}},
            "titledMulti": {
                "type": "array",
                "items": {"anyOf": _choices(("value1", "First"), ("value2", "Second"))},
            },
        },
    },
}

SCHEMA_TOOL: Json = {
    "name": "json_schema_2020_12_tool",
    "description": "Tool with JSON Schema 2020-12 features",
    "inputSchema": {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "$defs": {
            "address": {
                "$anchor": "addressDef",
                "type": "object",
                "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
            }
        },
        "properties": {
            "name": {"type": "string"},
            "address": {"$ref": "#/$defs/address"},
            "contactMethod": {"type": "string", "enum": ["phone", "email"]},
            "phone": {"type": "string"},
            "email": {"type": "string"},
        },
        "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
        "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
        "then": {"required": ["phone"]},
        "else": {"required": ["email"]},
        "additionalProperties": False,
    },
}

_CONTENT: dict[str, list[Json]] = {
    "test_image_content": [image()],
    "test_audio_content": [{"type": "audio", "data": SILENCE, "mimeType": "audio/wav"}],
    "test_embedded_resource": [embedded("test://embedded-resource", "This is an embedded resource content.")],
    "test_multiple_content_types": [
        text("Multiple content types test:"),
        image(),
        embedded("test://mixed-content-resource", '{"test":"data","value":123}'),
    ],
}


def _has_form(answers: Mapping[str, Any], key: str, field: str) -> bool:
    answer = answers.get(key)
    content = answer.get("content") if isinstance(answer, Mapping) else None
    return isinstance(content, Mapping) and isinstance(content.get(field), str)


def _greeting(answer: Any) -> Json:
    return {"content": [text(f"Hello, {answer['content']['name']}!")]}


class Anyone:
    """Lets everybody in."""

    def waits_for(self, request: HotRequest) -> Awaitable[None] | None:
        """See `Entry`."""
        return None

    def admit(self, request: HotRequest) -> tuple[Admission, Pass | None]:
        """See `Entry`."""
        return Admission(CALLER, None), None

    def check(self, request: HotRequest) -> Admission:
        """See `Entry`."""
        return Admission(CALLER, None)

    def challenge(self, error: RoadbedError) -> bytes:
        """See `Entry`."""
        return b"Bearer"


async def serve(port: int) -> None:
    """Serve until the process is stopped."""
    mcp = Mcp(Suite(), os.urandom(32))

    table = HotTable()
    add_mcp(table, mcp, Anyone(), Origins())
    from starlette.applications import Starlette

    server = make_server(Starlette(routes=mcp_routes()), table, bind("127.0.0.1", port))
    try:
        await server.serve()
    finally:
        await mcp.close()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="serve the MCP conformance suite's tools")
    parser.add_argument("--port", type=int, default=0)
    asyncio.run(serve(parser.parse_args().port))


if __name__ == "__main__":
    main()
