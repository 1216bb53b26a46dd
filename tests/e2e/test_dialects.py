"""The dialects of callers over a real server, driven by the official SDKs: routes with a model behind them, apps
without one, errors in each shape, and streams that are cut.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import anthropic
import httpx2
import openai
import pytest
from anthropic.types import Message, TextBlock, ToolUseBlock

from roadbed.testing.flaky_endpoint import refused_port
from roadbed.testing.scripted_model import LoggedRequest, Rule
from roadbed.testing.scripted_reply import Reply, ScriptedCall, throttled

from .conftest import DESK_FILES
from .serving import ADMIN_KEY, ModelThread, Server, eventually, serving, temporary_folder, write_files

pytestmark = pytest.mark.services  # a server, and long

MANIFEST = """\
name: dialects
endpoints:
  gpt: {{type: openai, url: "{model}", model: alpha, local: true}}
  claude: {{type: anthropic, url: "{model}", model: beta, local: true}}
  dead: {{type: openai, url: "{dead}", model: none, local: false}}
models:
  by-openai: {{ladder: [gpt]}}
  by-anthropic: {{ladder: [claude]}}
  nobody: {{ladder: [dead]}}
  embed: {{ladder: [gpt], task: embeddings}}
  ranks: {{ladder: [gpt], task: rerank}}
sources:
  open: {{type: files, path: open}}
collections:
  company: {{sources: [open]}}
apps:
  helpdesk: {{kind: copilot, knowledge: [company], model: nobody}}
teams:
  staff: {{}}
  guests: {{apps: [helpdesk]}}
