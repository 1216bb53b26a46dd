"""The ladder of answers over real HTTP: each rung is reached by what really happens, and says its name."""

from __future__ import annotations

import json
import re
from typing import Any

import asyncpg
import httpx2

from roadbed.testing.scripted_model import Rule
from roadbed.testing.scripted_reply import Reply

from .conftest import Desk
from .serving import ADMIN_KEY, SEARCH_PARTS, eventually

QUESTION = "What does a rush order cost?"


def chat(model: str, question: str = QUESTION, **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": question}], **more}


def events_of(lines: list[str]) -> list[dict[str, Any]]:
    data = [line[5:].strip() for line in lines if line.startswith("data:")]
    return [json.loads(item) for item in data if item != "[DONE]"]


def test_full_with_the_first_endpoint(desk: Desk) -> None:
    responses = iter(lambda: desk.server.post("/v1/chat/completions", chat("helpdesk")), None)
    response = next(one for one in responses if not SEARCH_PARTS & set(one.json()["roadbed"]["degraded"]))
    body = response.json()
    assert "35 %" in body["choices"][0]["message"]["content"]
    assert body["roadbed"]["rung"] == response.headers["x-roadbed-rung"] == "full"
    assert body["roadbed"]["degraded"] == []
    assert body["roadbed"]["citations"][0]["uri"].endswith("fees.md")
    assert body["usage"]["completion_tokens"] > 0
    sent = desk.first.model.chats[0].json
    assert sent["model"] == "alpha"
    assert "You answer questions of the office." in sent["messages"][0]["content"]


def test_fallback_to_another_endpoint(desk: Desk) -> None:
    facts = desk.server.ask_whole(QUESTION, "falling-back")["roadbed"]
    assert facts["rung"] == "fallback"
    assert any(part.startswith("dead") for part in facts["degraded"])
    assert desk.second.model.chats


def test_an_endpoint_that_rests_after_failures_is_still_named(desk: Desk) -> None:
    """A circuit breaker opens after a few failures: then it is passed over without a try, which degrades as much."""
    for model in ("falling-back", "stand-in"):
        for _ in range(8):
            facts = desk.server.ask_whole(QUESTION, model)["roadbed"]
            assert facts["rung"] == "fallback", model
            assert any(part.startswith("dead: ") for part in facts["degraded"]), model


def test_local_when_a_local_endpoint_stands_in(desk: Desk) -> None:
    facts = desk.server.ask_whole(QUESTION, "in-house")["roadbed"]
    assert facts["rung"] == "local"
    assert desk.house.model.chats


def test_extractive_when_no_model_answers(desk: Desk) -> None:
    body = desk.server.ask(QUESTION, "modelless")
    assert body["roadbed"]["rung"] == "extractive"
    assert any("nobody" in part for part in body["roadbed"]["degraded"])
    citation = body["roadbed"]["citations"][0]
    assert citation["quote"] == "A rush order costs 35 % extra since January 2026."
    assert citation["quote"] in body["choices"][0]["message"]["content"]


def test_extractive_when_the_model_fails_before_its_first_text(desk: Desk) -> None:
    desk.first.script(Rule("fail please", Reply(cut_after=0)))
    facts = desk.server.ask("fail please: what does a rush order cost?", "helpdesk")["roadbed"]
    assert facts["rung"] == "extractive"
    assert facts["citations"]


async def test_partial_when_a_leg_of_the_search_is_away(desk: Desk) -> None:
    """An index that was built with another embedding model has no vectors to compare with: words alone answer."""

    def facts() -> dict[str, Any]:
        return dict(desk.server.ask(QUESTION, "helpdesk")["roadbed"])

    connection = await asyncpg.connect(desk.server.database_dsn())
    try:
        await connection.execute("SET search_path TO roadbed_desk")
        before = await connection.fetch("SELECT id, recipe FROM generation")
        await connection.execute("UPDATE generation SET recipe = jsonb_set(recipe, '{embedder}', '\"another\"')")
        await connection.execute("SELECT pg_notify('roadbed_desk.roadbed_index', 'changed')")
        try:
            partial = eventually(
                lambda: found if "vector" in (found := facts())["degraded"] else None, what="a degraded answer"
            )
        finally:
            for row in before:
                await connection.execute("UPDATE generation SET recipe = $2 WHERE id = $1", row["id"], row["recipe"])
            await connection.execute("SELECT pg_notify('roadbed_desk.roadbed_index', 'changed')")
    finally:
        await connection.close()
    assert partial["rung"] == "partial"
    assert "vector" in partial["degraded"]
    assert partial["citations"]
    eventually(lambda: facts()["rung"] == "full", what="the recovery")


def test_confidential_passages_never_reach_a_remote_model(desk: Desk) -> None:
    body = desk.server.ask("What is the reserve price of the Tollbugata auction?", "deals")
    assert body["roadbed"]["rung"] == "extractive"
    assert any("gateway.no_candidate" in part for part in body["roadbed"]["degraded"])
    assert "42 million" in body["choices"][0]["message"]["content"]
    assert desk.first.model.chats == []


def test_refused_when_labels_leave_no_endpoint(desk: Desk) -> None:
    response = desk.server.post("/v1/chat/completions", chat("sealed"))
    assert response.status_code == 403
    assert response.json()["error"]["code"] == "gateway.no_candidate"
    assert response.headers["x-roadbed-rung"] == "refused"
    assert desk.first.model.chats == []


def test_abstains_with_and_without_a_model(desk: Desk) -> None:
    desk.first.script(Rule("parental leave", Reply(text="NOT_IN_DOCUMENTS")))
    for app in ("helpdesk", "modelless"):
        facts = desk.server.ask("How many weeks of parental leave do employees get?", app)["roadbed"]
        assert facts["abstained"], app
        assert facts["citations"] == [], app


def test_a_stream_that_breaks_after_its_first_text_never_looks_complete(desk: Desk) -> None:
    text = "A rush order costs 35 % extra since January 2026 [1]. The mileage rate is NOK 5.30 per kilometre [1]. More."
    desk.first.script(Rule("rush", Reply(text=text, cut_after=14)))
    with (
        desk.server.client() as client,
        client.stream("POST", "/v1/chat/completions", json=chat("helpdesk", stream=True)) as response,
    ):
        assert response.status_code == 200
        lines = list(response.iter_lines())
    events = events_of(lines)
    said = "".join(choice["delta"].get("content") or "" for event in events for choice in event.get("choices", ()))
    assert "35 %" in said
    assert events[-1]["error"]["code"] == "gateway.stream_cut"
    assert "data: [DONE]" not in lines
    assert not any(choice.get("finish_reason") for event in events for choice in event.get("choices", ()))


def test_streamed_annotations_and_facts_stand_on_the_finish_chunk(desk: Desk) -> None:
    def look() -> list[str] | None:
        with (
            desk.server.client() as client,
            client.stream("POST", "/v1/chat/completions", json=chat("helpdesk", stream=True)) as response,
        ):
            lines = list(response.iter_lines())
            return lines if response.headers["x-roadbed-rung"] == "full" else None

    lines = eventually(look, what="a whole search")
    assert lines[-2] == "data: [DONE]" or "data: [DONE]" in lines
    finish = next(event for event in events_of(lines) if event["choices"] and event["choices"][0].get("finish_reason"))
    assert finish["roadbed"]["citations"]
    assert finish["choices"][0]["delta"]["annotations"][0]["type"] == "url_citation"


def test_a_client_that_leaves_cancels_the_upstream_call_within_a_second(desk: Desk) -> None:
    desk.first.script(Rule("rush", Reply(text="A rush order costs 35 % extra [1]. " * 50, gap_s=0.02)))
    with httpx2.Client(base_url=desk.server.url, trust_env=False, timeout=30) as client:
        headers = {"authorization": f"Bearer {ADMIN_KEY}"}
        with client.stream(
            "POST", "/v1/chat/completions", json=chat("helpdesk", stream=True), headers=headers
        ) as response:
            next(response.iter_lines())
    request = desk.first.model.chats[0]
    eventually(request.closed.is_set, within_s=1.0, what="the cancellation of the upstream call")
    trace = eventually(lambda: desk.server.get("/api/traces", status="cancelled")["traces"], what="the trace")
    assert trace[0]["app"] == "helpdesk"


def test_a_follow_up_question_is_searched_with_what_it_follows(desk: Desk) -> None:
    messages = [
        {"role": "user", "content": "How long are appraisal reports kept?"},
        {"role": "assistant", "content": "Seven years after delivery [1]."},
        {"role": "user", "content": "And drafts?"},
    ]
    response = desk.server.post("/v1/chat/completions", {"model": "modelless", "messages": messages})
    facts = response.json()["roadbed"]
    assert any("ninety days" in citation["quote"] for citation in facts["citations"]), response.text


def test_the_command_line_shows_what_each_endpoint_did(desk: Desk) -> None:
    desk.first.script(Rule("", Reply(text="Well.")))
    body = {"model": "smart", "messages": [{"role": "user", "content": "Say something"}]}
    assert desk.server.post("/v1/chat/completions", body).status_code == 200
    body["model"] = "nobody"
    assert desk.server.post("/v1/chat/completions", body).status_code >= 500
    shown = desk.server.cli("models", "list").stdout
    (first,) = [line for line in shown.splitlines() if line.startswith("first ")]
    assert "closed" in first
    assert " ms " in first
    assert any(line.startswith("dead ") and "fault" in line for line in shown.splitlines()), shown
    endpoints = json.loads(desk.server.cli("models", "list", "--json").stdout)["endpoints"]
    assert {row["endpoint"] for row in endpoints} == {"first", "second", "house", "dead"}
    assert next(row for row in endpoints if row["endpoint"] == "first")["requests"] >= 1


def test_the_playground_asks_routes_side_by_side_and_masks_as_everywhere(desk: Desk) -> None:
    desk.first.script(Rule("", Reply(text="Well.")))
    desk.second.script(Rule("", Reply(text="Well, too.")))
    with desk.server.client(None) as client:
        headers = {"origin": desk.server.url}
        signed_in = client.post("/console/sign-in", data={"key": ADMIN_KEY}, headers=headers)
        headers["cookie"] = signed_in.headers["set-cookie"].partition(";")[0]
        token = re.search(r'name="form_token" value="([^"]+)"', client.get("/console/playground", headers=headers).text)
        assert token is not None
        asked = {"form_token": token[1], "prompt": "Write to karin.lindqvist@example.org"}
        data = {**asked, "routes": ["smart", "stand-in", "nobody"]}
        page = client.post("/console/playground", data=data, headers=headers).text
        assert "Well." in page
        assert "Well, too." in page
        assert "fallback model" in page
        assert "nobody" in page
        streamed = client.post("/console/playground/stream", data={**asked, "routes": "smart"}, headers=headers).text
        assert "event: done" in streamed
    for model in (desk.first, desk.second):
        sent = b"".join(request.body for request in model.model.chats)
        assert b"Write to" in sent
        assert b"karin.lindqvist" not in sent

    def rows() -> list[Any]:
        found: list[Any] = desk.server.get("/api/traces", app="smart")["traces"]
        return found if len(found) >= 2 else []

    assert "karin.lindqvist" not in json.dumps(eventually(rows, what="the traces"))
