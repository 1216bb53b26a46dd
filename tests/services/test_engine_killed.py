"""What a user sees when the engine that answers them is killed: in the console, through SDKs, on the command line.

Two real llama.cpp servers and a scripted cloud stand behind two routes: `house` tells of a cut, `lasting` goes on. The
steps are one story, so they are one test: each begins where the one before it left the engines.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import anthropic
import openai
import pytest
from tests.browser.conftest import Browser
from tests.e2e.serving import ADMIN_KEY, ModelThread, Server, serving, temporary_folder, write_files

from .llama_server import ENGINE_PYTHON, Engine, engine_on, tiny_model

pytestmark = [pytest.mark.services, pytest.mark.timeout(300)]

MANIFEST = """
name: office
endpoints:
  lab-1: {type: openai, url: "%s/v1", model: tiny, continues: true}
  lab-2: {type: openai, url: "%s/v1", model: tiny, continues: true}
  cloud: {type: openai, url: "%s", model: big, local: false}
models:
  house: {ladder: [lab-1, lab-2, cloud]}
  lasting: {ladder: [lab-1, lab-2, cloud], on_cut: continue}
"""
PROMPT = "Tell a long story"
SEEN_CHARACTERS = 200
ENDLESS_TOKENS = 20_000
RUN_S = 60
LANGCHAIN = """
import sys
from langchain_openai import ChatOpenAI

url, key, model = sys.argv[1:]
chat = ChatOpenAI(model=model, base_url=f"{url}/v1", api_key=key, max_tokens=40)
print(len("".join(chunk.text for chunk in chat.stream("Tell a long story"))))
"""


@dataclass
class Office:
    """The server and what stands behind it."""

    server: Server
    engines: list[Engine]


@pytest.fixture
def office() -> Iterator[Office]:
    """Both engines write until they are stopped."""
    cloud = ModelThread()
    try:
        with (
            tiny_model() as model,
            engine_on(model, 20_000) as one,
            engine_on(model, 20_000) as two,
            ExitStack() as more,
        ):
            folder = more.enter_context(temporary_folder())
            manifest = MANIFEST % (one.root, two.root, cloud.url)
            workspace = write_files(folder / "office", {"roadbed.yaml": manifest})
            yield Office(more.enter_context(serving(workspace, folder / "state")), [one, two])
    finally:
        cloud.stop()


@pytest.fixture
def page(office: Office, tmp_path: Path) -> Iterator[Browser]:
    """A browser on the playground, signed in."""
    made = Browser(office.server.url, tmp_path / "browser", 1280, is_dark=False, has_scripts=True)
    try:
        made.sign_in(ADMIN_KEY)
        yield made
    finally:
        made.close()


def begin(page: Browser) -> None:
    """Ask both routes and wait until both are answering."""
    page.open("/console/playground")
    page.find("#prompt").send_keys(PROMPT)
    page.find("#playground button.first").click()
    page.wait(lambda: len(page.all(".try")) == 2 and all(length > SEEN_CHARACTERS for length in lengths(page)))


def lengths(page: Browser) -> list[int]:
    return [len(answer.text) for answer in page.all(".try .answer")]


def is_over(page: Browser) -> bool:
    return bool(page.run("return document.getElementById('stop').hidden"))


def whole(client: openai.OpenAI, model: str) -> tuple[str, str]:
    """A streamed answer and who gave it."""
    stream = client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": PROMPT}], max_tokens=40, stream=True
    )
    chunks = list(stream)
    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    facts = next(getattr(chunk, "roadbed") for chunk in chunks if getattr(chunk, "roadbed", None))  # noqa: B009
    return text, facts["endpoint"]


def check_sdks(server: Server, endpoint: str) -> None:
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key=ADMIN_KEY, max_retries=0)
    text, answered = whole(client, "house")
    assert text
    assert answered == endpoint
    assert client.responses.create(model="house", input=PROMPT, max_output_tokens=20).output_text
    claude = anthropic.Anthropic(base_url=server.url, api_key=ADMIN_KEY, max_retries=0)
    with claude.messages.stream(
        model="house", max_tokens=20, messages=[{"role": "user", "content": PROMPT}]
    ) as streamed:
        assert "".join(streamed.text_stream)
    command = [str(ENGINE_PYTHON), "-c", LANGCHAIN, server.url, ADMIN_KEY, "house"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=RUN_S, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) > 0


def check_cut_in_an_sdk(office: Office) -> None:
    """Kill the second engine under a stream of each SDK at once: each raises, none looks finished."""
    server = office.server
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key=ADMIN_KEY, max_retries=0)
    claude = anthropic.Anthropic(base_url=server.url, api_key=ADMIN_KEY, max_retries=0)
    chat = client.chat.completions.create(
        model="house", messages=[{"role": "user", "content": PROMPT}], max_tokens=ENDLESS_TOKENS, stream=True
    )
    message = claude.messages.stream(
        model="house", max_tokens=ENDLESS_TOKENS, messages=[{"role": "user", "content": PROMPT}]
    )
    with message as streamed:
        next(iter(chat))
        next(streamed.text_stream)
        office.engines[1].kill()
        with pytest.raises(openai.APIError, match="broke off"):
            list(chat)
        with pytest.raises(anthropic.APIError, match="broke off"):
            list(streamed.text_stream)


def check_command_line(server: Server, reason: str) -> None:
    listed = server.cli("models", "list").stdout
    assert "ready, but failed last" in listed, listed
    assert reason in listed
    explained = json.loads(server.cli("routes", "explain", "house", "--json").stdout)
    assert explained["would_ask"] == "lab-1", "it may be back, and asking it costs next to nothing"
    assert reason in {row["endpoint"]: row["failed_last"] for row in explained["order"]}["lab-1"]
    traces = json.loads(server.cli("traces", "--app", "house", "--status", "failed", "--json").stdout)["traces"]
    steps = server.cli("traces", traces[0]["id"]).stdout
    assert "its answer ended before it was finished" in steps


def test_an_engine_is_killed_while_it_answers(office: Office, page: Browser) -> None:
    server = office.server
    check_sdks(server, "lab-1")
    begin(page)
    before = lengths(page)
    office.engines[0].kill()
    page.wait(lambda: "broke off" in page.all(".try")[0].text)
    told, lasting = page.all(".try")
    assert "answer of lab-1 broke off" in told.text
    assert "refused" not in told.text
    assert "Ask again" in told.text
    page.wait(lambda: lengths(page)[1] > 2 * before[1])
    assert "broke off" not in lasting.text, "the other engine goes on with it"
    page.picture("engine-killed")
    page.find("#stop").click()
    page.wait(lambda: is_over(page))

    page.open("/console/models")
    row = page.find("#endpoints ~ .scroll").text
    page.picture("models-after-kill")
    assert "failed last" in row
    assert "the latest attempt at lab-1 failed" in page.find(".lead").text
    check_command_line(server, "its answer ended before it was finished")

    check_sdks(server, "lab-2")
    check_cut_in_an_sdk(office)
    page.open("/console/playground")
    page.find("#prompt").send_keys("Say hello")
    page.find("#playground button.first").click()
    page.wait(lambda: len(page.all(".try .facts")) == 2)
    for card in page.all(".try"):
        assert "You said: Say hello" in card.text
        assert "cloud answered in place of others: " in card.text
        assert "lab-1: " in card.text
        assert "lab-2: " in card.text
    page.picture("cloud-after-both")
