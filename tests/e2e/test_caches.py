"""Answers given again, over real HTTP: whole and streamed, routes and apps, in the trace without cost, in need."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from roadbed.testing.scripted_model import Rule
from roadbed.testing.scripted_reply import Reply

from .serving import ModelThread, Server, eventually, serving, temporary_folder, write_files

pytestmark = pytest.mark.services  # whole servers: too long for `make test`

MANIFEST = """
name: caches
endpoints:
  lab: {type: openai, url: "%s", model: m, price_input: 1, price_output: 1}
models:
  fast: {ladder: [lab], cache: {exact: 10m, stale: 24h}}
  plain: {ladder: [lab]}
  alike: {ladder: [lab], cache: {exact: 10m, kind: semantic}}
sources:
  handbook: {type: files, path: ./handbook}
collections:
  company: {sources: [handbook]}
apps:
  helpdesk: {kind: copilot, model: plain, knowledge: [company], cache: {exact: 10m, any_temperature: true}}
  deskhelp: {kind: copilot, model: fast, knowledge: [company]}
"""


@pytest.fixture(scope="module")
def model() -> Iterator[ModelThread]:
    made = ModelThread()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def server(model: ModelThread) -> Iterator[Server]:
    with temporary_folder() as folder:
        files = {"roadbed.yaml": MANIFEST % model.url, "handbook/fees.md": "# Fees\n\nA rush order costs 40 EUR.\n"}
        with serving(write_files(folder / "caches", files), folder / "state") as running:
            yield running


def chat(text: str, **values: Any) -> dict[str, Any]:
    return {"model": "fast", "temperature": 0, "messages": [{"role": "user", "content": text}], **values}


def test_an_answer_is_given_again_whole_or_streamed_and_costs_nothing(server: Server, model: ModelThread) -> None:
    model.script(Rule("", Reply(text="one two")))
    assert server.post("/v1/chat/completions", chat("Count")).headers["x-roadbed-rung"] == "full"
    again = server.post("/v1/chat/completions", chat("Count"))
    assert again.headers["x-roadbed-rung"] == "cached"
    assert int(again.headers["x-roadbed-age"]) < 60
    body = again.json()
    assert body["choices"][0]["message"]["content"] == "one two"
    assert body["roadbed"]["rung"] == "cached"
    assert 0 <= body["roadbed"]["age_s"] < 60

    streamed = server.post("/v1/chat/completions", chat("Count", stream=True))
    assert streamed.headers["x-roadbed-rung"] == "cached"
    assert "x-roadbed-age" in streamed.headers
    events = [line[6:] for line in streamed.text.splitlines() if line.startswith("data: ")]
    assert events[-1] == "[DONE]"
    chunks = [json.loads(event) for event in events[:-1]]
    assert "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks) == "one two"
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    assert len(model.model.chats) == 1

    def traced() -> Any:
        found = server.get("/api/traces", rung="cached", app="fast")["traces"]
        return found if len(found) == 2 else None

    for row in eventually(traced, what="the traces"):
        assert (row["model"], row["input_tokens"], row["cost_microusd"]) == ("lab", 0, 0)


def test_another_team_is_not_given_the_answer(server: Server, model: ModelThread) -> None:
    model.script(Rule("", Reply(text="mine")))
    for team in ("north", "south", "north"):
        key = server.new_key(team)["key"]
        server.post("/v1/chat/completions", chat("Whose?"), key=key)
    assert len(model.model.chats) == 2


def test_an_app_checks_a_kept_answer_against_its_documents_again(server: Server, model: ModelThread) -> None:
    model.script()
    first, again = (server.ask("What does a rush order cost?") for _ in range(2))
    assert (first["roadbed"]["rung"], again["roadbed"]["rung"]) == ("full", "cached")
    assert again["roadbed"]["age_s"] >= 0
    assert again["choices"][0]["message"]["content"] == first["choices"][0]["message"]["content"]
    assert again["roadbed"]["citations"] == first["roadbed"]["citations"] != []
    assert len(model.model.chats) == 1


def test_an_app_without_a_cache_of_its_own_has_its_route_s(server: Server, model: ModelThread) -> None:
    model.script()
    asked = chat("What does a rush order cost?", model="deskhelp")
    rungs = [server.post("/v1/chat/completions", asked).json()["roadbed"]["rung"] for _ in range(2)]
    assert rungs == ["full", "cached"]
    key = server.new_key("staff")["key"]
    assert server.post("/v1/chat/completions", asked, key=key).json()["roadbed"]["rung"] == "full"
    assert len(model.model.chats) == 2


def test_an_old_answer_is_better_than_none(server: Server, model: ModelThread) -> None:
    model.script(Rule("", Reply(text="before"), times=1), Rule("", Reply(status=500)))
    manifest = server.workspace / "roadbed.yaml"
    before = server.get("/api/releases/_routes")["live"]
    manifest.write_text(manifest.read_text().replace("exact: 10m, stale: 24h", "stale: 24h"))
    eventually(lambda: server.get("/api/releases/_routes")["live"] != before, what="the release")
    assert server.post("/v1/chat/completions", chat("Still there?")).headers["x-roadbed-rung"] == "full"
    later = server.post("/v1/chat/completions", chat("Still there?"))
    assert (later.status_code, later.headers["x-roadbed-rung"]) == (200, "cached")
    assert later.json()["roadbed"]["degraded"] == ["lab: fault", "lab: fault"]
    assert server.post("/v1/chat/completions", chat("Anything else?")).status_code >= 500


def test_a_reworded_question_gets_the_answer_and_another_number_does_not(server: Server, model: ModelThread) -> None:
    model.script(Rule("", Reply(text="forty")))

    def rung(text: str, **values: Any) -> str:
        return server.post("/v1/chat/completions", chat(text, model="alike", **values)).headers["x-roadbed-rung"]

    assert rung("What is the fee for a rush order in 2024?") == "full"
    assert rung("Please tell me, what is the fee for rush orders in 2024?") == "cached"
    assert rung("What is the fee for a rush order in 2025?") == "full"
    assert rung("What is the fee for a rush order in 2024?", max_tokens=9) == "full"


def test_answers_outlive_the_process_that_made_them(model: ModelThread) -> None:
    with temporary_folder() as folder:
        files = {"roadbed.yaml": MANIFEST % model.url, "handbook/fees.md": "# Fees\n"}
        workspace = write_files(folder / "caches", files)
        for rung in ("full", "cached"):
            model.script(Rule("", Reply(text=rung)))
            with serving(workspace, folder / "state") as running:
                said = running.post("/v1/chat/completions", chat("Still known?"))
            assert said.headers["x-roadbed-rung"] == rung
            assert said.json()["choices"][0]["message"]["content"] == "full"
