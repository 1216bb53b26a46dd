"""Analytics through a real server: asked, saved, run by schedule, kept while its source is away, exported."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import openpyxl
import pytest

from roadbed.testing.scripted_model import Rule
from roadbed.testing.scripted_reply import Reply

from .serving import ModelThread, eventually, launch, write_files

pytestmark = pytest.mark.services  # whole servers: too long for `make test`

MANIFEST = """\
name: shop
endpoints:
  house: {{type: openai, url: "{model}", model: m, local: true}}
models:
  smart: {{ladder: [house]}}
sources:
  shop: {{type: postgres, dsn: embedded:shop, seed: shop.sql, mask: {{orders.email: drop}}}}
  file: {{type: sqlite, path: file.sqlite}}
apps:
  figures:
    kind: analytics
    sources: [shop, file]
    time_zone: Europe/Oslo
    questions:
      by_town:
        title: What was sold in each town?
        source: shop
        sql: SELECT town, sum(total) AS total FROM orders WHERE total >= :least GROUP BY town ORDER BY town
        parameters: {{least: {{type: number, default: 0, required: false}}}}
teams:
  office: {{}}
  guests: {{apps: []}}
"""
SEED = """
CREATE TABLE orders (id integer PRIMARY KEY, town text, total numeric(10, 2), email text);
INSERT INTO orders VALUES (1, 'Oslo', 10.50, 'a@example.org'), (2, '=cmd()', 2, 'b@example.org'), (3, 'Oslo', 1, NULL);
"""
PLAN = {"plan": {"title": "Notes", "queries": [{"source": "file", "sql": "SELECT town, pages FROM notes ORDER BY 1"}]}}


@pytest.fixture
def model() -> Iterator[ModelThread]:
    made = ModelThread()
    yield made
    made.stop()


def test_analytics_end_to_end(scratch: Path, model: ModelThread) -> None:
    files = {"shop.sql": SEED, "roadbed.yaml": MANIFEST.format(model=model.url)}
    workspace = write_files(scratch / "shop", files)
    with closing(sqlite3.connect(workspace / "file.sqlite")) as connection, connection:
        connection.execute("CREATE TABLE notes (town text, pages integer)")
        connection.execute("INSERT INTO notes VALUES ('Oslo', 3), ('Bergen', 4)")
    model.script(Rule("Put the result", Reply("Bergen has 4 pages.")), Rule(".", Reply(json.dumps(PLAN))))
    server = launch(workspace, scratch / "state")
    try:
        key = server.new_key("office")["key"]
        asked = server.ask("How many pages are there of each town?", "figures", key=key)
        found = asked["roadbed"]["analytics"]
        assert asked["choices"][0]["message"]["content"].startswith("Bergen has 4 pages.")
        assert (asked["roadbed"]["rung"], found["rows"]) == ("full", [["Bergen", 4], ["Oslo", 3]])
        assert asked["roadbed"]["citations"][0]["source"] == "file"
        guest = server.new_key("guests")["key"]
        assert server.post("/api/analytics/figures/run/by_town", {}, key=guest).status_code == 403

        saving = {"name": "pages", "prepared": found["prepared"], "seal": found["seal"], "every": "1d at 07:00"}
        base = "/api/analytics/figures"
        forged = {
            **found["prepared"],
            "parts": [{"name": "result", "source": "shop", "sql": "SELECT email FROM orders"}],
        }
        assert server.post(f"{base}/questions", {**saving, "prepared": forged}, key=key).status_code == 403
        assert server.post(f"{base}/questions", saving, key=guest).status_code == 403
        assert server.post(f"{base}/questions", saving, key=key).status_code == 201
        with server.client(key) as client:

            def kept() -> bool:
                saved = client.get(f"{base}/questions").json()["saved"]
                return bool(saved and saved[0]["kept"])

            eventually(kept, what="the schedule's first run")
            assert client.get(f"{base}/questions").json()["saved"][0]["name"] == "pages"
            assert server.get(f"{base}/questions")["saved"] == []  # another team's
            (workspace / "file.sqlite").rename(workspace / "moved.sqlite")

            def stale() -> bool:
                return bool(client.post(f"{base}/run/pages", json={}).json()["roadbed"]["rung"] == "cached")

            eventually(stale, what="the kept result")
            old = client.post(f"{base}/run/pages", json={}).json()
            assert old["roadbed"]["analytics"]["rows"] == [["Bergen", 4], ["Oslo", 3]]
            assert old["roadbed"]["age_s"] > 0
            assert old["roadbed"]["analytics"]["missing"][0]["source"] == "file"
            down = client.post(f"{base}/ask", json={"question": "How many pages are there of each town?"}).json()
            assert (down["roadbed"]["rung"], down["roadbed"]["abstained"]) == ("refused", True)
            assert "file does not answer" in down["text"]

            text = client.get(f"{base}/export/by_town", params={"least": "2"}).content.decode("utf-8-sig")
            assert list(csv.reader(io.StringIO(text))) == [["town", "total"], ["'=cmd()", "2.00"], ["Oslo", "10.50"]]
            book = client.get(f"{base}/export/by_town", params={"format": "xlsx"})
            sheet = openpyxl.load_workbook(io.BytesIO(book.content)).active
            assert sheet is not None
            assert [cell.value for cell in sheet[3]] == ["Oslo", 11.5]
            wrong = client.get(f"{base}/export/by_town", params={"least": "x"})
            assert (wrong.status_code, wrong.json()["code"]) == (400, "tools.arguments_invalid")
            assert client.delete(f"{base}/questions/pages").status_code == 204
            assert client.post(f"{base}/run/pages", json={}).json()["code"] == "apps.unknown_question"
            assert client.post("/api/analytics/nothing/ask", json={"question": "x"}).status_code == 404
        ran = server.cli("analytics", "run", "figures", "by_town", "--set", "least=2", "--csv")
        assert ran.stdout.splitlines() == ["town,total", "'=cmd(),2.00", "Oslo,10.50"], ran.stderr
        assert "by_town" in server.cli("analytics", "questions", "figures").stdout
    finally:
        assert server.stop() == 0, server.output
