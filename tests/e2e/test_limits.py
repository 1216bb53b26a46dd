"""Budgets, rates and usage in a real deployment with two serving processes."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from roadbed.testing.scripted_model import Rule
from roadbed.testing.scripted_reply import Reply

from .serving import ModelThread, Server, eventually, serving, temporary_folder, write_files

pytestmark = pytest.mark.services  # a server of its own with two serving processes

MANIFEST = """\
name: limits
endpoints:
  cloud: {{type: openai, url: "{url}", model: gamma, local: true, price_input: 10, price_output: 1000}}
models:
  smart: {{ladder: [cloud]}}
  vectors: {{ladder: [cloud], task: embeddings}}
teams:
  poor: {{budget: 0.05 USD/day}}
  quick: {{rate: 3/min}}
  fast: {{rate: 4/min}}
  broke: {{budget: 0.000001 USD/month}}
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    model = ModelThread()
    try:
        with temporary_folder() as folder:
            workspace = write_files(folder / "limits", {"roadbed.yaml": MANIFEST.format(url=model.url)})
            model.script(Rule(".", Reply(text="Well said indeed.")))
            with serving(workspace, folder / "state", "--workers", "2") as running:
                yield running
    finally:
        model.stop()


def ask(server: Server, key: str, **values: object) -> tuple[int, dict[str, str], dict[str, object]]:
    body = {"model": "smart", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 10, **values}
    with server.client(key) as client:
        response = client.post("/v1/chat/completions", json=body, headers={"x-roadbed-tag": "project-x"})
        return response.status_code, dict(response.headers), response.json()


def test_a_team_spends_its_budget_and_no_more_whichever_process_answers(server: Server) -> None:
    key = server.new_key("poor")["key"]
    answers = [ask(server, key) for _ in range(30)]
    paid = [answer for answer in answers if answer[0] == 200]
    refused = [answer for answer in answers if answer[0] == 429]
    assert paid
    assert refused
    assert len(paid) + len(refused) == 30
    assert refused[-1][2]["error"]["code"] == "gateway.budget_exceeded"  # type: ignore[index]
    assert 0 < int(refused[-1][1]["retry-after"]) <= 86_400

    def usage() -> dict[str, object] | None:
        found: dict[str, object] = server.get("/api/usage", by="team,tag")
        rows = [row for row in found["rows"] if row["team"] == "poor"]  # type: ignore[attr-defined]
        return {**rows[0], "budgets": found["budgets"]} if rows and rows[0]["calls"] == len(paid) else None

    found = eventually(usage, what="usage of the calls")
    assert found["tag"] == "project-x"
    assert 0 < int(str(found["cost_microusd"])) <= 50_000
    [budget] = found["budgets"]  # type: ignore[misc]
    assert budget["id"] == "team:poor/day"  # type: ignore[has-type]
    assert budget["settled"] + budget["leased"] <= budget["cap"] == 50_000  # type: ignore[has-type]


def test_a_rate_over_two_processes_lets_no_more_through_than_twice_its_limit(server: Server) -> None:
    key = server.new_key("quick")["key"]
    statuses = [ask(server, key)[0] for _ in range(12)]
    assert 1 <= statuses.count(200) <= 6
    assert statuses.count(429) == 12 - statuses.count(200)


def test_embeddings_count_against_rates_and_budgets(server: Server) -> None:
    with server.client(server.new_key("fast")["key"]) as client:
        body = {"model": "minilm-l6", "input": "hello"}
        answers = [client.post("/v1/embeddings", json=body) for _ in range(10)]
    statuses = [answer.status_code for answer in answers]
    assert 1 <= statuses.count(200) <= 8
    assert statuses.count(429) == 10 - statuses.count(200)
    assert all("x-ratelimit-limit-requests" in answer.headers for answer in answers)
    with server.client(server.new_key("broke")["key"]) as client:
        refused = client.post("/v1/embeddings", json={"model": "vectors", "input": "hello"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "gateway.budget_exceeded")


@pytest.mark.parametrize("path", ["/v1/responses", "/v1/messages"])
def test_a_budget_holds_in_every_dialect(server: Server, path: str) -> None:
    body: dict[str, object] = {"model": "smart", "max_tokens": 10, "messages": [{"role": "user", "content": "hello"}]}
    if path == "/v1/responses":
        body = {"model": "smart", "input": "hello"}
    with server.client(server.new_key("broke")["key"]) as client:
        refused = client.post(path, json=body)
    assert refused.status_code == 429
    assert "budget" in refused.text


def test_usage_is_printed_and_drawn(server: Server) -> None:
    server_key = server.new_key("default")["key"]
    assert ask(server, server_key)[0] == 200
    eventually(lambda: server.get("/api/usage")["total"]["calls"], what="a usage row")
    printed = server.cli("usage", "--by", "model,day")
    assert printed.returncode == 0, printed.stderr
    assert "gamma" in printed.stdout
    assert "total" in printed.stdout
    assert json.loads(server.cli("usage", "--json").stdout)["by"] == ["team"]
    with server.client() as client:
        listed = client.get("/api/usage", params={"by": "tag", "format": "csv"})
        assert listed.headers["content-type"].startswith("text/csv")
        assert "project-x," in listed.text
        assert client.get("/api/usage", params={"by": "secret"}).status_code == 400


def test_a_key_with_a_budget_of_its_own(server: Server) -> None:
    made = server.cli("keys", "create", "--team", "other", "--budget", "0.000001 USD/month", "--json")
    assert made.returncode == 0, made.stderr
    key = json.loads(made.stdout)
    assert key["budget"] == "0.000001 USD/month"

    def refused() -> bool:
        return ask(server, key["key"])[0] == 429

    assert eventually(refused, what="the refusal by the key's budget")
    assert server.cli("keys", "create", "--budget", "much").returncode != 0


def test_a_workspace_of_models_alone_is_ready(server: Server) -> None:
    said = server.get("/readyz")
    assert (said["ready"], said["parts"]["releases"]) == (True, "ok")
    assert server.get("/api/status")["ready"]
