"""A model server whose answers are scripted, over real HTTP on loopback: OpenAI chat completions and Anthropic
messages.

Rules by regular expression choose the reply; without a match, passages marked in the prompt are quoted with their
numbers. It logs every request, and sees when a caller closes the connection. Its own small HTTP/1.1 server, so that
it can also behave badly. Tests use `ScriptedModel`; by hand: ``python -m roadbed.testing.scripted_model --port 0``.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from roadbed.testing.scripted_reply import (
    Prompt,
    Reply,
    quote_passages,
    stream_anthropic,
    stream_openai,
    whole_anthropic,
    whole_openai,
)

HEAD_BYTES_MAX = 64 * 1024
BODY_BYTES_MAX = 64 * 1024 * 1024
EVENTS = {"content-type": "text/event-stream"}
JSON = {"content-type": "application/json"}
GARBAGE = b'data: {"choices": [{"delta": {"content": "\n\n'
Script = Reply | Callable[[Prompt], Reply]
Post = Reply | Callable[["LoggedRequest"], Reply]


@dataclass(slots=True)
class Rule:
    """The reply to prompts that match ``pattern`` (searched in all texts), at most ``times`` times."""

    pattern: str
    reply: Script
    times: int | None = None


@dataclass(slots=True)
class LoggedRequest:
    """One request as it came. ``closed`` is set when the caller closes the connection before the answer ended."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    answered: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def json(self) -> Any:
        """The body, decoded."""
        return json.loads(self.body)


