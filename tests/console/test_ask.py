"""Asking: without scripts, as a stream, in conversation, and when it goes wrong."""

from __future__ import annotations

import asyncio
import html
import json
import re
from collections.abc import AsyncGenerator, MutableMapping
from typing import Any
from urllib.parse import urlencode

import pytest
from starlette.testclient import TestClient

from roadbed.apps.types import Answered, AnswerEvent, Citation, Delta, Progress, RowOrigin
from roadbed.console.ask import in_words
from roadbed.gateway.errors import FAILURE_CLASSES
from roadbed.kernel.errors import Unavailable

from .conftest import CITED, QUOTE, Deployment, form_token, missing

QUESTION = "What is the <rate>?"


def ask(client: TestClient, path: str = "/console/ask", **fields: str) -> Any:
    data = {"form_token": form_token(client), "app": "helpdesk", "question": QUESTION, **fields}
    return client.post(path, data=data)


def history_of(page: str) -> str:
    found = re.search(r'name="history" value="([^"]*)"', page)
    assert found is not None
    return html.unescape(found[1])


def events_of(body: str) -> list[tuple[str, dict[str, Any]]]:
    found = []
    for block in body.strip().split("\n\n"):
        name, data = block.split("\n", 1)
        found.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return found


def test_the_form_alone_gives_the_answer_with_its_evidence(deployment: Deployment, admin: TestClient) -> None:
    answer = ask(admin)
    page = answer.text
    assert answer.status_code == 200
    assert "What is the &lt;rate&gt;?" in page
    assert "<strong>12 %</strong>" in page
    address = f"/console/documents/d1?start={CITED[0]}&amp;end={CITED[1]}&amp;version=v1#passage"
    assert f'<a class="cite" href="{address}"' in page
    assert f"<mark>{QUOTE}</mark>" in page
    assert "partial" in page
    assert "1 of 2 sentences supported" in page
    assert "profiles: no answer within 800 ms" in page
    assert 'href="/console/traces/01TRACE"' in page
    assert "<script>alert" not in page
    app, messages, principal = deployment.ask.asked[0]
    assert (app, principal) == ("helpdesk", "k-admin")
    assert [(message.role, message.content) for message in messages] == [("user", QUESTION)]
    assert deployment.ask.finished == 1


def test_a_follow_up_carries_the_conversation(deployment: Deployment, admin: TestClient) -> None:
    page = ask(admin, history=history_of(ask(admin).text), question="And after June?").text
    roles = [(message.role, message.text()[:8]) for message in deployment.ask.asked[1][1]]
    assert roles == [("user", QUESTION[:8]), ("assistant", "The rate"), ("user", "And afte")]
    assert "What is the &lt;rate&gt;?" in page
    assert page.count('class="turn card"') == 2
    assert len(json.loads(history_of(page))) == 2


def test_a_stream_ends_with_the_fragment_of_the_page(deployment: Deployment, admin: TestClient) -> None:
    answer = ask(admin, "/console/ask/stream")
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["x-accel-buffering"] == "no"
    events = events_of(answer.text)
    assert [name for name, _ in events] == ["text", "text", "done"]
    assert events[0][1]["text"] == "The rate is **12 %** until June. [1]"
    fragment = events[-1][1]["turn"]
    assert "<strong>12 %</strong>" in fragment
    assert 'id="sources"' in fragment
    assert "<script>alert" not in fragment
    assert len(json.loads(events[-1][1]["history"])) == 1
    assert deployment.ask.finished == 1


def test_an_example_is_a_question(deployment: Deployment, admin: TestClient) -> None:
    assert 'name="example" value="A question for helpdesk?"' in admin.get("/console/ask").text
    ask(admin, question="", example="A question for helpdesk?")
    assert deployment.ask.asked[0][1][0].content == "A question for helpdesk?"


@pytest.mark.parametrize("question", ["", "   ", "x" * 4001])
def test_a_question_that_is_none_is_not_asked(deployment: Deployment, admin: TestClient, question: str) -> None:
    answer = ask(admin, question=question)
    assert answer.status_code == 400
    assert 'role="alert"' in answer.text
    assert ask(admin, "/console/ask/stream", question=question).status_code == 400
    assert not deployment.ask.asked


def test_an_app_that_the_key_may_not_use_is_not_asked(deployment: Deployment, member: TestClient) -> None:
    assert 'value="search"' not in member.get("/console/ask").text
    answer = ask(member, app="search")
    assert answer.status_code == 404
    assert "console" not in answer.headers.get("location", "")
    assert not deployment.ask.asked


def test_a_trace_is_linked_for_those_who_may_open_it(member: TestClient) -> None:
    page = ask(member).text
    assert "profiles: no answer within 800 ms" in page
    assert "/console/traces" not in page


@pytest.mark.parametrize("path", ["/console/ask", "/console/ask/stream"])
def test_an_error_keeps_conversation_and_question(deployment: Deployment, admin: TestClient, path: str) -> None:
    history = history_of(ask(admin).text)
    deployment.ask.events = [Delta("Half an answer")]
    deployment.ask.error = Unavailable("the model <went> away", hint="ask again")
    answer = ask(admin, path, history=history, question="And then?")
    if path.endswith("stream"):
        name, last = events_of(answer.text)[-1]
        assert name == "done"
        page, kept = last["turn"], last["history"]
    else:
        page, kept = answer.text, history_of(answer.text)
        assert re.search(r"<textarea[^>]*>And then\?</textarea>", page)
    assert "The model &lt;went&gt; away" in page
    assert "Ask again." in page
    assert len(json.loads(kept)) == 1


