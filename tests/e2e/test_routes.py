"""Routes with strategies, rules and contracts, from the manifest to the wire."""

from __future__ import annotations

import json
from typing import Any

from roadbed.testing.scripted_model import Rule
from roadbed.testing.scripted_reply import Prompt, Reply

from .conftest import Desk
from .test_rungs import chat, events_of

TEXT = "The lease ends in May; until then the rent is fixed."


def going_on(prompt: Prompt) -> Reply:
    return Reply(text=TEXT[len(prompt.texts[-1][1]) :])


def test_a_cut_stream_goes_on_as_one_answer(desk: Desk) -> None:
    desk.first.script(Rule("", Reply(text=TEXT, cut_after=4)))
    desk.house.script(Rule("", going_on))
    body = chat("lasting", stream=True)
    with desk.server.client() as client, client.stream("POST", "/v1/chat/completions", json=body) as response:
        lines = list(response.iter_lines())
    assert "data: [DONE]" in lines
    chunks: list[dict[str, Any]] = events_of(lines)
    deltas = [choice for chunk in chunks for choice in chunk["choices"]]
    assert "".join(choice["delta"].get("content") or "" for choice in deltas) == TEXT
    assert [choice["finish_reason"] for choice in deltas if choice["finish_reason"]] == ["stop"]
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert sum("role" in choice["delta"] for choice in deltas) == 1
    facts = next(chunk["roadbed"] for chunk in chunks if "roadbed" in chunk)
    assert (facts["continued"], facts["endpoint"], facts["degraded"]) == (1, "house", ["first: fault"])


def test_a_cut_answer_is_made_anew_for_who_waits_for_all_of_it(desk: Desk) -> None:
    desk.first.script(Rule("", Reply(text=TEXT, cut_after=4)))
    desk.second.script(Rule("", Reply(text="A whole answer.")))
    body = desk.server.post("/v1/chat/completions", chat("whole")).json()
    assert body["choices"][0]["message"]["content"] == "A whole answer."
    assert "continued" not in body["roadbed"]
    assert body["roadbed"]["rung"] == "fallback"


def test_a_header_leads_elsewhere_and_the_choice_can_be_explained(desk: Desk) -> None:
    with desk.server.client() as client:
        answer = client.post("/v1/chat/completions", json=chat("lasting"), headers={"x-tier": "gold"})
    assert answer.json()["roadbed"]["endpoint"] == "second"
    words = ("routes", "explain", "lasting", "--header", "x-tier=gold")
    assert desk.server.cli(*words).stdout.startswith("second would be asked first (rule 1, then ordered)")
    found = json.loads(desk.server.cli(*words[:3], "--label", "confidential", "--json").stdout)
    assert (found["would_ask"], found["rule"]) == ("house", None)
    assert found["left_out"] == ["first: not cleared for confidential"]
    with desk.server.client() as client:
        refused = client.get("/api/routes/lasting/explain", params={"tokens": "many"})
    assert refused.status_code == 400
    assert "tokens" in refused.text
