"""Tools of object stores, against obstore's memory store and a folder: prefix, pages, ranges, versions, refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from obstore.store import MemoryStore, S3Store

from roadbed.kernel.deadline import Deadline
from roadbed.kernel.errors import ConfigError
from roadbed.kernel.principal import Principal
from roadbed.sources.errors import QueryRefused, SourceUnavailable
from roadbed.sources.manifest import ObjectsSource
from roadbed.sources.objects import PAGE_OBJECTS, ObjectChanged, ObjectGone, ObjectsSystem, make_store, prefix_of
from roadbed.sources.reach import Reach
from roadbed.tools.files import FileTooLarge
from roadbed.tools.providers.objects import object_tools
from roadbed.tools.types import Ok, Tool, ToolRequest

CALLER = Principal(id="test", team="support")
SECRET = b"of another customer"


class Shelf(Reach):
    """A reach whose object store is in memory."""

    def __init__(self, folder: Path, config: ObjectsSource) -> None:
        super().__init__(folder)
        self.store = MemoryStore()
        self._system = ObjectsSystem("shelf", config, folder, store=self.store)

    def objects(self, name: str) -> ObjectsSystem:
        return self._system


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    found = Shelf(tmp_path, ObjectsSource(url="s3://bucket/acme/", tool_bytes_max=10_000))
    for key, data in {
        "acme/notes.txt": b"some notes",
        "acme/deep/er/list.csv": b"a,b\n1,2\n",
        "acme/long.txt": "äöü".encode() * 5000,
        "acme/page.html": b"<p>Hello</p>",
        "acme/large.pdf": b"%PDF" + b"\0" * 20_000,
        "acme-secret/other.txt": SECRET,
        "other.txt": SECRET,
        "acmeish.txt": SECRET,
    }.items():
        found.store.put(key, data)
    return found


def tools(reach: Reach, extractor: Any = None, url: str = "s3://bucket/acme/") -> dict[str, Tool]:
    sources = {"shelf": ObjectsSource(url=url, labels=["internal"], tool_bytes_max=10_000)}
    return {tool.name: tool for tool in object_tools(sources, reach, extractor=extractor)}


def request(cursor: str = "", **arguments: Any) -> ToolRequest:
    return ToolRequest(arguments, CALLER, Deadline.after(10), cursor)


async def ok(tool: Tool, cursor: str = "", **arguments: Any) -> Ok:
    outcome = await tool.run(request(cursor, **arguments))
    assert isinstance(outcome, Ok)
    return outcome


async def test_only_what_is_below_the_prefix_is_listed(shelf: Shelf) -> None:
    found = await ok(tools(shelf)["shelf_list"])
    paths = [entry["path"] for entry in found.data["objects"]]
    assert paths == ["deep/er/list.csv", "large.pdf", "long.txt", "notes.txt", "page.html"]
    assert [entry["path"] for entry in (await ok(tools(shelf)["shelf_list"], path="deep")).data["objects"]] == [
        "deep/er/list.csv"
    ]
    assert (await ok(tools(shelf)["shelf_list"], path="deep/e")).data["objects"] == []
    assert "bucket" not in repr(found.data)


async def test_lists_are_paged(shelf: Shelf) -> None:
    for number in range(PAGE_OBJECTS * 2 + 10):
        shelf.store.put(f"acme/many/{number:05}.txt", b"x")
    seen: list[str] = []
    cursor, pages = "", 0
    while True:
        page = await ok(tools(shelf)["shelf_list"], cursor, path="many/")
        seen += [entry["path"] for entry in page.data["objects"]]
        pages += 1
        cursor = page.cursor
        if not page.is_truncated:
            break
    assert pages == 3
    assert seen == [f"many/{number:05}.txt" for number in range(PAGE_OBJECTS * 2 + 10)]


@pytest.mark.parametrize(
    "path",
    ["../other.txt", "..", "a/../../other.txt", "/other.txt", "//x", "", ".", "a//b", "a\\..\\b",
     "x\0", "x\n", "x" * 2000,
     "../acme-secret/other.txt", "-secret/other.txt", "%2e%2e/other.txt", "missing.txt", "deep", "\u202ex"],
)  # fmt: skip
async def test_no_path_leads_out_of_the_prefix(path: str, shelf: Shelf) -> None:
    with pytest.raises((QueryRefused, ObjectGone)):
        await tools(shelf)["shelf_read"].run(request(path=path))


async def test_objects_are_read_in_ranges_of_one_version(shelf: Shelf) -> None:
    tool = tools(shelf)["shelf_read"]
    part = await ok(tool, path="long.txt", limit=9_001)
    assert part.cursor
    text = part.data["text"]
    version = part.provenance[0].resource
    assert version.startswith("long.txt@")
    while part.is_truncated:
        part = await ok(tool, part.cursor, path="long.txt", limit=9_001)
        text += part.data["text"]
        assert part.provenance[0].resource == version
    assert text == "äöü" * 5000
    first = await ok(tool, path="long.txt", limit=100)
    shelf.store.put("acme/long.txt", b"another content " * 1000)
    with pytest.raises(ObjectChanged):
        await tool.run(request(first.cursor, path="long.txt", limit=100))
    with pytest.raises(QueryRefused):
        await tool.run(request("x", path="long.txt"))


class Extractor:
    """Stands for the limited parser: says what it was given."""

    async def parse(self, path_or_bytes: Any, *, name: str, media_type: str | None = None) -> Any:
        class Document:
            text = f"{name}: {len(path_or_bytes)} bytes"

        return Document()


async def test_documents_go_to_the_parser_within_their_bound(shelf: Shelf) -> None:
    made = tools(shelf, Extractor())
    assert (await ok(made["shelf_read"], path="page.html")).data["text"] == "page.html: 12 bytes"
    with pytest.raises(FileTooLarge):
        await made["shelf_read"].run(request(path="large.pdf"))


async def test_a_folder_serves_as_a_store(tmp_path: Path) -> None:
    (tmp_path / "shelf" / "deep").mkdir(parents=True)
    (tmp_path / "shelf" / "deep" / "notes.txt").write_text("some notes")
    (tmp_path / "secret.txt").write_bytes(SECRET)
    url = f"file://{tmp_path}/shelf/"
    reach = Reach(tmp_path)
    await reach.use({"shelf": ObjectsSource(url=url)})
    made = tools(reach, url=url)
    assert [entry["path"] for entry in (await ok(made["shelf_list"])).data["objects"]] == ["deep/notes.txt"]
    assert (await ok(made["shelf_read"], path="deep/notes.txt", offset=5)).data["text"] == "notes"
    with pytest.raises(QueryRefused):
        await made["shelf_read"].run(request(path="../secret.txt"))
    await reach.close()


async def test_a_store_that_is_away_is_a_source_that_is_away(tmp_path: Path) -> None:
    reach = Reach(tmp_path)
    config = ObjectsSource(url="s3://bucket/acme/", endpoint="http://127.0.0.1:1")
    await reach.use({"shelf": config})
    tool = tools(reach)["shelf_list"]
    for _ in range(4):
        with pytest.raises(SourceUnavailable) as raised:
            await tool.run(request())
        assert "127.0.0.1" not in raised.value.message
    assert "rests" in raised.value.message
    await reach.close()


@pytest.mark.parametrize(
    "url", ["s3://bucket", "s3://bucket/acme", "s3:///acme/", "s3://key:secret@bucket/a/", "s3://b/../"]
)
def test_addresses_without_a_whole_prefix_are_refused(url: str) -> None:
    with pytest.raises(ConfigError):
        prefix_of("shelf", url)


def test_keys_are_references_and_a_store_is_made_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHELF_SECRET", "s3cr3t")
    config = ObjectsSource(
        url="s3://bucket/acme/", endpoint="https://store.test", key="env:SHELF_KEY", secret="env:SHELF_SECRET"
    )
    system = ObjectsSystem("shelf", config, tmp_path)
    with pytest.raises(ConfigError, match="SHELF_KEY"):
        system._store()
    monkeypatch.setenv("SHELF_KEY", "key-id")
    made = system._store()
    assert isinstance(made, S3Store)
    assert system._store() is made
    monkeypatch.setenv("SHELF_KEY", "another")
    assert system._store() is not made
    assert isinstance(make_store("shelf", config, {}), S3Store)
