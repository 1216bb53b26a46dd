"""What `/v1/chat/completions` costs through a route of the whole server, beside nginx and a Rust router in one run.

Roadbed is the real server (`roadbed up`: key check, guard, usage, trace and ledger on, its own PostgreSQL). Each
candidate runs alone on one core; load, the scripted upstream and PostgreSQL are on the other one. CPU is read from
/proc, so that a busy machine blurs requests per second but hardly CPU per request; rounds are repeated, the quietest
one is reported, and the spread of all beside it.

    python bench/gateway/run.py [--rounds 3] [--seconds 4] [--sglang-router PATH] [--nginx PATH]
        [--litellm PATH] [--portkey PATH] [--json FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import concurrent.futures
import json
import os
import platform
import random
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from roadbed import __version__
from roadbed.testing.first_controls import run_controls

PATH = "/v1/chat/completions"
PROMPT = ("Please summarise the report of the last inspection for the board in three short sentences. " * 5)[:420]
ANSWER = ("The roof was replaced and the drains were cleaned; no further work is needed before the autumn. " * 5)[:440]
KEY = "sk-bench-key-that-is-long-enough-0001"
CHUNKS_PER_STREAM, CHUNK_GAP_S, STREAMS = 200, 0.01, 64
PACED_CONNECTIONS, PACED_REQUESTS, PACED_GAP_S = 8, 150, 0.01
OWN_CORE, LOAD_CORE = 0, 1
WORKER = b"serve_worker"
TICKS = os.sysconf("SC_CLK_TCK")
START_S = 300
STEP_S = 60
QUIET: dict[str, Any] = {
    "stderr": subprocess.DEVNULL,
    "env": {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR", "LITELLM_MASTER_KEY": KEY},
}
Number = TypeVar("Number", int, float)
MANIFEST = """name: bench
endpoints:
  upstream: {{type: openai, url: "http://127.0.0.1:{port}/v1", model: bench-model, max_connections: {connections}}}
models:
  fast: {{ladder: [upstream]}}
"""


def chunk(delta: dict[str, str], reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
    body = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "bench-model"}
    return b"data: " + json.dumps({**body, "choices": [choice]}, separators=(",", ":")).encode() + b"\n\n"


USAGE = {"prompt_tokens": 90, "completion_tokens": 80, "total_tokens": 170}
MESSAGE = {"role": "assistant", "content": ANSWER, "refusal": None}
REPLY = json.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "bench-model",
        "choices": [{"index": 0, "message": MESSAGE, "logprobs": None, "finish_reason": "stop"}],
        "usage": USAGE,
    }
).encode()
DELTA = chunk({"content": "word "})
LAST = (
    chunk({}, "stop")
    + b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"bench-model",'
    + b'"choices":[],"usage":'
    + json.dumps(USAGE).encode()
    + b"}\n\ndata: [DONE]\n\n"
)


class ScriptedUpstream(asyncio.Protocol):
    """Answers every POST: with a fixed completion, or with a paced stream where the body asks for one."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.buffer = b""
        self.is_lost = False

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_lost = True

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        found = re.search(rb"content-length: (\d+)", self.buffer[:end], re.IGNORECASE)
        if len(self.buffer) < end + 4 + (int(found[1]) if found else 0):
            return
        is_stream = b'"stream":true' in self.buffer or b'"stream": true' in self.buffer
        self.buffer = b""
        if is_stream:
            head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
            self.transport.write(head)
            self.stream(CHUNKS_PER_STREAM)
        else:
            head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
            self.transport.write(head % len(REPLY) + REPLY)

    def stream(self, left: int) -> None:
        if self.is_lost:
            return
        if not left:
            self.transport.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(LAST), LAST))
            return
        self.transport.write(b"%x\r\n%b\r\n" % (len(DELTA), DELTA))
        asyncio.get_running_loop().call_later(CHUNK_GAP_S, self.stream, left - 1)


