"""PostgreSQL away for real minutes, by the real clock, under a running server: what callers see, and what arrives.

The real server with a paid endpoint and a free one answers a team that has a budget, a request after the other. Then
all processes of its PostgreSQL are frozen: connections hang, as when a machine or a network is lost. After the
``--minutes`` they go on, and it is counted what of the answers is in the traces and in the usage.

It fails when a request gets no answer, when within ten minutes a paid call is refused or somebody else answers (a
lease lasts 15, and is sized to what was spent in the last minute or so), when an answer is in no trace or its usage is
there twice or not, or when the budget is charged another sum than the usage says.

    python bench/gateway/away.py [--minutes 12] [--every 0.25] [--log FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import json
import os
import signal
import statistics
import sys
import tempfile
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
from chaos import Upstream, Weather, command_of, serve, stopped
from run import KEY, children_of, free_port, versions

PAID_S = 600.0
BEFORE_S = 90.0
AFTER_S = 20.0
ANSWER_S = 30.0
ARRIVE_S = 120.0
RUNGS = {"full": "paid", "fallback": "free"}  # the first endpoint of the ladder, or a later one
MANIFEST = """name: away
endpoints:
  paid: {{type: openai, url: "http://127.0.0.1:{paid}/v1", model: m, local: false, price_input: 2, price_output: 10}}
  free: {{type: openai, url: "http://127.0.0.1:{free}/v1", model: f, local: false, price_input: 0, price_output: 0}}
models:
  fast: {{ladder: [paid, free], deadline: 10s}}
teams:
  support: {{budget: 200 USD/month}}
"""


@dataclass
class Answers:
    """What came back in one minute, or in all."""

    by: collections.Counter[str] = field(default_factory=collections.Counter)
    took_ms: list[float] = field(default_factory=list)

    def line(self) -> str:
        """For a person."""
        took = sorted(self.took_ms) or [0.0]
        times = f"p50 {statistics.median(took):.1f} ms, p99 {took[int(len(took) * 0.99)]:.1f}, max {took[-1]:.1f}"
        return f"{len(self.took_ms):5d} answers  {times}  {dict(self.by)}"


class Caller:
    """One who asks all the time."""

    def __init__(self, port: int, key: str) -> None:
        self.port, self.key = port, key
        self.traces: dict[str, str] = {}
        self.faults: list[str] = []

    async def ask(self, number: int, answers: Answers) -> str:
        """One request; who answered, or the error's code."""
        asked = [{"role": "user", "content": f"Say something about {number}."}]
        body = json.dumps({"model": "fast", "max_tokens": 200, "messages": asked}).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {self.key}\r\n"
        head += f"content-type: application/json\r\nconnection: close\r\ncontent-length: {len(body)}\r\n\r\n"
        begun_s = time.monotonic()
        try:
            async with asyncio.timeout(ANSWER_S):
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                writer.write(head.encode() + body)
                answer = await reader.read()
                writer.close()
        except (OSError, TimeoutError) as error:
            self.faults.append(f"{type(error).__name__}: no answer")
            return ""
        answers.took_ms.append((time.monotonic() - begun_s) * 1e3)
        said, _, text = answer.partition(b"\r\n\r\n")
        pairs = [line.split(": ", 1) for line in said.decode().split("\r\n")[1:]]
        heads = {name.lower(): value for name, value in pairs}
        told = json.loads(text)
        who = RUNGS.get(heads["x-roadbed-rung"], "?") if said[9:12] == b"200" else str(told["error"].get("code"))
        if said[9:12] == b"200":
            self.traces[heads["x-roadbed-trace"]] = who
        answers.by[who] += 1
        return who

    async def run(self, seconds: float, every_s: float, *, only: str = "") -> Answers:
        """Ask for so long. ``only``: who is to answer."""
        answers, ends_s = Answers(), time.monotonic() + seconds
        while time.monotonic() < ends_s:
            begun_s = time.monotonic()
            who = await self.ask(len(self.traces), answers)
            if only and who != only:
                self.faults.append(f"{who!r} answered in place of {only!r}")
            await asyncio.sleep(max(0.0, every_s - (time.monotonic() - begun_s)))
        return answers


def call(port: int, path: str, body: dict[str, Any] | None = None) -> Any:
    """One request of the administration."""
    asked = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}",
        data=json.dumps(body).encode() if body is not None else None,
        headers={"authorization": f"Bearer {KEY}", "content-type": "application/json"},
    )
    try:
        with urllib.request.urlopen(asked, timeout=ANSWER_S) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        return json.load(error)


def spooled(state: Path) -> tuple[int, int]:
    """Files and bytes that wait on disk."""
    sizes = [path.stat().st_size for path in (state / "spool").rglob("*") if path.is_file()]
    return len(sizes), sum(sizes)


def tell(server: int, number: signal.Signals) -> None:
    """Signal every process of PostgreSQL."""
    for pid in children_of(server):
        if b"postgres" in command_of(pid):
            os.kill(pid, number)


