"""Trial data of the playground: made-up rows and documents of the sources that a caller may see, and prompts mended."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from roadbed.guard.detect import Detector
from roadbed.guard.gate import Guard
from roadbed.kernel.principal import Principal
from roadbed.knowledge.manifest import CollectionConfig
from roadbed.server.trial_data import NoTrialData, TrialData
from roadbed.sources.manifest import FilesSource, SourceConfig, SqliteSource
from roadbed.sources.registry import Sources

ANNA = Principal("anna", "support")
PEOPLE = [(number, f"Person{number} Realname", f"real{number}@firm.no", "Oslo") for number in range(1, 60)]
DOCUMENT = "Write to kari.nordmann@firm.no, card 4111 1111 1111 1111, about the thistledown fee."


class Shelf:
    """One document."""

    async def documents(self, source: str, principal: Principal, **options: Any) -> list[Any]:
        return [SimpleNamespace(id="d1")]

    async def document(self, document_id: str, principal: Principal) -> Any:
        return SimpleNamespace(text=DOCUMENT)


@pytest.fixture
async def trial(tmp_path: Path) -> Any:
    with sqlite3.connect(tmp_path / "crm.sqlite") as database:
        database.execute("CREATE TABLE people (id INTEGER, name TEXT, mail TEXT, town TEXT)")
        database.executemany("INSERT INTO people VALUES (?, ?, ?, ?)", PEOPLE)
    declared: dict[str, SourceConfig] = {
        "crm": SqliteSource(path="crm.sqlite", labels=["confidential"]),
        "board": SqliteSource(path="crm.sqlite", visible_to=["board"]),
        "handbook": FilesSource(path="docs", labels=["internal"]),
        "minutes": FilesSource(path="docs", labels=["confidential"]),
    }
    sources = Sources(tmp_path, None)
    await sources.use(declared)
    manifest = SimpleNamespace(sources=declared, collections={"company": CollectionConfig(sources=["handbook"])})
    parts = SimpleNamespace(
        manifest=manifest,
        teams=SimpleNamespace(guard=Guard(Detector())),
        knowledge=Shelf(),
        tools=SimpleNamespace(sources=sources),
    )
    yield TrialData(cast(Any, parts))
    await sources.close()


async def test_rows_are_of_the_same_columns_and_of_nobody(trial: TrialData) -> None:
    made = await trial.sample("crm", ANNA)
    head, columns, *rows = made.splitlines()
    assert (head, columns) == ("people:", "id,name,mail,town")
    assert len(rows) == 8
    assert all(row.count(",") == 3 for row in rows)
    assert not any(text in made for _, name, mail, _ in PEOPLE for text in (name, mail))


async def test_documents_have_other_people_in_them(trial: TrialData) -> None:
    for name in ("handbook", "company"):
        made = await trial.sample(name, ANNA)
        assert "thistledown fee" in made
        assert "kari" not in made
        assert "4111 1111 1111 1111" not in made


async def test_only_what_the_caller_may_see_and_no_confidential_document(trial: TrialData) -> None:
    assert trial.sources(ANNA) == ["crm", "handbook", "company"]
    assert trial.sources(Principal("berit", "board")) == ["board", "crm", "handbook", "company"]
    for name in ("board", "minutes", "nothing"):
        with pytest.raises(NoTrialData):
            await trial.sample(name, ANNA)


def test_a_prompt_is_told_what_it_holds_and_loses_it(trial: TrialData) -> None:
    assert trial.found(DOCUMENT) == {"email": 1, "card": 1}
    assert trial.found("What is the fee?") == {}
    mended = trial.replaced(DOCUMENT)
    assert "kari" not in mended
    assert "@example.com" in mended
    assert trial.found(mended) == {}
