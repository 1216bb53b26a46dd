"""An engine dies under the stream of each SDK: OpenAI's and Anthropic's, plain and async, LangChain and Vercel's.

For each contract of a route the person who watches sees what the contract says: told of the cut, the whole answer from
two engines without a seam, or the whole answer of the other engine. Who does not stream gets it whole in any case.
What no SDK may show is half an answer that looks finished.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import openai
import pytest

from roadbed.testing.scripted_model import Rule
from roadbed.testing.scripted_reply import Prompt, Reply

from .serving import ADMIN_KEY, ROOT, ModelThread, Server, serving, temporary_folder, write_files
from .test_sdks import LANGCHAIN, SCRIPTS, VERCEL, run

pytestmark = pytest.mark.services

STORY = "Once a bridge stood over the river, and whoever crossed it paid the keeper a coin and told him a story."
SEEN_WORDS = 6
PROMPT = "Tell the story"
ASKED: Any = [{"role": "user", "content": PROMPT}]
CONTRACTS = ("error", "continue", "restart")
DIALECTS = ("chat", "responses", "anthropic")
CLIENTS = ("plain", "async", "langchain", "vercel")


def manifest(dying: str, lasting: str) -> str:
    """A route for each case, over an endpoint of its own: the breaker of one counts no failure of another."""
    endpoints = [f'  lasting: {{type: openai, url: "{lasting}", model: m, continues: true}}']
    models = []
    for contract in CONTRACTS:
        for client in CLIENTS:
            for dialect in DIALECTS:
                name = f"{contract}-{client}-{dialect}"
                endpoints.append(f'  at-{name}: {{type: openai, url: "{dying}", model: m}}')
                heard = ", heartbeat: 100ms" if contract == "restart" else ""
                models.append(f"  {name}: {{ladder: [at-{name}, lasting], on_cut: {contract}{heard}}}")
    return "\n".join(["name: cuts", "endpoints:", *endpoints, "models:", *models, ""])


def going_on(prompt: Prompt) -> Reply:
    """The story, or the rest of it where its beginning is given."""
    role, text = prompt.texts[-1]
    return Reply(text=STORY.removeprefix(text) if role == "assistant" else STORY)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    dying, lasting = ModelThread(), ModelThread()
    dying.script(Rule("", Reply(text=STORY, cut_after=SEEN_WORDS, first_delay_s=0.25)))
    lasting.script(Rule("", going_on))
    try:
        with temporary_folder() as folder:
            workspace = write_files(folder / "cuts", {"roadbed.yaml": manifest(dying.url, lasting.url)})
            with serving(workspace, folder / "state") as running:
                yield running
    finally:
        dying.stop()
        lasting.stop()


def check(contract: str, seen: dict[str, Any], finished: str) -> None:
    """``text`` is what was shown, ``error`` what the SDK raised, ``finish`` how it said that the answer ended."""
    if contract == "error":
        assert STORY.startswith(seen["text"])
        assert 0 < len(seen["text"]) < len(STORY)
        assert "broke off" in seen["error"]
        assert seen["finish"] != finished, "half an answer looks finished"
    else:
        assert (seen["text"], seen["error"], seen["finish"]) == (STORY, "", finished)
    assert seen["whole"] == STORY, "who does not stream has been sent nothing yet"


@pytest.mark.parametrize("contract", CONTRACTS)
def test_plain_sdks(server: Server, contract: str) -> None:
    with httpx2.Client(trust_env=False) as transport:
        gpt = openai.OpenAI(base_url=f"{server.url}/v1", api_key=ADMIN_KEY, http_client=transport, max_retries=0)
        claude = anthropic.Anthropic(
            base_url=server.url, api_key=ADMIN_KEY, auth_token=None, http_client=transport, max_retries=0
        )
        name = f"{contract}-plain"
        chat: dict[str, Any] = {"text": "", "error": "", "finish": ""}
        try:
            for chunk in gpt.chat.completions.create(model=f"{name}-chat", messages=ASKED, stream=True):
                for choice in chunk.choices:
                    chat["text"] += choice.delta.content or ""
                    chat["finish"] = choice.finish_reason or chat["finish"]
        except openai.APIError as error:
            chat["error"] = error.message
        whole = gpt.chat.completions.create(model=f"{name}-chat", messages=ASKED)
        chat["whole"] = whole.choices[0].message.content
        check(contract, chat, "stop")

        told: dict[str, Any] = {"text": "", "error": "", "finish": ""}
        with claude.messages.stream(model=f"{name}-anthropic", max_tokens=99, messages=ASKED) as stream:
            try:
                for text in stream.text_stream:
                    told["text"] += text
                told["finish"] = stream.get_final_message().stop_reason
            except anthropic.APIError as error:
                told["error"] = str(error)
        block: Any = claude.messages.create(model=f"{name}-anthropic", max_tokens=99, messages=ASKED).content[0]
        told["whole"] = block.text
        check(contract, told, "end_turn")


@pytest.mark.parametrize("contract", CONTRACTS)
async def test_async_sdks(server: Server, contract: str) -> None:
    async with httpx2.AsyncClient(trust_env=False) as transport:
        gpt = openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key=ADMIN_KEY, http_client=transport, max_retries=0)
        seen: dict[str, Any] = {"text": "", "error": "", "finish": "", "whole": ""}
        name = f"{contract}-async-responses"
        stream = await gpt.responses.create(model=name, input=PROMPT, stream=True)
        async for event in stream:
            if event.type == "response.output_text.delta":
                seen["text"] += event.delta
            if event.type == "response.failed" and event.response.error is not None:
                seen["error"] = event.response.error.message
            if event.type in ("response.completed", "response.failed"):
                seen["finish"] = event.response.status
        seen["whole"] = (await gpt.responses.create(model=name, input=PROMPT)).output_text
        check(contract, seen, "completed")


FINISHED = {
    "langchain": {"chat": "stop", "responses": "completed", "anthropic": "end_turn"},
    "vercel": {"chat": "stop", "responses": "stop", "anthropic": "stop"},
}


def check_all(client: str, found: dict[str, Any]) -> None:
    for contract in CONTRACTS:
        for dialect in DIALECTS:
            check(contract, found[f"{contract}-{dialect}"], FINISHED[client][dialect])


def test_langchain(server: Server) -> None:
    check_all("langchain", run(server, LANGCHAIN, SCRIPTS / "langchain_cut.py", cwd=ROOT))


def test_vercel_s_ai_sdk(server: Server) -> None:
    if not (VERCEL / ".installed").exists():
        pytest.skip("Vercel's AI SDK is not installed: npm reached no registry (tests/services/install_vercel.sh)")
    shutil.copy(SCRIPTS / "vercel" / "cut.mjs", VERCEL)  # where its packages are found
    found = run(server, "node", Path(VERCEL / "cut.mjs"), cwd=VERCEL)
    check_all("vercel", found)