class ScriptedModel:
    """The server. Use as an async context manager; ``url`` is the OpenAI base address, ``root`` the one without
    ``/v1``.

    ``gets`` answers GET paths with JSON, for probes; ``/v1/models`` lists ``models`` unless ``gets`` says otherwise.
    ``posts`` answers POST paths of other dialects with whole bodies; one with ``stall_after`` falls silent after its
    body, which then is the beginning of an answer.
    """

    def __init__(
        self,
        *rules: Rule,
        default: Script = quote_passages,
        models: tuple[str, ...] = ("scripted",),
        gets: dict[str, Any] | None = None,
        posts: dict[str, Post] | None = None,
        port: int = 0,
    ) -> None:
        self.rules = list(rules)
        self.default = default
        self.requests: list[LoggedRequest] = []
        self.connections = 0
        self.posts = posts or {}
        self._gets = gets or {}
        self._models = models
        self._port = port
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._arrived = asyncio.Condition()

    @property
    def root(self) -> str:
        """``http://127.0.0.1:PORT``."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def url(self) -> str:
        """The base address of the OpenAI dialect."""
        return f"{self.root}/v1"

    @property
    def chats(self) -> list[LoggedRequest]:
        """The requests for answers, without probes."""
        return [request for request in self.requests if request.method == "POST"]

    def script(self, *rules: Rule) -> None:
        """Replace the rules."""
        self.rules = list(rules)

    async def wait_for_request(self, count: int = 1) -> LoggedRequest:
        """The request number ``count`` (from 1) for an answer, once it is here."""
        async with self._arrived:
            await self._arrived.wait_for(lambda: len(self.chats) >= count)
        return self.chats[count - 1]

    async def start(self) -> ScriptedModel:
        """Listen; returns itself."""
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self._port, limit=HEAD_BYTES_MAX)
        self._port = self._server.sockets[0].getsockname()[1]
        return self

    async def stop(self) -> None:
        """Close the port and all connections."""
        if self._server is not None:
            self._server.close()
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await self._server.wait_closed()
            self._server = None

    async def __aenter__(self) -> ScriptedModel:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            while await self._serve_one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        except asyncio.CancelledError:
            if self._server is not None and self._server.is_serving():
                raise
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, target, _ = head[0].split(" ", 2)
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
        length = int(headers.get("content-length", "0"))
        if length > BODY_BYTES_MAX:
            return False
        request = LoggedRequest(method, target.partition("?")[0], headers, await reader.readexactly(length))
        self.requests.append(request)
        async with self._arrived:
            self._arrived.notify_all()
        answer = asyncio.ensure_future(self._answer(request, writer))
        watch = asyncio.ensure_future(reader.read(1))
        try:
            await asyncio.wait({answer, watch}, return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():
                request.closed.set()
                return False
            request.answered.set()
            return answer.result() and not watch.done()
        finally:
            answer.cancel()
            watch.cancel()
            await asyncio.gather(answer, watch, return_exceptions=True)

    async def _answer(self, request: LoggedRequest, writer: asyncio.StreamWriter) -> bool:
        if request.method == "GET":
            found = self._gets.get(request.path)
            if found is None and request.path == "/v1/models" and "/v1/models" not in self._gets:
                found = {"object": "list", "data": [{"id": name, "object": "model"} for name in self._models]}
            if isinstance(found, Reply):
                return await self._send(writer, found, b"")
            body = json.dumps(found if found is not None else {"error": "not found"}).encode()
            return await self._send(writer, Reply(status=200 if found is not None else 404), body)
        post = self.posts.get(request.path)
        if post is not None:
            reply = post(request) if callable(post) else post
            if reply.hang:
                await asyncio.Event().wait()
            if reply.stall_after is not None:
                head = _head(reply.status, reply.headers, "transfer-encoding: chunked")
                writer.write(head + _chunk(reply.body or b" "))
                await asyncio.Event().wait()
            return await self._send(writer, reply, b"{}")
        dialects = {"/v1/chat/completions": "openai", "/v1/messages": "anthropic"}
        dialect = dialects.get(request.path)
        if dialect is None:
            return await self._send(writer, Reply(status=404), b'{"error":{"message":"unknown path"}}')
        try:
            body_object = json.loads(request.body)
            prompt = Prompt(dialect, str(body_object["model"]), body_object)
        except (ValueError, KeyError, TypeError):
            error = b'{"type":"error","error":{"type":"invalid_request_error","message":"the body is no request"}}'
            return await self._send(writer, Reply(status=400), error)
        return await self._reply(prompt, self._choose(prompt), writer)

    def _choose(self, prompt: Prompt) -> Reply:
        for rule in self.rules:
            if (rule.times is None or rule.times > 0) and re.search(rule.pattern, prompt.everything, re.S):
                if rule.times is not None:
                    rule.times -= 1
                return rule.reply(prompt) if callable(rule.reply) else rule.reply
        return self.default(prompt) if callable(self.default) else self.default

    async def _reply(self, prompt: Prompt, reply: Reply, writer: asyncio.StreamWriter) -> bool:
        if reply.hang:
            await asyncio.Event().wait()
        if reply.body is not None:
            await asyncio.sleep(reply.first_delay_s)
            return await self._send(writer, reply, reply.body)
        if not prompt.is_stream:
            await asyncio.sleep(reply.first_delay_s)
            whole = whole_openai if prompt.dialect == "openai" else whole_anthropic
            return await self._send(writer, reply, whole(prompt, reply))
        writer.write(_head(reply.status, {**EVENTS, **reply.headers}, "transfer-encoding: chunked"))
        for _ in range(reply.pings):
            writer.write(_chunk(b": ping\n\n"))
        await writer.drain()
        await asyncio.sleep(reply.first_delay_s)
        stream = stream_openai if prompt.dialect == "openai" else stream_anthropic
        for number, piece in enumerate(stream(prompt, reply)):
            if number == reply.stall_after:
                await asyncio.Event().wait()
            if number == reply.cut_after:
                return False
            if number == reply.end_after:
                writer.write(b"0\r\n\r\n")
                await writer.drain()
                return True
            if number == reply.garbage_after:
                writer.write(_chunk(GARBAGE))
            if number == reply.error_after:
                error = {"type": "error", "error": {"type": "overloaded_error", "message": "scripted"}}
                writer.write(_chunk(b"event: error\ndata: " + json.dumps(error).encode() + b"\n\n"))
            if number and reply.gap_s:
                await asyncio.sleep(reply.gap_s)
            writer.write(_chunk(piece))
            await writer.drain()
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        return True

    async def _send(self, writer: asyncio.StreamWriter, reply: Reply, body: bytes) -> bool:
        body = reply.body if reply.body is not None else body
        writer.write(_head(reply.status, {**JSON, **reply.headers}, f"content-length: {len(body)}") + body)
        await writer.drain()
        return True


def _head(status: int, headers: dict[str, str], framing: str) -> bytes:
    lines = [f"HTTP/1.1 {status} Scripted", framing, *(f"{name}: {value}" for name, value in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


async def _serve(port: int, delay_s: float) -> None:
    def answer(prompt: Prompt) -> Reply:
        reply = quote_passages(prompt)
        return Reply(text=reply.text, gap_s=delay_s)

    async with ScriptedModel(default=answer, port=port) as model:
        print(model.url, flush=True)
        await asyncio.Event().wait()


def main() -> None:
    """Serve until interrupted; prints the base address first."""
    parser = argparse.ArgumentParser(prog="python -m roadbed.testing.scripted_model", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1; 0 takes a free one")
    parser.add_argument("--delay", type=float, default=0.0, help="seconds between two words")
    options = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(options.port, options.delay))


if __name__ == "__main__":
    main()
