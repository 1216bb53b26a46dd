"""How evenly processes that serve one port share its connections, and what that costs: four ways to accept.

    python bench/workers/accept.py [--workers 2] [--rounds 10] [--json FILE]

Ways: `asyncio` (each process accepts from one inherited socket as asyncio does, all that waits in one go), `one` (the
same, one connection per wake-up), `reuseport` (a SO_REUSEPORT socket for each, the kernel chooses by hash), `seats`
(the product's: one at a time, left for a moment to whoever has fewer). Loads: 64 keep-alive connections opened at once
and one after the other, each then sending 50 requests; and 3,000 requests with a connection each, 16 at a time. Prints
the share of connections of the busiest process (mean and worst of the rounds) and CPU microseconds per request.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from roadbed.wire.acceptor import Seats
from roadbed.wire.hot import HotTable
from roadbed.wire.request import HotRequest
from roadbed.wire.server import BACKLOG, HotServer, Seat, bind, make_server

WAYS = ("asyncio", "one", "reuseport", "seats")
CONNECTIONS, REQUESTS_EACH, CHURN, CHURN_AT_ONCE = 64, 50, 3_000, 16
GET = b"GET /who HTTP/1.1\r\nhost: a\r\n\r\n"
TICKS = os.sysconf("SC_CLK_TCK")


class Who:
    """Answers with the number of its process."""

    def __init__(self, number: int) -> None:
        self.body = str(number).encode()

    def handle(self, request: HotRequest) -> None:
        request.send(200, (), self.body)


async def nothing(scope: Any, receive: Any, send: Any) -> None:
    """An application that serves nothing."""
    while scope["type"] == "lifespan":
        event = (await receive())["type"]
        await send({"type": f"{event}.complete"})
        if event == "lifespan.shutdown":
            return


async def serve(way: str, number: int, listener: int, seats: int, workers: int) -> None:
    """One process, until it is killed."""
    table = HotTable()
    table.add("GET", "/who", Who(number))
    sock = socket.socket(fileno=listener)
    sock.setblocking(False)
    seat = Seat(Seats(seats, workers), number) if way == "seats" else None
    if way == "one":
        loop = asyncio.get_running_loop()
        original = loop.create_server
        loop.create_server = lambda *a, **k: original(*a, **{**k, "backlog": 1})  # type: ignore[method-assign]
    server: HotServer = make_server(nothing, table, sock, seat=seat)
    serving = asyncio.create_task(server.serve())
    await server.ready.wait()
    if way == "one":
        sock.listen(BACKLOG)  # asyncio listens again, with the same number
    print("ready", flush=True)
    await serving


class Group:
    """The processes of one way, on a port of their own."""

    def __init__(self, way: str, workers: int) -> None:
        first = bind("127.0.0.1", 0) if way != "reuseport" else reuseport(0)
        self.port = first.getsockname()[1]
        more = [reuseport(self.port) for _ in range(workers - 1)] if way == "reuseport" else []
        self.sockets = [first, *more]
        self.seats = Seats.create(workers)
        self.processes = []
        for number in range(workers):
            sock = self.sockets[number % len(self.sockets)]
            words = [way, str(number), str(sock.fileno()), str(self.seats.descriptor), str(workers)]
            self.processes.append(
                subprocess.Popen(
                    [sys.executable, __file__, "--serve", *words],
                    pass_fds=(sock.fileno(), self.seats.descriptor),
                    stdout=subprocess.PIPE,
                )
            )
        for process in self.processes:
            assert process.stdout is not None
            process.stdout.readline()

    def cpu_s(self) -> float:
        """CPU seconds of all its processes so far."""
        total = 0
        for process in self.processes:
            fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
        return total / TICKS

    def stop(self) -> None:
        """End them."""
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.wait(10)
        for sock in self.sockets:
            sock.close()
        self.seats.close()


def reuseport(port: int) -> socket.socket:
    """One of several sockets of a port."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind(("127.0.0.1", port))
    sock.listen(BACKLOG)
    return sock


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
    """Who answers a request."""
    writer.write(GET)
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    return (await reader.readexactly(length)).decode()


async def keep_alive(port: int, at_once: bool) -> Counter[str]:
    """64 connections that stay, each with its requests; how many each process has."""
    opened = []
    if at_once:
        opened = await asyncio.gather(*(asyncio.open_connection("127.0.0.1", port) for _ in range(CONNECTIONS)))
    else:
        for _ in range(CONNECTIONS):
            pair = await asyncio.open_connection("127.0.0.1", port)
            await ask(*pair)
            opened.append(pair)

    async def use(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
        who = ""
        for _ in range(REQUESTS_EACH):
            who = await ask(reader, writer)
        return who

    found = Counter(await asyncio.gather(*(use(*pair) for pair in opened)))
    for _, writer in opened:
        writer.close()
    await asyncio.gather(*(writer.wait_closed() for _, writer in opened), return_exceptions=True)
    return found


async def churn(port: int) -> Counter[str]:
    """A connection for each request."""
    free = asyncio.Semaphore(CHURN_AT_ONCE)

    async def one() -> str:
        async with free:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                return await ask(reader, writer)
            finally:
                writer.close()

    return Counter(await asyncio.gather(*(one() for _ in range(CHURN))))


async def measure(way: str, workers: int, rounds: int) -> dict[str, Any]:
    """All loads on one way."""
    group = Group(way, workers)
    result: dict[str, Any] = {}
    try:
        for load in ("burst", "one by one", "churn"):
            shares, requests, before = [], 0, group.cpu_s()
            for _ in range(rounds if load != "churn" else 3):
                found = await (churn(group.port) if load == "churn" else keep_alive(group.port, load == "burst"))
                total = sum(found.values())
                shares.append(max(found.values()) / total)
                requests += total if load == "churn" else total * REQUESTS_EACH
            cpu_us = (group.cpu_s() - before) / requests * 1e6
            result[load] = {"busiest": statistics.mean(shares), "worst": max(shares), "cpu_us": cpu_us}
    finally:
        group.stop()
    return result


def main() -> None:
    """Measure and print."""
    if sys.argv[1:2] == ["--serve"]:
        way, *numbers = sys.argv[2:]
        asyncio.run(serve(way, *map(int, numbers)))
        return
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    print(f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}, {given.workers} workers")
    results = {way: asyncio.run(measure(way, given.workers, given.rounds)) for way in WAYS}
    for way, loads in results.items():
        for load, row in loads.items():
            print(
                f"{way:<10} {load:<11} busiest {row['busiest']:.0%} (worst {row['worst']:.0%})"
                f"  {row['cpu_us']:.0f} us CPU a request"
            )
    if given.json:
        given.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
