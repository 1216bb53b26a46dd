"""Search beyond the state machine: late legs, plans that must agree, labels, bounds, and a database that is away."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from roadbed.kernel.deadline import Deadline
from roadbed.kernel.errors import InvalidRequest, NotFound, Unavailable
from roadbed.kernel.label import Level, Sink
from roadbed.kernel.principal import EVERYONE, Principal
from roadbed.knowledge.citations import make_anchor
from roadbed.knowledge.generations import Generation, live_generations
from roadbed.knowledge.manifest import CollectionConfig, Language
from roadbed.knowledge.permissions import acl_id_of
from roadbed.knowledge.search import Search
from roadbed.knowledge.snapshot import Snapshots
from roadbed.knowledge.vectors import choose_plan, hnsw_fetched
from roadbed.sources.manifest import FilesSource
from roadbed.store.errors import StoreUnavailable
from roadbed.testing.embedder import ScriptedEmbedder

SUPPORT = Principal(id="k1", team="support")
GROUPS = frozenset({EVERYONE})
WORDS = ("lamp", "river", "stone", "zebra", "kettle", "violet", "meadow", "copper")


class LateEmbedder:
    """Never answers."""

    digest = "scripted-v1"

    async def embed_query(self, text: str) -> NDArray[np.float32]:
        """Waits until it is cancelled."""
        await asyncio.get_running_loop().create_future()
        raise AssertionError


async def filled(bench: Any) -> dict[str, Generation]:
    """Eight documents, each about one word and its neighbour."""
    for i, word in enumerate(WORDS):
        bench.write(f"{word}.txt", f"The {word} stands beside the {WORDS[i - 1]}. Number {i}.")
    await bench.configure()
    return await live_generations(bench.database)


class ListeningEmbedder(ScriptedEmbedder):
    """Keeps what it was asked to embed."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[str] = []

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """As `ScriptedEmbedder.embed`."""
        self.heard += texts
        return super().embed(texts)


async def test_no_secret_of_a_query_reaches_the_embedder(make_bench: Any) -> None:
    embedder = ListeningEmbedder()
    async with make_bench(embedder=embedder) as bench:
        await filled(bench)
        embedder.heard.clear()
        secret = "AKIA" + "IOSFODNN7ABCDEFG"
        result = await bench.search(f"zebra {secret}", k=3)
        await bench.knowledge.embed([f"copper {secret}"])
        assert "zebra" in {hit.title for hit in result.hits}
        assert [text.split()[0] for text in embedder.heard] == ["zebra", "copper"]
        assert not any(secret in text for text in embedder.heard)


async def test_a_late_vector_leg_is_left_out_and_named(bench: Any) -> None:
    live = await filled(bench)
    search = Search(bench.database, LateEmbedder())
    result = await search.search(live, "zebra", GROUPS, k=3, deadline=Deadline.after(1.5))
    assert result.missing == ("vector",)
    assert {hit.title for hit in result.hits} == {"zebra", "kettle"}
    assert all(hit.vector_score is None and hit.lexical_score for hit in result.hits)


async def test_a_generation_that_no_longer_serves_is_freed(bench: Any) -> None:
    live = await filled(bench)
    search = Search(bench.database, bench.worker)
    (generation,) = {generation.id for generation in live.values()}
    await search.search(live, "zebra", GROUPS, k=3, deadline=Deadline.after(20))
    search.keep_only(frozenset({generation}))
    assert search.snapshots.held == {generation}
    search.keep_only(frozenset({generation + 1}))
    assert not search.snapshots.held
    fetches = search.postings.fetches
    await search.search(live, "zebra", GROUPS, k=3, deadline=Deadline.after(20))
    assert search.postings.fetches == fetches + 1
    await search.aclose()


async def test_the_index_of_an_earlier_manifest_leaves_memory(bench: Any) -> None:
    (before,) = (await filled(bench)).values()
    snapshots = bench.knowledge._search.snapshots
    await bench.search("zebra", k=3)
    assert snapshots.held == {before.id}
    await bench.configure(collections={"all": CollectionConfig(sources=["docs"], chunk_tokens=64)})
    async with asyncio.timeout(60):
        while (await bench.search("zebra", k=3)).generations["all"] == before.id:  # noqa: ASYNC110 - built by jobs
            await asyncio.sleep(0.01)
    assert before.id not in snapshots.held


async def test_another_models_generation_is_searched_by_words(bench: Any) -> None:
    live = await filled(bench)
    late = LateEmbedder()
    late.digest = "another-model"
    result = await Search(bench.database, late).search(live, "zebra", GROUPS, k=3, deadline=Deadline.after(5))
    assert result.missing == ("vector",)
    assert result.hits


