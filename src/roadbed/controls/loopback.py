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

from roadbed.controls.loopback_answers import answer_of, as_json, chat, events, last_text, message_events, messages

HEAD_BYTES_MAX: Final = 64 * 1024
BODY_BYTES_MAX: Final = 4 * 1024 * 1024
CAPTURED_BYTES_MAX: Final = 64 * 1024 * 1024
DIMENSIONS: Final = 4
REFUSE_WORD: Final = "quillwort"
BROKEN: Final = "broken"
THINKING: Final = "thinking"
_JSON: Final = "application/json"
_EVENTS: Final = "text/event-stream"


class Loopback:
    """The server. Use it as an async context manager. ``told`` is what it adds to every answer; where a word of
    ``replies`` is asked, it says what stands there.
    """

    def __init__(self, told: str = "") -> None:
        self.told = told
        self.replies: dict[str, str] = {}
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
        name = path.split("/")[2]
        if name == BROKEN:
            return 500, _JSON, as_json({"error": {"message": "it broke", "type": "server_error"}})
        if path.endswith("/embeddings"):
            texts = asked["input"] if isinstance(asked["input"], list) else [asked["input"]]
            rows = [{"object": "embedding", "index": i, "embedding": [0.5] * DIMENSIONS} for i in range(len(texts))]
            usage = {"prompt_tokens": 1, "total_tokens": 1}
            return 200, _JSON, as_json({"object": "list", "data": rows, "model": "c", "usage": usage})
        if path.endswith("/rerank"):
            rows = [{"index": i, "relevance_score": 0.5} for i in range(len(asked["documents"]))]
            return 200, _JSON, as_json({"results": rows})
        if path.endswith("/messages"):
            is_streamed = bool(asked.get("stream"))
            return (200, _EVENTS, message_events(self.told)) if is_streamed else (200, _JSON, messages(self.told))
        return self._chat_reply(name, last_text(asked), is_streamed=bool(asked.get("stream")))

    def _chat_reply(self, name: str, text: str, *, is_streamed: bool) -> tuple[int, str, bytes]:
        if REFUSE_WORD in text:
            message = f"this cannot be done: {text} {self.told}"
            return 400, _JSON, as_json({"error": {"message": message, "type": "invalid_request_error"}})
        answer = next((reply for word, reply in self.replies.items() if word in text), "")
        answer = answer or ("It is thought." if name == THINKING else answer_of(text, self.told))
        reasoning = self.told if name == THINKING else ""
        return (200, _EVENTS, events(answer, reasoning)) if is_streamed else (200, _JSON, chat(answer, reasoning))


async def _send(writer: asyncio.StreamWriter, status: int, kind: str, body: bytes) -> None:
    head = f"HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    await writer.drain()