"""
WORDS = "One two three four five."
ROUTES = ("by-openai", "by-anthropic")
QUESTION = "What does a rush order cost?"
RESPONSES, MESSAGES, CHAT = "/v1/responses", "/v1/messages", "/v1/chat/completions"
SAY = [{"role": "user", "content": "Say something"}]
PARAMETERS: dict[str, Any] = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
CALLS = (ScriptedCall("weather", '{"city":"Oslo"}', "call_a"), ScriptedCall("weather", '{"city":"Bergen"}', "call_b"))


@dataclass
class Site:
    """A served workspace and the model behind its endpoints."""

    server: Server
    model: ModelThread

    def post(self, path: str, body: Any, key: str | None = ADMIN_KEY, **headers: str) -> httpx2.Response:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        with self.server.client(key) as client:
            return client.post(path, content=raw, headers={"content-type": "application/json", **headers})

    def trace(self, response_id: str) -> dict[str, Any]:
        def look() -> Any:
            with self.server.client() as client:
                response = client.get(f"/api/traces/{response_id}")
                return response.json() if response.status_code == 200 else None

        return dict(eventually(look, what="the trace")["trace"])


def embed(request: LoggedRequest) -> Reply:
    inputs = request.json["input"]
    rows = [{"index": n, "embedding": [float(len(text)), 0.5]} for n, text in enumerate(inputs)]
    return Reply(body=json.dumps({"data": rows, "usage": {"prompt_tokens": 7}}).encode())


RANKED = Reply(
    body=b'{"results":[{"index":1,"relevance_score":0.9},{"index":0,"relevance_score":0.1}],"usage":{"total_tokens":9}}'
)


@pytest.fixture(scope="module")
def served() -> Iterator[Site]:
    model = ModelThread()
    model.model.posts.update({"/v1/embeddings": embed, "/v1/rerank": RANKED})
    try:
        with temporary_folder() as folder:
            workspace = write_files(folder / "desk", {k: v for k, v in DESK_FILES.items() if k.startswith("open/")})
            dead = f"http://127.0.0.1:{refused_port()}/v1"
            (workspace / "roadbed.yaml").write_text(MANIFEST.format(model=model.url, dead=dead))
            with serving(workspace, folder / "state") as server:
                eventually(
                    lambda: "35 %" in str(server.ask(QUESTION)["choices"]), within_s=60.0, what="an indexed document"
                )
                yield Site(server, model)
    finally:
        model.stop()


@pytest.fixture
def site(served: Site) -> Site:
    served.model.script(Rule("weather", Reply(calls=CALLS), 1), Rule(".", Reply(text=WORDS)))
    return served


@pytest.fixture
def gpt(site: Site) -> Iterator[openai.OpenAI]:
    with httpx2.Client(trust_env=False) as transport:
        url = f"{site.server.url}/v1"
        yield openai.OpenAI(base_url=url, api_key=ADMIN_KEY, http_client=transport, max_retries=0)


@pytest.fixture
def claude(site: Site) -> Iterator[anthropic.Anthropic]:
    with httpx2.Client(trust_env=False) as transport:
        yield anthropic.Anthropic(
            base_url=site.server.url, api_key=ADMIN_KEY, auth_token=None, http_client=transport, max_retries=0
        )


# Routes.


@pytest.mark.parametrize("route", ROUTES)
def test_responses_of_a_route(gpt: openai.OpenAI, site: Site, route: str) -> None:
    whole = gpt.responses.create(model=route, input="Say something", instructions="Be brief.")
    assert (whole.output_text, whole.status, whole.model) == (WORDS, "completed", route)
    assert whole.usage is not None
    assert whole.usage.output_tokens == 5
    facts = (whole.model_extra or {})["roadbed"]
    assert facts["rung"] == "full"
    shown = site.trace(facts["trace"])
    assert "Say something" in str(shown)
    assert shown["output_tokens"] == 5
    with gpt.responses.stream(model=route, input="Say something") as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_response()
    assert kinds[:2] == ["response.created", "response.in_progress"]
    assert kinds.count("response.output_text.delta") == 5
    assert kinds[-1] == "response.completed"
    assert final.output_text == WORDS


@pytest.mark.parametrize("route", ROUTES)
def test_messages_of_a_route(claude: anthropic.Anthropic, site: Site, route: str) -> None:
    whole = claude.messages.create(model=route, max_tokens=50, system="Be brief.", messages=SAY)  # type: ignore[arg-type]
    assert whole.content == [TextBlock(type="text", text=WORDS)]
    assert (whole.stop_reason, whole.usage.output_tokens, whole.model) == ("end_turn", 5, route)
    assert whole._request_id == f"req_{whole.id.removeprefix('msg_')}"
    assert site.model.model.chats[-1].path.endswith("messages" if route == "by-anthropic" else "completions")
    with claude.messages.stream(model=route, max_tokens=50, messages=SAY) as stream:  # type: ignore[arg-type]
        assert "".join(stream.text_stream) == WORDS
        assert stream.get_final_message().stop_reason == "end_turn"
    raw = site.post(MESSAGES, {"model": route, "max_tokens": 5, "messages": SAY, "stream": True})
    assert raw.headers["x-roadbed-rung"] == "full"
    assert "[DONE]" not in raw.text


@pytest.mark.parametrize("route", ROUTES)
def test_parallel_tools_through_openais_sdk(gpt: openai.OpenAI, site: Site, route: str) -> None:
    tools: Any = [{"type": "function", "name": "weather", "parameters": PARAMETERS, "strict": False}]
    asked: list[Any] = [{"role": "user", "content": "What is the weather?"}]
    first = gpt.responses.create(model=route, input=asked, tools=tools)
    calls = [item for item in first.output if item.type == "function_call"]
    assert [(call.call_id, json.loads(call.arguments)["city"]) for call in calls] == [
        ("call_a", "Oslo"),
        ("call_b", "Bergen"),
    ]
    asked += [call.model_dump(exclude_none=True) for call in calls]
    asked += [{"type": "function_call_output", "call_id": call.call_id, "output": "Rain"} for call in calls]
    assert gpt.responses.create(model=route, input=asked, tools=tools).output_text == WORDS
    sent = json.dumps(site.model.model.chats[-1].json)
    assert sent.count("Rain") == 2
    assert sent.index("Bergen") < sent.index("Rain"), "both calls come before their results"


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("is_stream", [False, True])
def test_parallel_tools_through_anthropics_sdk(
    claude: anthropic.Anthropic, site: Site, route: str, *, is_stream: bool
) -> None:
    tools: Any = [{"name": "weather", "input_schema": PARAMETERS}]
    asked: list[Any] = [{"role": "user", "content": "What is the weather?"}]
    first: Message
    if is_stream:
        with claude.messages.stream(model=route, max_tokens=50, messages=asked, tools=tools) as stream:
            first = stream.get_final_message()
    else:
        first = claude.messages.create(model=route, max_tokens=50, messages=asked, tools=tools)
    calls = [block for block in first.content if isinstance(block, ToolUseBlock)]
    assert first.stop_reason == "tool_use"
    assert [(call.id, call.input) for call in calls] == [("call_a", {"city": "Oslo"}), ("call_b", {"city": "Bergen"})]
    asked += [
        {"role": "assistant", "content": [call.model_dump(include={"type", "id", "name", "input"}) for call in calls]},
        {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": call.id, "content": "Rain"} for call in calls],
        },
    ]
    last = claude.messages.create(model=route, max_tokens=50, messages=asked, tools=tools)
    assert last.content == [TextBlock(type="text", text=WORDS)]
    assert json.dumps(site.model.model.chats[-1].json).count("Rain") == 2


def test_chat_callers_reach_an_anthropic_endpoint(gpt: openai.OpenAI, site: Site) -> None:
    tools: Any = [{"type": "function", "function": {"name": "weather", "parameters": PARAMETERS}}]
    asked: Any = [{"role": "user", "content": "What is the weather?"}]
    answer = gpt.chat.completions.create(model="by-anthropic", messages=asked, tools=tools)
    assert [call.id for call in answer.choices[0].message.tool_calls or ()] == ["call_a", "call_b"]
    assert site.model.model.chats[-1].path == MESSAGES


@pytest.mark.parametrize("is_stream", [False, True])
def test_dropped_fields_are_named(site: Site, *, is_stream: bool) -> None:
    asked = {"model": "by-openai", "max_tokens": 9, "messages": SAY, "top_k": 5, "x\r\ny": 1, "stream": is_stream}
    response = site.post(MESSAGES, asked)
    assert response.status_code == 200, response.text
    assert response.headers["x-roadbed-dropped"] == "top_k, x\\r\\ny"
    asked = {"model": "by-anthropic", "input": "Say it", "user": "me", "stream": is_stream}
    assert site.post(RESPONSES, asked).headers["x-roadbed-dropped"] == "user"
    asked = {"model": "by-anthropic", "messages": SAY, "seed": 3, "stream": is_stream}
    assert site.post(CHAT, asked).headers["x-roadbed-dropped"] == "seed"


THINKING = b"".join(
    b"event: %b\ndata: %b\n\n" % (str(event["type"]).encode(), json.dumps(event).encode())
    for event in (
        {"type": "message_start", "message": {"id": "m", "usage": {"input_tokens": 3, "output_tokens": 1}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "Hm."}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "sig=="}},
        {"type": "content_block_stop", "index": 0},
        {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "Yes."}},
        {"type": "content_block_stop", "index": 1},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 4}},
        {"type": "message_stop"},
    )
)


@pytest.mark.parametrize("is_stream", [False, True])
def test_sealed_reasoning_comes_and_goes_back_unchanged(
    site: Site, claude: anthropic.Anthropic, gpt: openai.OpenAI, *, is_stream: bool
) -> None:
    site.model.model.posts[MESSAGES] = Reply(headers={"content-type": "text/event-stream"}, body=THINKING)
    asked: list[Any] = [*SAY]
    try:
        given: Message
        if is_stream:
            with claude.messages.stream(model="by-anthropic", max_tokens=9, messages=asked) as stream:
                given = stream.get_final_message()
            with gpt.responses.stream(model="by-anthropic", input="Say something") as events:
                reasoning: Any = events.get_final_response().output[0]
        else:
            given = claude.messages.create(model="by-anthropic", max_tokens=9, messages=asked)
            reasoning = gpt.responses.create(model="by-anthropic", input="Say something").output[0]
    finally:
        del site.model.model.posts[MESSAGES]
    blocks: list[Any] = [block.model_dump(include={"type", "thinking", "signature", "text"}) for block in given.content]
    assert blocks == [{"type": "thinking", "thinking": "Hm.", "signature": "sig=="}, {"type": "text", "text": "Yes."}]
    assert reasoning.encrypted_content
    again: Any = [{"role": "assistant", "content": blocks}, {"role": "user", "content": "And now?"}]
    claude.messages.create(model="by-anthropic", max_tokens=9, messages=[*asked, *again])
    assert site.model.model.chats[-1].json["messages"][1]["content"] == blocks
    items: Any = [*SAY, reasoning.model_dump(exclude_none=True), {"role": "assistant", "content": "Yes."}, *SAY]
    gpt.responses.create(model="by-anthropic", input=items)
    assert site.model.model.chats[-1].json["messages"][1]["content"] == blocks


# Apps.


def test_an_app_cites_in_each_dialect(gpt: openai.OpenAI, claude: anthropic.Anthropic) -> None:
    response = gpt.responses.create(model="helpdesk", input=QUESTION)
    assert "35 %" in response.output_text
    facts = (response.model_extra or {})["roadbed"]
    assert facts["rung"] == "extractive"
    message = next(item for item in response.output if item.type == "message")
    part: Any = message.content[0]
    assert part.annotations[0].type == "file_citation"
    assert part.annotations[0].file_id == facts["citations"][0]["document_id"]
    with gpt.responses.stream(model="helpdesk", input=QUESTION) as stream:
        kinds = [event.type for event in stream]
        assert stream.get_final_response().output_text == response.output_text
    assert "response.output_text.annotation.added" in kinds

    chat: Any = gpt.chat.completions.create(model="helpdesk", messages=[{"role": "user", "content": QUESTION}])
    found = chat.choices[0].message.annotations[0]
    assert found.type == "url_citation"
    assert chat.choices[0].message.content[found.url_citation.start_index : found.url_citation.end_index] == "[1]"
    assert found.url_citation.title == facts["citations"][0]["title"]


def test_an_app_cites_in_anthropic_s_blocks(claude: anthropic.Anthropic) -> None:
    asked: Any = [{"role": "user", "content": QUESTION}]
    whole = claude.messages.create(model="helpdesk", max_tokens=500, messages=asked)
    facts = (whole.model_extra or {})["roadbed"]
    cited = facts["citations"][0]
    first: Any = whole.content[0]
    assert "35 %" in first.text
    location = first.citations[0]
    assert isinstance(location, anthropic.types.CitationsWebSearchResultLocation)
    assert (location.cited_text, location.title) == (cited["quote"], cited["title"])
    extra = location.model_extra or {}
    assert (extra["start_char_index"], extra["end_char_index"]) == (cited["start"], cited["end"])
    with claude.messages.stream(model="helpdesk", max_tokens=500, messages=asked) as messages:
        kinds = [event.type for event in messages]
        final = messages.get_final_message()
    assert "citation" in kinds
    assert [(block.text, block.citations) for block in final.content if block.type == "text"] == [
        (block.text, block.citations) for block in whole.content if block.type == "text"
    ]
    again: Any = [*asked, {"role": "assistant", "content": whole.content}, *asked]
    assert claude.messages.create(model="helpdesk", max_tokens=500, messages=again).content == whole.content


# The small addresses.


def test_counting_tokens_is_an_estimate(claude: anthropic.Anthropic, site: Site) -> None:
    before = len(site.model.model.requests)
    for model in ("by-openai", "helpdesk"):
        few = claude.messages.count_tokens(model=model, messages=[{"role": "user", "content": "One"}])
        many = claude.messages.count_tokens(model=model, messages=[{"role": "user", "content": "One two " * 100}])
        assert 0 < few.input_tokens < many.input_tokens
    assert len(site.model.model.requests) == before
    with pytest.raises(anthropic.NotFoundError):
        claude.messages.count_tokens(model="nothing", messages=[{"role": "user", "content": "One"}])
    guest = site.server.new_key("guests")["key"]
    refused = site.post(f"{MESSAGES}/count_tokens", {"model": "by-openai", "messages": SAY}, guest)
    assert (refused.status_code, refused.json()["error"]["type"]) == (403, "permission_error")


def test_models_in_both_shapes(claude: anthropic.Anthropic, gpt: openai.OpenAI) -> None:
    names = [model.id for model in gpt.models.list()]
    assert {"helpdesk", *ROUTES} <= set(names)
    assert [model.id for model in claude.models.list()] == names
    assert claude.models.retrieve("helpdesk").type == "model"
    with pytest.raises(anthropic.NotFoundError) as refused:
        claude.models.retrieve("nothing")
    body: Any = refused.value.body
    assert body["type"] == "error"


def test_embeddings_of_a_route_and_of_the_built_in_model(gpt: openai.OpenAI, site: Site) -> None:
    packed = gpt.embeddings.create(model="embed", input=["one", "three"])
    plain = gpt.embeddings.create(model="embed", input=["one", "three"], encoding_format="float")
    assert [row.embedding for row in packed.data] == [row.embedding for row in plain.data] == [[3.0, 0.5], [5.0, 0.5]]
    assert packed.usage.prompt_tokens == 7
    built_in = gpt.embeddings.with_raw_response.create(model="minilm-l6", input=["one", "two"], user="me")
    assert [len(row.embedding) for row in built_in.parse().data] == [384, 384]
    assert built_in.headers["x-roadbed-dropped"] == "user"
    shown = site.trace(built_in.headers["x-roadbed-trace"])
    assert (shown["app"], shown["status"], shown["question"]) == ("minilm-l6", "ok", None)
    assert shown["input_tokens"] > 0
    facts = (packed.model_extra or {})["roadbed"]
    shown = site.trace(facts["trace"])
    assert (shown["app"], shown["model"], shown["input_tokens"], shown["question"]) == ("embed", "gpt", 7, None)
    for field, value in (("dimensions", 8), ("input", [[1, 2]]), ("input", ["x"] * 257), ("input", ["x" * 32_001])):
        refused = site.post("/v1/embeddings", {"model": "minilm-l6", "input": "x", field: value})
        assert refused.status_code in (400, 413)
        assert refused.json()["error"]["param"] == field


def test_reranking(site: Site) -> None:
    asked = {"model": "ranks", "query": "rain", "documents": ["sun", {"text": "wet"}], "return_documents": True}
    response = site.post("/v1/rerank", asked)
    rows = response.json()["results"]
    assert [(row["index"], row["document"]["text"]) for row in rows] == [(1, "wet"), (0, "sun")]
    assert response.headers["x-roadbed-rung"] == "full"
    assert site.trace(response.headers["x-roadbed-trace"])["input_tokens"] == 9


@pytest.mark.parametrize(
    ("path", "model"),
    [
        (RESPONSES, "embed"),
        (MESSAGES, "ranks"),
        (CHAT, "embed"),
        ("/v1/rerank", "embed"),
        ("/v1/rerank", "by-openai"),
        ("/v1/embeddings", "ranks"),
        ("/v1/embeddings", "helpdesk"),
    ],
)
def test_a_route_is_asked_by_its_task_alone(site: Site, path: str, model: str) -> None:
    body = {"model": model, "messages": SAY, "input": "x", "query": "x", "documents": ["x"], "max_tokens": 1}
    fields = {RESPONSES: ("input",), MESSAGES: ("messages", "max_tokens"), CHAT: ("messages",)}
    fields |= {"/v1/rerank": ("query", "documents"), "/v1/embeddings": ("input",)}
    response = site.post(path, {name: body[name] for name in ("model", *fields[path])})
    assert response.status_code == 400, response.text
    error = response.json()["error"]
    assert error["code"] == "gateway.wrong_task"


# Errors.

BODIES: dict[str, dict[str, Any]] = {
    RESPONSES: {"model": "by-openai", "input": "Say something"},
    MESSAGES: {"model": "by-openai", "max_tokens": 9, "messages": SAY},
}
KINDS = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    503: "overloaded_error",
}


def refusal(site: Site, case: int, path: str) -> httpx2.Response:
    asked = BODIES[path]
    match case:
        case 401:
            return site.post(path, asked, "nonsense")
        case 403:
            return site.post(path, asked, site.server.new_key("guests")["key"])
        case 404:
            return site.post(path, asked | {"model": "nothing"})
        case 413:
            return site.post(path, b" " * (33 * 1024 * 1024))
        case 429:
            site.model.script(Rule(".", throttled(300.0)))
            return site.post(path, asked | {"model": "by-anthropic"})
        case 405:
            with site.server.client() as client:
                return client.get(path)
        case 503:  # after some failures the endpoint rests
            for _ in range(20):
                response = site.post(path, asked | {"model": "nobody"})
                if response.status_code == 503:
                    break
            return response
    return site.post(path, asked, **{"x-api-key": "another"})


@pytest.mark.parametrize("case", [400, 401, 403, 404, 405, 413, 503])
@pytest.mark.parametrize("path", [RESPONSES, MESSAGES])
def test_refusals_have_the_dialects_shape(site: Site, path: str, case: int) -> None:
    response = refusal(site, case, path)
    assert response.status_code == case, response.text
    body = response.json()
    error = body["error"]
    assert error["message"]
    assert "." in error["code"]
    if path == RESPONSES:
        assert set(body) == {"error"}
        assert set(error) == {"message", "type", "param", "code"}
    else:
        assert body["type"] == "error"
        assert error["type"] == KINDS.get(case, "invalid_request_error")
    if case == 503:
        assert response.headers["x-roadbed-rung"] == "refused"
        assert response.headers["x-roadbed-trace"]


def test_version_header_is_not_needed(site: Site) -> None:
    assert site.post(MESSAGES, BODIES[MESSAGES]).status_code == 200
    assert site.post(MESSAGES, BODIES[MESSAGES], **{"anthropic-version": "2023-06-01"}).status_code == 200


@pytest.mark.parametrize("route", ROUTES)
def test_a_cut_stream_is_told_and_nothing_follows(
    site: Site, gpt: openai.OpenAI, claude: anthropic.Anthropic, route: str
) -> None:
    site.model.script(Rule(".", Reply(text=WORDS, cut_after=2)))
    raw = site.post(RESPONSES, {"model": route, "input": "Say something", "stream": True})
    events = [json.loads(line.removeprefix("data: ")) for line in raw.text.splitlines() if line.startswith("data: ")]
    assert events[-1]["type"] == "response.failed"
    assert events[-1]["response"]["error"]["type"] == "gateway.stream_cut"
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert "response.completed" not in raw.text
    raw = site.post(MESSAGES, {"model": route, "max_tokens": 9, "messages": SAY, "stream": True})
    assert raw.text.rstrip().splitlines()[-2] == "event: error"
    assert "message_stop" not in raw.text
    with (
        pytest.raises(anthropic.APIStatusError),
        claude.messages.stream(model=route, max_tokens=9, messages=SAY) as stream,  # type: ignore[arg-type]
    ):
        stream.until_done()
    with gpt.responses.create(model=route, input="Say something", stream=True) as events_of:
        assert [event.type for event in events_of][-1] == "response.failed"


def test_throttling_comes_last_because_the_endpoint_rests_afterwards(
    site: Site, claude: anthropic.Anthropic, gpt: openai.OpenAI
) -> None:
    response = refusal(site, 429, MESSAGES)
    assert (response.status_code, response.json()["error"]["type"]) == (429, "rate_limit_error")
    assert int(response.headers["retry-after"]) >= 1
    site.model.script(Rule(".", throttled(300.0)))
    with pytest.raises(openai.RateLimitError):
        gpt.responses.create(model="by-openai", input="Say something")
