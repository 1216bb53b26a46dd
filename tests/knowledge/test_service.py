"""The facade end to end: files in, hits out."""

from __future__ import annotations

from typing import Any

from roadbed.kernel.principal import SYSTEM


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