async def test_vectors_compared_by_sql_rank_as_in_memory(bench: Any) -> None:
    live = await filled(bench)
    in_memory = Search(bench.database, bench.worker)
    by_sql = Search(bench.database, bench.worker, snapshots=Snapshots(bench.database, vector_bytes_max=0))
    for query in ("zebra kettle", "copper"):
        first = await in_memory.search(live, query, GROUPS, k=8, deadline=Deadline.after(5))
        second = await by_sql.search(live, query, GROUPS, k=8, deadline=Deadline.after(5))
        assert second.missing == ()
        assert [hit.chunk_id for hit in first.hits] == [hit.chunk_id for hit in second.hits]
        np.testing.assert_allclose([hit.score for hit in first.hits], [hit.score for hit in second.hits], atol=2e-3)


@given(st.integers(0, 10**7), st.integers(0, 10**7), st.booleans(), st.booleans())
def test_small_visible_sets_are_always_compared_exactly(rows: int, visible: int, memory: bool, hnsw: bool) -> None:
    plan = choose_plan(rows=rows, visible=min(rows, visible), in_memory=memory, has_hnsw=hnsw)
    if visible <= 10_000 or not hnsw:
        assert plan != "hnsw"
    if memory:
        assert plan == "memory"
    if plan == "hnsw":  # it is asked for few enough rows, and not for more than there are
        assert hnsw_fetched(rows=rows, visible=min(rows, visible), limit=200) <= min(rows, 10_000)


async def test_what_may_not_flow_to_the_sink_is_left_out(bench: Any) -> None:
    bench.write("a.txt", "Zebras are secret.")
    (bench.folder / "open").mkdir()
    (bench.folder / "open/b.txt").write_text("Zebras are public.")
    sources = {"docs": FilesSource(path="docs", labels=["confidential"]), "open": FilesSource(path="open")}
    await bench.configure(sources)
    cloud = Sink("cloud", clearance=Level.INTERNAL)
    assert {hit.source for hit in (await bench.search("zebras")).hits} == {"docs", "open"}
    assert {hit.source for hit in (await bench.search("zebras", label_sink=cloud)).hits} == {"open"}


async def test_bounds_and_names(bench: Any) -> None:
    await filled(bench)
    with pytest.raises(NotFound, match="nosuch"):
        await bench.search("zebra", collections=["nosuch"])
    with pytest.raises(InvalidRequest):
        await bench.search("zebra", k=0)
    assert (await bench.search("   ")).hits == ()
    assert len((await bench.search("stands beside", k=2)).hits) == 2
    assert (await bench.search("\x00 ' OR 1=1 -- \ud800 " * 100)).missing == ()


async def test_one_long_document_takes_not_all_of_the_first_places(bench: Any) -> None:
    bench.write("long.md", "\n\n".join(f"# Zebra {i}\n\n" + f"Zebra number{i} grazes. " * 40 for i in range(8)))
    bench.write("short.txt", "One zebra.")
    await bench.configure()
    hits = (await bench.search("zebra", k=10)).hits
    assert sorted(hit.title for hit in hits[:4]) == ["Zebra 0", "Zebra 0", "Zebra 0", "short"]
    assert len(hits) > 6


async def test_rare_terms_weigh_more(bench: Any) -> None:
    await filled(bench)
    weights = (await bench.search("zebra stands unicorn")).term_weights
    assert weights["unicorn"] > weights["zebra"] > weights["stand"] > 0


async def test_one_document_in_another_language_makes_no_word_rare(bench: Any) -> None:
    english = "The management system of the office keeps each request. Management is easy."
    for number in range(6):
        bench.write(f"{number}.txt", f"{english} Number {number} of the requests has its own page.")
    bench.write(
        "es.txt",
        "El contrato puede ser terminado por cualquiera de las partes con un aviso de tres meses. Si el proveedor no "
        "entrega a tiempo, el cliente tiene derecho a retirarse del pedido y a pedir que le devuelvan el dinero.",
    )
    await bench.configure()
    found = await bench.search("management system")
    assert {found.term_names[term] for term in ("manag", "management")} == {found.term_names["manag"]}
    assert found.term_weights[found.term_names["manag"]] < 1.0  # nearly every document holds it
    assert found.hits[0].title != "es.txt"


