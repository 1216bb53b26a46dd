"""Roadbed over a real llama.cpp server: found, called, streamed, and answered without once it is gone.

The model is tiny and speaks gibberish, so what is checked is the shape: rungs, usage, citations of what really exists,
traces. `install_llama.sh` brings the engine; each test process starts it at a free port.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx2
import pytest
from tests.stopwatch import Stopwatch

from roadbed.gateway.errors import ContextTooLong
from roadbed.gateway.gateway import Gateway
from roadbed.gateway.local_engines import FoundEngine, engine_endpoint, find_local_engines, route_from_engines
from roadbed.gateway.route import Route
from roadbed.gateway.types import Call, ChatRequest, Finished, Message, TextDelta
from roadbed.guard.gate import Guard
from roadbed.guard.manifest import GuardConfig
from roadbed.guard.rules import GuardRule
from roadbed.kernel.deadline import Deadline
from roadbed.kernel.principal import Principal
from roadbed.testing.flaky_endpoint import refused_port
from roadbed.wire.client import UpstreamClient

from .llama_server import ANSWER_TOKENS_MAX, MODEL, START_S, STOP_S, Engine, engine_on, tiny_model

ADMIN_KEY = "rb-tests-7c0d2f9a4b8e6153"
PROBE_S = 5.0
LEFT_S = 1.0
"""A call that was left must be over at the engine within this; writing on to its limit would take 20 s."""

SPOKEN = set("abcdefghijklmnopqrstuvwxyz .")
QUESTION = "What does a rush order cost?"
NOTES = {
    "fees.md": "# Fees\n\nA rush order costs 35 % extra since January 2026.\n\n"
    "The mileage rate for a private car is NOK 5.30 per kilometre.\n",
    "retention.md": "# Retention\n\nAppraisal reports are kept for seven years after delivery.\n",
}
MANIFEST = """\
name: desk
sources:
  notes: {{type: files, path: ./notes, labels: [public]}}
collections:
  all: {{sources: [notes]}}
endpoints:
  engine: {{type: openai, url: "{engine}", model: tiny, first_event: 30s, stall: 30s}}
  far: {{type: openai, url: "{far}", model: big, local: false}}
models:
  house: {{ladder: [engine]}}
  stand-in: {{ladder: [far, engine]}}
apps:
  helpdesk: {{kind: copilot, knowledge: [all], model: house}}
  outage: {{kind: copilot, knowledge: [all], model: stand-in}}
"""
# A random model seldom ends a sentence, let alone by itself: what its limit cut off is said, and replaced by quotes
# where no sentence is whole.
CUT = ["model house: apps.answer_cut"]
HONEST_ENDS: tuple[tuple[str, list[str]], ...] = (("full", []), ("partial", CUT), ("extractive", CUT))
T = TypeVar("T")

pytestmark = pytest.mark.services


def eventually(check: Callable[[], T | None], within_s: float, what: str) -> T:
    """The first true value of ``check``, asked until the deadline."""
    watch = Stopwatch()
    while not (found := check()):
        if watch.elapsed_s() > within_s:
            pytest.fail(f"{what} did not happen within {within_s} s")
        threading.Event().wait(0.02)
    return found


@pytest.fixture(scope="module")
def model() -> Iterator[Path]:
    """The tiny model's file."""
    with tiny_model() as path:
        yield path


@pytest.fixture(scope="module")
def engine(model: Path) -> Iterator[Engine]:
    """The llama.cpp server that the tests of this file share. Do not kill it: start your own."""
    with engine_on(model) as started:
        yield started


@pytest.fixture
async def client() -> AsyncIterator[UpstreamClient]:
    made = UpstreamClient()
    yield made
    await made.close()


def call() -> Call:
    return Call(Principal(id="key-1", team="support"), Deadline.after(60.0))


def ask(text: str = "Say something.", **values: Any) -> ChatRequest:
    return ChatRequest(messages=(Message("user", text),), **values)


async def found(client: UpstreamClient, engine: Engine) -> FoundEngine:
    """The engine as the probe knows it."""
    engines = await find_local_engines(client, [engine.port], probe_s=PROBE_S)
    assert len(engines) == 1
    return engines[0]


async def test_the_probe_knows_it_for_what_it_is(client: UpstreamClient, engine: Engine) -> None:
    assert await found(client, engine) == FoundEngine("llama.cpp", engine.root, (MODEL,))