def test_a_refusal_before_the_turn_is_an_answer_too(deployment: Deployment, admin: TestClient) -> None:
    deployment.ask.events = []
    deployment.ask.error = missing()
    assert "There is no such thing" in ask(admin).text


def test_an_abstention_is_said_and_not_dressed_up(deployment: Deployment, admin: TestClient) -> None:
    text = "This is not in the documents that I can see."
    deployment.ask.events = [Delta(text), Answered(text, (), "extractive", abstained=True, sentences=0)]
    page = ask(admin).text
    assert "not in these documents" in page
    assert "No passage was close enough" in page
    assert "verbatim quotes" not in page
    assert '<aside id="sources" hidden>' in page


@pytest.mark.parametrize("history", ["{", '[{"question": 1}]', '[{"x": 1}]', "[" * 10_000, "null"])
def test_a_forged_conversation_is_refused(deployment: Deployment, admin: TestClient, history: str) -> None:
    answer = ask(admin, history=history)
    assert answer.status_code == 400
    assert "console.history_invalid" in answer.text
    assert not deployment.ask.asked


def test_what_a_forged_conversation_says_stays_text(admin: TestClient) -> None:
    forged = [
        {
            "question": "<script>1</script>",
            "answer": "<img src=x onerror=1> [1]",
            "sources": [
                {
                    "number": 1,
                    "document_id": '"><script>',
                    "title": '"><script>',
                    "where": "<b>",
                    "start": 0,
                    "end": 1,
                    "quote": "<i>",
                }
            ],
        }
    ]
    page = ask(admin, history=json.dumps(forged)).text
    for tag in ("<script>1", "<img", '"><script>', "<i>", "<b>"):
        assert tag not in page


def test_nothing_serves(deployment: Deployment, admin: TestClient) -> None:
    deployment.apps.clear()
    page = admin.get("/console/ask").text
    assert "No app serves that your key may ask" in page
    assert "<textarea" not in page


def test_what_was_missing_is_said_in_words() -> None:
    assert in_words("model default: unavailable") == (
        "model default: a dependency (database, model, source) does not answer just now (unavailable)"
    )
    assert in_words("lab: timeout") == "lab was passed over: it took too long"
    assert not [kind for kind in FAILURE_CLASSES if "was passed over" not in in_words(f"lab: {kind}")]
    assert in_words("profiles: no answer within 800 ms") == "profiles: no answer within 800 ms"


async def test_a_reader_who_leaves_ends_the_turn(deployment: Deployment) -> None:
    with deployment.client() as client:
        token = form_token(client)
        cookie = "; ".join(f"{name}={value}" for name, value in client.cookies.items())
    ended, shown = asyncio.Event(), asyncio.Event()

    async def endless() -> AsyncGenerator[AnswerEvent, None]:
        try:
            yield Delta("First. ")
            await asyncio.Event().wait()
        finally:
            ended.set()

    deployment.ask._run = endless  # type: ignore[method-assign]
    body = urlencode({"form_token": token, "app": "helpdesk", "question": "And?"}).encode()
    pending = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> MutableMapping[str, Any]:
        if pending:
            return pending.pop()
        await shown.wait()
        return {"type": "http.disconnect"}

    async def send(message: MutableMapping[str, Any]) -> None:
        if b"First." in message.get("body", b""):
            shown.set()

    headers = [(b"host", b"testserver"), (b"cookie", cookie.encode())]
    headers.append((b"content-type", b"application/x-www-form-urlencoded"))
    scope = {"type": "http", "method": "POST", "path": "/console/ask/stream", "query_string": b"", "headers": headers}
    await asyncio.wait_for(deployment.app({**scope, "scheme": "http", "server": ("testserver", 80)}, receive, send), 60)
    assert ended.is_set()


def test_a_cited_row_shows_its_statement_and_what_is_asked_is_told(deployment: Deployment, admin: TestClient) -> None:
    origin = RowOrigin("sales_in", "sales", "SELECT <all> FROM sales", "id 17", (("price", "410000"),), age_s=30.0)
    row = Citation(
        *(1, "", "", "register: sales", "", "register", "", 0, 0, "price 410000"), location="id 17", row=origin
    )
    deployment.ask.events = (
        Progress("asking register …"),
        Delta("It was sold for 410,000 [1]."),
        Answered("It was sold for 410,000 [1].", (row,), "full"),
    )
    events = events_of(ask(admin, "/console/ask/stream").text)
    assert events[0] == ("progress", {"text": "asking register …"})
    fragment = events[-1][1]["turn"]
    assert '<a class="cite" href="/console/tools/sales_in"' in fragment
    assert "SELECT &lt;all&gt; FROM sales" in fragment
    assert "tool sales_in · id 17 · from 30 s before" in fragment
    assert "<mark>price 410000</mark>" in fragment
    follow_up = ask(admin, history=history_of(ask(admin).text))
    assert "SELECT &lt;all&gt; FROM sales" in follow_up.text
