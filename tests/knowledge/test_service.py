"""The facade end to end: files in, hits out."""

from __future__ import annotations

from typing import Any

import pytest

from roadbed.guard.gate import Guard
from roadbed.guard.manifest import GuardConfig, TeamConfig
from roadbed.kernel.principal import SYSTEM, Principal
from roadbed.knowledge.service import RegionCrossing
from roadbed.sources.manifest import FilesSource


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
