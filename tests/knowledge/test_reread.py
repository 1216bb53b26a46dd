"""After an upgrade: what an earlier build read is read again behind what serves, once, and nothing is lost by it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from roadbed.kernel.principal import ADMIN, Principal
from roadbed.knowledge.ingest import KEPT
from roadbed.knowledge.parse.document import ParsedDocument, ParseFailure
from roadbed.knowledge.parse.versions import older_names
from roadbed.knowledge.reader import NOT_KEPT
from roadbed.sources.manifest import UploadsSource

pytestmark = pytest.mark.services

ADMINISTRATOR = Principal(id="k0", team="office", roles=frozenset({ADMIN}))
OLD = "markdown/markdown-it-4:v1"
BEFORE_PLAIN_TITLES = "markdown/markdown-it-4:v2"
NEWER_TEXT = "# Kettles\n\nKettles whistle.\n\n## Violets\n\nViolets grow in the shade."
DEADLINE_S = 60.0


def read_by_an_older_build(parsed: ParsedDocument) -> ParsedDocument:
    """As a parser that lost everything behind the second heading would have read it."""
    end = parsed.text.find("\n\n## ")
    end = len(parsed.text) if end < 0 else end
    return replace(
        parsed,
        text=parsed.text[:end],
        blocks=tuple(block for block in parsed.blocks if block.end <= end),
        parser=OLD,
    )


def refuse(parsed: ParsedDocument) -> ParsedDocument:
    """A parser that has become stricter."""
    raise ParseFailure("corrupt", "the file is not valid")


async def until(is_so: Callable[[], Awaitable[Any]]) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(DEADLINE_S):
        while not await is_so():  # noqa: ASYNC110 - what is waited for are rows
            await asyncio.sleep(0.02)


async def outdated(bench: Any) -> int:
    """How many documents are to be read again."""
    return sum(state.outdated for state in await bench.knowledge.source_states())


async def until_read(bench: Any) -> None:
    """Wait until no document is outdated."""

    async def is_read() -> bool:
        return not await outdated(bench)

    await until(is_read)
    await bench.settle()


async def titles(bench: Any, query: str) -> set[str]:
    """Titles of what a search finds by that word."""
    return {hit.title for hit in (await bench.search(query, k=20)).hits if query in hit.text.casefold()}


async def read_before(make_bench: Any, **options: Any) -> None:
    """Let an earlier build read the folder."""
    async with make_bench() as earlier:
        earlier.parser.seen_as = options.pop("seen_as", read_by_an_older_build)
        for name, text in options.items():
            earlier.write(f"{name}.md", text)
        await earlier.configure()
        await earlier.database.execute("UPDATE document SET version = split_part(version, '.', 1)")
        await earlier.database.execute("DELETE FROM document_reader")


def test_the_older_name_of_this_test_is_one() -> None:
    assert OLD in older_names()


async def test_an_upgrade_reads_again_behind_what_serves_and_embeds_only_what_is_new(make_bench: Any) -> None:
    await read_before(make_bench, kettles=NEWER_TEXT, lamps="# Lamps\n\nLamps shine.")
    async with make_bench() as bench:
        lamps = await bench.database.fetchval("SELECT chunk_no FROM chunk WHERE text LIKE '%Lamps%'")
        version = await bench.database.fetchval("SELECT version FROM document WHERE key = 'kettles.md'")
        bench.parser.may_go.clear()
        await bench.configure()  # settles: the second start waits for no reading of an upgrade
        (state,) = await bench.knowledge.source_states()
        assert (state.outdated, state.pending) == (2, 0)
        assert await titles(bench, "kettles") == {"Kettles"}
        assert await titles(bench, "violets") == set()

        embedded = bench.embedder.texts_embedded
        bench.parser.may_go.set()
        await until_read(bench)
        assert bench.embedder.texts_embedded - embedded == 1  # the section that the earlier build had lost
        assert await titles(bench, "violets") == {"Kettles"}
        assert await bench.database.fetchval("SELECT chunk_no FROM chunk WHERE text LIKE '%Lamps%'") == lamps
        assert await bench.database.fetchval("SELECT version FROM document WHERE key = 'kettles.md'") != version

        parsed = len(bench.parser.parsed)
        await bench.knowledge.configure(*bench.declared)
        await bench.settle()
        assert len(bench.parser.parsed) == parsed


async def test_titles_that_an_earlier_build_kept_with_their_markup_become_plain(make_bench: Any) -> None:
    def with_markup(parsed: ParsedDocument) -> ParsedDocument:
        return replace(parsed, title="**Kettles** and `lids`", parser=BEFORE_PLAIN_TITLES)

    await read_before(make_bench, kettles="# **Kettles** and `lids`\n\nKettles sing.", seen_as=with_markup)
    async with make_bench() as bench:
        assert await bench.database.fetchval("SELECT title FROM document") == "**Kettles** and `lids`"
        embedded = bench.embedder.texts_embedded
        await bench.configure()
        await until_read(bench)
        assert await titles(bench, "sing") == {"Kettles and lids"}
        assert bench.embedder.texts_embedded == embedded + 1  # the search's


async def test_what_this_build_cannot_read_goes_on_being_served_and_says_so(make_bench: Any) -> None:
    await read_before(make_bench, kettles=NEWER_TEXT)
    async with make_bench() as bench:
        bench.parser.seen_as = refuse
        await bench.configure()
        await until_read(bench)
        assert await titles(bench, "kettles") == {"Kettles"}
        (document,) = await bench.knowledge.documents("docs", ADMINISTRATOR)
        assert document.warnings == (f"{KEPT}: corrupt: the file is not valid",)
        assert bench.parser.parsed == ["kettles.md"]


async def test_what_an_earlier_build_could_not_read_is_tried_once_more(make_bench: Any) -> None:
    await read_before(make_bench, seen_as=refuse, kettles=NEWER_TEXT, lamps="# Lamps\n\nLamps shine.")
    async with make_bench() as bench:
        bench.parser.seen_as = only("kettles")
        await bench.configure()
        await until_read(bench)
        (state,) = await bench.knowledge.source_states()
        assert (state.indexed, state.failed) == (1, 1)
        assert await titles(bench, "violets") == {"Kettles"}
        assert sorted(bench.parser.parsed) == ["kettles.md", "lamps.md"]


def only(word: str) -> Callable[[ParsedDocument], ParsedDocument]:
    """A parser that refuses texts without the word."""
    return lambda parsed: parsed if word in parsed.text.casefold() else refuse(parsed)


async def test_one_that_breaks_the_reader_does_not_stop_the_others(make_bench: Any, caplog: Any) -> None:
    await read_before(make_bench, a_lamps="# Lamps\n\nLamps shine.\n\n## More\n\nMore lamps.", kettles=NEWER_TEXT)
    async with make_bench() as bench:
        bench.parser.seen_as = broken_by("lamps")
        await bench.configure()

        async def others_are_read() -> bool:
            return await outdated(bench) == 1

        await until(others_are_read)
        await bench.settle()
        assert await titles(bench, "violets") == {"1"}
        assert await titles(bench, "lamps") == {"Lamps"}
        assert "a document was not read again: ZeroDivisionError" in caplog.text


def broken_by(word: str) -> Callable[[ParsedDocument], ParsedDocument]:
    """A parser with a bug that texts with this word meet."""

    def read(parsed: ParsedDocument) -> ParsedDocument:
        return replace(parsed, title=str(1 // (word not in parsed.text.casefold())))

    return read


async def test_it_goes_on_where_it_was_when_the_process_ended(make_bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("roadbed.knowledge.reread.BATCH_DOCUMENTS", 1)
    await read_before(make_bench, **{f"n{i}": f"# Number {i}\n\nStone {i}.\n\n## More\n\nViolets." for i in range(4)})
    async with make_bench() as bench:
        bench.parser.may_go.clear()
        await bench.configure()

        async def has_begun() -> bool:
            return bool(bench.parser.parsed)

        await until(has_begun)
    async with make_bench() as bench:
        await bench.knowledge.configure(*bench.declared)
        await until_read(bench)
        assert len(bench.parser.parsed) == 4
        assert await bench.database.fetchval("SELECT count(*) FROM chunk WHERE text LIKE '%Violets%'") == 4


async def test_an_upload_whose_bytes_are_gone_is_kept_and_says_so(make_bench: Any) -> None:
    sources = {"inbox": UploadsSource()}
    async with make_bench() as earlier:
        earlier.parser.seen_as = read_by_an_older_build
        await earlier.configure(sources)
        await earlier.knowledge.add_document("inbox", "kettles.md", NEWER_TEXT.encode(), ADMINISTRATOR)
        await earlier.settle()
    async with make_bench() as bench:  # its object store is empty
        await bench.configure(sources)
        await until_read(bench)
        assert await titles(bench, "kettles") == {"Kettles"}
        (document,) = await bench.knowledge.documents("inbox", ADMINISTRATOR)
        assert document.warnings == (f"{KEPT}: {NOT_KEPT}",)


async def test_a_document_that_its_source_lacks_is_left_to_the_listing(make_bench: Any) -> None:
    files = {f"n{i}": f"# Number {i}\n\nStone {i}." for i in range(60)}
    await read_before(make_bench, **files)
    async with make_bench() as bench:
        for i in range(40):  # as many as a listing holds back, because it may be a fault
            (bench.folder / f"docs/n{i}.md").unlink()
        await bench.configure()

        async def found_are_read() -> bool:
            return await outdated(bench) == 40

        await until(found_are_read)
        (state,) = await bench.knowledge.source_states()
        assert (state.indexed, state.held) == (60, 40)