async def test_a_route_to_it_streams(client: UpstreamClient, guard: Guard, engine: Engine) -> None:
    route = route_from_engines([await found(client, engine)])
    assert route is not None
    # What a random model writes is one long word, and a word that may become a secret is held back until it ends.
    shown = guard.with_config(GuardConfig(rules=[GuardRule("allow", ["secret"], sink=["caller"], direction="out")]), {})
    gateway = Gateway(client, shown, {route.name: route})
    async with gateway.stream(route.name, ask(max_tokens=24, temperature=0.5), call()) as stream:
        events = [event async for event in stream]
    deltas = [event.text for event in events if isinstance(event, TextDelta)]
    assert len(deltas) > 1, "it came in one piece"
    assert set("".join(deltas)) <= SPOKEN
    assert [event.reason for event in events if isinstance(event, Finished)] == ["length"]
    outcome = stream.outcome
    assert (outcome.endpoint, outcome.rung, outcome.is_complete) == (f"llama.cpp/{MODEL}", "full", True)
    assert outcome.usage.output_tokens == 24
    assert outcome.usage.input_tokens > len("Say something.")
    assert not outcome.usage.is_estimated
    assert outcome.cost_picousd == 0


async def test_a_route_to_it_completes(client: UpstreamClient, guard: Guard, engine: Engine) -> None:
    endpoint = engine_endpoint(await found(client, engine), MODEL)
    gateway = Gateway(client, guard, {"house": Route("house", (endpoint,))})
    answer, outcome = await gateway.complete("house", ask(stop=(" ",)), call())
    assert answer.finish_reason == "stop"
    assert answer.text
    assert " " not in answer.text
    again, second = await gateway.complete("house", ask(max_tokens=5), call())
    assert again.finish_reason == "length"
    assert second.usage.output_tokens == 5
    assert second.usage.cache_read > 0, "the prompt's beginning was the same"
    assert [attempt.failure for attempt in [*outcome.attempts, *second.attempts]] == ["", ""]


async def test_calls_at_the_same_time_do_not_mix(client: UpstreamClient, guard: Guard, engine: Engine) -> None:
    endpoint = engine_endpoint(await found(client, engine), MODEL)
    gateway = Gateway(client, guard, {"house": Route("house", (endpoint,))})
    limits = [3, 7, 11, 13, 17, 19]
    answers = await asyncio.gather(*(gateway.complete("house", ask(max_tokens=limit), call()) for limit in limits))
    assert [outcome.usage.output_tokens for _, outcome in answers] == limits


async def test_a_stream_that_is_left_frees_the_engine(client: UpstreamClient, guard: Guard, engine: Engine) -> None:
    endpoint = engine_endpoint(await found(client, engine), MODEL)
    gateway = Gateway(client, guard, {"house": Route("house", (endpoint,))})
    async with gateway.stream("house", ask(max_tokens=30_000), call()) as stream:
        async for event in stream:
            if isinstance(event, TextDelta):
                break
        assert busy_slots(engine) == 1
    await asyncio.to_thread(eventually, lambda: busy_slots(engine) == 0, LEFT_S, "the end of the call at the engine")


def busy_slots(engine: Engine) -> int:
    """How many calls the engine works on, as it says itself."""
    slots = httpx2.get(f"{engine.root}/slots", timeout=30, trust_env=False).json()
    return sum(slot["is_processing"] for slot in slots)


async def test_a_prompt_beyond_its_window_is_the_callers_error(
    client: UpstreamClient, guard: Guard, engine: Engine
) -> None:
    endpoint = engine_endpoint(await found(client, engine), MODEL)
    gateway = Gateway(client, guard, {"house": Route("house", (endpoint,))})
    with pytest.raises(ContextTooLong):
        await gateway.complete("house", ask("word " * 20_000), call())


@dataclass
class Desk:
    """A small workspace that `roadbed up` serves."""

    url: str
    client: httpx2.Client

    def ask(self, app: str, **more: Any) -> httpx2.Response:
        """The response to the question."""
        body = {"model": app, "messages": [{"role": "user", "content": QUESTION}], **more}
        response = self.client.post("/v1/chat/completions", json=body)
        assert response.status_code == 200, response.text
        return response

    def trace(self, identity: str) -> dict[str, Any]:
        """The stored trace, once it is."""

        def look() -> dict[str, Any] | None:
            response = self.client.get(f"/api/traces/{identity}")
            return dict(response.json()) if response.status_code == 200 else None

        return eventually(look, 10.0, "the stored trace")


