"""A server on loopback that answers with given bytes, whatever it is asked: for dialects in which the scripted model
does not speak. It keeps every request, and writes a body in small pieces.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

PIECE_BYTES = 7


@dataclass(frozen=True)
class Raw:
    """One response."""

    body: bytes
    content_type: str = "application/json"
    status: int = 200


@dataclass(frozen=True)
class Asked:
    """One request as it came."""

    target: str
    headers: dict[str, str]
    body: Any


@dataclass
class RawServer:
    """Gives ``answers`` one after the other, the last one for ever. An async context manager."""

    answers: list[Raw]
    requests: list[Asked] = field(default_factory=list)
    root: str = ""

    async def __aenter__(self) -> RawServer:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.root = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
        body = await reader.readexactly(int(headers["content-length"]))
        self.requests.append(Asked(head[0].split(" ")[1], headers, json.loads(body)))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        lines = (
            f"HTTP/1.1 {answer.status} Raw",
            f"content-type: {answer.content_type}",
            "transfer-encoding: chunked",
            "connection: close",
        )
        writer.write("\r\n".join((*lines, "", "")).encode())
        with contextlib.suppress(ConnectionError):
            for start in range(0, len(answer.body), PIECE_BYTES):
                piece = answer.body[start : start + PIECE_BYTES]
                writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
                await writer.drain()
            writer.write(b"0\r\n\r\n")
            await writer.drain()
            writer.close()
            await writer.wait_closed()
