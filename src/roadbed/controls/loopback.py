"""`Loopback`: a model server of the canary's own, on this machine, so that all that would leave is seen.

It speaks just enough of the OpenAI dialect (chat, streamed and whole, embeddings, rerank) for real requests over real
HTTP, keeps every byte that it is sent, within a bound, and answers with what it was asked and more planted values. It
lives for one run and answers only under the run's own path. The invariant: it calls nobody.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from typing import Any, Final

HEAD_BYTES_MAX: Final = 64 * 1024
BODY_BYTES_MAX: Final = 4 * 1024 * 1024
CAPTURED_BYTES_MAX: Final = 64 * 1024 * 1024
PIECE_CHARACTERS: Final = 7
DIMENSIONS: Final = 4
REFUSE_WORD: Final = "quillwort"
BREAK_WORD: Final = "foxglove"


class Loopback:
    """The server. Use it as an async context manager. ``told`` is what it adds to every answer."""

    def __init__(self, told: str = "") -> None:
        self.told = told
        self.captured: list[tuple[str, bytes]] = []
        self._size = 0
        self._nonce = secrets.token_urlsafe(12)
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """The address before the name of an endpoint."""
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/{self._nonce}"

    async def __aenter__(self) -> Loopback:
        self._server = await asyncio.start_server(self._accepted, "127.0.0.1", 0, limit=HEAD_BYTES_MAX)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await self._server.wait_closed()

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while await self._answer_one(reader, writer):
                pass
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError, ValueError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _answer_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        first, _, rest = head.decode("latin-1").partition("\r\n")
        path = first.split(" ")[1]
        headers = {
            name.strip().lower(): value.strip()
            for name, mark, value in (line.partition(":") for line in rest.splitlines())
            if mark
        }
        size = int(headers.get("content-length", "0"))
        if not 0 <= size <= BODY_BYTES_MAX or not path.startswith(f"/{self._nonce}/"):
            return False
        body = await reader.readexactly(size)
        if self._size < CAPTURED_BYTES_MAX:
            self._size += size + len(head)
            self.captured.append((path.split("/")[2], head + body))
        await _send(writer, *self._reply(path, json.loads(body or b"{}")))
        return True

    def _reply(self, path: str, asked: dict[str, Any]) -> tuple[int, str, bytes]:
        if path.endswith("/embeddings"):
            texts = asked["input"] if isinstance(asked["input"], list) else [asked["input"]]
            rows = [{"object": "embedding", "index": i, "embedding": [0.5] * DIMENSIONS} for i in range(len(texts))]
            usage = {"prompt_tokens": 1, "total_tokens": 1}
            return 200, "application/json", _json({"object": "list", "data": rows, "model": "c", "usage": usage})
        if path.endswith("/rerank"):
            rows = [{"index": i, "relevance_score": 0.5} for i in range(len(asked["documents"]))]
            return 200, "application/json", _json({"results": rows})
        text = _last_text(asked)
        if BREAK_WORD in json.dumps(asked):
            return 500, "application/json", _json({"error": {"message": "it broke", "type": "server_error"}})
        if REFUSE_WORD in text:
            message = f"this cannot be done: {text} {self.told}"
            return 400, "application/json", _json({"error": {"message": message, "type": "invalid_request_error"}})
        answer = _answer(text, self.told)
        if asked.get("stream"):
            return 200, "text/event-stream", _events(answer)
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": answer}}
        usage = {"prompt_tokens": 5, "completion_tokens": 5, "total_tokens": 10}
        head = {"id": "c", "object": "chat.completion", "created": 0, "model": "canary"}
        return 200, "application/json", _json({**head, "choices": [choice], "usage": usage})


def _answer(text: str, told: str) -> str:
    """A sentence of the passages that were shown, cited, or what was asked; and what the run wants told."""
    for line in text.splitlines():
        if "thistledown" in line and "fee" in line and "?" not in line:
            return f"{line.strip().rstrip('.')} [1]. {told}"
    return f"You wrote: {text} {told}"


def _last_text(asked: dict[str, Any]) -> str:
    """All texts of the messages, the last one first."""
    texts = []
    for message in asked.get("messages", []):
        content = message.get("content")
        if isinstance(content, str):
            texts.append(content)
        elif isinstance(content, list):
            texts += [str(part.get("text", "")) for part in content if isinstance(part, dict)]
    return "\n".join(reversed(texts))


def _events(answer: str) -> bytes:
    head = {"id": "c", "object": "chat.completion.chunk", "created": 0, "model": "canary"}
    lines = [
        {**head, "choices": [{"index": 0, "delta": {"content": answer[at : at + PIECE_CHARACTERS]}}]}
        for at in range(0, len(answer), PIECE_CHARACTERS)
    ]
    lines.append({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    return b"".join(b"data: " + _json(line) + b"\n\n" for line in lines) + b"data: [DONE]\n\n"


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


async def _send(writer: asyncio.StreamWriter, status: int, kind: str, body: bytes) -> None:
    head = f"HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    await writer.drain()
