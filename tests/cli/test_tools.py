"""``roadbed source add``, and the manifest's checks of tools; ``roadbed tools`` is driven by ``tests/e2e``."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from roadbed.cli.main import EXIT_CONFIG, EXIT_OK, main
from roadbed.kernel.errors import ConfigError
from roadbed.releases.edit_source import add_source
from roadbed.releases.workspace import load_workspace

MANIFEST = """\
name: w

# Systems.
sources:
  docs:
    type: files
    path: .  # here

# After.
collections: {d: {sources: [docs]}}
apps: {search: {kind: search, knowledge: [d]}}
"""


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    (tmp_path / "roadbed.yaml").write_text(MANIFEST)
    with closing(sqlite3.connect(tmp_path / "prices.sqlite")) as connection, connection:
        connection.execute("CREATE TABLE prices (id integer PRIMARY KEY, price real)")
    return tmp_path


def test_a_source_is_tried_and_written_and_the_rest_stays(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["source", "add", "--type", "sqlite", "--name", "prices", "--path", "prices.sqlite", "--explore", "--yes"]
    assert (
        main([*words, "--labels", "confidential", "--teams", "a,b", "--workspace", str(workspace), "--json"]) == EXIT_OK
    )
    said = json.loads(capsys.readouterr().out)
    assert (said["is_reachable"], said["tables"]) == (True, ["prices"])
    text = (workspace / "roadbed.yaml").read_text()
    for line in MANIFEST.splitlines():
        assert line in text
    source = load_workspace(workspace).manifest.sources["prices"]
    assert (source.labels, source.visible_to) == (["confidential"], ["a", "b"])
    assert main([*words, "--workspace", str(workspace)]) == EXIT_CONFIG
    assert "named `prices` already" in capsys.readouterr().err


def test_what_is_missing_is_named_and_nothing_is_written(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["source", "add", "--type", "sqlite", "--yes", "--workspace", str(workspace)]) == EXIT_CONFIG
    assert "--name is missing" in capsys.readouterr().err
    away = ["source", "add", "--type", "postgres", "--name", "crm", "--dsn", "env:NOT_SET", "--yes", "--print"]
    assert main([*away, "--workspace", str(workspace)]) == EXIT_OK
    assert "crm was not reached" in capsys.readouterr().out
    assert (workspace / "roadbed.yaml").read_text() == MANIFEST


@pytest.mark.parametrize("text", ["name: w\n", "name: w\nsources:\n", MANIFEST])
def test_a_source_is_added_wherever_there_is_none_yet(text: str) -> None:
    new = add_source(text, "crm", {"type": "postgres", "dsn": "env:CRM", "labels": ["internal"]}, comment="Note.")
    assert '  # Note.\n  crm:\n    type: postgres\n    dsn: "env:CRM"\n    labels: ["internal"]\n' in f"{new}\n"


@pytest.mark.parametrize(
    ("tool", "said"),
    [
        ("{source: nowhere, description: d, sql: SELECT 1}", "no source named `nowhere`"),
        ("{source: prices, description: d, sql: 'SELECT :x'}", "place :x"),
        ("{source: prices, description: d}", "has no sql"),
        ("{source: prices, description: d, sql: SELECT 1, rate: often}", "not a rate"),
        ("{source: prices, description: d, sql: DELETE FROM prices, effect: write}", "only read"),
    ],
)
def test_a_tool_that_cannot_work_is_told_with_its_line(workspace: Path, tool: str, said: str) -> None:
    text = MANIFEST.replace("sources:\n", "sources:\n  prices: {type: sqlite, path: prices.sqlite, explore: true}\n")
    with pytest.raises(ConfigError, match=said) as raised:
        load_workspace(workspace, f"{text}tools:\n  one: {tool}\n")
    assert raised.value.line > 10
    taken = "tools:\n  prices_query: {source: prices, description: d, sql: SELECT 1}\n"
    with pytest.raises(ConfigError, match="the name of a tool"):
        load_workspace(workspace, text + taken)


def test_a_duckdb_file_and_a_mysql_server_are_added_as_the_others_are(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import duckdb

    with duckdb.connect(str(workspace / "lake.duckdb")) as connection:
        connection.execute("CREATE TABLE sales (id integer)")
    words = ["source", "add", "--explore", "--yes", "--json", "--workspace", str(workspace)]
    assert main([*words, "--type", "duckdb", "--name", "lake", "--path", "lake.duckdb"]) == EXIT_OK
    assert json.loads(capsys.readouterr().out)["tables"] == ["sales"]
    assert main([*words, "--type", "mysql", "--name", "shop", "--dsn", "env:NOT_SET"]) == EXIT_OK
    assert not json.loads(capsys.readouterr().out)["is_reachable"]
    sources = load_workspace(workspace).manifest.sources
    assert {type(sources[name]).__name__ for name in ("lake", "shop")} == {"DuckdbSource", "MysqlSource"}
