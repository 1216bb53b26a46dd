"""How many streams of 50 chunks a second each one core carries: the share of late chunks, and the CPU of a chunk.

The scripted upstream stamps each chunk with the machine's monotonic clock; the reader takes the difference when it
comes. A chunk is late that took longer than the time between two. The server has one core, upstream and readers have
the other one, and are late themselves when that is busy: so the same is measured without anything between (direct) and,
where it is there, with nginx between. A number of streams is held when no more than one chunk in a hundred is late
beyond the direct share.

    python bench/gateway/streams.py [--streams 250 500 750 1000] [--seconds 8] [--nginx PATH]
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import re
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from run import (
    LAST,
    LOAD_CORE,
    OWN_CORE,
    Candidate,
    chunk,
    free_port,
    nginx_command,
    request_bytes,
    start,
    start_roadbed,
    stop,
    versions,
)

CHUNKS_PER_S = 50
PERIOD_S = 1.0 / CHUNKS_PER_S
SLOTS = 20
# The time in words, as the rest of an answer is: the guard looks closer at figures, and holds a word until it ends.
MARK = b"at aaaaaaaaaa aaaaaaaaaa "
BEFORE, AFTER = chunk({"content": MARK.decode()}).split(MARK)
STAMP = re.compile(rb"at ([a-j]{10}) ([a-j]{10}) ")
TO_LETTERS, TO_DIGITS = bytes.maketrans(b"0123456789", b"abcdefghij"), bytes.maketrans(b"abcdefghij", b"0123456789")
LATE_SHARE_MAX = 0.01
CONNECT_GAP_S = 0.002
BODY = b'{"model":"fast","stream":true,"messages":[{"role":"user","content":"x"}]}'


class PacedUpstream(asyncio.Protocol):
    """Streams stamped chunks to everybody who asks; all of a slot are written in one timer's call."""

    slots: ClassVar[list[set[PacedUpstream]]] = [set() for _ in range(SLOTS)]
    joined = 0
    chunks = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.left = 0
        self.slot: set[PacedUpstream] | None = None

    def connection_lost(self, exc: Exception | None) -> None:
        if self.slot is not None:
            self.slot.discard(self)

    def data_received(self, data: bytes) -> None:
        if b"\r\n\r\n" not in data:
            return
        self.transport.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        self.left = PacedUpstream.chunks
        self.slot = PacedUpstream.slots[PacedUpstream.joined % SLOTS]
        PacedUpstream.joined += 1
        self.slot.add(self)

    @classmethod
    def tick(cls, number: int, due_s: float) -> None:
        """Write the next chunk of every stream of a slot."""
        digits = (b"%020d" % time.monotonic_ns()).translate(TO_LETTERS)
        text = BEFORE + b"at %b %b " % (digits[:10], digits[10:]) + AFTER
        piece = b"%x\r\n%b\r\n" % (len(text), text)
        for stream in list(cls.slots[number]):
            if stream.left:
                stream.left -= 1
                stream.transport.write(piece)
            else:
                cls.slots[number].discard(stream)
                stream.transport.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(LAST), LAST))
        following = max(due_s + PERIOD_S, time.monotonic())
        asyncio.get_running_loop().call_at(following, cls.tick, number, following)


def serve_upstream(port: int, seconds: float) -> None:
    """The upstream, in a process of its own."""
    os.sched_setaffinity(0, {LOAD_CORE})
    PacedUpstream.chunks = int(seconds * CHUNKS_PER_S)

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(PacedUpstream, "127.0.0.1", port, backlog=2048)
        for number in range(SLOTS):
            at_s = loop.time() + number * PERIOD_S / SLOTS
            loop.call_at(at_s, PacedUpstream.tick, number, at_s)
        await server.serve_forever()

    asyncio.run(serve())


@dataclass
class Seen:
    """What the readers of one run saw, in nanoseconds."""

    delays: list[int] = field(default_factory=list)
    whole: int = 0
    broken: int = 0


class Reader(asyncio.Protocol):
    """One caller."""

    def __init__(self, seen: Seen, request: bytes) -> None:
        self.seen = seen
        self.request = request
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.tail = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        now = time.monotonic_ns()
        self.seen.delays += [now - int(b"".join(words).translate(TO_DIGITS)) for words in STAMP.findall(data)]
        if b"[DONE]" in data[-400:] or b"[DONE]" in self.tail + data[:20]:
            self.seen.whole += 1
            self.transport.close()
        self.tail = data[-20:]

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_result(None)


async def read(port: int, streams: int, seconds: float) -> Seen:
    """Open so many streams one after the other, and read all to their end."""
    seen, loop = Seen(), asyncio.get_running_loop()
    request = request_bytes(BODY)
    readers = []
    for _ in range(streams):
        _, reader = await loop.create_connection(lambda: Reader(seen, request), "127.0.0.1", port)
        readers.append(reader)
        await asyncio.sleep(CONNECT_GAP_S)
    await asyncio.wait([reader.ended for reader in readers], timeout=seconds * 4 + 30)
    seen.broken = streams - seen.whole
    for reader in readers:
        reader.transport.abort()
    return seen


def measure(candidate: Candidate | None, port: int, streams: int, seconds: float) -> tuple[str, float]:
    """One line, and the share of late chunks."""
    before = candidate.cpu_s() if candidate is not None else 0.0
    seen = asyncio.run(read(port, streams, seconds))
    spent = candidate.cpu_s() - before if candidate is not None else 0.0
    delays = sorted(seen.delays)
    count = len(delays)
    if not count:
        return "no chunk came", 1.0
    late = sum(delay > PERIOD_S * 1e9 for delay in delays) / count
    line = (
        f"{streams:5d} streams: {count} chunks, late {late:6.2%}, delay p50 {delays[count // 2] / 1e6:6.2f} ms, "
        f"p99 {delays[int(count * 0.99)] / 1e6:7.2f} ms, not whole {seen.broken}"
    )
    return line + (f", {spent / count * 1e6:5.1f} us CPU/chunk" if candidate is not None else ""), late


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, nargs="+", default=[250, 500, 750, 1000])
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--nginx", default=shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin"))
    options = parser.parse_args()
    port = free_port()
    upstream = multiprocessing.Process(target=serve_upstream, args=(port, options.seconds), daemon=True)
    upstream.start()
    os.sched_setaffinity(0, {LOAD_CORE})
    with tempfile.TemporaryDirectory(prefix="rb-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        os.sched_setaffinity(0, {OWN_CORE, LOAD_CORE})
        candidates = [start_roadbed(folder, port, connections=max(options.streams))]
        if options.nginx:
            own = free_port()
            process = start(nginx_command(options.nginx, folder, own, port), OWN_CORE, own, stderr=subprocess.DEVNULL)
            candidates.append(Candidate("nginx", own, process, has_children=True))
        os.sched_setaffinity(0, {LOAD_CORE})
        try:
            held = dict.fromkeys([candidate.name for candidate in candidates], 0)
            for streams in options.streams:
                line, direct = measure(None, port, streams, options.seconds)
                print(f"direct  {line}", flush=True)
                for candidate in candidates:
                    line, late = measure(candidate, candidate.port, streams, options.seconds)
                    print(f"{candidate.name:8s}{line}", flush=True)
                    if late <= direct + LATE_SHARE_MAX:
                        held[candidate.name] = streams
            print("held: " + ", ".join(f"{name} {count}" for name, count in held.items()))
        finally:
            for candidate in candidates:
                stop(candidate.process)
            upstream.terminate()
    print(versions(argparse.Namespace(nginx=options.nginx, sglang_router=None)))


if __name__ == "__main__":
    main()
