"""The gateway's other figures, each through the real server: long prompts, failover, two workers, memory, conversion.

Same way of measuring as `run.py` beside it: the server alone on one core, CPU read from /proc, the quietest round
reported.

    python bench/gateway/figures.py [--rounds 3] [--requests 100000]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import run as bench

from roadbed.gateway.dialects.anthropic import AnthropicMessages
from roadbed.gateway.dialects.openai_server import chat_from_object
from roadbed.gateway.endpoints import Endpoint
from roadbed.gateway.types import Answer

MANIFEST = """name: bench
endpoints:
  dead: {{type: openai, url: "http://127.0.0.1:{dead}/v1", model: bench-model}}
  upstream: {{type: openai, url: "http://127.0.0.1:{port}/v1", model: bench-model, max_connections: 512}}
models:
  fast: {{ladder: [upstream]}}
  climbing: {{ladder: [dead, upstream]}}
"""
LONG_PROMPT_BYTES = 100_000
PAIRS = 200
CONVERSIONS = 2_000


def body_of(model: str, text: str) -> bytes:
    return json.dumps({"model": model, "messages": [{"role": "user", "content": text}]}).encode()


def rss_bytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS"))) * 1024


def script_of(folder: Path, name: str, body: bytes) -> Path:
    script = folder / f"{name}.lua"
    script.write_text(
        f"wrk.method='POST'; wrk.body='{body.decode()}'\nwrk.headers['content-type']='application/json'\n"
        f"wrk.headers['authorization']='Bearer {bench.KEY}'"
    )
    return script


def cpu_us_per_request(server: bench.Candidate, script: Path, seconds: float, rounds: int, connections: int) -> float:
    """CPU of the server per request; the quietest round."""
    found = []
    for _ in range(rounds):
        before = server.cpu_s()
        many = bench.wrk(server.port, connections, seconds, script)
        time.sleep(0.5)  # the ledger's last batch belongs to the round
        found.append((server.cpu_s() - before) / many["requests"] * 1e6)
    return min(found)


async def first_answers_ms(port: int, body: bytes) -> list[float]:
    """The time of each of some answers, one after the other on one connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    times = []
    for _ in range(PAIRS):
        begun = time.perf_counter()
        writer.write(bench.request_bytes(body))
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
        await reader.readexactly(int(length.split(b":")[1]))
        times.append((time.perf_counter() - begun) * 1e3)
    writer.close()
    return times


def failover_ms(port: int) -> float:
    """What a dead first endpoint, known to be dead, adds to the median answer."""
    bench.run_bounded(_median(port, "climbing"))  # so that it is known
    through = min(bench.run_bounded(_median(port, "climbing")) for _ in range(3))
    straight = min(bench.run_bounded(_median(port, "fast")) for _ in range(3))
    return through - straight


async def _median(port: int, model: str) -> float:
    return statistics.median(await first_answers_ms(port, body_of(model, "Say something.")))


def conversion_us() -> float:
    """OpenAI request to Anthropic's bytes, and its answer back to events: CPU, best of several runs."""
    dialect = AnthropicMessages()
    endpoint = Endpoint("a", "http://127.0.0.1:9", "claude", dialect="anthropic")
    raw = {"model": "x", "messages": [{"role": "user", "content": bench.PROMPT}], "max_tokens": 256}
    text = [{"type": "text", "text": bench.ANSWER}]
    usage = {"input_tokens": 90, "output_tokens": 80}
    reply = json.dumps({"type": "message", "content": text, "stop_reason": "end_turn", "usage": usage}).encode()
    best = float("inf")
    for _ in range(20):
        begun = time.thread_time()
        for _ in range(CONVERSIONS):
            dialect.encode(chat_from_object(raw).request, endpoint, stream=False)
            answer = Answer()
            for event in dialect.decode_body(reply):
                answer.add(event)
        best = min(best, (time.thread_time() - begun) / CONVERSIONS)
    return best * 1e6


def memory_growth(server: bench.Candidate, script: Path, requests: int) -> tuple[float, float]:
    """Resident megabytes after a tenth of the requests, and after all."""
    served, seconds, early = 0.0, 5.0, 0
    while served < requests:
        served += bench.wrk(server.port, 64, seconds, script)["requests"]
        if not early and served >= requests / 10:
            early = rss_bytes(server.process.pid)
    return early / 1e6, rss_bytes(server.process.pid) / 1e6


def split_of(server: bench.Candidate) -> Counter[int]:
    """How many of the listening port's established connections each process of the server holds."""
    held: Counter[int] = Counter()
    inodes = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if int(fields[1].split(":")[1], 16) == server.port and fields[3] == "01":
            inodes.add(f"socket:[{fields[9]}]")
    for pid in [server.process.pid, *bench.children_of(server.process.pid)]:
        try:
            links = [os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir()]
        except OSError:
            continue
        count = len(inodes.intersection(links))
        if count:
            held[pid] = count
    return held


async def hold_connections(server: bench.Candidate, count: int) -> Counter[int]:
    """Open some connections that stay, and see who holds them."""
    opened = []
    for _ in range(count):
        opened.append(await asyncio.open_connection("127.0.0.1", server.port))
        await asyncio.sleep(0)
    body = body_of("fast", "Say something.")
    for reader, writer in opened:  # each has been accepted once it is answered
        writer.write(bench.request_bytes(body))
        await reader.readuntil(b"\r\n\r\n")
    held = split_of(server)
    for _, writer in opened:
        writer.close()
    return held


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=100_000)
    options = parser.parse_args()
    print(bench.versions(argparse.Namespace(nginx=None, sglang_router=None)))
    print(f"conversion OpenAI -> Anthropic -> events     {conversion_us():8.1f} us CPU (floor 40)")
    port = bench.free_port()
    command = [sys.executable, bench.__file__, "--role", "upstream", str(port)]
    upstream = bench.start(command, bench.LOAD_CORE, port)
    bench.MANIFEST = MANIFEST.replace("{dead}", str(bench.free_port()))
    try:
        for workers in (1, 2):
            with tempfile.TemporaryDirectory() as name:
                measure(Path(name), port, workers, options)
    finally:
        bench.stop(upstream)


def measure(folder: Path, upstream_port: int, workers: int, options: argparse.Namespace) -> None:
    server = bench.start_roadbed(folder, upstream_port, workers=workers)
    short = script_of(folder, "short", body_of("fast", bench.PROMPT))
    try:
        server.has_children, server.child = workers > 1, bench.WORKER
        bench.wrk(server.port, 64, 1, short)
        cpu = cpu_us_per_request(server, short, 3, options.rounds, 64)
        print(f"{workers} worker(s): CPU per request, 64 connections {cpu:8.1f} us")
        if workers > 1:
            print(f"split of 64 connections {dict(bench.run_bounded(hold_connections(server, 64)))}")
            return
        prompt = (bench.PROMPT + " ") * (LONG_PROMPT_BYTES // len(bench.PROMPT))
        long = script_of(folder, "long", body_of("fast", prompt))
        cost = cpu_us_per_request(server, long, 3, options.rounds, 8)
        print(f"prompt of {LONG_PROMPT_BYTES} B: CPU per request        {cost:8.1f} us (floor 600)")
        print(f"failover, first endpoint known dead: added   {failover_ms(server.port):8.2f} ms (floor 5)")
        early, late = memory_growth(server, short, options.requests)
        print(f"memory after {options.requests // 10} and {options.requests} requests: {early:.1f} and {late:.1f} MB")
    finally:
        bench.stop(server.process)


if __name__ == "__main__":
    main()
