"""One serving process as its owner holds it: a fresh interpreter with the inherited socket, and the link to it.

It waits for a `Start`, so that one may stand ready to take the place of another that ends. The invariant: `wait` or
`kill` was called for every process that `start` made.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Sequence

from roadbed.server.link import Link


class WorkerProcess:
    """A started process. Made by `start`."""

    def __init__(self, process: asyncio.subprocess.Process, link: Link) -> None:
        self._process = process
        self.link = link

    @classmethod
    async def start(cls, command: Sequence[str], listener: socket.socket, seats: int) -> WorkerProcess:
        """Start one; it loads its program and waits. It has a session of its own: Ctrl-C reaches the owner alone."""
        ours, theirs = socket.socketpair()
        with contextlib.closing(theirs), contextlib.ExitStack() as on_failure:
            on_failure.callback(ours.close)
            inherited = {"link": theirs.fileno(), "listener": listener.fileno(), "seats": seats}
            words = [word for name, number in inherited.items() for word in (f"--{name}", str(number))]
            process = await asyncio.create_subprocess_exec(
                *(*command, "--parent", str(os.getpid()), *words),
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=tuple(inherited.values()),
                start_new_session=True,
            )
            on_failure.callback(process.kill)
            link = await Link.open(ours)
            on_failure.pop_all()
        return cls(process, link)

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self._process.returncode is None

    async def wait(self) -> int:
        """Wait for its end; its exit status."""
        return await self._process.wait()

    def kill(self) -> None:
        """End it at once; harmless when it has ended."""
        if self.is_running:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
