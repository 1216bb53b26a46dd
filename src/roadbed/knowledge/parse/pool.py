"""Worker processes that parse files within limits, so that no file can harm the server.

Owns starting, feeding, timing, killing and recycling of ``worker`` processes; knows nothing of formats. Called by
the synchroniser and the console's upload page, on one event loop. The invariant: a kill is a result, a
`ParseFailure` with a reason; no file is ever tried twice, and a worker that was interrupted in any way is never
used again.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from types import TracebackType

import msgspec

from roadbed.knowledge.parse.document import SOURCE_BYTES_MAX, ParsedDocument, ParseFailure, too_large
from roadbed.knowledge.parse.framing import (
    HEADER_BYTES,
    OUTPUT_BYTES_MAX,
    Failed,
    Reply,
    Request,
    frame,
    reply_decoder,
    request_encoder,
)
from roadbed.store.worker_process import start_worker

MEMORY_BYTES_MAX = 768 * 1024 * 1024
CPU_S_MAX = 60
WALL_S_MAX = 90.0
RECYCLE_AFTER_FILES = 100
IDLE_S_MAX = 60.0


class ParserPool:
    """Parses files in ``workers`` subprocesses, started on first use and stopped after ``idle_s_max`` seconds
    without work.
    """

    def __init__(
        self,
        workers: int = 1,
        *,
        memory_bytes_max: int = MEMORY_BYTES_MAX,
        cpu_s_max: int = CPU_S_MAX,
        wall_s_max: float = WALL_S_MAX,
        output_bytes_max: int = OUTPUT_BYTES_MAX,
        recycle_after: int = RECYCLE_AFTER_FILES,
        idle_s_max: float = IDLE_S_MAX,
    ) -> None:
        self._limits = (memory_bytes_max, cpu_s_max, output_bytes_max)
        self._wall_s_max = wall_s_max
        self._recycle_after = recycle_after
        self._idle_s_max = idle_s_max
        self._slots = asyncio.Semaphore(workers)
        self._idle: list[_Worker] = []
        self._live: set[_Worker] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._retiring: set[asyncio.Task[None]] = set()
        self._is_closed = False

    async def __aenter__(self) -> ParserPool:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def process_ids(self) -> tuple[int, ...]:
        """The worker processes that are alive now: empty before first use and after an idle minute."""
        return tuple(sorted(worker.process.pid for worker in self._live))

    async def parse(
        self, path_or_bytes: str | os.PathLike[str] | bytes, *, name: str, media_type: str | None = None
    ) -> ParsedDocument:
        """Parse one file; raises `ParseFailure`, also when a limit ended the worker.

        Cancelling kills the worker at once.
        """
        if isinstance(path_or_bytes, bytes):
            if len(path_or_bytes) > SOURCE_BYTES_MAX:
                raise too_large(name)
            request = Request(name, media_type, None, path_or_bytes)
        else:
            request = Request(name, media_type, _absolute(path_or_bytes))
        async with self._slots:
            if self._is_closed:
                raise RuntimeError("the parser pool is closed")
            worker = self._idle.pop() if self._idle else await self._start()
            reply: Reply | None = None
            try:
                reply = await worker.ask(request_encoder.encode(request), name, self._wall_s_max)
            finally:
                # Reached with no reply on a failure and on cancellation alike: such a worker is in an unknown state.
                if reply is None or reply.is_last or worker.files >= self._recycle_after or self._is_closed:
                    self._live.discard(worker)
                    await worker.stop()
                else:
                    self._idle.append(worker)
                self._arm_timer()
        if isinstance(reply, Failed):
            raise ParseFailure(reply.reason, reply.message, hint=reply.hint)
        return reply.document

    async def close(self) -> None:
        """Kill every worker, also those at work (their callers get ``crashed``), and wait for their end."""
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._idle.clear()
        workers, self._live = list(self._live), set()
        for worker in workers:
            await worker.stop()
        if self._retiring:
            await asyncio.gather(*self._retiring)

    async def _start(self) -> _Worker:
        worker = await _Worker.start(self._limits)
        self._live.add(worker)
        return worker

    def _arm_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._idle and not self._is_closed:
            self._timer = asyncio.get_running_loop().call_later(self._idle_s_max, self._retire_idle)

    def _retire_idle(self) -> None:
        self._timer = None
        workers, self._idle = self._idle, []
        for worker in workers:
            self._live.discard(worker)
            task = asyncio.ensure_future(worker.stop())
            self._retiring.add(task)
            task.add_done_callback(self._retiring.discard)


class _Worker:
    """One subprocess and its two pipes."""

    def __init__(self, process: asyncio.subprocess.Process, limits: tuple[int, int, int]) -> None:
        self.process = process
        self.files = 0
        self._memory_bytes_max, self._cpu_s_max, self._output_bytes_max = limits

    @classmethod
    async def start(cls, limits: tuple[int, int, int]) -> _Worker:
        """Start a worker with these limits: bytes of memory, seconds of CPU, bytes of output."""
        words = (str(limit) for limit in limits)
        process = await start_worker("roadbed.knowledge.parse.worker", *words, environment={"OMP_NUM_THREADS": "1"})
        return cls(process, limits)

    async def ask(self, payload: bytes, name: str, wall_s_max: float) -> Reply:
        """One file, one reply; raises `ParseFailure` when the worker died or ran out of time instead."""
        stdin, stdout = self.process.stdin, self.process.stdout
        if stdin is None or stdout is None:
            raise RuntimeError("a worker without pipes")
        self.files += 1
        try:
            async with asyncio.timeout(wall_s_max):
                stdin.write(frame(payload))
                await stdin.drain()
                length = int.from_bytes(await stdout.readexactly(HEADER_BYTES), "big")
                if length > self._output_bytes_max:
                    raise ParseFailure(
                        "too_large", f"the text of {name} is larger than {self._output_bytes_max >> 20} MiB"
                    )
                return reply_decoder.decode(await stdout.readexactly(length))
        except TimeoutError:
            raise ParseFailure(
                "timeout", f"parsing {name} took longer than {wall_s_max:g} s", hint="split the file"
            ) from None
        except (asyncio.IncompleteReadError, BrokenPipeError, ConnectionResetError):
            raise self._autopsy(await self.process.wait(), name) from None
        except msgspec.MsgspecError:
            raise ParseFailure("crashed", f"the parser's answer for {name} was not readable") from None

    def _autopsy(self, status: int, name: str) -> ParseFailure:
        if status == -signal.SIGXCPU:
            return ParseFailure(
                "timeout", f"parsing {name} used more than {self._cpu_s_max} s of CPU", hint="split the file"
            )
        if status == -signal.SIGKILL:
            return ParseFailure("crashed", f"the parser was killed while it read {name}")
        cause = signal.Signals(-status).name if -status in set(signal.Signals) else f"exit status {status}"
        return ParseFailure(
            "crashed",
            f"the parser ended with {cause} while it read {name}",
            hint=f"the file is damaged, or needs more than {self._memory_bytes_max >> 20} MB",
        )

    async def stop(self) -> None:
        """Kill the process group and wait for its end; safe to call twice."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        if self.process.stdin is not None:
            self.process.stdin.close()
        if self.process.stdout is not None:
            # Until end of file: only then is the transport closed, and nothing is left to the garbage collector.
            while await self.process.stdout.read(1 << 20):
                pass
        await self.process.wait()


def _absolute(path: str | os.PathLike[str]) -> str:
    """The path as the worker needs it, whose working folder is the root."""
    return os.path.abspath(os.fspath(path))