async def run_upstream(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(ScriptedUpstream, "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


def cpu_s(pid: int) -> float:
    """CPU seconds of one process, all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def children_of(pid: int) -> list[int]:
    """All descendants."""
    found, pids = [], [pid]
    while pids:
        one = pids.pop()
        try:
            direct = [int(child) for task in Path(f"/proc/{one}/task").iterdir() for child in _children(task)]
        except OSError:
            continue
        found += direct
        pids += direct
    return found


def _children(task: Path) -> list[str]:
    return (task / "children").read_text().split()


class StreamWasCut(Exception):
    """A stream ended without its end."""


@dataclass
class Candidate:
    """A running server under measurement. Its children's CPU is its own where it has some: all of theirs, or only of
    those whose command line says ``child``.
    """

    name: str
    port: int
    process: subprocess.Popen[bytes]
    has_children: bool = False
    child: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    rows: list[dict[str, float]] = field(default_factory=list)

    def cpu_s(self) -> float:
        total = cpu_s(self.process.pid)
        for pid in children_of(self.process.pid) if self.has_children else ():
            try:
                if self.child in Path(f"/proc/{pid}/cmdline").read_bytes():
                    total += cpu_s(pid)
            except OSError:
                continue
        return total

    def store_cpu_s(self) -> float:
        """CPU of PostgreSQL; of a server without children nothing."""
        total = 0.0
        for pid in children_of(self.process.pid):
            try:
                total += cpu_s(pid)
            except OSError:
                continue
        return total


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start(command: list[str], core: int, port: int, **values: object) -> subprocess.Popen[bytes]:
    pinned = ["taskset", "-c", str(core), *command]
    process = subprocess.Popen(pinned, stdout=subprocess.DEVNULL, start_new_session=True, **values)  # type: ignore[call-overload]
    end = time.monotonic() + START_S
    while time.monotonic() < end and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return process
        time.sleep(0.05)
    raise SystemExit(f"{command[0]} did not start")


def stop(process: subprocess.Popen[bytes]) -> None:
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def start_roadbed(folder: Path, upstream_port: int, workers: int = 1, connections: int = 512) -> Candidate:
    """The real server, pinned; its PostgreSQL goes to the other core, workers stay."""
    (folder / "workspace").mkdir()
    (folder / "workspace" / "roadbed.yaml").write_text(MANIFEST.format(port=upstream_port, connections=connections))
    port, ready = free_port(), folder / "ready.json"
    command = [sys.executable, "-m", "roadbed.cli.main", "up", str(folder / "workspace"), "--port", str(port)]
    command += ["--state", str(folder / "state"), "--ready-file", str(ready), "--workers", str(workers)]
    environment = {**os.environ, "ROADBED_ADMIN_KEY": KEY}
    process = start(command, OWN_CORE, port, env=environment, stderr=subprocess.DEVNULL)
    end = time.monotonic() + START_S
    while not ready.exists():
        if time.monotonic() > end or process.poll() is not None:
            raise SystemExit("roadbed did not become ready")
        time.sleep(0.1)
    for pid in children_of(process.pid):
        if WORKER not in Path(f"/proc/{pid}/cmdline").read_bytes():
            os.sched_setaffinity(pid, {LOAD_CORE})
    run_controls(f"http://127.0.0.1:{port}", KEY)
    return Candidate("roadbed", port, process)


def nginx_command(program: str, folder: Path, port: int, upstream_port: int) -> list[str]:
    config = folder / "nginx.conf"
    config.write_text(
        f"daemon off; worker_processes 1; pid {folder}/pid; error_log stderr crit;\n"
        f"events {{ worker_connections 2048; }} http {{ access_log off;\n"
        f"client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};\n"
        f"uwsgi_temp_path {folder}; scgi_temp_path {folder}; keepalive_requests 1000000;\n"
        f"upstream up {{ server 127.0.0.1:{upstream_port}; keepalive 256; keepalive_requests 1000000; }}\n"
        f"server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://up; proxy_http_version 1.1;\n"
        f'proxy_set_header connection ""; proxy_buffering off; }} }} }}\n'
    )
    return [program, "-c", str(config), "-e", "stderr"]


def router_command(program: str, port: int, upstream_port: int) -> list[str]:
    command = [program, "launch", "--host", "127.0.0.1", "--port", str(port), "--policy", "round_robin"]
    command += ["--worker-urls", f"http://127.0.0.1:{upstream_port}", "--log-level", "error"]
    return [*command, "--prometheus-port", str(free_port()), "--prometheus-host", "127.0.0.1"]


def litellm_command(program: str, folder: Path, port: int, upstream_port: int) -> list[str]:
    config = folder / "litellm.yaml"
    model = f'{{model: openai/bench-model, api_base: "http://127.0.0.1:{upstream_port}/v1", api_key: none}}'
    config.write_text(f"model_list:\n  - model_name: fast\n    litellm_params: {model}\n")
    return [program, "--config", str(config), "--port", str(port), "--host", "127.0.0.1", "--num_workers", "1"]


def portkey_headers(upstream_port: int) -> dict[str, str]:
    return {"x-portkey-provider": "openai", "x-portkey-custom-host": f"http://127.0.0.1:{upstream_port}/v1"}


def post_script(folder: Path, candidate: Candidate, body: bytes) -> Path:
    """What wrk sends to a candidate."""
    headers = {"content-type": "application/json", "authorization": f"Bearer {KEY}", **candidate.headers}
    script = folder / f"{candidate.name}.lua"
    lines = [f"wrk.headers['{name}']='{value}'" for name, value in headers.items()]
    script.write_text("\n".join([f"wrk.method='POST'; wrk.body='{body.decode()}'", *lines]))
    return script


def wrk(port: int, connections: int, seconds: float, script: Path) -> dict[str, float]:
    """Load by wrk: requests, requests per second, p50."""
    command = ["taskset", "-c", str(LOAD_CORE), "wrk", "-t1", f"-c{connections}", "--latency", "-s", str(script)]
    command += [f"-d{int(seconds)}s", f"http://127.0.0.1:{port}{PATH}"]
    said = subprocess.run(command, check=True, capture_output=True, text=True, timeout=STEP_S).stdout
    if "Non-2xx" in said or "Socket errors" in said:
        print(said, file=sys.stderr)
    value, unit = re.findall(r"50%\s+([\d.]+)(us|ms|s)", said)[0]
    return {
        "requests": float(re.findall(r"(\d+) requests in", said)[0]),
        "requests_per_s": float(re.findall(r"Requests/sec:\s+([\d.]+)", said)[0]),
        "p50_us": float(value) * {"us": 1, "ms": 1e3, "s": 1e6}[unit],
    }


def request_bytes(body: bytes, headers: dict[str, str] | None = None) -> bytes:
    head = f"POST {PATH} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {KEY}\r\ncontent-type: application/json\r\n"
    head += "".join([f"{name}: {value}\r\n" for name, value in (headers or {}).items()])
    return head.encode() + b"content-length: %d\r\n\r\n" % len(body) + body


async def read_streams(port: int, headers: dict[str, str]) -> int:
    """Open all streams, read them to their end; the events that the upstream sent, which may arrive joined."""
    request = request_bytes(b'{"model":"fast","stream":true,"messages":[{"role":"user","content":"x"}]}', headers)

    async def one() -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 24)
        writer.write(request)
        text = await reader.readuntil(b"0\r\n\r\n")
        writer.close()
        if b"[DONE]" not in text:
            raise StreamWasCut
        return CHUNKS_PER_STREAM + LAST.count(b"data: ")

    return sum(await asyncio.gather(*[one() for _ in range(STREAMS)]))


def paced_p50_us(port: int, body: bytes, headers: dict[str, str] | None = None) -> float:
    """The median time to a whole answer at 8 connections that rest between requests: almost none meets another.

    Threads, and rests of random length: timers of one event loop wake up together, so that requests come in bunches.
    """
    request, times = request_bytes(body, headers), []

    def one(rests: random.Random) -> None:
        with socket.create_connection(("127.0.0.1", port), timeout=STEP_S) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for _ in range(PACED_REQUESTS):
                time.sleep(rests.uniform(0, 2 * PACED_GAP_S))
                begun = time.perf_counter()
                connection.sendall(request)
                read_answer(connection)
                times.append(time.perf_counter() - begun)

    with concurrent.futures.ThreadPoolExecutor(PACED_CONNECTIONS) as pool:
        for done in [pool.submit(one, random.Random(number)) for number in range(PACED_CONNECTIONS)]:
            done.result(STEP_S)
    return statistics.median(times) * 1e6


def read_answer(connection: socket.socket) -> None:
    """Read one response to its end."""
    answer = bytearray()
    while b"\r\n\r\n" not in answer:
        answer += connection.recv(65_536) or b"\r\n\r\n"
    head, _, rest = bytes(answer).partition(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
    while len(rest) < int(length[1]) if length else not rest.endswith(b"0\r\n\r\n"):
        piece = connection.recv(65_536)
        if not piece:
            raise StreamWasCut
        rest += piece


def run_bounded(work: Coroutine[Any, Any, Number]) -> Number:
    """Run a measurement; one that hangs ends the bench and not the patience."""

    async def bounded() -> Number:
        async with asyncio.timeout(STEP_S):
            return await work

    return asyncio.run(bounded())


def measure(candidate: Candidate, upstream_port: int, seconds: float, script: Path, body: bytes) -> None:
    """One round."""
    store, before = candidate.store_cpu_s(), candidate.cpu_s()
    many = wrk(candidate.port, 64, seconds, script)
    time.sleep(0.5)  # the ledger's last batch belongs to the round
    spent, store_spent = candidate.cpu_s() - before, candidate.store_cpu_s() - store
    few = wrk(candidate.port, 8, min(seconds, 2), script)
    direct_us = paced_p50_us(upstream_port, body)
    through_us = paced_p50_us(candidate.port, body, candidate.headers)
    before = candidate.cpu_s()
    try:
        chunks = run_bounded(read_streams(candidate.port, candidate.headers))
    except (OSError, asyncio.IncompleteReadError, TimeoutError, StreamWasCut) as error:
        print(f"{candidate.name}: its streams were not whole ({type(error).__name__})", file=sys.stderr)
        if candidate.name == "roadbed":
            raise
        chunks = 0
    row = {
        "requests_per_s": many["requests_per_s"],
        "cpu_us": spent / many["requests"] * 1e6,
        "store_cpu_us": store_spent / many["requests"] * 1e6 if not candidate.has_children else 0.0,
        "busy_p50_us_8": few["p50_us"],
        "added_p50_us_8": through_us - direct_us,
        "cpu_us_per_chunk": (candidate.cpu_s() - before) / chunks * 1e6 if chunks else float("nan"),
    }
    candidate.rows.append(row)


COLUMNS = {
    "requests_per_s": ("req/s at 64", max),
    "cpu_us": ("us CPU/request", min),
    "store_cpu_us": ("us CPU of PostgreSQL", min),
    "busy_p50_us_8": ("p50 at 8, saturated, us", min),
    "added_p50_us_8": ("added p50 at 8, paced, us", min),
    "cpu_us_per_chunk": ("us CPU/SSE chunk", min),
}


def report(candidates: list[Candidate]) -> None:
    """The table: the quietest round, and in brackets the other end of the spread."""
    for name, (title, best) in COLUMNS.items():
        worst = min if best is max else max
        cells = []
        for candidate in candidates:
            values = [row[name] for row in candidate.rows]
            cells.append(f"{candidate.name} {best(values):8.1f} ({worst(values):.1f})")
        print(f"{title:28s} " + "   ".join(cells))
    by_name = {candidate.name: max(row["requests_per_s"] for row in candidate.rows) for candidate in candidates}
    for peer in list(by_name)[1:]:
        print(f"roadbed / {peer}: {by_name['roadbed'] / by_name[peer]:.2f} by req/s")


def versions(options: argparse.Namespace) -> str:
    is_optimized = "--enable-optimizations" in str(sysconfig.get_config_var("CONFIG_ARGS"))
    is_optimized = is_optimized or not sysconfig.get_config_var("PGO_PROF_USE_FLAG")  # as Debian's says it
    build = "optimized" if is_optimized else "NOT optimized: up to 1.8 times slower"
    words = [f"roadbed {__version__}", f"Python {platform.python_version()} ({build})"]
    for program, flag in ((options.nginx, "-v"), (options.sglang_router, "--version")):
        if program:
            said = subprocess.run([program, flag], capture_output=True, text=True, check=False)
            words.append((said.stdout or said.stderr).strip().splitlines()[0])
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    words.append(f"{os.cpu_count()} cores {model[1] if model else platform.machine()}")
    words.append(f"load average {os.getloadavg()[0]:.1f}")
    return "; ".join(words)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--nginx", default=shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin"))
    parser.add_argument("--sglang-router", default=shutil.which("sglang-router"))
    parser.add_argument("--litellm", default=shutil.which("litellm"))
    parser.add_argument("--portkey", help="the program `gateway` of @portkey-ai/gateway")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--role", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.role:
        asyncio.run(run_upstream(int(options.role[1])))
        return
    if shutil.which("wrk") is None or shutil.which("taskset") is None:
        raise SystemExit("the bench needs wrk and taskset (Debian: apt-get install wrk util-linux)")
    print(versions(options))
    messages = [{"role": "system", "content": "You are helpful."}, {"role": "user", "content": PROMPT}]
    body = json.dumps({"model": "fast", "messages": messages, "temperature": 0.2, "max_tokens": 256}).encode()
    print(f"body {len(body)} B, answer {len(REPLY)} B, {options.rounds} rounds of {options.seconds:g} s, one core each")
    upstream_port = free_port()
    upstream = start([sys.executable, __file__, "--role", "upstream", str(upstream_port)], LOAD_CORE, upstream_port)
    candidates: list[Candidate] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            candidates.append(start_roadbed(folder, upstream_port))
            if options.nginx:
                port = free_port()
                process = start(nginx_command(options.nginx, folder, port, upstream_port), OWN_CORE, port)
                candidates.append(Candidate("nginx", port, process, has_children=True))
            if options.sglang_router:
                port = free_port()
                process = start(router_command(options.sglang_router, port, upstream_port), OWN_CORE, port)
                candidates.append(Candidate("sglang-router", port, process, has_children=True))
            if options.litellm:
                port = free_port()
                process = start(litellm_command(options.litellm, folder, port, upstream_port), OWN_CORE, port, **QUIET)
                candidates.append(Candidate("litellm", port, process, has_children=True))
            if options.portkey:
                port = free_port()
                process = start([options.portkey, f"--port={port}", "--headless"], OWN_CORE, port, **QUIET)
                headers = portkey_headers(upstream_port)
                candidates.append(Candidate("portkey", port, process, has_children=True, headers=headers))
            os.sched_setaffinity(0, {LOAD_CORE})
            scripts = {candidate.name: post_script(folder, candidate, body) for candidate in candidates}
            for candidate in candidates:
                wrk(candidate.port, 64, 1, scripts[candidate.name])
            for _ in range(options.rounds):
                for candidate in candidates:
                    measure(candidate, upstream_port, options.seconds, scripts[candidate.name], body)
            report(candidates)
        finally:
            for candidate in candidates:
                stop(candidate.process)
            stop(upstream)
    if options.json:
        options.json.write_text(json.dumps({candidate.name: candidate.rows for candidate in candidates}, indent=1))


if __name__ == "__main__":
    main()
