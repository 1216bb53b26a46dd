"""Following a workspace: nothing that a save brings about ends the following."""

from __future__ import annotations

from pathlib import Path

import pytest

from roadbed.kernel.errors import InvalidRequest, RoadbedError
from roadbed.releases.follow import ManifestGone, WorkspaceFollower
from roadbed.releases.workspace import Workspace, load_workspace
from roadbed.store.errors import StoreTimeout, StoreUnavailable

MANIFEST = "name: acme\nsources:\n  handbook: {type: files, path: .}\ncollections:\n  company: {sources: [handbook]}\n"


class Taker:
    """Takes workspaces, or raises what the test wants."""

    def __init__(self) -> None:
        self.error: RoadbedError | None = None
        self.taken: list[str] = []

    async def __call__(self, workspace: Workspace) -> None:
        if self.error is not None:
            raise self.error
        self.taken.append(workspace.manifest.name)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "roadbed.yaml").write_text(MANIFEST)
    return tmp_path


async def test_what_is_refused_is_a_problem_until_the_next_save(folder: Path) -> None:
    taker = Taker()
    follower = WorkspaceFollower(load_workspace(folder), taker)
    taker.error = InvalidRequest("the workspace cannot be taken")
    assert await follower.reload()
    assert str(follower.problem) == "the workspace cannot be taken"
    taker.error = None
    (folder / "roadbed.yaml").write_text(MANIFEST.replace("acme", "acme-two"))
    assert await follower.reload()
    assert str(follower.problem) == "None"
    assert taker.taken == ["acme-two"]
    assert follower.workspace.manifest.name == "acme-two"


@pytest.mark.parametrize("error", [StoreUnavailable("away"), StoreTimeout("late")])
async def test_what_the_database_could_not_take_is_tried_again(folder: Path, error: RoadbedError) -> None:
    taker = Taker()
    follower = WorkspaceFollower(load_workspace(folder), taker)
    taker.error = error
    assert not await follower.reload()
    taker.error = None
    assert await follower.reload()
    assert taker.taken == ["acme"]


async def test_a_manifest_that_vanishes_goes_on_serving(folder: Path) -> None:
    """Without it the folder would be inferred: one source over all of it that every key may see."""
    taker = Taker()
    follower = WorkspaceFollower(load_workspace(folder), taker)
    manifest = folder / "roadbed.yaml"
    manifest.rename(folder / "away.yaml")
    assert await follower.reload()
    assert isinstance(follower.problem, ManifestGone)
    assert taker.taken == []
    (folder / "away.yaml").rename(manifest)
    assert await follower.reload()
    assert taker.taken == ["acme"]
    assert str(follower.problem) == "None"


async def test_a_folder_that_never_had_a_manifest_goes_on_without_one(folder: Path) -> None:
    (folder / "roadbed.yaml").unlink()
    taker = Taker()
    follower = WorkspaceFollower(load_workspace(folder), taker)
    assert await follower.reload()
    assert follower.problem is None
    assert len(taker.taken) == 1
