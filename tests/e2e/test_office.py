"""The example workspace as a new user meets it: questions answered with citations, the OpenAI SDK, and nothing leaks.

One server for the file: its first ingest reads some 2,000 documents.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import httpx2
import openai
import pytest
import yaml

from .serving import ADMIN_KEY, EXAMPLE, Server, eventually, launch, temporary_folder

pytestmark = [pytest.mark.services, pytest.mark.timeout(1200)]  # reads some 2,000 documents first

INGEST_S = 600.0
ANSWERED_MIN = 26
DECLINED_MIN = 6
QUESTION = "How is a comparable sale chosen?"
FALSE_SECRET = "bao_map_dabc3iu7CuKH3tFdJt3VZTxru6ZQMEt4Gmfo"
PERSONAL = ("karin.lindqvist@example.org", "70 174 06 58", "NO08 0000 9342 354", "17045662462")
ASKED_SECRET = "AKIAQ3EGRZ7XWDK5PLNT"
QUESTIONS: dict[str, list[dict[str, Any]]] = yaml.safe_load((EXAMPLE / "questions.yaml").read_text())


@pytest.fixture(scope="module")
def office() -> Iterator[Server]:
    """The example, ingested."""
    with temporary_folder() as folder:
        server = launch(EXAMPLE, folder / "state", wait=False)
        try:
            yield server.wait_ready(INGEST_S)
        finally:
            server.stop()


@pytest.fixture
def sdk(office: Server) -> Iterator[openai.OpenAI]:
    """The OpenAI SDK, pointed at it."""
    with httpx2.Client(trust_env=False) as transport:
        yield openai.OpenAI(base_url=office.ready["api"], api_key=ADMIN_KEY, http_client=transport)


def is_right(case: dict[str, Any], answer: dict[str, Any]) -> bool:
    """Whether an answer holds every expected string, and cites a document that holds it."""
    text = answer["choices"][0]["message"]["content"].lower()
    holds = all(any(choice.strip().lower() in text for choice in expected.split("|")) for expected in case["expect"])
    uris = [citation["uri"] for citation in answer["roadbed"]["citations"]]
    wanted = [name.removeprefix("documents/").rpartition(":")[2] for name in case["documents"]]
    return holds and any(uri.endswith(name) for uri in uris for name in wanted)


def test_every_source_was_read_and_failed_nowhere(office: Server) -> None:
    states = {row["name"]: row for row in office.get("/api/sources")}
    assert set(states) == {
        "handbook",
        "roadbed-docs",
        "appraisals.appraisals",
        "appraisals.sales",
        "appraisals.parcels",
        "profiles.users",
    }
    assert [(name, row["failures"]) for name, row in states.items() if row["failed"] or row["problem"]] == []
    assert states["handbook"]["indexed"] == 52
    assert states["appraisals.sales"]["indexed"] == 1200
    for name in states:
        assert f"{name}: {states[name]['indexed']} documents" in office.output


def test_what_the_start_says_can_be_followed(office: Server) -> None:
    output = office.output
    assert f"{office.url}/console" in output
    assert "curl -s" in output
    assert output.count(f"roadbed ask --state {office.state} ") >= 3
    link = re.search(r"http\S+/console/sign-in\?token=\S+", output)
    assert link is not None
    with httpx2.Client(trust_env=False, follow_redirects=False) as browser:
        first = browser.get(link[0])
        assert first.status_code in (200, 302, 303), first.status_code


def test_questions_are_answered_with_right_citations_or_declined(office: Server) -> None:
    wrong = [case["id"] for case in QUESTIONS["answerable"] if not is_right(case, office.ask(case["question"]))]
    told = [
        case["id"] for case in QUESTIONS["unanswerable"] if not office.ask(case["question"])["roadbed"]["abstained"]
    ]
    answered, declined = len(QUESTIONS["answerable"]) - len(wrong), len(QUESTIONS["unanswerable"]) - len(told)
    assert answered >= ANSWERED_MIN, f"answered {answered} of 30; not: {wrong}"
    assert declined >= DECLINED_MIN, f"declined {declined} of 10; answered: {told}"


def test_citations_are_where_they_say(office: Server) -> None:
    answer = office.ask(QUESTION)
    content, facts = answer["choices"][0]["message"]["content"], answer["roadbed"]
    assert facts["rung"] == "extractive"
    for citation in facts["citations"]:
        with office.client() as client:
            text = client.get(f"/api/documents/{citation['document_id']}/text").text
        assert text[citation["start"] : citation["end"]] == citation["quote"]
        assert f"[{citation['number']}]" in content
    for annotation in answer["choices"][0]["message"]["annotations"]:
        cited = annotation["url_citation"]
        marker = content[cited["start_index"] : cited["end_index"]]
        assert re.fullmatch(r"\[\d+\]", marker)


def test_roadbed_can_be_asked_about_itself(office: Server) -> None:
    facts = office.ask("What happens when no model answers?", "docs")["roadbed"]
    assert facts["citations"]
    assert {citation["source"] for citation in facts["citations"]} == {"roadbed-docs"}


def test_the_sdk_answers_with_annotations_facts_and_headers(sdk: openai.OpenAI) -> None:
    raw = sdk.chat.completions.with_raw_response.create(
        model="helpdesk", messages=[{"role": "user", "content": QUESTION}]
    )
    completion = raw.parse()
    message = completion.choices[0].message
    assert completion.object == "chat.completion"
    assert completion.choices[0].finish_reason == "stop"
    assert "six tests" in (message.content or "")
    annotations: list[Any] = list(message.annotations or [])
    assert annotations
    assert annotations[0].type == "url_citation"
    facts = (completion.model_extra or {})["roadbed"]
    assert facts["citations"][0]["title"] == annotations[0].url_citation.title
    assert raw.headers["x-roadbed-rung"] == facts["rung"] == "extractive"
    assert raw.headers["x-roadbed-release"] == facts["release"]
    assert raw.headers["x-roadbed-trace"] == facts["trace"]
    assert completion.id == f"chatcmpl-{facts['trace']}"


def test_the_sdk_streams(sdk: openai.OpenAI) -> None:
    annotations: list[Any] = []
    pieces, facts, usage = [], None, None
    with sdk.chat.completions.create(
        model="helpdesk",
        messages=[{"role": "user", "content": QUESTION}],
        stream=True,
        stream_options={"include_usage": True},
    ) as stream:
        for chunk in stream:
            usage = chunk.usage or usage
            facts = (chunk.model_extra or {}).get("roadbed", facts)
            for choice in chunk.choices:
                pieces.append(choice.delta.content or "")
                annotations += (choice.delta.model_extra or {}).get("annotations") or []
    whole = sdk.chat.completions.create(model="helpdesk", messages=[{"role": "user", "content": QUESTION}])
    assert "".join(pieces) == whole.choices[0].message.content
    assert facts is not None
    assert facts["citations"]
    assert annotations
    assert usage is not None


async def test_the_sdk_is_async_too(office: Server) -> None:
    async with httpx2.AsyncClient(trust_env=False) as transport:
        sdk = openai.AsyncOpenAI(base_url=office.ready["api"], api_key=ADMIN_KEY, http_client=transport)
        questions = [case["question"] for case in QUESTIONS["answerable"][:4]]

        async def ask(question: str) -> str:
            answer = await sdk.chat.completions.create(
                model="helpdesk", messages=[{"role": "user", "content": question}]
            )
            return answer.choices[0].message.content or ""

        answers = await asyncio.gather(*map(ask, questions))
        assert "six tests" in answers[0]
        assert len(set(answers)) == 4
        text = ""
        async with await sdk.chat.completions.create(
            model="helpdesk", messages=[{"role": "user", "content": questions[0]}], stream=True
        ) as stream:
            async for chunk in stream:
                text += "".join(choice.delta.content or "" for choice in chunk.choices)
        # Four at once may have been ranked without vectors of their sentences, where there was no time for them.
        assert "six tests" in text


def test_models_vector_stores_and_embeddings(sdk: openai.OpenAI) -> None:
    assert [model.id for model in sdk.models.list()] == ["docs", "figures", "helpdesk", "search"]
    assert sdk.models.retrieve("helpdesk").owned_by == "roadbed"
    page = sdk.vector_stores.search("company", query="retention of reports", max_num_results=3)
    hits = list(page.data)
    assert len(hits) == 3
    assert hits[0].content[0].text
    assert any("retention" in str(hit.attributes) for hit in hits)
    with pytest.raises(openai.NotFoundError, match="company"):
        sdk.vector_stores.search("nothing", query="x")
    made = sdk.embeddings.create(model="minilm-l6", input=["a rush order", "an urgent order", "a boat place"])
    first, near, far = (item.embedding for item in made.data)

    def cosine(left: list[float], right: list[float]) -> float:
        return sum(a * b for a, b in zip(left, right, strict=True))

    assert len(first) == 384
    assert cosine(first, near) > cosine(first, far)
    plain = sdk.embeddings.create(model="minilm-l6", input="a rush order", encoding_format="float")
    assert plain.data[0].embedding == pytest.approx(first, abs=1e-6)


def test_profiles_are_in_no_collection_and_seen_by_their_team_alone(office: Server) -> None:
    other, support = office.new_key("appraisers")["key"], office.new_key("support")["key"]
    with office.client(other) as client:
        assert client.get("/api/documents", params={"source": "profiles.users"}).json()["documents"] == []
        hits = client.post("/api/search", json={"query": "Dag Vangen e-mail telephone profile", "k": 50}).json()["hits"]
        assert not any(hit["source"].startswith("profiles") for hit in hits)
    with office.client(support) as client:
        assert client.get("/api/documents", params={"source": "profiles.users"}).json()["documents"]


async def test_personal_data_and_secrets_stay_where_the_policy_says(office: Server) -> None:
    """Personal data stands in documents and their index alone; a planted secret and one that was asked for nowhere."""
    email, phone, account, identity = PERSONAL
    answer = office.ask(
        f"What did {email}, +46 {phone}, account {account}, id {identity}, complain about? {ASKED_SECRET}"
    )
    trace = answer["roadbed"]["trace"]
    office.ask("How do I set up the map service on a new computer? Which api_key is pasted?")
    office.post("/v1/chat/completions", {"model": email, "messages": [{"role": "user", "content": email}]})
    office.post("/api/search", {"query": f"{email} {ASKED_SECRET}"})
    shown = eventually(lambda: _trace_or_none(office, trace), what="the trace")
    assert "[EMAIL" in str(shown)

    connection = await asyncpg.connect(office.database_dsn())
    try:
        await connection.execute("SET search_path TO roadbed_appraisals")
        tables = [
            row[0]
            for row in await connection.fetch(
                "SELECT table_name FROM information_schema.tables WHERE table_schema = 'roadbed_appraisals'"
            )
        ]
        dumped = {name: str(await connection.fetch(f'SELECT t::text FROM "{name}" t')) for name in tables}
    finally:
        await connection.close()
    for table, text in dumped.items():
        assert FALSE_SECRET not in text, table
        assert ASKED_SECRET not in text, table
        if not table.startswith(("document", "chunk", "lex_")):
            for value in PERSONAL:
                assert value not in text, table
    assert email in dumped["document"], "documents keep it, so that they can be found and cited"
    _assert_files_hold_none(office)


def _trace_or_none(office: Server, trace: str) -> Any:
    with office.client() as client:
        response = client.get(f"/api/traces/{trace}")
        return response.json() if response.status_code == 200 else None


def _assert_files_hold_none(office: Server) -> None:
    """The raw bytes of every file of the state folder, and of what the server printed."""
    needles = [value.encode() for value in (*PERSONAL, ASKED_SECRET)]
    for path in (*office.state.rglob("*"), office.log):
        if not path.is_file():
            continue
        data = _read(path)
        assert ASKED_SECRET.encode() not in data, path
        is_database = path.is_relative_to(office.state / "postgres" / "data")
        if not is_database:
            assert FALSE_SECRET.encode() not in data, path
            assert not [needle for needle in needles if needle in data], path


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # PostgreSQL removes files while it works
        return b""
