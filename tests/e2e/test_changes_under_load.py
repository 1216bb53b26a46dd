"""The manifest is saved again and again while requests are under way: none fails, and streams go on to their end."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import httpx2
import pytest

from roadbed.testing.scripted_model import Rule
from roadbed.testing.scripted_reply import Reply

from .serving import ADMIN_KEY, ModelThread, Server, serving, temporary_folder, write_files

pytestmark = pytest.mark.services  # a server of its own

WORDS = "one two three four five six seven eight."
LONG = " ".join(f"w{number}" for number in range(400)) + "."
SHORT_CLIENTS = 4
STREAM_CLIENTS = 4
CHANGE_S = 20.0
MANIFESTS = (
    "endpoints:\n  {a}\nmodels:\n  fast: {{ladder: [a]}}\n  slow: {{ladder: [a]}}\n",
    "endpoints:\n  {a}\n  {b}\nmodels:\n  fast: {{ladder: [b, a]}}\n  slow: {{ladder: [b]}}\n",
    "endpoints:\n  {b}\nmodels:\n  fast: {{ladder: [b], deadline: 40s}}\n  slow: {{ladder: [b]}}\n",
    "endpoints:\n  {b}\n  {c}\nmodels:\n  fast: {{ladder: [c, b], strategy: sticky, weights: {{b: 0}}}}\n"
    "  slow: {{ladder: [c]}}\n",
    "endpoints:\n  {a}\n  {c}\nmodels:\n  fast: {{ladder: [a, c], on_cut: restart}}\n  slow: {{ladder: [c]}}\n",
)
FIRST_OF = ("a", "b", "b", "c", "a")


@dataclass
class Site:
    """The server, and how its manifest says three names of two models."""

    server: Server
    named: dict[str, str]

    def save(self, number: int) -> None:
        """Save one of the manifests."""
        text = "name: changing\n" + MANIFESTS[number].format(**self.named)
        (self.server.workspace / "roadbed.yaml").write_text(text)


@dataclass
class Seen:
    """What the callers got."""

    answered: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    is_over: bool = False


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    models = [ModelThread() for _ in range(2)]
    for model in models:
        model.script(Rule("at length", Reply(text=LONG, gap_s=0.03)), Rule("", Reply(text=WORDS, gap_s=0.02)))
    urls = {"a": models[0].url, "b": models[1].url, "c": models[0].url}
    named = {name: f'{name}: {{type: openai, url: "{url}", model: m}}' for name, url in urls.items()}
    try:
        with temporary_folder() as folder:
            text = "name: changing\n" + MANIFESTS[0].format(**named)
            workspace = write_files(folder / "changing", {"roadbed.yaml": text})
            with serving(workspace, folder / "state") as running:
                yield Site(running, named)
    finally:
        for model in models:
            model.stop()


def body(question: str, route: str, *, is_stream: bool) -> dict[str, Any]:
    return {"model": route, "stream": is_stream, "messages": [{"role": "user", "content": question}]}


async def whole(client: httpx2.AsyncClient, seen: Seen) -> None:
    """Ask until it is over, for the whole answer."""
    while not seen.is_over:
        response = await client.post("/v1/chat/completions", json=body("Hello", "fast", is_stream=False))
        found = response.json()
        if response.status_code != 200 or found["choices"][0]["message"]["content"] != WORDS:
            seen.faults.append(response.text)
            return
        seen.answered[found["roadbed"]["endpoint"]] += 1


async def streamed(client: httpx2.AsyncClient, seen: Seen, question: str, route: str, expected: str) -> str:
    """One streamed answer; the endpoint that gave it."""
    asked = body(question, route, is_stream=True)
    text, endpoint, is_done = "", "", False
    async with client.stream("POST", "/v1/chat/completions", json=asked) as response:
        async for line in response.aiter_lines():
            if line == "data: [DONE]":
                is_done = True
            elif line.startswith("data: "):
                event = json.loads(line.removeprefix("data: "))
                text += "".join(choice["delta"].get("content") or "" for choice in event.get("choices", ()))
                endpoint = (event.get("roadbed") or {}).get("endpoint", endpoint)
    if not is_done or text != expected:
        seen.faults.append(f"{response.status_code}: {text[-200:]}")
    seen.answered[endpoint] += 1
    return endpoint


async def streams(client: httpx2.AsyncClient, seen: Seen) -> None:
    while not seen.is_over and not seen.faults:
        await streamed(client, seen, "Hello", "fast", WORDS)


async def test_no_request_fails_and_a_stream_outlives_its_route_s_endpoint(site: Site) -> None:
    seen = Seen()
    headers = {"authorization": f"Bearer {ADMIN_KEY}"}
    async with httpx2.AsyncClient(base_url=site.server.url, headers=headers, trust_env=False, timeout=60) as client:
        long = asyncio.create_task(streamed(client, seen, "Tell it at length", "slow", LONG))
        tasks = [asyncio.create_task(whole(client, seen)) for _ in range(SHORT_CLIENTS)]
        tasks += [asyncio.create_task(streams(client, seen)) for _ in range(STREAM_CLIENTS)]
        try:
            for number in (1, 2, 3, 4, 1, 3, 0):
                site.save(number)
                before = seen.answered[FIRST_OF[number]]
                async with asyncio.timeout(CHANGE_S):
                    while seen.answered[FIRST_OF[number]] < before + 2 * SHORT_CLIENTS and not seen.faults:  # noqa: ASYNC110
                        await asyncio.sleep(0.02)
                assert number != 2 or not long.done(), "its endpoint is gone from the manifest, and it goes on"
            assert await long == "a", "the stream began at an endpoint that two of the manifests do not have"
        finally:
            seen.is_over = True
            await asyncio.gather(*tasks)
            if not long.done():
                long.cancel()
                with suppress(asyncio.CancelledError):
                    await long
    assert not seen.faults
    assert set(seen.answered) == {"a", "b", "c"}