async def arrived(state: Path, caller: Caller) -> list[str]:
    """Wait until every answer is in the traces; what is wrong with the records."""
    lines = (state / "postgres" / "data" / "postmaster.pid").read_text().splitlines()
    passwords = json.loads((state / "postgres" / "passwords.json").read_text())
    db = await asyncpg.connect(f"postgresql://roadbed:{passwords['application']}@/roadbed?host={lines[4]}")
    try:
        await db.execute("SET search_path TO roadbed_away")
        begun_s, wanted = time.monotonic(), list(caller.traces)
        while (found := await db.fetchval("SELECT count(*) FROM trace WHERE id = ANY($1)", wanted)) < len(wanted):
            if time.monotonic() - begun_s > ARRIVE_S:
                break
            await asyncio.sleep(0.5)
        print(f"{found} of {len(wanted)} answers are in the traces, {time.monotonic() - begun_s:.1f} s after the load")
        uses = await db.fetch(
            "SELECT trace_id, count(*) AS rows, sum(cost_microusd) AS cost FROM usage GROUP BY 1 ORDER BY 1"
        )
        counted = {row["trace_id"]: int(row["rows"]) for row in uses}
        wrong = [f"{trace}: {counted.get(trace, 0)} rows of usage" for trace in wanted if counted.get(trace) != 1]
        wrong += [f"{len(wanted) - found} answers are in no trace"] if found < len(wanted) else []
        cost, paid = sum(int(row["cost"]) for row in uses), sum(who == "paid" for who in caller.traces.values())
        budget = await _settled(db)
        print(f"the usage says {cost} micro-USD of {paid} paid calls; the budget was charged {budget}")
        if not cost <= budget["settled"] <= cost + paid:
            wrong.append("the budget was charged another sum than the usage says")
        return wrong
    finally:
        await db.close()


async def _settled(db: Any) -> dict[str, int]:
    """The team's budget, when what was spent is told: leases are renewed within some seconds."""
    before: dict[str, int] = {}
    for _ in range(60):
        row = await db.fetchrow("SELECT sum(settled) AS settled, sum(leased) AS leased FROM budget")
        now = {name: int(value or 0) for name, value in row.items()}
        if now == before:
            return now
        before = now
        await asyncio.sleep(5)
    return before


async def run(folder: Path, port: int, server: int, ports: tuple[int, int], options: argparse.Namespace) -> Caller:
    """The three times: before, away, after."""
    loop = asyncio.get_running_loop()
    for upstream_port in ports:
        await loop.create_server(lambda: Upstream(Weather()), "127.0.0.1", upstream_port)
    key = (await asyncio.to_thread(call, port, "/api/keys", {"team": "support", "roles": ["member"]}))["key"]
    caller = Caller(port, key)
    print("before:", (await caller.run(BEFORE_S, options.every, only="paid")).line(), flush=True)
    tell(server, signal.SIGSTOP)
    print("PostgreSQL is frozen", flush=True)
    try:
        away_s, began_s = options.minutes * 60, time.monotonic()
        while (passed_s := time.monotonic() - began_s) < away_s:
            only = "paid" if passed_s < PAID_S - 1 else ""
            answers = await caller.run(min(60.0, away_s - passed_s), options.every, only=only)
            files, size = spooled(folder / "state")
            print(f"{passed_s / 60:4.0f} min {answers.line()}, spool {files} files, {size} bytes", flush=True)
    finally:
        tell(server, signal.SIGCONT)
    print("PostgreSQL goes on", flush=True)
    print("after: ", (await caller.run(AFTER_S, options.every, only="paid")).line(), flush=True)
    caller.faults += await arrived(folder / "state", caller)
    files, size = spooled(folder / "state")
    print(f"the spool holds {files} files, {size} bytes; /readyz {await asyncio.to_thread(call, port, '/readyz')}")
    return caller


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=12.0)
    parser.add_argument("--every", type=float, default=0.25, help="seconds between the beginnings of two requests")
    parser.add_argument("--log", default=os.devnull, help="the file that the server's log goes to")
    options = parser.parse_args()
    print(versions(argparse.Namespace(nginx=None, sglang_router=None)))
    with tempfile.TemporaryDirectory(prefix="rb-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "workspace").mkdir()
        port, ports = free_port(), (free_port(), free_port())
        (folder / "workspace" / "roadbed.yaml").write_text(MANIFEST.format(paid=ports[0], free=ports[1]))
        server = serve(folder, port, options.log)
        try:
            caller = asyncio.run(run(folder, port, server.pid, ports, options))
        finally:
            wrong = stopped(server, folder / "state")
    faults = caller.faults + wrong
    for fault, count in collections.Counter(faults).most_common(40):
        print(f"{count} x {fault}")
    print(f"{len(faults)} faults" if faults else "nothing was wrong")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