async def test_questions_are_asked_in_the_languages_that_the_manifest_names(bench: Any) -> None:
    bench.write("a.txt", "The walks of the office dogs are long.")
    cases: list[tuple[list[Language], set[str]]] = [
        (["de"], {"walking"}),
        (["en"], {"walk"}),
        (["de", "en"], {"walking", "walk"}),
    ]
    for languages, terms in cases:
        await bench.configure(collections={"all": CollectionConfig(sources=["docs"], languages=languages)})
        found = await bench.search("walking")
        assert set(found.term_names) == terms
        assert (found.hits[0].lexical_score is not None) == ("en" in languages)


async def test_what_a_query_names_comes_first(bench: Any) -> None:
    for number in range(8):
        bench.write(f"{number}.txt", f"Is it a false positive? The report CVE-2021-100{number} is a false positive.")
    bench.write("other.txt", "Parts of the engine room. Closed without a word of why: CVE-2020-7711.")
    await bench.configure()
    hits = (await bench.search("Is the report CVE-2020-7711 a false positive?")).hits
    assert "CVE-2020-7711" in hits[0].text
    assert hits[0].score > hits[1].score


async def test_a_search_in_a_new_process_needs_no_notification(bench: Any) -> None:
    live = await filled(bench)
    search = Search(bench.database, bench.worker)
    await search.search(live, "zebra", GROUPS, k=3, deadline=Deadline.after(5))
    fetches = search.postings.fetches
    await search.search(live, "zebra", GROUPS, k=3, deadline=Deadline.after(5))
    assert search.postings.fetches == fetches  # the second time from memory


async def test_a_citation_is_found_in_the_edited_document(bench: Any) -> None:
    bench.write("a.md", "# Rules\n\nThe notice period is four weeks for everyone.\n\n## End\n\nThanks.")
    await bench.configure()
    hit = (await bench.search("notice period")).hits[0]
    start = hit.start + hit.text.index("The notice")
    before = await bench.knowledge.document(hit.document_id, SUPPORT)
    anchor = make_anchor(hit.document_id, hit.version, before.text, start, start + 47)
    bench.write("a.md", "# Rules\n\nA new preface.\n\nThe notice period is four weeks for everyone.\n\n## End\n\nBye.")
    await bench.sync()
    view, found = await bench.knowledge.passage(anchor, SUPPORT)
    assert found is not None
    assert view.version != anchor.version
    assert view.text[slice(*view.highlight)] == anchor.quote


async def test_a_database_that_is_away_is_a_typed_error(bench: Any) -> None:
    live = await filled(bench)

    class Away:
        is_available = False

        async def fetch(self, sql: str, *arguments: Any) -> list[Any]:
            raise StoreUnavailable("away")

        def transaction(self, **options: Any) -> Any:
            raise StoreUnavailable("away")

    with pytest.raises(Unavailable):
        await Search(Away(), bench.worker).search(live, "zebra", GROUPS, k=3, deadline=Deadline.after(2))


async def test_scores_tell_no_word_of_documents_that_the_caller_may_not_see(bench: Any) -> None:
    """The weight of a word, in scores and for the choice of sentences, is counted over what the caller may see."""
    live = await filled(bench)
    search = Search(bench.database, bench.worker)
    nobody, deadline = frozenset({"team:none"}), Deadline.after(20)
    async with bench.database.transaction() as connection:
        hidden = await acl_id_of(connection, frozenset({"team:board"}))
        await connection.execute("UPDATE document SET acl_id = $1 WHERE key <> 'zebra.txt'", hidden)
    board = await search.search(live, "zebra kettle unheard", GROUPS | {"team:board"}, k=3, deadline=deadline)
    seen = await search.search(live, "zebra kettle unheard", GROUPS, k=3, deadline=deadline)
    assert len(board.hits) > len(seen.hits) == 1
    assert board.term_weights["kettl"] != board.term_weights["unheard"]
    assert seen.term_weights["kettl"] == seen.term_weights["unheard"]
    assert not (await search.search(live, "zebra", nobody, k=3, deadline=deadline)).hits
    await search.aclose()


async def test_a_document_whose_title_says_nothing_is_called_by_its_address(bench: Any) -> None:
    html = (
        "<head><title>&lt;script&gt;alert(1)&lt;/script&gt;</title></head><body><p>The gate opens at nine.</p></body>"
    )
    bench.write("gate.html", html)
    await bench.configure()
    hit = (await bench.search("when does the gate open")).hits[0]
    assert hit.title == "gate.html"
    assert (await bench.knowledge.document(hit.document_id, SUPPORT)).title == "gate.html"
