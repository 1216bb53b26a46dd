"""Folders, tables and uploads: what is listed, read, refused, deleted, held, and resumed when PostgreSQL was killed."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from roadbed.guard.gate import Guard
from roadbed.kernel.errors import Forbidden, InvalidRequest
from roadbed.kernel.principal import ADMIN, Principal
from roadbed.knowledge.documents import DocumentNotFound, document_id_of
from roadbed.knowledge.manifest import CollectionConfig
from roadbed.knowledge.service import Knowledge
from roadbed.knowledge.sync import DOCUMENT_CONCURRENCY, FEW_DOCUMENTS, loss_is_plausible
from roadbed.sources.manifest import FilesSource, PostgresSource, SourceConfig, TableConfig, UploadsSource
from roadbed.store.database import Database
from roadbed.store.embedded import EmbeddedPostgres
from roadbed.store.errors import StoreUnavailable
from roadbed.store.jobs import Jobs
from roadbed.store.migrate import migrate

SUPPORT = Principal(id="k1", team="support")
SALES = Principal(id="k2", team="sales")
ADMINISTRATOR = Principal(id="k0", team="office", roles=frozenset({ADMIN}))


async def titles(bench: Any, query: str, principal: Principal = SUPPORT) -> set[str]:
    """Titles of what a search finds."""
    return {hit.title for hit in (await bench.search(query, principal, k=20)).hits}


async def test_edits_and_deletions_follow_the_folder(bench: Any) -> None:
    bench.write("a.md", "# Lamps\n\nLamps shine.")
    bench.write("b.md", "# Rivers\n\nRivers flow.")
    await bench.configure()
    assert await titles(bench, "lamps rivers") == {"Lamps", "Rivers"}

    bench.write("a.md", "# Stones\n\nStones lie around.")
    (bench.folder / "docs/b.md").unlink()
    listing = await bench.sync()

    assert (listing.changed, listing.deleted) == (1, 1)
    assert await titles(bench, "lamps rivers stones") == {"Stones"}
    terms = {row["term"] for row in await bench.database.fetch("SELECT term FROM lex_term")}
    assert not {"lamp", "river", "flow"} & terms


async def test_an_unchanged_folder_is_neither_read_nor_embedded_again(bench: Any) -> None:
    for i in range(30):
        bench.write(f"{i}.txt", f"Text number {i} about stones.")
    await bench.configure()
    before = bench.embedder.texts_embedded, len(bench.parser.parsed)
    listing = await bench.sync()
    assert (listing.listed, listing.deleted) == (30, 0)
    assert (bench.embedder.texts_embedded, len(bench.parser.parsed)) == before


async def test_a_touched_file_with_the_same_content_is_not_embedded_again(bench: Any) -> None:
    path = bench.write("a.txt", "Always the same.")
    await bench.configure()
    before = bench.embedder.texts_embedded, len(bench.parser.parsed)
    os.utime(path, ns=(1, 1))
    listing = await bench.sync()
    assert listing.changed == 1
    assert (bench.embedder.texts_embedded, len(bench.parser.parsed)) == before
    (state,) = await bench.knowledge.source_states()
    assert (state.indexed, state.pending) == (1, 0)


async def test_an_edit_embeds_only_what_changed(bench: Any) -> None:
    sections = [f"## Part {i}\n\n" + f"Sentence about topic{i}. " * 30 for i in range(8)]
    bench.write("a.md", "\n\n".join(sections))
    await bench.configure()
    before = bench.embedder.texts_embedded
    sections[3] = sections[3].replace("topic3", "subject3")
    bench.write("a.md", "\n\n".join(sections))
    await bench.sync()
    assert 0 < bench.embedder.texts_embedded - before <= 2


async def test_a_failed_document_is_listed_with_its_reason_and_blocks_nothing(bench: Any) -> None:
    bench.write("broken.docx", b"PK\x03\x04 no document")
    bench.write("empty.txt", "")
    bench.write("good.txt", "Zebras graze.")
    await bench.configure()

    (state,) = await bench.knowledge.source_states()
    assert (state.indexed, state.failed, state.done) == (1, 2, 3)
    assert {failure.key: failure.reason for failure in state.failures} == {
        "broken.docx": "corrupt",
        "empty.txt": "empty",
    }
    assert await titles(bench, "zebras") == {"good"}

    bench.write("empty.txt", "Kettles whistle.")
    await bench.sync()
    assert (await bench.search("kettles")).hits[0].title == "empty"
    assert await bench.knowledge.retry_failed("docs") == 1
    await bench.settle()
    (state,) = await bench.knowledge.source_states()
    assert [failure.key for failure in state.failures] == ["broken.docx"]


async def test_a_document_that_breaks_loses_its_old_text(bench: Any) -> None:
    bench.write("a.txt", "The secret plan.")
    await bench.configure()
    bench.write("a.txt", "")
    await bench.sync()
    assert await titles(bench, "secret plan") == set()
    assert await bench.database.fetchval("SELECT count(*) FROM chunk") == 0


async def test_links_and_hidden_files_are_not_taken(bench: Any, tmp_path: Path) -> None:
    (tmp_path / "outside.txt").write_text("Outside of everything.")
    bench.write("inside.txt", "Inside.")
    bench.write(".hidden.txt", "Hidden.")
    bench.write(".git/config.txt", "Hidden too.")
    (bench.folder / "docs/link.txt").symlink_to(tmp_path / "outside.txt")
    (bench.folder / "docs/folder").symlink_to("/")
    (bench.folder / "docs/same.txt").symlink_to(bench.folder / "docs/inside.txt")
    await bench.configure()
    (state,) = await bench.knowledge.source_states()
    assert state.listed == 1
    assert state.not_taken == tuple((key, "a link that leads out of the folder") for key in ("folder", "link.txt"))
    assert await titles(bench, "outside hidden inside") == {"inside"}


async def test_a_large_loss_is_held_until_a_person_confirms_it(bench: Any) -> None:
    for i in range(60):
        bench.write(f"{i}.txt", f"Stone number {i}.")
    await bench.configure()
    for i in range(40):
        (bench.folder / f"docs/{i}.txt").unlink()
    listing = await bench.sync()
    assert (listing.deleted, listing.held) == (0, 40)
    (state,) = await bench.knowledge.source_states()
    assert (state.state, state.held, state.indexed) == ("held", 40, 60)

    assert (await bench.sync(delete_held=True)).deleted == 40
    (state,) = await bench.knowledge.source_states()
    assert (state.state, state.indexed) == ("idle", 20)


async def test_a_missing_folder_deletes_nothing(bench: Any) -> None:
    bench.write("a.txt", "Still here.")
    await bench.configure()
    (bench.folder / "docs").rename(bench.folder / "moved")
    with pytest.raises(Exception, match="is not there"):
        await bench.knowledge.sync_now("docs")
    (state,) = await bench.knowledge.source_states()
    assert state.state == "failed"
    assert await titles(bench, "still here") == {"a"}


@pytest.mark.parametrize(
    ("known", "gone", "plausible"),
    [(19, 19, True), (20, 20, True), (21, 21, False), (900, 90, True), (900, 91, False), (100, 20, True)],
)
def test_which_losses_are_plausible(known: int, gone: int, plausible: bool) -> None:
    assert loss_is_plausible(known, gone) is plausible


async def test_who_may_see_follows_the_manifest_at_once_and_embeds_nothing(bench: Any) -> None:
    bench.write("a.txt", "The salaries of all.")
    await bench.configure({"docs": FilesSource(path="docs", visible_to=["support"])})
    assert await titles(bench, "salaries", SUPPORT) == {"a"}
    assert await titles(bench, "salaries", SALES) == set()
    document_id = document_id_of("docs", "a.txt")
    with pytest.raises(DocumentNotFound):
        await bench.knowledge.document(document_id, SALES)
    with pytest.raises(DocumentNotFound):
        await bench.knowledge.chunks_of(document_id, ADMINISTRATOR)
    before = bench.embedder.texts_embedded

    await bench.knowledge.configure(
        {"docs": FilesSource(path="docs", visible_to=["sales"])}, {"all": CollectionConfig(sources=["docs"])}
    )

    assert await titles(bench, "salaries", SUPPORT) == set()
    assert await titles(bench, "salaries", SALES) == {"a"}
    await bench.settle()
    assert bench.embedder.texts_embedded == before + 2  # the two queries
    (summary,) = await bench.knowledge.documents("docs", ADMINISTRATOR)
    assert summary.groups == ("team:sales",)
    assert await bench.knowledge.documents("docs", SUPPORT) == []


async def test_secrets_never_reach_the_index_and_offsets_stay_right(bench: Any) -> None:
    key = "ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"
    bench.write("a.md", f"# Access\n\nThe token is {key} today.\n\n## After\n\nMail jane.doe@example.com about zebras.")
    await bench.configure()
    hits = (await bench.search("zebras token")).hits
    view = await bench.knowledge.document(hits[0].document_id, SUPPORT, highlight=(hits[0].start, hits[0].end))
    assert key not in view.text
    assert all(view.text[hit.start : hit.end] == hit.text for hit in hits)
    assert [view.text[block.start : block.end] for block in view.blocks][2].endswith("After")
    assert "personal" in view.label.words()
    assert view.text[slice(*view.highlight)] == hits[0].text


async def test_a_name_with_a_secret_is_stored_nowhere(make_bench: Any) -> None:
    key = "ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"
    table = Table()
    table.values = {"7": {"id": 7, "note": f"Elm Road, {key}"}}
    config = TableConfig(title="Parcel {note}", text="A parcel with elms.")
    async with make_bench(rows=table) as bench:
        bench.write(f"plans {key}.md", "# Plans\n\nOur plans for rivers.")
        bench.write("b.md", "# Rivers\n\nRivers flow.")
        (bench.folder / f"docs/{key}.txt").symlink_to("/")
        docs = FilesSource(path="docs")
        await bench.configure({"docs": docs, "registry": PostgresSource(dsn="env:X", tables={"parcels": config})})
        assert await titles(bench, "plans rivers elms") == {"Rivers", "Parcel Elm Road, [SECRET]"}
        states = {state.name: state for state in await bench.knowledge.source_states()}
        reasons = dict(states["docs"].not_taken)
        assert reasons["plans [SECRET].md"] == "its name holds a secret, or what was erased: rename it"
        assert states["docs"].listed == 1
        told = await bench.database.fetch(
            "SELECT d::text AS said FROM document d UNION ALL SELECT s::text FROM source s"
        )
        assert not [row for row in told if key in row["said"]]


async def test_names_that_would_mislead_are_cleaned_or_not_taken(bench: Any) -> None:
    bench.write("open/good\u200e.md", "# Good\u202e news\n\nKettles whistle.\n")
    bench.write("open/bad\u202efdp.md", "Kettles hiss.")
    bench.write("open/two\nlines.md", "Kettles boil.")
    bench.write("open/esc\x1b[2J.md", "Kettles steam.")
    await bench.configure({"docs": FilesSource(path="docs"), "inbox": UploadsSource()})
    await bench.knowledge.add_document("inbox", "evil\u202etxt.exe\n\x07.txt", b"Kettles fall.", ADMINISTRATOR)
    await bench.settle()

    said = await bench.database.fetch("SELECT d::text || s::text AS said FROM document d, source s")
    assert said
    assert not [row for row in said if any(sign in row["said"] for sign in "\u202e\x1b\x07")]
    assert {row["key"] for row in await bench.database.fetch("SELECT key FROM document")} == {
        "open/good\u200e.md",
        "eviltxt.exe .txt",
    }
    assert "Good news" in await titles(bench, "kettles")
    states = {state.name: state for state in await bench.knowledge.source_states()}
    assert {key for key, _ in states["docs"].not_taken} == {
        "open/bad\\u202efdp.md",
        "open/two\\u000alines.md",
        "open/esc\\u001b[2J.md",
    }
    assert all("rename it" in reason for _, reason in states["docs"].not_taken)


async def test_what_an_upload_says_it_is_is_kept_where_it_can_be_that(bench: Any) -> None:
    await bench.configure({"inbox": UploadsSource()})
    for number, said in enumerate(("text/plain", "key ghp_a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8", "jane@example.com")):
        await bench.knowledge.add_document("inbox", f"{number}.txt", b"Kettles.", ADMINISTRATOR, media_type=said)
    rows = await bench.database.fetch("SELECT media_type FROM upload ORDER BY key")
    assert [row["media_type"] for row in rows] == ["text/plain", "", ""]


class Table:
    """Rows in memory: implements `RowSource`."""

    def __init__(self) -> None:
        self.values: dict[str, Mapping[str, Any]] = {}

    async def rows(self, source: str, table: str) -> AsyncIterator[tuple[str, Mapping[str, Any], str]]:
        """Every row."""
        for key, row in sorted(self.values.items()):
            yield key, row, str(hash(tuple(row.items())))


async def test_rows_become_documents_by_template(make_bench: Any) -> None:
    table = Table()
    table.values = {
        "7": {"id": 7, "street": "Elm Road", "price": 120},
        "8": {"id": 8, "street": "Oak Lane", "price": 90},
    }
    config = TableConfig(title="Parcel {id}", text="The parcel at {street} costs {price}.")
    async with make_bench(rows=table) as bench:
        await bench.configure({"registry": PostgresSource(dsn="env:X", tables={"parcels": config})})
        hit = (await bench.search("elm road")).hits[0]
        assert (hit.title, hit.text, hit.source) == (
            "Parcel 7",
            "The parcel at Elm Road costs 120.",
            "registry.parcels",
        )
        before = bench.embedder.texts_embedded
        table.values = {"7": {"id": 7, "street": "Elm Road", "price": 130}}
        listing = await bench.sync("registry.parcels")
        assert (listing.changed, listing.deleted) == (1, 1)
        assert {hit.text for hit in (await bench.search("parcel")).hits} == {"The parcel at Elm Road costs 130."}
        assert bench.embedder.texts_embedded == before + 2  # the chunk, and the query


async def test_uploads_are_added_replaced_and_deleted(bench: Any) -> None:
    await bench.configure({"inbox": UploadsSource()})
    document_id = await bench.knowledge.add_document("all", "note.txt", b"Kettles whistle.", ADMINISTRATOR)
    await bench.settle()
    assert await titles(bench, "kettles") == {"note"}
    assert await bench.knowledge.add_document("inbox", "note.txt", b"Rivers flow.", ADMINISTRATOR) == document_id
    await bench.settle()
    assert await titles(bench, "kettles rivers") == {"note"}
    with pytest.raises(Forbidden):
        await bench.knowledge.delete_document(document_id, SUPPORT)
    await bench.knowledge.delete_document(document_id, ADMINISTRATOR)
    assert await titles(bench, "rivers") == set()
    assert [entry async for entry in bench.objects.list()] == []
    assert await bench.database.fetchval("SELECT count(*) FROM vector_cache") == 0
    with pytest.raises(InvalidRequest):
        await bench.knowledge.add_document("inbox", "..", b"x", ADMINISTRATOR)


async def test_an_upload_does_not_wait_behind_a_large_folder(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    await bench.configure({"inbox": UploadsSource(), "docs": FilesSource(path="docs")})
    for number in range(FEW_DOCUMENTS + 20):
        bench.write(f"{number}.txt", f"Lamp {number} shines.")
    order: list[str] = []
    goes, parse = asyncio.Event(), bench.parser.parse

    async def slow(content: bytes, *args: Any, **options: Any) -> Any:
        order.append(content.decode())
        await goes.wait()
        return await parse(content, *args, **options)

    monkeypatch.setattr(bench.parser, "parse", slow)
    await bench.knowledge.sync_now("docs")
    document_id = await bench.knowledge.add_document("inbox", "note.txt", b"Kettles whistle.", ADMINISTRATOR)
    async with asyncio.timeout(60):
        while not await bench.database.fetchval("SELECT 1 FROM job WHERE dedupe_key = $1", document_id):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    goes.set()
    await bench.settle()
    assert order.index("Kettles whistle.") <= 2 * DOCUMENT_CONCURRENCY  # those at work, and those already taken
    assert len(order) == FEW_DOCUMENTS + 21


async def test_a_change_in_the_folder_is_noticed(bench: Any) -> None:
    bench.write("a.txt", "Lamps shine.")
    await bench.configure()
    bench.knowledge.watch()
    async with asyncio.timeout(60):
        i = 0
        while not await titles(bench, "zebras"):  # the watcher needs a moment to begin, so keep changing
            i += 1
            bench.write("b.txt", f"Zebras graze, version {i}.")
            await asyncio.sleep(0.3)


async def test_sources_that_leave_the_manifest_leave_the_index(bench: Any) -> None:
    bench.write("a.txt", "Lamps shine.")
    await bench.configure({"docs": FilesSource(path="docs"), "more": FilesSource(path="docs")})
    assert len((await bench.search("lamps")).hits) == 1  # the same text from two sources is shown once
    await bench.configure({"more": FilesSource(path="docs")})
    assert {hit.source for hit in (await bench.search("lamps")).hits} == {"more"}
    assert await bench.database.fetchval("SELECT count(*) FROM document WHERE source = 'docs'") == 0


async def test_ingest_goes_on_where_it_was_when_postgresql_is_killed(
    make_bench: Any, tmp_path: Path, guard: Guard
) -> None:
    async with (
        EmbeddedPostgres(tmp_path / "state", settings={"fsync": "off"}) as postgres,
        await Database.open(postgres.dsn, "killed", max_size=5) as database,
    ):
        await migrate(database, workspace_id="killed")
        async with make_bench(database=database) as bench:
            for i in range(150):
                bench.write(f"{i}.txt", f"Stone number{i} lies in the river.\n\n" * 5)
            await bench.knowledge.configure(
                {"docs": FilesSource(path="docs")}, {"all": CollectionConfig(sources=["docs"])}
            )
            kills = 0
            async with asyncio.timeout(200):
                while kills < 2:
                    done = len(bench.parser.parsed)
                    if done > 40 * (kills + 1) and postgres.pid is not None:
                        os.kill(postgres.pid, signal.SIGKILL)
                        kills += 1
                        await database.wait_until_available(60)
                    await asyncio.sleep(0.002)
            async with asyncio.timeout(200):
                while True:
                    await database.wait_until_available(60)
                    try:  # what was killed a moment ago may not be known to be away yet
                        await bench.settle()
                        break
                    except StoreUnavailable:
                        await asyncio.sleep(0.002)

            (state,) = await bench.knowledge.source_states()
            assert (state.indexed, state.failed, state.pending) == (150, 0, 0)
            per_document = await database.fetch("SELECT count(*) AS n FROM chunk GROUP BY document_id")
            assert [row["n"] for row in per_document] == [1] * 150
            assert await database.fetchval("SELECT count(*) FROM chunk_lex") == 150
            assert (await bench.search("number77")).hits[0].title == "77"


async def test_a_process_that_only_serves_has_sources_listed_by_the_one_that_runs_jobs(
    bench: Any, guard: Guard, tmp_path: Path
) -> None:
    """Two listings of a source at once would delete what the other has just found."""
    sources: dict[str, SourceConfig] = {"docs": FilesSource(path="docs"), "inbox": UploadsSource()}
    for i in range(30):
        bench.write(f"{i}.txt", f"Text number {i} about stones.")
    await bench.configure(sources)
    nowhere = tmp_path / "nowhere"  # so that a listing made here would fail
    serving = Knowledge(
        bench.database, Jobs(bench.database), bench.objects, guard, bench.worker, bench.parser, workspace=nowhere
    )
    await serving.start()
    try:
        await serving.configure(sources, {"all": CollectionConfig(sources=list(sources))}, owns_ingest=False)
        for i in range(25):
            (bench.folder / "docs" / f"{i}.txt").unlink()
        assert (await serving.sync_now("docs")).held == 25
        assert (await serving.sync_now("docs", delete_held=True)).held == 0
        document_id = await serving.add_document("inbox", "lamps.md", b"# Lamps\n\nLamps shine.", ADMINISTRATOR)
        assert await bench.database.fetchval("SELECT state FROM document WHERE id = $1", document_id)
        await bench.settle()
        assert "Lamps" in await titles(bench, "lamps")
        serving.note_watched(["docs"])
        assert {state.name for state in await serving.source_states() if state.is_watched} == {"docs"}
    finally:
        await serving.aclose()
