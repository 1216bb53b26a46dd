"""Break-glass in two processes' memories: raised and ended in each within a second, bounded by the clock."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from tests.stopwatch import comes_true

from roadbed.guard.duties import OwnRequest, is_same_person, require_other
from roadbed.guard.glasses import TIME_UP, GlassBroken, GlassInvalid, UnknownGlass, check_glass, unreviewed
from roadbed.guard.identity import Identity
from roadbed.guard.keys import KeyRequestInvalid
from roadbed.kernel.guarded import make_guarded
from roadbed.kernel.principal import ADMIN, AUDITOR, MEMBER
from roadbed.store.database import Database

REASON = "the fees are wrong"
noted = partial(make_guarded, sink="record")
SAID = noted(REASON)


class Clock:
    """Real time, moved by hand."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def wall(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def monotonic_s(self) -> float:
        return 0.0


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def two(database: Database, clock: Clock) -> AsyncIterator[list[Identity]]:
    """The poll is far away, so only notifications can bring anything."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(Identity(database, clock=clock, poll_s=3600)) for _ in range(2)]


async def everywhere(two: list[Identity], holds: Callable[[Identity], bool]) -> None:
    await comes_true(lambda: all(holds(identity) for identity in two), within_s=1)


def is_admin(key: str) -> Callable[[Identity], bool]:
    return lambda identity: identity.authenticate(key).is_admin


async def test_rights_are_raised_and_ended_everywhere_within_a_second(two: list[Identity]) -> None:
    here, there = two
    record, key = await here.create_key(team="watch", roles=[AUDITOR, MEMBER])
    _, other = await here.create_key(team="watch", roles=[AUDITOR, MEMBER])
    await there.refresh()
    caller = there.authenticate(key)
    assert not caller.is_admin
    glass = await here.glasses.start(await here.actor_of(caller), SAID, 30)
    await everywhere(two, is_admin(key))
    raised = there.authenticate(key)
    assert raised.roles == {ADMIN, AUDITOR, MEMBER}
    assert raised.break_glass == glass.id
    assert there.glasses.base(raised).roles == {AUDITOR, MEMBER}
    assert not there.glasses.base(raised).break_glass
    assert there.authenticate(key) is raised, "the same object, for what is remembered of a caller"
    assert there.principal_of(record.id).is_admin
    assert not there.authenticate(other).is_admin
    assert there.may_expire(caller), "no connection remembers a caller over the end"
    assert (await there.actor_of(raised)).breaks_glass
    await there.refresh()
    assert not there.glasses.base(raised).is_admin, "also of who came in before the keys were read again"
    with pytest.raises(GlassBroken):
        await there.glasses.start(await there.actor_of(raised), SAID, 30)
    with pytest.raises(UnknownGlass):
        await there.glasses.review(glass.id, await here.actor_of(there.authenticate(other)), noted("too early"))
    ended = await there.glasses.end(glass.id, "k")
    await everywhere(two, lambda identity: not identity.authenticate(key).is_admin)
    assert ended.ended_by == "k"
    with pytest.raises(UnknownGlass):
        await here.glasses.end(glass.id, "k")
    with pytest.raises(OwnRequest):
        require_other(await here.actor_of(here.authenticate(key)), ended.actor(), "not reviewed")
    second = await here.actor_of(here.authenticate(other))
    require_other(second, ended.actor(), "not reviewed")
    await here.glasses.review(glass.id, second, noted("fine"))
    assert unreviewed(await there.glasses.listed()) == []
    await here.glasses.start(await here.actor_of(here.authenticate(key)), SAID, 1)


async def test_it_ends_by_the_clock_in_every_process_and_is_told_once(two: list[Identity], clock: Clock) -> None:
    here, there = two
    _, key = await here.create_key(team="watch", roles=[AUDITOR, MEMBER])
    await there.refresh()
    glass = await here.glasses.start(await here.actor_of(here.authenticate(key)), SAID, 60)
    await everywhere(two, is_admin(key))
    made, _ = await here.create_key(team="x", maker=here.authenticate(key))
    assert made.expires == glass.ends, "a key that is made under it ends with it"
    for lasting in ({"roles": [ADMIN, MEMBER]}, {"roles": [AUDITOR]}, {"scopes": ["scim"]}):
        with pytest.raises(KeyRequestInvalid):
            await here.create_key(team="x", maker=here.authenticate(key), **lasting)  # type: ignore[arg-type]
    admin, value = await here.create_key(team="x", roles=[ADMIN, MEMBER])
    with pytest.raises(KeyRequestInvalid):
        await here.rotate_key(admin.id, maker=here.authenticate(key))
    assert here.authenticate(value).id == admin.id, "its value is the one before"
    assert await here.glasses.end_those_over() == []
    clock.ahead = timedelta(minutes=61)
    assert not is_admin(key)(here)
    assert not is_admin(key)(there)
    assert there.glasses.active() == []
    [over], none = await here.glasses.end_those_over(), await there.glasses.end_those_over()
    assert (over.id, over.ended, over.ended_by, none) == (glass.id, glass.ends, TIME_UP, [])


async def test_whoever_has_seen_a_keys_value_stands_behind_it(two: list[Identity]) -> None:
    here, _ = two
    await here.ensure_admin_key("an-admin-key-of-24-characters")
    admin = here.principal_of("admin")
    (ada, _), (bob, _) = [
        await here.create_key(team="ops", roles=[ADMIN, MEMBER], name=name, maker=admin) for name in ("ada", "bob")
    ]
    own, _ = await here.create_key(team="ops", maker=here.principal_of(ada.id))
    cli, _ = await here.create_key(team="ops", acts_as="admin")
    actors = {key.id: await here.actor_of(here.principal_of(key.id)) for key in (ada, bob, own, cli)}
    assert not is_same_person(actors[ada.id], actors[bob.id])
    assert is_same_person(actors[own.id], actors[ada.id])
    assert is_same_person(actors[cli.id], actors[bob.id])
    assert is_same_person(actors[cli.id], await here.actor_of(admin))
    await here.rotate_key(bob.id, maker=here.principal_of(ada.id))
    rotated = await here.actor_of(here.principal_of(bob.id))
    assert is_same_person(rotated, actors[ada.id]), "she knows his key now"
    before = here.principal_of(own.id)
    await here.revoke_key(own.id)
    assert is_same_person(await here.actor_of(before), actors[ada.id]), "ended keys are remembered"


@pytest.mark.parametrize(
    ("reason", "minutes"), [("short", 5), ("   " * 9, 5), ("x" * 501, 5), (REASON, 0), (REASON, 61)]
)
def test_no_reason_or_no_bound_is_refused(reason: str, minutes: int) -> None:
    with pytest.raises(GlassInvalid):
        check_glass(reason, minutes)
