"""The tools of a files source: what a model gets to see, bounded, and nothing that the source does not take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from roadbed.kernel.deadline import Deadline
from roadbed.kernel.errors import RoadbedError
from roadbed.kernel.label import Level
from roadbed.kernel.principal import Principal
from roadbed.knowledge.parse.pool import ParserPool
from roadbed.sources.errors import QueryRefused
from roadbed.sources.manifest import FilesSource
from roadbed.tools.files import FileGone, FileTooLarge, PathRefused
from roadbed.tools.providers.files import LIST_PAGE, SEARCH_HITS_MAX, file_tools
from roadbed.tools.text_of_files import READ_UNITS_MAX, TextUnavailable
from roadbed.tools.types import Ok, Tool, ToolRequest

CALLER = Principal(id="test", team="support")


def request(cursor: str = "", **arguments: Any) -> ToolRequest:
    return ToolRequest(arguments, CALLER, Deadline.after(20), cursor)


async def ok(tool: Tool, cursor: str = "", **arguments: Any) -> Ok:
    outcome = await tool.run(request(cursor, **arguments))
    assert isinstance(outcome, Ok)
    return outcome


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    (folder / "policies").mkdir(parents=True)
    (folder / "policies" / "leave.md").write_text("# Leave\nThirty days of LEAVE a year.\n", encoding="utf-8")
    (folder / "notes.txt").write_text("äöü" * 1000, encoding="utf-8")
    (folder / "page.html").write_text("<html><body><p>Hello <b>you</b></p></body></html>", encoding="utf-8")
    (folder / "photo.bin").write_bytes(b"\0\1\2leave")
    (folder / "keys.pem").write_text("leave me", encoding="utf-8")
    return folder


def tools(docs: Path, extractor: Any = None, **settings: Any) -> dict[str, Tool]:
    config = FilesSource(path="docs", explore=True, exclude=["*.pem"], labels=["internal"], **settings)
    sources = {"handbook": config, "closed": FilesSource(path="docs")}
    return {tool.name: tool for tool in file_tools(sources, docs.parent, extractor=extractor)}


async def test_only_sources_that_say_so_get_tools(docs: Path) -> None:
    made = tools(docs, visible_to=["support"])
    assert sorted(made) == ["handbook_list", "handbook_read", "handbook_search"]
    for tool in made.values():
        assert tool.effect == "read"
        assert tool.label.level == Level.INTERNAL
        assert tool.visible_to == frozenset({"support"})
        assert not tool.is_trusted


async def test_list_is_paged_and_shows_what_the_source_takes(docs: Path) -> None:
    found = await ok(tools(docs)["handbook_list"])
    names = [(entry["path"], entry["kind"]) for entry in found.data["entries"]]
    assert names == [("notes.txt", "file"), ("page.html", "file"), ("photo.bin", "file"), ("policies", "folder")]
    for number in range(LIST_PAGE + 5):
        (docs / "policies" / f"{number:04}.txt").write_text("x")
    first = await ok(tools(docs)["handbook_list"], path="policies")
    assert (len(first.data["entries"]), first.is_truncated) == (LIST_PAGE, True)
    rest = await ok(tools(docs)["handbook_list"], first.cursor, path="policies")
    assert (len(rest.data["entries"]), rest.is_truncated, rest.cursor) == (6, False, "")
    assert not {e["path"] for e in first.data["entries"]} & {e["path"] for e in rest.data["entries"]}


async def test_plain_text_is_read_in_parts_that_join_to_the_whole(docs: Path) -> None:
    tool = tools(docs)["handbook_read"]
    text, offset = "", 0
    while True:
        part = await ok(tool, path="notes.txt", offset=offset, limit=1001)
        text += part.data["text"]
        assert part.provenance[0].source == "handbook"
        if not part.is_truncated:
            break
        offset = part.data["next_offset"]
    assert text == "äöü" * 1000
    assert (await ok(tool, path="notes.txt", offset=1)).data["text"].startswith("ö")
    assert (await ok(tool, path="notes.txt", offset=10**9)).data["text"] == ""


async def test_documents_are_read_by_the_limited_parser(docs: Path) -> None:
    async with ParserPool() as pool:
        made = tools(docs, pool)
        found = await ok(made["handbook_read"], path="page.html")
        assert found.data["text"] == "Hello you"
        assert found.data["unit"] == "characters"
        with pytest.raises(RoadbedError, match="photo"):
            await made["handbook_read"].run(request(path="photo.bin"))
    with pytest.raises(TextUnavailable):
        await tools(docs)["handbook_read"].run(request(path="page.html"))


async def test_what_the_source_leaves_out_does_not_exist_for_tools(docs: Path) -> None:
    made = tools(docs)
    for path in ("keys.pem", "../docs/notes.txt", "missing.txt", ""):
        with pytest.raises((FileGone, PathRefused)):
            await made["handbook_read"].run(request(path=path))
    assert "keys.pem" not in str((await ok(made["handbook_search"], text="leave")).data)


async def test_search_finds_names_and_text_and_says_when_it_is_not_complete(docs: Path) -> None:
    tool = tools(docs)["handbook_search"]
    found = await ok(tool, text="leave")
    assert [(hit["path"], hit["line"]) for hit in found.data["matches"]] == [
        ("policies/leave.md", 0), ("policies/leave.md", 1), ("policies/leave.md", 2)
    ]  # fmt: skip
    assert found.data["is_complete"]
    assert (await ok(tool, text=".*")).data["matches"] == []  # literally
    for number in range(SEARCH_HITS_MAX):
        (docs / f"{number}.txt").write_text("needle")
    many = await ok(tool, text="needle")
    assert len(many.data["matches"]) == SEARCH_HITS_MAX
    assert many.is_truncated
    assert not many.data["is_complete"]


async def test_bounds_hold_and_arguments_of_other_types_are_refused(docs: Path) -> None:
    made = tools(docs, tool_bytes_max=100)
    with pytest.raises(FileTooLarge):
        await made["handbook_read"].run(request(path="notes.txt"))
    for arguments in ({"path": 7}, {"path": "notes.txt", "offset": -1}, {"path": "notes.txt",
                          "limit": READ_UNITS_MAX + 1},
                      {"path": "notes.txt", "offset": True}, {"path": None}):  # fmt: skip
        with pytest.raises(QueryRefused):
            await made["handbook_read"].run(request(**arguments))
    with pytest.raises(QueryRefused):
        await made["handbook_search"].run(request(text="  "))
