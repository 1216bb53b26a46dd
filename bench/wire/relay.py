"""What relaying costs: CPU per request and per SSE chunk, without product logic, beside nginx and a Rust router.

Each relay runs alone on one core (taskset), the upstream and the load on the other; CPU is read from /proc, so that a
busy machine blurs requests per second but hardly CPU per request. Load: wrk for requests, own clients for streams.

    python bench/wire/relay.py [--seconds 4] [--nginx /usr/sbin/nginx] [--sglang-router PATH] [--json FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from roadbed.wire.address import Url, parse_url
from roadbed.wire.client import UpstreamClient
from roadbed.wire.direct import new_loop
from roadbed.wire.errors import UpstreamFailed
from roadbed.wire.exchange import Exchange, ResponseHead, UpstreamRequest
from roadbed.wire.hot import HotTable
from roadbed.wire.proxy import ProxySettings
from roadbed.wire.request import HotRequest
from roadbed.wire.server import bind, make_server

PATH = "/v1/chat/completions"
BODY = json.dumps({"model": "m", "messages": [{"role": "user", "content": "x" * 420}]}).encode()
REPLY = b'{"choices":[{"message":{"content":"' + b"y" * 440 + b'"}}]}'
CHUNK = b'data: {"id":"c","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"word "}}]}\n\n'
CHUNKS_PER_STREAM, CHUNK_GAP_S, STREAMS = 200, 0.01, 64
RELAY_CORE, LOAD_CORE = "0", "1"
TICKS = os.sysconf("SC_CLK_TCK")


class Relay:
    """A hot handler that forwards each request to one upstream."""

    def __init__(self, url: Url) -> None:
        self.client = UpstreamClient(proxies=ProxySettings())
        self.url = url

    def handle(self, request: HotRequest) -> None:
        passage = Passage(request)
        now = request.received_at
        upstream = UpstreamRequest(b"POST", self.url, b"content-type: application/json\r\n", request.body)
        passage.exchange = self.client.send(upstream, passage, now + 1, now + 10)
        request.on_disconnect(passage.exchange.abort)


class Passage:
    """One request on its way through."""

    __slots__ = ("exchange", "is_stream", "parts", "request")

    def __init__(self, request: HotRequest) -> None:
        self.request = request
        self.parts: list[bytes] = []
        self.is_stream = False
        self.exchange: Exchange | None = None

    def on_head(self, head: ResponseHead) -> None:
        self.is_stream = head.get(b"content-type") == b"text/event-stream"
        if self.is_stream:
            self.request.start_stream(head.status, b"content-type: text/event-stream\r\n")

    def on_data(self, data: bytes) -> None:
        if not self.is_stream:
            self.parts.append(data)
            return
        request = self.request
        request.write(data)
        if not request.is_writable and self.exchange is not None:
            self.exchange.pause_reading()
            request.on_drain(self.exchange.resume_reading)

    def on_complete(self) -> None:
        if self.is_stream:
            self.request.end()
        else:
            self.request.send(200, b"content-type: application/json\r\n", b"".join(self.parts))

    def on_error(self, error: UpstreamFailed) -> None:
        if self.request.is_started:
            self.request.abort()
        else:
            self.request.send(error.http_status, (), error.code.encode())


class ScriptedUpstream(asyncio.Protocol):
    """Answers every POST: with a fixed body, or with a paced stream where the body asks for one."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.buffer = b""

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        found = re.search(rb"content-length: (\d+)", self.buffer[:end], re.IGNORECASE)
        if len(self.buffer) < end + 4 + (int(found[1]) if found else 0):
            return
        is_stream = b'"stream":true' in self.buffer
        self.buffer = b""
        if is_stream:
            head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
            self.transport.write(head)
            self.stream(CHUNKS_PER_STREAM)
        else:
            head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
            self.transport.write(head % len(REPLY) + REPLY)

    def stream(self, left: int) -> None:
        if not left:
            self.transport.write(b"0\r\n\r\n")
            return
        self.transport.write(b"%x\r\n%b\r\n" % (len(CHUNK), CHUNK))
        asyncio.get_running_loop().call_later(CHUNK_GAP_S, self.stream, left - 1)