@contextmanager
def desk_with(engine: Engine) -> Iterator[Desk]:
    """`roadbed up` on a small folder whose manifest names the engine."""
    with tempfile.TemporaryDirectory(prefix="rb-llama-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        workspace, ready = folder / "desk", folder / "ready.json"
        (workspace / "notes").mkdir(parents=True)
        for note, text in NOTES.items():
            (workspace / "notes" / note).write_text(text)
        manifest = MANIFEST.format(engine=f"{engine.root}/v1", far=f"http://127.0.0.1:{refused_port()}/v1")
        (workspace / "roadbed.yaml").write_text(manifest)
        command = [sys.executable, "-m", "roadbed.cli", "up", str(workspace), "--port", "0"]
        command += ["--state", str(folder / "state"), "--ready-file", str(ready)]
        environment = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        environment |= {"HOME": name, "ROADBED_ADMIN_KEY": ADMIN_KEY}
        with (folder / "up.log").open("w+b") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
            try:
                eventually(lambda: ready.exists() or process.poll() is not None, START_S, "the ready file")
                assert process.poll() is None, (folder / "up.log").read_text()[-2000:]
                url = json.loads(ready.read_text())["url"]
                headers = {"authorization": f"Bearer {ADMIN_KEY}"}
                with httpx2.Client(base_url=url, headers=headers, timeout=60, trust_env=False) as client:
                    yield Desk(url, client)
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGINT)
                process.wait(STOP_S)


def check_whole_answer(desk: Desk) -> None:
    response = desk.ask("helpdesk")
    body = response.json()
    facts, usage = body["roadbed"], body["usage"]
    rung = facts["rung"]
    assert (rung, facts["degraded"]) in HONEST_ENDS
    assert response.headers["x-roadbed-rung"] == rung
    assert body["choices"][0]["message"]["content"].strip()
    assert 0 < usage["completion_tokens"] <= ANSWER_TOKENS_MAX
    assert usage["prompt_tokens"] > sum(map(len, NOTES.values())), "the passages were in its prompt, a token a byte"
    stored = desk.trace(facts["trace"])
    trace = stored["trace"]
    assert (trace["status"], trace["rung"], trace["app"]) == ("ok", rung, "helpdesk")
    assert (trace["input_tokens"], trace["output_tokens"]) == (usage["prompt_tokens"], usage["completion_tokens"])
    assert trace["cost_microusd"] == 0
    assert any("engine" in (span["name"], *map(str, span["attributes"].values())) for span in stored["spans"])


def check_streamed_answer(desk: Desk) -> None:
    response = desk.ask("helpdesk", stream=True, max_tokens=40, stream_options={"include_usage": True})
    data = [line[5:].strip() for line in response.text.splitlines() if line.startswith("data:")]
    assert data[-1] == "[DONE]"
    chunks = [json.loads(item) for item in data[:-1]]
    text = "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"])
    assert text.strip()
    facts = [chunk["roadbed"] for chunk in chunks if "roadbed" in chunk]
    assert all((fact["rung"], fact["degraded"]) in HONEST_ENDS for fact in facts)
    assert len(facts) == 1
    assert [chunk["usage"]["completion_tokens"] for chunk in chunks if chunk.get("usage")] == [40]


def test_a_copilot_answers_with_it_and_without_it(model: Path) -> None:
    with engine_on(model) as engine, desk_with(engine) as desk:
        check_whole_answer(desk)
        check_streamed_answer(desk)
        facts = desk.ask("outage").json()["roadbed"]
        assert facts["rung"] in ("local", "partial", "extractive")
        assert facts["degraded"][0].partition(":")[0] == "far"

        engine.process.send_signal(signal.SIGKILL)
        engine.process.wait(STOP_S)
        body = desk.ask("helpdesk").json()
        facts = body["roadbed"]
        assert facts["rung"] == "extractive"
        assert [part.partition(":")[0] for part in facts["degraded"]] == ["engine", "model house"]
        assert facts["citations"][0]["quote"] == "A rush order costs 35 % extra since January 2026."
        assert facts["citations"][0]["quote"] in body["choices"][0]["message"]["content"]
        assert desk.trace(facts["trace"])["trace"]["status"] == "ok"
