"""What three times too much does to a route: goodput and waits, with admission (`queue:`) and without, in one run.

A scripted model of fixed capacity (so many slots, so long each; what is over them waits inside it, as in a real
engine) is offered requests at a steady rate by several teams, over real HTTP on loopback. Goodput is what was answered
whole within its deadline. The peak is what as many callers as there are slots get done, each asking anew as soon as it
is answered, in the same run. With ``--server`` the requests go through `roadbed up`,
each team with a key of its own; without, straight to the gateway's code. It ends with 1 where goodput or the wait of
the admitted is over its floor. Figures of a run depend on the machine: the load generator shares it.

    python bench/gateway/overload.py [--server] [--slots 8] [--service 0.2] [--times 3] [--seconds 12]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from asyncio import StreamWriter
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from run import free_port

from roadbed.gateway.endpoints import Endpoint, sink_of
from roadbed.gateway.gateway import Gateway
from roadbed.gateway.policy import Policy
from roadbed.gateway.route import Route
from roadbed.gateway.types import Call, ChatRequest, Message
from roadbed.guard.gate import Guard
from roadbed.kernel.deadline import Deadline
from roadbed.kernel.errors import RoadbedError
from roadbed.kernel.principal import Principal
from roadbed.testing.first_controls import run_controls
from roadbed.testing.scripted_model import ScriptedModel
from roadbed.testing.scripted_reply import Prompt, Reply
from roadbed.wire.address import parse_url
from roadbed.wire.client import UpstreamClient
from roadbed.wire.exchange import UpstreamRequest
from roadbed.wire.pool import PoolLimits

GOODPUT_FLOOR = 0.9
DEADLINE_S = 2.0
LATE_S = 0.25
"""How much over the deadline the p99 of the admitted may be: the answer's last bytes, and a busy load generator."""

START_S = 120.0
KEY = "rb-bench-0123456789abcdef0123"
MANIFEST = """name: bench
endpoints:
  first: {{type: openai, url: "{url}", model: m, max_connections: 512}}
  second: {{type: openai, url: "{url}", model: m, max_connections: 512}}
models:
  plain: {{ladder: [first], deadline: {deadline:g}s}}
  smart: {{ladder: [second], deadline: {deadline:g}s, queue: {queue}}}
"""
Send = Callable[[str, str], Awaitable[str]]
"""Sends one team's request to a route; the code of the error that came back, empty for an answer."""

TEAMS = ("red", "green", "blue")
WARM_UP_S = 2.0
PEAK_S = 5.0


class Engine(ScriptedModel):
    """A scripted model with a fixed number of slots."""

    def __init__(self, slots: int, service_s: float) -> None:
        super().__init__(default=Reply(text="one two three"))
        self._slots = asyncio.Semaphore(slots)
        self._service_s = service_s

    async def _reply(self, prompt: Prompt, reply: Reply, writer: StreamWriter) -> bool:
        async with self._slots:
            await asyncio.sleep(self._service_s)
            return await super()._reply(prompt, reply, writer)


@dataclass
class Figures:
    """What became of the requests that arrived after the warm-up."""

    offered: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    refusal_seconds: list[float] = field(default_factory=list)
    teams: Counter[str] = field(default_factory=Counter)

    def line(self, name: str, seconds: float, peak: float) -> str:
        goodput = len(self.seconds) / seconds
        told = ", ".join(f"{code} {count}" for code, count in self.refused.most_common())
        times = [quantile(self.seconds, 0.5), quantile(self.seconds, 0.99), quantile(self.refusal_seconds, 0.5)]
        return (
            f"{name}: offered {self.offered / seconds:.1f}/s, goodput {goodput:.1f}/s = {goodput / peak:.0%} of the "
            f"peak {peak:.1f}/s; admitted p50 {times[0]:.3f} s, p99 {times[1]:.3f} s; refused after p50 "
            f"{times[2]:.3f} s ({told or 'none'}); by team {dict(sorted(self.teams.items()))}"
        )


def quantile(values: list[float], share: float) -> float:
    """The value below which this share lies; NaN for none."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))] if values else float("nan")


async def ask(send: Send, team: str, route: str, figures: Figures | None) -> None:
    started_s = time.monotonic()
    code = await send(team, route)
    took_s = time.monotonic() - started_s
    if figures is None:
        return
    figures.offered += 1
    if code:
        figures.refused[code] += 1
        figures.refusal_seconds.append(took_s)
    else:
        figures.seconds.append(took_s)
        figures.teams[team] += 1


@asynccontextmanager
async def in_process(engine: Engine, options: argparse.Namespace) -> AsyncIterator[Send]:
    """The gateway's own code, without a server around it."""
    guard, client = Guard.open(), UpstreamClient()
    guard.warm_up()
    first, second = (
        Endpoint(name, engine.url, "m", is_local=True, sink=sink_of(name, True, []), max_connections=512)
        for name in ("first", "second")  # what one run tells of its endpoint is not the other's
    )
    routes = {"plain": Route("plain", (first,)), "smart": Route("smart", (second,), policy=Policy(queue=options.queue))}
    gateway = Gateway(client, guard, routes)

    async def send(team: str, route: str) -> str:
        call = Call(Principal(id=f"key-{team}", team=team), Deadline.after(DEADLINE_S))
        try:
            async with gateway.stream(route, ChatRequest((Message("user", "Say something"),)), call) as stream:
                await stream.answer()
        except RoadbedError as error:
            return error.code
        return ""

    yield send
    await client.close()