async def run_upstream(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(ScriptedUpstream, "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


async def run_relay(port: int, upstream_port: int) -> None:
    table = HotTable()
    table.add("POST", PATH, Relay(parse_url(f"http://127.0.0.1:{upstream_port}{PATH}")))

    async def nothing(scope, receive, send) -> None:  # type: ignore[no-untyped-def]
        return

    await make_server(nothing, table, bind("127.0.0.1", port)).serve()


def cpu_s(pid: int) -> float:
    """CPU seconds of a process and its children."""
    pids, total = [pid], 0.0
    while pids:
        one = pids.pop()
        try:
            fields = Path(f"/proc/{one}/stat").read_text().rpartition(") ")[2].split()
            children = Path(f"/proc/{one}/task/{one}/children").read_text().split()
        except OSError:
            continue
        total += (int(fields[11]) + int(fields[12])) / TICKS
        pids += [int(child) for child in children]
    return total


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_port(port: int, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 30
    while time.monotonic() < end and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise SystemExit("a server of the bench did not start")


def measure_requests(port: int, pid: int, connections: int, seconds: float, script: str) -> dict[str, float]:
    """Load by wrk: requests per second, CPU per request, p50."""
    command = ["taskset", "-c", LOAD_CORE, "wrk", "-t1", f"-c{connections}", "--latency", "-s", script]
    url = f"http://127.0.0.1:{port}{PATH}"
    subprocess.run([*command, "-d1s", url], check=True, capture_output=True)
    before = cpu_s(pid)
    said = subprocess.run([*command, f"-d{int(seconds)}s", url], check=True, capture_output=True, text=True).stdout
    spent = cpu_s(pid) - before
    if "Non-2xx" in said or "Socket errors" in said:
        print(said)
    requests = int(re.findall(r"(\d+) requests in", said)[0])
    value, unit = re.findall(r"50%\s+([\d.]+)(us|ms|s)", said)[0]
    return {
        "requests_per_s": float(re.findall(r"Requests/sec:\s+([\d.]+)", said)[0]),
        "cpu_us": spent / requests * 1e6,
        "p50_us": float(value) * {"us": 1, "ms": 1e3, "s": 1e6}[unit],
    }


async def read_streams(port: int) -> int:
    """Open all streams, read them to their end, count the events."""
    body = b'{"model":"m","stream":true,"messages":[{"role":"user","content":"x"}]}'
    head = f"POST {PATH} HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"

    async def one() -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head.encode() + body)
        count = 0
        while not (data := await reader.read(65536)).endswith(b"0\r\n\r\n"):
            if not data:
                raise SystemExit("a stream was cut")
            count += data.count(b"data: ")
        writer.close()
        return count + data.count(b"data: ")

    return sum(await asyncio.gather(*[one() for _ in range(STREAMS)]))


def measure_streams(port: int, pid: int) -> float:
    """CPU microseconds per SSE chunk."""
    before = cpu_s(pid)
    chunks = asyncio.run(read_streams(port))
    return (cpu_s(pid) - before) / chunks * 1e6


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


def start(command: list[str], core: str, port: int) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(["taskset", "-c", core, *command], stdout=subprocess.DEVNULL, start_new_session=True)
    wait_port(port, process)
    return process


def stop(process: subprocess.Popen[bytes]) -> None:
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def measure(name: str, command: list[str], port: int, seconds: float, script: str) -> dict[str, float]:
    process = start(command, RELAY_CORE, port)
    try:
        many = measure_requests(port, process.pid, 64, seconds, script)
        few = measure_requests(port, process.pid, 8, seconds, script)
        chunk_us = measure_streams(port, process.pid)
    finally:
        stop(process)
    row = {**many, "p50_us_8": few["p50_us"], "cpu_us_8": few["cpu_us"], "cpu_us_per_chunk": chunk_us}
    print(
        f"{name:14s} {row['requests_per_s']:9.0f} req/s  {row['cpu_us']:6.1f} us CPU/request  "
        f"p50 at 8: {row['p50_us_8']:6.0f} us  {row['cpu_us_per_chunk']:6.1f} us CPU/chunk",
        flush=True,
    )
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--nginx", default=shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin"))
    parser.add_argument("--sglang-router", default=shutil.which("sglang-router"))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--role", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.role:
        role, *ports = options.role
        numbers = [int(port) for port in ports]
        factory = asyncio.new_event_loop if role == "relay-asyncio" else new_loop
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(run_upstream(*numbers) if role == "upstream" else run_relay(*numbers))
        return
    if shutil.which("wrk") is None or shutil.which("taskset") is None:
        raise SystemExit("the bench needs wrk and taskset (Debian: apt-get install wrk util-linux)")
    own = [sys.executable, __file__, "--role"]
    upstream_port, rows = free_port(), {}
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "post.lua"
        script.write_text(
            f"wrk.method='POST'; wrk.body='{BODY.decode()}'; wrk.headers['content-type']='application/json'"
        )
        upstream = start([*own, "upstream", str(upstream_port)], LOAD_CORE, upstream_port)
        try:
            candidates = []
            for name, role in (("roadbed wire", "relay"), ("on asyncio's", "relay-asyncio")):
                port = free_port()
                candidates.append((name, [*own, role, str(port), str(upstream_port)], port))
            if options.nginx:
                port = free_port()
                command = nginx_command(options.nginx, Path(folder), port, upstream_port)
                candidates.append(("nginx", command, port))
            if options.sglang_router:
                port = free_port()
                candidates.append(("sglang-router", router_command(options.sglang_router, port, upstream_port), port))
            for name, command, at in candidates:
                rows[name] = measure(name, command, at, options.seconds, str(script))
        finally:
            stop(upstream)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
