"""What three times too much does to a route: goodput and waits, with admission (`queue:`) and without, in one run.

A scripted model of fixed capacity (so many slots, so long each; what is over them waits inside it, as in a real
engine) is offered requests at a steady rate by several teams, over real HTTP on loopback. Goodput is what was answered
whole within its deadline. The peak is what the slots can do. Figures of a run depend on the machine: the load
generator shares it.

    python bench/gateway/overload.py [--slots 8] [--service 0.2] [--times 3] [--seconds 12]
"""

from __future__ import annotations

import argparse
import asyncio
import time
from asyncio import StreamWriter
from collections import Counter
from dataclasses import dataclass, field

from roadbed.gateway.endpoints import Endpoint, sink_of
from roadbed.gateway.gateway import Gateway
from roadbed.gateway.policy import PLAIN, Policy
from roadbed.gateway.route import Route
from roadbed.gateway.types import Call, ChatRequest, Message
from roadbed.guard.gate import Guard
from roadbed.kernel.deadline import Deadline
from roadbed.kernel.errors import RoadbedError
from roadbed.kernel.principal import Principal
from roadbed.testing.scripted_model import ScriptedModel
from roadbed.testing.scripted_reply import Prompt, Reply
from roadbed.wire.client import UpstreamClient

GOODPUT_FLOOR = 0.9
DEADLINE_S = 2.0
TEAMS = ("red", "green", "blue")
WARM_UP_S = 2.0


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


async def ask(gateway: Gateway, team: str, figures: Figures | None) -> None:
    started_s = time.monotonic()
    call = Call(Principal(id=f"key-{team}", team=team), Deadline.after(DEADLINE_S))
    code = ""
    try:
        async with gateway.stream("smart", ChatRequest((Message("user", "Say something"),)), call) as stream:
            await stream.answer()
    except RoadbedError as error:
        code = error.code
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


async def drive(policy: Policy, options: argparse.Namespace, guard: Guard) -> Figures:
    """Offer ``times`` the peak for ``seconds``; red sends four times as much as the other teams together."""
    figures, client = Figures(), UpstreamClient()
    async with Engine(options.slots, options.service) as engine:
        endpoint = Endpoint(
            "engine", engine.url, "m", is_local=True, sink=sink_of("engine", True, []), max_connections=512
        )
        gateway = Gateway(client, guard, {"smart": Route("smart", (endpoint,), policy=policy)})
        gap_s = options.service / options.slots / options.times
        loop = asyncio.get_running_loop()
        started_s, tasks, number = loop.time(), set(), 0
        while (now_s := loop.time()) < started_s + WARM_UP_S + options.seconds:
            team = TEAMS[0] if number % 5 else TEAMS[1 + number // 5 % 2]
            counted = figures if now_s >= started_s + WARM_UP_S else None
            task = asyncio.create_task(ask(gateway, team, counted))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            number += 1
            await asyncio.sleep(max(0.0, started_s + number * gap_s - loop.time()))
        await asyncio.gather(*tasks)
        limit = gateway.gates.limits.of(endpoint)
        if policy.queue:
            print(f"  learned limit {limit.value:.1f} for {options.slots} slots")
    await client.close()
    return figures


async def measure(options: argparse.Namespace) -> bool:
    """Both runs; whether goodput with admission is over its floor."""
    guard = Guard.open()
    guard.warm_up()
    peak = options.slots / options.service
    without = await drive(PLAIN, options, guard)
    print(without.line("without admission", options.seconds, peak))
    admitted = await drive(Policy(queue=options.queue), options, guard)
    print(admitted.line("with admission", options.seconds, peak))
    return len(admitted.seconds) / options.seconds >= GOODPUT_FLOOR * peak


def main() -> None:
    """Run and print; exit 1 under the floor."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slots", type=int, default=8, help="what the engine does at a time")
    parser.add_argument("--service", type=float, default=0.2, help="seconds that each takes")
    parser.add_argument("--times", type=float, default=3.0, help="offered load as a multiple of the peak")
    parser.add_argument("--seconds", type=float, default=12.0, help="length of each run after its warm-up")
    parser.add_argument("--queue", type=int, default=64, help="the route's queue")
    raise SystemExit(0 if asyncio.run(measure(parser.parse_args())) else 1)


if __name__ == "__main__":
    main()
