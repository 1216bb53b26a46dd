"""What apps say of tools: entries that name nothing are refused, and a changed definition is another release."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import cast

import pytest

from roadbed.kernel.errors import ConfigError
from roadbed.kernel.release import Release
from roadbed.releases.compile import compile_releases
from roadbed.releases.workspace import load_workspace
from roadbed.sources.registry import SourceHealth, Sources
from roadbed.tools.building import build_tools

from .comparing import changed_parts

MANIFEST = """\
name: shop
sources:
  shop: {type: sqlite, path: shop.sqlite, explore: true}
  bare: {type: sqlite, path: shop.sqlite}
  hidden: {type: files, path: .}
  shelf: {type: files, path: ., explore: true}
tools:
  order_of:
    source: shop
    description: An order by its number.
    sql: SELECT id, total FROM orders WHERE id = :id
    parameters: {id: {type: integer}}
collections:
  company: {sources: [hidden]}
apps:
  desk: {kind: copilot, tools: [order_of]}
  plain: {kind: copilot, knowledge: [company]}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A workspace with a shop."""
    with closing(sqlite3.connect(tmp_path / "shop.sqlite")) as connection:
        connection.execute("CREATE TABLE orders (id integer PRIMARY KEY, total integer)")
    (tmp_path / "roadbed.yaml").write_text(MANIFEST)
    return tmp_path


def releases_of(folder: Path, text: str = MANIFEST) -> dict[str, Release]:
    """The releases of a manifest, with the tools that it makes."""
    (folder / "roadbed.yaml").write_text(text)
    workspace = load_workspace(folder)
    manifest = workspace.manifest
    tools = build_tools(manifest.sources, manifest.tools, cast(Sources, _NoSources()), b"k" * 32)
    return compile_releases(workspace, {}, tools)


class _NoSources:
    """Stands for the connections: definitions need none."""

    def states(self) -> list[SourceHealth]:
        """No source is connected."""
        return []


@pytest.mark.parametrize(
    ("was", "becomes"),
    [
        ("An order by", "One order by"),
        ("SELECT id, total", "SELECT total, id"),
        ("{id: {type: integer}}", "{id: {type: integer, minimum: 1}}"),
        ("explore: true}\n  bare", "explore: true, labels: [confidential]}\n  bare"),
        ("explore: true}\n  bare", "explore: true, mask: {orders.total: drop}}\n  bare"),
        ("source: shop\n", "source: shop\n    visible_to: [sales]\n"),
    ],
)
def test_a_changed_definition_is_another_release_of_the_apps_that_use_it(folder: Path, was: str, becomes: str) -> None:
    before, after = releases_of(folder), releases_of(folder, MANIFEST.replace(was, becomes))
    assert changed_parts(before["desk"], after["desk"]) == {"tools"}
    assert before["plain"].digest == after["plain"].digest


def test_entries_are_tools_sources_and_beginnings(folder: Path) -> None:
    def pins(entries: str) -> set[str]:
        return set(releases_of(folder, MANIFEST.replace("[order_of]", entries))["desk"].document["tools"])

    assert pins("[order_of]") == {"order_of"}
    assert pins("[shop]") == {"order_of", "shop_tables", "shop_describe", "shop_query"}
    assert pins("[shop_]") == {"shop_tables", "shop_describe", "shop_query"}
    assert pins("[platform_status, shelf]") == {"platform_status"}  # what `shelf` offers is made by the server
    assert "tools" not in releases_of(folder)["plain"].document


@pytest.mark.parametrize(
    ("was", "becomes", "message"),
    [
        ("[order_of]", "[order_off]", "there is no tool named `order_off`"),
        ("[order_of]", "[bare]", "the source `bare` has no tools"),
        ("[order_of]", "[hidden]", "the source `hidden` has no tools"),
        ("copilot, tools", "search, tools", "`tools` is for apps of kind copilot"),
        ("copilot, knowledge", "search, links: [a.example], knowledge", "`links` is for apps of kind copilot"),
        ("copilot, knowledge", "copilot, links: ['https://a.example'], knowledge", "links"),
        ("[order_of]", "[order_of], tool_rounds: 99", "tool_rounds"),
    ],
)
def test_what_names_nothing_is_refused(folder: Path, was: str, becomes: str, message: str) -> None:
    (folder / "roadbed.yaml").write_text(MANIFEST.replace(was, becomes))
    with pytest.raises(ConfigError) as caught:
        load_workspace(folder)
    found = [str(error) for error in (caught.value, *caught.value.others)]
    assert any(message in text for text in found), found
