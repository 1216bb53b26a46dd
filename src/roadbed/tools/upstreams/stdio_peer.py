"""A server as a program of this machine, spoken to over its standard input and output.

It is started at the first call by `stdio_launch`, with an environment that holds what the manifest names and nothing
else, in a process group of its own, and ended after `IDLE_S` without work. One request at a time. A server that does
not answer in time, floods or sends what is no message is killed, and the next call starts it anew. The invariant: a
process that was killed or left with a request unanswered is never spoken to again.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import roadbed
from roadbed.kernel.deadline import Deadline
from roadbed.sources.caller_auth import Shown
from roadbed.tools.upstreams.errors import UpstreamMisbehaved, UpstreamTimeout, UpstreamUnavailable
from roadbed.tools.upstreams.messages import (
    BODY_BYTES_MAX,
    INITIALIZE,
    LEGACY,
    METHOD_NOT_FOUND,
    ErrorAnswered,
    encoder,
    notification_body,
    parse_message,
    request_body,
    result_of,
)
from roadbed.tools.upstreams.stdio_launch import NOT_FOUND, NOT_ISOLATED

IDLE_S = 300.0
MESSAGES_MAX = 1_000
END_S = 2.0
_PACKAGE_ROOT = str(Path(roadbed.__file__).resolve().parents[1])
_NOTHING: Mapping[str, Any] = {}


class StdioPeer:
    """One server. ``environment`` is asked for at each start."""

    def __init__(
        self,
        name: str,
        command: list[str],
        folder: Path,
        environment: Callable[[], dict[str, str]],
        *,
        memory_mib_max: int,
        may_use_network: bool,
    ) -> None:
        self._name = name
        self._folder = folder
        self._environment = environment
        self._launch = (
            *(sys.executable, "-B", "-P", "-s", "-m", "roadbed.tools.upstreams.stdio_launch", str(os.getpid())),
            *(str(memory_mib_max), "network" if may_use_network else "none", "--", *command),
        )
        self._process: asyncio.subprocess.Process | None = None
        self._is_modern = False
        self._number = 0
        self._turn = asyncio.Lock()
        self._timer: asyncio.TimerHandle | None = None
        self._ends: set[asyncio.Task[None]] = set()

    @property
    def process_id(self) -> int | None:
        """The server that runs now."""
        return self._process.pid if self._process is not None else None

    @property
    def is_running(self) -> bool:
        """Whether the next request goes to the program that answered the last one."""
        return self._process is not None and self._process.returncode is None

    async def request(
        self,
        method: str,
        params: Mapping[str, Any],
        deadline: Deadline,
        *,
        caller: str,
        may_repeat: bool,
        schema: Mapping[str, Any] = _NOTHING,
        shown: Shown | None = None,
    ) -> dict[str, Any]:
        """The result of one request. As `HttpPeer.request`; ``caller``, ``schema`` and ``shown`` make no difference."""
        is_answered = False
        try:
            async with asyncio.timeout(deadline.remaining_s()), self._turn:
                try:
                    await self._ensure_started()
                    result = await self._ask(method, params)
                    is_answered = True
                    return result
                except ErrorAnswered:
                    is_answered = True
                    raise
                finally:
                    if is_answered:
                        self._arm_timer()
                    else:
                        self._kill()
        except TimeoutError:
            raise UpstreamTimeout(f"{self._name} did not answer in time") from None

    async def _ensure_started(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.is_running:
            return
        self._kill()
        environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", **self._environment()}
        self._process = await asyncio.create_subprocess_exec(
            *self._launch,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env={"PYTHONPATH": _PACKAGE_ROOT, **environment},
            cwd=self._folder,
            start_new_session=True,
            limit=BODY_BYTES_MAX,
        )
        await self._open()

    async def _open(self) -> None:
        """Find the era: ``initialize`` first, since an older server may not bear anything else before it."""
        try:
            version = (await self._ask("initialize", INITIALIZE)).get("protocolVersion")
        except ErrorAnswered:
            self._is_modern = True
            return
        if version not in LEGACY:
            raise UpstreamMisbehaved(f"{self._name} speaks no version of MCP that is known here")
        self._is_modern = False
        self._write(notification_body("notifications/initialized"))

    async def _ask(self, method: str, params: Mapping[str, Any]) -> dict[str, Any]:
        process = self._process
        if process is None or process.stdout is None:
            raise UpstreamUnavailable(f"{self._name} does not run")
        self._number += 1
        is_modern = self._is_modern and method != "initialize"
        self._write(request_body(self._number, method, params, is_modern=is_modern))
        size = 0
        for _ in range(MESSAGES_MAX):
            try:
                line = await process.stdout.readline()
            except ValueError:
                raise UpstreamMisbehaved(f"{self._name} sent a message over {BODY_BYTES_MAX} bytes") from None
            size += len(line)
            if size > BODY_BYTES_MAX:
                raise UpstreamMisbehaved(f"{self._name} sent more than {BODY_BYTES_MAX} bytes")
            if not line.endswith(b"\n"):
                raise self._ended(await process.wait())
            if not line.strip():
                continue
            message = parse_message(self._name, line)
            if message.method and message.id is not None:
                self._write(_answer_to(message.id, message.method))
            elif message.id == self._number:
                return result_of(self._name, message)
        raise UpstreamMisbehaved(f"{self._name} sent more than {MESSAGES_MAX} messages")

    def _write(self, body: bytes) -> None:
        if self._process is None or self._process.stdin is None:
            raise UpstreamUnavailable(f"{self._name} does not run")
        self._process.stdin.write(body + b"\n")

    def _ended(self, status: int) -> UpstreamUnavailable | UpstreamMisbehaved:
        if status == NOT_ISOLATED:
            return UpstreamMisbehaved(
                f"{self._name} cannot be kept from the network on this machine",
                hint="say network: true in its source if it may use it",
            )
        if status == NOT_FOUND:
            return UpstreamUnavailable(f"the program of {self._name} is not there", hint="mend the source's command")
        return UpstreamUnavailable(f"the program of {self._name} ended (status {status})")

    def _arm_timer(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(IDLE_S, self._kill)

    def _kill(self) -> None:
        """End the process and all that it started, without waiting."""
        process, self._process = self._process, None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if process is None:
            return
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        task = asyncio.get_running_loop().create_task(_reap(process), name=f"mcp {self._name}: end")
        self._ends.add(task)
        task.add_done_callback(self._ends.discard)

    async def close(self) -> None:
        """End the server; no process is left afterwards."""
        self._kill()
        if self._ends:
            await asyncio.wait(self._ends)


async def _reap(process: asyncio.subprocess.Process) -> None:
    if process.stdin is not None:
        process.stdin.close()
    if process.stdout is not None:
        # Until end of file: only then is the transport closed, and nothing is left to the garbage collector.
        with suppress(TimeoutError):
            async with asyncio.timeout(END_S):
                while await process.stdout.read(1 << 16):
                    pass
    await process.wait()


def _answer_to(number: int | str, method: str) -> bytes:
    """What a server that asks us something gets: nothing but a ping is answered."""
    body: dict[str, Any] = {"jsonrpc": "2.0", "id": number}
    if method == "ping":
        return encoder.encode({**body, "result": {}})
    return encoder.encode({**body, "error": {"code": METHOD_NOT_FOUND, "message": "not offered"}})