def start_server(folder: Path, port: int) -> subprocess.Popen[bytes]:
    """Start the server; returns when it is ready."""
    command = [sys.executable, "-m", "roadbed.cli.main", "up", str(folder / "workspace"), "--port", str(port)]
    command += ["--state", str(folder / "state"), "--ready-file", str(folder / "ready.json")]
    environment = {**os.environ, "ROADBED_ADMIN_KEY": KEY}
    server = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, start_new_session=True)
    ends_s = time.monotonic() + START_S
    while not (folder / "ready.json").exists():
        if time.monotonic() > ends_s or server.poll() is not None:
            raise SystemExit("roadbed did not become ready")
        time.sleep(0.1)
    run_controls(f"http://127.0.0.1:{port}", KEY)
    return server


@asynccontextmanager
async def served(engine: Engine, options: argparse.Namespace) -> AsyncIterator[Send]:
    """A real server, one process, with a key for each team."""
    client = UpstreamClient(limits=PoolLimits(512, 4096))
    with tempfile.TemporaryDirectory(prefix="roadbed-overload-") as name:
        folder, port = Path(name), free_port()
        (folder / "workspace").mkdir()
        text = MANIFEST.format(url=engine.url, deadline=DEADLINE_S, queue=options.queue)
        (folder / "workspace" / "roadbed.yaml").write_text(text)
        server = await asyncio.to_thread(start_server, folder, port)
        try:

            async def post(path: str, key: str, body: object) -> tuple[int, dict[str, object]]:
                headers = ((b"authorization", f"Bearer {key}".encode()), (b"content-type", b"application/json"))
                url = parse_url(f"http://127.0.0.1:{port}{path}")
                request = UpstreamRequest(b"POST", url, headers, msgspec.json.encode(body))
                async with await client.request(request, connect_s=30.0, head_s=30.0, complete_s=30.0) as response:
                    return response.status, msgspec.json.decode(await response.read(1 << 20))

            keys = {
                team: str((await post("/api/keys", KEY, {"team": team, "roles": ["member"]}))[1]["key"])
                for team in TEAMS
            }

            async def send(team: str, route: str) -> str:
                asked = {"model": route, "messages": [{"role": "user", "content": "Say something"}]}
                status, body = await post("/v1/chat/completions", keys[team], asked)
                error = body.get("error")
                return "" if status == 200 else str(error.get("code") if isinstance(error, dict) else status)

            yield send
        finally:
            await client.close()
            server.send_signal(signal.SIGINT)
            server.wait(60)


async def peak_of(send: Send, options: argparse.Namespace) -> float:
    """Answers a second with just as many callers as the engine has slots."""
    loop = asyncio.get_running_loop()
    ends_s = loop.time() + PEAK_S
    answered = 0

    async def caller(team: str) -> None:
        nonlocal answered
        while loop.time() < ends_s:
            if not await send(team, "plain") and loop.time() < ends_s:
                answered += 1

    await asyncio.gather(*(caller(TEAMS[number % len(TEAMS)]) for number in range(options.slots)))
    return answered / PEAK_S


async def drive(send: Send, route: str, options: argparse.Namespace) -> Figures:
    """Offer ``times`` the peak for ``seconds``; red sends four times as much as the other teams together."""
    figures = Figures()
    gap_s = options.service / options.slots / options.times
    loop = asyncio.get_running_loop()
    started_s, tasks, number = loop.time(), set(), 0
    while (now_s := loop.time()) < started_s + WARM_UP_S + options.seconds:
        team = TEAMS[0] if number % 5 else TEAMS[1 + number // 5 % 2]
        counted = figures if now_s >= started_s + WARM_UP_S else None
        task = asyncio.create_task(ask(send, team, route, counted))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        number += 1
        await asyncio.sleep(max(0.0, started_s + number * gap_s - loop.time()))
    await asyncio.gather(*tasks)
    return figures


async def measure(options: argparse.Namespace) -> bool:
    """Both runs; whether goodput and the wait of the admitted keep to their bounds with admission."""
    way = served if options.server else in_process
    async with Engine(options.slots, options.service) as engine, way(engine, options) as send:
        peak = await peak_of(send, options)
        print(f"peak: {peak:.1f}/s measured, {options.slots / options.service:.1f}/s by the engine's slots")
        without = await drive(send, "plain", options)
        print(without.line("without admission", options.seconds, peak))
        admitted = await drive(send, "smart", options)
        print(admitted.line("with admission", options.seconds, peak))
    is_quick = quantile(admitted.seconds, 0.99) <= DEADLINE_S + LATE_S
    return is_quick and len(admitted.seconds) / options.seconds >= GOODPUT_FLOOR * peak


def main() -> None:
    """Run and print; exit 1 under the floor."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", action="store_true", help="through a real server")
    parser.add_argument("--slots", type=int, default=8, help="what the engine does at a time")
    parser.add_argument("--service", type=float, default=0.2, help="seconds that each takes")
    parser.add_argument("--times", type=float, default=3.0, help="offered load as a multiple of the peak")
    parser.add_argument("--seconds", type=float, default=12.0, help="length of each run after its warm-up")
    parser.add_argument("--queue", type=int, default=64, help="the route's queue")
    raise SystemExit(0 if asyncio.run(measure(parser.parse_args())) else 1)


if __name__ == "__main__":
    main()
