"""Releases in the real database: saves, promotions, rollbacks, and the snapshot of another process."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest
from tests.stopwatch import comes_true

from roadbed.kernel.release import Release
from roadbed.releases.aliases import NoSuchRelease, NothingToRollBack, Releases
from roadbed.releases.compile import seal
from roadbed.store.database import Database


def compiled(text: str) -> dict[str, Release]:
    return {"helpdesk": seal("helpdesk", {"prompt": text})}


async def test_save_rollback_promote(database: Database) -> None:
    releases = Releases(database)
    one, two, three = compiled("one"), compiled("two"), compiled("three")
    await releases.save(one, auto_promote=True, actor="test")
    with pytest.raises(NothingToRollBack):
        await releases.rollback("helpdesk", None, actor="test")
    await releases.save(two, auto_promote=True, actor="test")
    assert releases.live["helpdesk"].digest == two["helpdesk"].digest

    move = await releases.rollback("helpdesk", None, actor="test", reason="wrong answers")
    assert (move.digest, move.previous) == (one["helpdesk"].digest, two["helpdesk"].digest)
    assert releases.live["helpdesk"].document["prompt"] == "one"
    await releases.promote("helpdesk", None, actor="test", reason="it was right after all")
    assert releases.live["helpdesk"].digest == two["helpdesk"].digest
    await releases.rollback("helpdesk", None, actor="test")

    await releases.save(three, auto_promote=True, actor="test")
    assert releases.live["helpdesk"].digest == one["helpdesk"].digest, "a rollback holds the alias"
    [app] = await releases.apps()
    assert (app.candidate, app.is_held) == (three["helpdesk"].digest, True)

    await releases.promote("helpdesk", None, actor="test")
    assert releases.live["helpdesk"].digest == three["helpdesk"].digest
    [app] = await releases.apps()
    assert (app.candidate, app.is_held) == (None, False)
    history = await releases.history("helpdesk")
    assert [move.action for move in history if move.name == "live"] == [
        *("promote", "rollback", "promote", "rollback", "save", "save")
    ]


async def test_a_release_is_found_by_the_beginning_of_its_digest(database: Database) -> None:
    releases = Releases(database)
    await releases.save(compiled("one"), auto_promote=True, actor="test")
    digest = releases.live["helpdesk"].digest
    assert (await releases.release("helpdesk", digest[:12])).digest == digest
    with pytest.raises(NoSuchRelease):
        await releases.rollback("helpdesk", "ffff", actor="test")
    with pytest.raises(NoSuchRelease):
        await releases.promote("helpdesk", None, actor="test")


async def test_another_process_serves_the_new_release_within_a_second(database: Database) -> None:
    here, there = Releases(database), Releases(database)
    await here.save(compiled("one"), auto_promote=True, actor="test")
    moved = asyncio.Event()

    def on_change(live: Mapping[str, Release]) -> None:
        if live["helpdesk"].document["prompt"] == "two":
            moved.set()

    there.on_change(on_change)
    await there.start()
    try:
        await here.save(compiled("two"), auto_promote=True, actor="test")
        await comes_true(moved.is_set, within_s=1)
    finally:
        await there.close()


async def test_an_app_that_left_the_workspace_is_not_served(database: Database) -> None:
    releases = Releases(database)
    await releases.save(compiled("one"), auto_promote=True, actor="test")
    await releases.save({}, auto_promote=True, actor="test")
    assert releases.live == {}
