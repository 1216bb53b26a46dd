"""What callers and records see while everything around the gateway fails.

Two serving processes are under steady load; their PostgreSQL is killed or frozen, they are killed themselves, their
manifest changes or breaks, and their upstreams reset, stall, throttle, answer garbage or cut their streams: at random,
but by a printed seed.

It fails when a cut answer looks complete or a joined one has a seam, when a request outlives its deadline (but where
both processes were killed before one was back, so that nobody served), when an answered request is not in the traces
exactly once (but for those of the last second of a killed process), when the audit log does not verify, or when the
server does not stop or leaves a process behind.

    python bench/gateway/chaos.py [--minutes 3] [--seed 1] [--callers 24] [--log FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import contextlib
import itertools
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import asyncpg
from run import DELTA, KEY, LAST, REPLY, START_S, WORKER, children_of, free_port, versions

DEADLINE_S = 10
SLOW_S = 1.5
ANSWER_S = 20.0
WORDS = 20
GAP_S = 0.01
DEATH_S = 1.0
BACK_S = 15.0
KILLS_MAX, WINDOW_S = 4, 60.0  # one process that ends five times in that time stops the server, as it should
ARRIVE_S = 60.0
CALM_S = 10.0
STOP_S = 40.0
FAULTS_SHOWN = 40
FAULTS = ("ok", "ok", "ok", "reset", "500", "429", "silent", "cut", "garbage")
ACTS = ("kill postgres", "freeze postgres", "kill a process", "kill a process", "first", "second", "change", "break")
MANIFEST = """name: chaos
endpoints:
  first: {{type: openai, url: "http://127.0.0.1:{first}/v1", model: m, local: false}}
  second: {{type: openai, url: "http://127.0.0.1:{second}/v1", model: m, local: false, continues: true}}
prices: {{openai/m: {{input: 1.0, output: 2.0}}}}
models:
  fast: {{ladder: [first, second], deadline: {deadline}s, on_cut: {on_cut}}}
"""


class Weather:
    """What an upstream does just now."""

    def __init__(self) -> None:
        self.fault = "ok"


class Upstream(asyncio.Protocol):
    """A scripted upstream in some weather."""

    def __init__(self, weather: Weather) -> None:
        self.weather = weather
        self.buffer = b""
        self.is_lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_lost = True

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, end, body = self.buffer.partition(b"\r\n\r\n")
        found = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
        if not end or len(body) < (int(found[1]) if found else 0):
            return
        self.buffer, fault = b"", self.weather.fault
        if fault == "reset":
            self.transport.abort()
        elif fault in ("500", "429"):
            self._answer(fault.encode() + b" no\r\nretry-after: 1", b"{}")
        elif fault == "garbage":
            self._answer(b"200 OK", b"{oops")
        elif fault == "silent":
            return
        elif b'"stream":true' in body or b'"stream": true' in body:
            self.transport.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
            )
            self._stream(WORDS, random.randint(3, WORDS - 3) if fault == "cut" else 0)
        else:
            self._answer(b"200 OK", REPLY)

    def _answer(self, status: bytes, body: bytes) -> None:
        head = b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
        self.transport.write(head % (status, len(body)) + body)

    def _stream(self, left: int, cut_at: int) -> None:
        if self.is_lost:
            return
        if left == cut_at and cut_at:
            self.transport.abort()
        elif not left:
            self.transport.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(LAST), LAST))
        else:
            self.transport.write(b"%x\r\n%b\r\n" % (len(DELTA), DELTA))
            asyncio.get_running_loop().call_later(GAP_S, self._stream, left - 1, cut_at)


def clock(at_s: float | None = None) -> str:
    """The time of day, as the server's log has it, of a moment of the monotonic clock."""
    return time.strftime("%H:%M:%S", time.localtime(time.time() + ((at_s or time.monotonic()) - time.monotonic())))


class CallerLeft(Exception):
    """A caller that wants no more of a stream."""


class Seen:
    """What the callers saw."""

    def __init__(self) -> None:
        self.counts: collections.Counter[str] = collections.Counter()
        self.answered: dict[str, float] = {}
        self.slow: list[tuple[float, float]] = []
        self.faults: list[str] = []

    def too_slow(self, deaths: list[float]) -> list[str]:
        """Who outlived its deadline, though somebody served."""
        pairs = itertools.pairwise(deaths)
        nobody = [(last, last + BACK_S) for first, last in pairs if last - first < BACK_S]
        kept = [
            (begun, ended)
            for begun, ended in self.slow
            if not any(begun <= until and ended >= since for since, until in nobody)
        ]
        if len(kept) < len(self.slow):
            print(f"{len(self.slow) - len(kept)} requests waited for a process while both were dead")
        return [f"{clock(ended)}: a request took {ended - begun:.1f} s" for begun, ended in kept]

    def streamed(self, text: bytes, trace: str) -> None:
        """A stream that came to its end."""
        reasons = re.findall(rb'"finish_reason":"(\w+)"', text)
        words = text.count(b'"word ')
        if b'"error"' in text or b"[DONE]" not in text:
            self.counts["stream, cut and said so" if b'"error"' in text else "stream without an end"] += 1
            return
        self.counts["stream"] += 1
        if reasons == [b"stop"] and words != WORDS:
            self.faults.append(f"{trace}: {words} of {WORDS} words, and it looks complete")


