"""The facade end to end: files in, hits out."""

from __future__ import annotations

from typing import Any

import pytest

from roadbed.guard.gate import Guard
from roadbed.guard.manifest import GuardConfig, TeamConfig
from roadbed.guard.policy import RegionCrossing
from roadbed.guard.rules import GuardRule
from roadbed.kernel.deadline import Deadline
from roadbed.kernel.errors import NotFound
from roadbed.kernel.principal import SYSTEM, Principal
from roadbed.knowledge.manifest import CollectionConfig
from roadbed.sources.manifest import FilesSource

from .conftest import ADMINISTRATOR, SALES


async def test_a_folder_of_files_can_be_searched(bench: Any) -> None:
    bench.write("cats.md", "# Cats\n\nCats sleep on warm roofs.\n\n## Food\n\nThey eat tuna and mackerel.")
    bench.write("dogs.txt", "Dogs guard the house and bark at strangers.")
    await bench.configure()

    result = await bench.search("what do cats eat")

    assert result.missing == ()
    assert result.hits[0].title == "Cats"
    assert "tuna" in result.hits[0].text
    view = await bench.knowledge.document(result.hits[0].document_id, SYSTEM)
    assert view.text[result.hits[0].start : result.hits[0].end] == result.hits[0].text


async def test_what_must_stay_in_a_region_is_not_found_from_another(make_bench: Any, guard: Guard) -> None:
    abroad = guard.with_config(GuardConfig(), {"support": TeamConfig(region="us"), "board": TeamConfig(region="eu")})
    async with make_bench(guard=abroad) as bench:
        bench.write("cats.md", "# Cats\n\nCats sleep on warm roofs.")
        await bench.configure({"docs": FilesSource(path="docs", labels=["region:eu"])})

        with pytest.raises(RegionCrossing, match="must stay in eu"):
            await bench.search("where do cats sleep")
        board = Principal("key1", "board")
        assert (await bench.search("where do cats sleep", board)).hits


async def test_passages_that_a_rule_keeps_from_a_team_are_not_found_by_it(make_bench: Any, guard: Guard) -> None:
    rule = GuardRule("block", label="confidential", sink=["caller"], team="support")
    async with make_bench(guard=guard.with_config(GuardConfig(rules=[rule]), {})) as bench:
        for number in range(5):
            bench.write(f"cats{number}.md", f"# Cats {number}\n\nCats sleep on warm roofs, says the board.")
        (bench.folder / "open").mkdir()
        (bench.folder / "open" / "news.md").write_text("# News\n\nSome people like cats.")
        sources = {
            "docs": FilesSource(path="docs", labels=["confidential"]),
            "news": FilesSource(path="open", labels=["internal"]),
        }
        await bench.configure(sources)

        found = await bench.search("where do cats sleep", Principal("key1", "support"), k=3)
        assert {hit.title for hit in found.hits} == {"News"}
        assert len((await bench.search("where do cats sleep", Principal("key2", "board"), k=3)).hits) == 3


async def test_what_a_rule_keeps_from_the_index_is_not_in_it_and_the_reason_is_said(
    make_bench: Any, guard: Guard
) -> None:
    rule = GuardRule("block", label="personal", sink=["index"])
    async with make_bench(guard=guard.with_config(GuardConfig(rules=[rule]), {})) as bench:
        bench.write("cats.md", "# Cats\n\nCats sleep on warm roofs.")
        bench.write("people.md", "# People\n\nWrite to ann@example.com about cats.")
        await bench.configure()

        assert {hit.title for hit in (await bench.search("cats")).hits} == {"Cats"}
        (state,) = await bench.knowledge.source_states()
        assert "guard.rules[0]" in str(state)


async def test_sources_that_are_still_being_read_are_named_to_those_who_may_know_of_them(
    make_bench: Any, guard: Guard
) -> None:
    async with make_bench() as bench:
        bench.write("leave.md", "# Leave\n\nEverybody has 28 days of leave.\n")
        bench.parser.may_go.clear()
        sources = {
            "docs": FilesSource(path="docs"),
            "pay": FilesSource(path="docs", visible_to=["sales"]),
        }
        await bench.knowledge.configure(sources, {"all": CollectionConfig(sources=list(sources))})
        docs, pay = ("source docs: not read to its end yet", "source pay: not read to its end yet")
        assert (await bench.search("leave")).missing == (docs,)
        assert (await bench.search("leave", SALES)).missing == (docs, pay)
        bench.parser.may_go.set()
        await bench.settle()
        assert (await bench.search("leave", SALES)).missing == ()
        assert (await bench.search("leave")).hits


async def test_names_of_collections_are_told_to_those_who_run_the_deployment_alone(bench: Any) -> None:
    await bench.configure(
        collections={"all": CollectionConfig(sources=["docs"]), "_own": CollectionConfig(sources=["docs"])}
    )
    with pytest.raises(NotFound) as refused:
        await bench.search("leave", collections=["mergers"])
    assert "all" not in f"{refused.value.message} {refused.value.hint}".split()
    with pytest.raises(NotFound) as told:
        await bench.search("leave", ADMINISTRATOR, collections=["mergers"])
    assert told.value.hint == "collections: all"


async def test_a_named_collection_of_which_nothing_may_be_seen_is_an_unknown_one(bench: Any) -> None:
    bench.write("leave.md", "# Leave\n\nEverybody has 28 days of leave.\n")
    sources = {"docs": FilesSource(path="docs"), "pay": FilesSource(path="docs", visible_to=["sales"])}
    collections = {"all": CollectionConfig(sources=["docs", "pay"]), "wages": CollectionConfig(sources=["pay"])}
    await bench.configure(sources, collections)
    visitor = Principal("key9", "visitors")

    async def named(principal: Principal, *names: str, query: str = "days of leave") -> int:
        found = await bench.knowledge.search_named(list(names), query, principal, k=3, deadline=Deadline.after(5))
        return len(found.hits)

    for names in (("wages",), ("all", "wages")):
        with pytest.raises(NotFound) as hidden:
            await named(visitor, *names)
        with pytest.raises(NotFound) as unknown:
            await named(visitor, *("nothing" if name == "wages" else name for name in names))
        assert hidden.value.message == unknown.value.message.replace("nothing", "wages")
        assert hidden.value.hint == unknown.value.hint
    assert await named(visitor, "all")
    assert await named(SALES, "all", "wages")
    assert await named(SALES, "wages", query="zxqv zxqv") >= 0, "one of whose sources it may see, with or without hits"
    await named(ADMINISTRATOR, "wages")
