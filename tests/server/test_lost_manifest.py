"""A start without manifest is refused where the database knows what one declared, and only there."""

from __future__ import annotations

from pathlib import Path

import pytest

from roadbed.kernel.label import parse_label
from roadbed.kernel.principal import EVERYONE
from roadbed.knowledge.catalog import declare_source
from roadbed.releases.workspace import MANIFEST_NAME, Workspace, infer_manifest, load_workspace
from roadbed.server.canary_objects import SOURCES, TEAM
from roadbed.server.lost_manifest import ManifestLost, refuse_lost
from roadbed.store.database import Database
from roadbed.store.migrate import migrate

OPEN = frozenset({EVERYONE})


@pytest.fixture
def inferred(tmp_path: Path) -> Workspace:
    return load_workspace(tmp_path)


async def declare(database: Database, name: str, groups: frozenset[str] = OPEN, label: str = "internal") -> None:
    await declare_source(database, name, "files", groups, parse_label([label]))


async def test_what_an_inferred_manifest_left_starts_again(database: Database, inferred: Workspace) -> None:
    await refuse_lost(database, inferred, is_own=True)
    await declare(database, "documents")
    await declare(database, next(iter(SOURCES)), frozenset({f"team:{TEAM}"}))
    await database.execute("INSERT INTO release (digest, app, manifest) VALUES ('d', 'search', '')")
    for app in ("search", "copilot", "_routes"):
        await database.execute("INSERT INTO alias (app, name, digest, generation) VALUES ($1, 'live', 'd', 1)", app)
    await refuse_lost(database, inferred, is_own=True)


@pytest.mark.parametrize(
    ("name", "groups", "label", "said"),
    [
        ("documents", frozenset({"team:board"}), "internal", "documents for some teams alone"),
        ("board", OPEN, "internal", "the source board"),
        ("documents", OPEN, "confidential", "other labels of the source documents"),
    ],
)
async def test_what_a_manifest_declared_is_not_served_without_it(
    database: Database, inferred: Workspace, name: str, groups: frozenset[str], label: str, said: str
) -> None:
    await declare(database, name, groups, label)
    with pytest.raises(ManifestLost) as refused:
        await refuse_lost(database, inferred, is_own=True)
    assert said in refused.value.message
    assert "roadbed init" in refused.value.hint
    (inferred.folder / MANIFEST_NAME).write_text(infer_manifest(inferred.folder))
    await refuse_lost(database, load_workspace(inferred.folder), is_own=True)


async def test_an_app_of_a_manifest_is_enough(database: Database, inferred: Workspace) -> None:
    await database.execute("INSERT INTO release (digest, app, manifest) VALUES ('d', 'helpdesk', '')")
    await database.execute("INSERT INTO alias (app, name, digest, generation) VALUES ('helpdesk', 'live', 'd', 1)")
    with pytest.raises(ManifestLost, match="the app helpdesk"):
        await refuse_lost(database, inferred, is_own=True)


async def test_a_manifest_of_another_name_counts_where_the_database_is_our_own(dsn: str, inferred: Workspace) -> None:
    async with await Database.open(dsn, "roadbed_acme", max_size=2) as acme:
        await migrate(acme, workspace_id="acme")
        await declare(acme, "board", frozenset({"team:board"}))
    async with await Database.open(dsn, "roadbed_folder", max_size=2) as other:
        await refuse_lost(other, inferred, is_own=False)
        with pytest.raises(ManifestLost, match="board for some teams"):
            await refuse_lost(other, inferred, is_own=True)