async def call(port: int, chance: random.Random, seen: Seen) -> None:
    """Some requests on one connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for _ in range(chance.randint(1, 20)):
            is_stream = chance.random() < 0.4
            asked = {"role": "user", "content": f"Say something about {chance.randint(1, 10**9)}."}
            body = json.dumps({"model": "fast", "stream": is_stream, "messages": [asked]}).encode()
            head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {KEY}\r\n"
            head += f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
            begun = time.monotonic()
            writer.write(head.encode() + body)
            await read(reader, seen, leaves=is_stream and chance.random() < 0.05)
            if time.monotonic() - begun > DEADLINE_S + SLOW_S:
                seen.slow.append((begun, time.monotonic()))
    finally:
        writer.close()


async def read(reader: asyncio.StreamReader, seen: Seen, *, leaves: bool) -> None:
    """One response. ``leaves``: after its first piece."""
    async with asyncio.timeout(ANSWER_S):
        head = await reader.readuntil(b"\r\n\r\n")
        found = re.search(rb"x-roadbed-trace: (\w+)", head, re.IGNORECASE)
        trace, status, text = found[1].decode() if found else "", head[9:12].decode(), b""
        length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
        if length:
            text = await reader.readexactly(int(length[1]))
            said = "" if status == "200" else json.loads(text)["error"].get("code") or ""
            seen.counts[f"{status} {said}".strip()] += 1
        else:
            size = -1
            while size:
                size = int((await reader.readuntil(b"\r\n")).strip(), 16)
                text += (await reader.readexactly(size + 2))[:-2]
                if leaves:
                    seen.counts["left"] += 1
                    raise CallerLeft
            seen.streamed(text, trace)
    if trace and status == "200":
        seen.answered[trace] = time.monotonic()


async def caller(port: int, seed: int, seen: Seen) -> None:
    """Call until cancelled."""
    chance = random.Random(seed)
    while True:
        try:
            await call(port, chance, seen)
        except CallerLeft:
            pass
        except (OSError, asyncio.IncompleteReadError):
            seen.counts["connection ended"] += 1
        except TimeoutError:
            seen.faults.append("a request was not answered at all")
        await asyncio.sleep(chance.random() * 0.02)


def command_of(pid: int) -> bytes:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


class Chaos:
    """The faults, and when serving processes were killed."""

    def __init__(self, manifest: Path, ports: tuple[int, int]) -> None:
        self.server, self.manifest, self.ports = 0, manifest, ports
        self.weather = {"first": Weather(), "second": Weather()}
        self.deaths: list[float] = []

    def write(self, on_cut: str) -> None:
        """A manifest that works."""
        first, second = self.ports
        self.manifest.write_text(MANIFEST.format(first=first, second=second, deadline=DEADLINE_S, on_cut=on_cut))

    async def act(self, act: str, chance: random.Random) -> None:
        """One fault."""
        children = {pid: command_of(pid) for pid in children_of(self.server)}
        postgres = [pid for pid, command in children.items() if b"postgres" in command]
        if act == "kill postgres":
            for pid in [pid for pid in postgres if b"-D" in children[pid]][:1]:
                os.kill(pid, signal.SIGKILL)
        elif act == "freeze postgres":
            self._tell(postgres, signal.SIGSTOP)
            await asyncio.sleep(chance.uniform(1, 6))
            self._tell(postgres, signal.SIGCONT)
        elif act == "kill a process":
            workers = [pid for pid, command in children.items() if WORKER in command]
            recent = [death for death in self.deaths if time.monotonic() - death < WINDOW_S]
            if workers and len(recent) < KILLS_MAX:
                os.kill(chance.choice(workers), signal.SIGKILL)
                self.deaths.append(time.monotonic())
        elif act == "change":
            self.write(chance.choice(["error", "restart", "continue"]))
        elif act == "break":
            self.manifest.write_text("name: [oops\n")
        else:
            self.weather[act].fault = chance.choice(FAULTS)

    def _tell(self, pids: list[int], number: signal.Signals) -> None:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def calm(self) -> None:
        """Nothing fails any more."""
        for weather in self.weather.values():
            weather.fault = "ok"
        self.write("error")


async def missing(state: Path, seen: Seen, deaths: list[float]) -> list[str]:
    """Answered requests that are not in the traces, but for those of a killed process's last second."""
    lines = (state / "postgres" / "data" / "postmaster.pid").read_text().splitlines()
    passwords = json.loads((state / "postgres" / "passwords.json").read_text())
    connection = await asyncpg.connect(f"postgresql://roadbed:{passwords['application']}@/roadbed?host={lines[4]}")
    ends_s, wanted = time.monotonic() + ARRIVE_S, list(seen.answered)
    try:
        while True:
            rows = await connection.fetch("SELECT id FROM roadbed_chaos.trace WHERE id = ANY($1)", wanted)
            lost = set(wanted) - {row["id"] for row in rows}
            excused = {trace for trace in lost if any(abs(death - seen.answered[trace]) < DEATH_S for death in deaths)}
            if lost == excused or time.monotonic() > ends_s:
                break
            await asyncio.sleep(1)
    finally:
        await connection.close()
    print(f"{len(rows)} of {len(seen.answered)} answers are in the traces; {len(excused)} died with their process")
    return sorted(lost - excused)


