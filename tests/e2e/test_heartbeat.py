"""Callers who stream and wait are told so, and no SDK minds: OpenAI's (both addresses) and Anthropic's.

What fails before the first comment still has its own status; what fails later is an error that every SDK raises.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from typing import Any

import anthropic
import httpx2
import openai
import pytest

from roadbed.server.reply import HEARTBEAT
from roadbed.testing.scripted_model import Rule
from roadbed.testing.scripted_reply import Reply, failing

from .serving import ADMIN_KEY, ModelThread, Server, serving, temporary_folder, write_files

pytestmark = pytest.mark.services

STORY = "Once a bridge stood over the river."
ASKED: Any = [{"role": "user", "content": "Tell the story"}]
PATHS = {"chat/completions": "messages", "messages": "messages", "responses": "input"}
MANIFEST = """
name: beats
endpoints:
  slow: {{type: openai, url: "{slow}", model: m}}
  late: {{type: openai, url: "{late}", model: m}}
  broken: {{type: openai, url: "{broken}", model: m}}
models:
  held: {{ladder: [slow], on_cut: restart, heartbeat: 100ms}}
  thinking: {{ladder: [slow], heartbeat: 100ms}}
  silent: {{ladder: [slow], on_cut: restart}}
  failing-late: {{ladder: [late], heartbeat: 100ms}}
  failing: {{ladder: [broken], heartbeat: 30s}}
sources:
  handbook: {{type: files, path: ./handbook}}
collections:
  all: {{sources: [handbook]}}
apps:
  desk: {{kind: copilot, model: thinking, knowledge: [all]}}
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    slow, late, broken = ModelThread(), ModelThread(), ModelThread()
    slow.script(Rule("", Reply(text=STORY, first_delay_s=0.25, gap_s=0.02)))
    late.script(Rule("", Reply(text="", first_delay_s=0.35, cut_after=0)))
    broken.script(Rule("", failing(500)))
    manifest = MANIFEST.format(slow=slow.url, late=late.url, broken=broken.url)
    files = {"roadbed.yaml": manifest, "handbook/a.md": "# Bridge\n\nThe bridge stood over the river.\n"}
    try:
        with temporary_folder() as folder:
            workspace = write_files(folder / "beats", files)
            with serving(workspace, folder / "state") as running:
                yield running
    finally:
        for model in (slow, late, broken):
            model.stop()


def raw(server: Server, path: str, model: str, *, stream: bool = True) -> tuple[int, bytes]:
    body: dict[str, Any] = {"model": model, "stream": stream, PATHS[path]: ASKED}
    if path == "messages":
        body["max_tokens"] = 99
    host = server.url.partition("://")[2]
    connection = http.client.HTTPConnection(host, timeout=30)
    try:
        connection.request(
            "POST",
            f"/v1/{path}",
            json.dumps(body),
            {"authorization": f"Bearer {ADMIN_KEY}", "content-type": "application/json"},
        )
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("model", ["held", "thinking"])
def test_comments_come_before_the_first_text(server: Server, path: str, model: str) -> None:
    status, body = raw(server, path, model)
    assert status == 200
    assert body.startswith(HEARTBEAT)
    told = body.lstrip(HEARTBEAT)
    assert HEARTBEAT not in told
    assert b"bridge" in told


def test_an_app_beats_as_its_route_does(server: Server) -> None:
    status, body = raw(server, "chat/completions", "desk")
    assert (status, body.startswith(HEARTBEAT)) == (200, True)


def test_none_come_where_the_answer_is_there_before_or_is_not_streamed(server: Server) -> None:
    assert HEARTBEAT not in raw(server, "chat/completions", "silent")[1]
    _, body = raw(server, "chat/completions", "held", stream=False)
    assert json.loads(body)["choices"][0]["message"]["content"] == STORY


@pytest.mark.parametrize("path", PATHS)
def test_what_fails_at_once_has_its_status_and_what_fails_later_is_told(server: Server, path: str) -> None:
    status, body = raw(server, path, "failing")
    assert status >= 500
    assert HEARTBEAT not in body
    status, body = raw(server, path, "failing-late")
    assert status == 200
    assert body.startswith(HEARTBEAT)
    assert b"error" in body
    assert b"[DONE]" not in body


@pytest.mark.parametrize("model", ["held", "thinking"])
def test_sdks_pass_over_them(server: Server, model: str) -> None:
    with httpx2.Client(trust_env=False) as transport:
        gpt = openai.OpenAI(base_url=f"{server.url}/v1", api_key=ADMIN_KEY, http_client=transport, max_retries=0)
        claude = anthropic.Anthropic(
            base_url=server.url, api_key=ADMIN_KEY, auth_token=None, http_client=transport, max_retries=0
        )
        chunks = list(gpt.chat.completions.create(model=model, messages=ASKED, stream=True))
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == STORY
        with gpt.responses.stream(model=model, input="Tell the story") as events:
            assert events.get_final_response().output_text == STORY
        with claude.messages.stream(model=model, max_tokens=99, messages=ASKED) as told:
            assert told.get_final_text() == STORY
        with pytest.raises(openai.APIError):
            list(gpt.chat.completions.create(model="failing-late", messages=ASKED, stream=True))
        with (
            pytest.raises(anthropic.APIError),
            claude.messages.stream(model="failing-late", max_tokens=99, messages=ASKED) as lost,
        ):
            lost.get_final_text()
        with pytest.raises(openai.InternalServerError):
            gpt.chat.completions.create(model="failing", messages=ASKED, stream=True)