async def verified(workspace: Path, state: Path, port: int) -> bool:
    """Whether the audit log is whole."""
    environment = {**os.environ, "ROADBED_API_KEY": KEY, "ROADBED_URL": f"http://127.0.0.1:{port}"}
    command = [sys.executable, "-m", "roadbed.cli.main", "audit", "verify", "--json", "--workspace", str(workspace)]
    process = await asyncio.create_subprocess_exec(
        *command, "--state", str(state), env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    said, _ = await process.communicate()
    print("the audit log:", " ".join(said.decode().split())[:200])
    return process.returncode == 0


async def run(chaos: Chaos, folder: Path, port: int, options: argparse.Namespace) -> Seen:
    """Call the server, and break things."""
    loop, chance, seen = asyncio.get_running_loop(), random.Random(options.seed), Seen()
    for upstream_port, weather in zip(chaos.ports, chaos.weather.values(), strict=True):
        await loop.create_server(lambda weather=weather: Upstream(weather), "127.0.0.1", upstream_port, backlog=512)  # type: ignore[misc]
    callers = [asyncio.create_task(caller(port, options.seed * 1000 + one, seen)) for one in range(options.callers)]
    ends_s = time.monotonic() + options.minutes * 60
    while time.monotonic() < ends_s:
        await asyncio.sleep(chance.uniform(3, 8))
        act = chance.choice(ACTS)
        await chaos.act(act, chance)
        what = act if act not in chaos.weather else f"{act}: {chaos.weather[act].fault}"
        print(f"{clock()}  {what:22s} {sum(seen.counts.values())} requests", flush=True)
    chaos.calm()
    await asyncio.sleep(CALM_S)
    for task in callers:
        task.cancel()
    await asyncio.gather(*callers, return_exceptions=True)
    await asyncio.sleep(CALM_S / 2)
    seen.faults += seen.too_slow(chaos.deaths)
    lost = await missing(folder / "state", seen, chaos.deaths)
    seen.faults += [f"{trace}: answered at {clock(seen.answered[trace])}, and in no trace" for trace in lost]
    if not await verified(folder / "workspace", folder / "state", port):
        seen.faults.append("the audit log does not verify")
    return seen


def serve(folder: Path, port: int, log: str) -> subprocess.Popen[bytes]:
    """Start the server, which writes its log to ``log``; returns when it is ready."""
    command = [sys.executable, "-m", "roadbed.cli.main", "up", str(folder / "workspace"), "--port", str(port)]
    ready = folder / "ready.json"
    with Path(log).open("wb") as file:
        server = subprocess.Popen(
            [*command, "--workers", "2", "--state", str(folder / "state"), "--ready-file", str(ready)],
            env={**os.environ, "ROADBED_ADMIN_KEY": KEY},
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    ends_s = time.monotonic() + START_S
    while not ready.exists():
        if time.monotonic() > ends_s or server.poll() is not None:
            raise SystemExit("roadbed did not become ready")
        time.sleep(0.1)
    return server


def stopped(server: subprocess.Popen[bytes], state: Path) -> list[str]:
    """Stop the server; what is wrong with how it ends."""
    faults = []
    server.send_signal(signal.SIGINT)
    try:
        server.wait(STOP_S)
    except subprocess.TimeoutExpired:
        faults.append("the server does not stop")
        os.killpg(server.pid, signal.SIGKILL)
    pids = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
    left = [command_of(pid) for pid in pids if str(state).encode() in command_of(pid)]
    return faults + [f"left behind: {command.decode()}" for command in left]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--callers", type=int, default=24)
    parser.add_argument("--log", default=os.devnull, help="the file that the server's log goes to")
    options = parser.parse_args()
    print(f"seed {options.seed}; {versions(argparse.Namespace(nginx=None, sglang_router=None))}")
    with tempfile.TemporaryDirectory(prefix="rb-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "workspace").mkdir()
        port, ports = free_port(), (free_port(), free_port())
        chaos = Chaos(folder / "workspace" / "roadbed.yaml", ports)
        chaos.calm()
        server = serve(folder, port, options.log)
        chaos.server = server.pid
        seen = asyncio.run(run(chaos, folder, port, options))
        faults = seen.faults + stopped(server, folder / "state")
    for what, count in seen.counts.most_common():
        print(f"{count:8d} {what}")
    for fault in faults[:FAULTS_SHOWN]:
        print(fault)
    print(f"{len(faults)} faults" if faults else "nothing was wrong")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
