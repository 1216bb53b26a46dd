"""Keys: made once, recognised from memory, refused everywhere soon after they are revoked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta

import pytest
from tests.stopwatch import comes_true

from roadbed.guard.identity import Identity
from roadbed.guard.keys import (
    AdminKeyWeak,
    IdentityNotReady,
    KeyMissing,
    KeyNotFound,
    KeyRefused,
    KeyRequestInvalid,
    LastAdminKey,
)
from roadbed.kernel.errors import Unauthorized
from roadbed.kernel.principal import ADMIN, MEMBER
from roadbed.store.database import Database
from roadbed.store.errors import StoreUnavailable


class HandClock:
    """A clock whose time of day is set by the test."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def monotonic_s(self) -> float:
        return 0.0

    def wall(self) -> datetime:
        return self.now


@pytest.fixture
async def identity(database: Database) -> AsyncIterator[Identity]:
    async with Identity(database) as made:
        yield made


async def until(condition: Callable[[], bool]) -> None:
    """Wait for another task's doing; the test's time-out is the bound."""
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - what is awaited lives in another process's place
            await asyncio.sleep(0.005)


def is_refused(identity: Identity, key: str) -> bool:
    try:
        identity.authenticate(key)
    except KeyRefused:
        return True
    return False


async def test_a_key_is_recognised_with_team_roles_and_apps(identity: Identity) -> None:
    record, key = await identity.create_key(team="valuers", roles=["member"], apps=["helpdesk"], name="laptop")
    assert key.startswith(f"rbk_{record.id}_")
    assert len(key.rpartition("_")[2]) == 43
    principal = identity.authenticate(key.encode())
    assert (principal.id, principal.team, principal.name) == (record.id, "valuers", "laptop")
    assert principal.may_use("helpdesk")
    assert not principal.may_use("other")
    assert not principal.is_admin
    assert identity.authenticate(key) is principal


async def test_the_database_holds_no_plaintext(identity: Identity, database: Database) -> None:
    _, key = await identity.create_key(team="valuers")
    rows = await database.fetch("SELECT * FROM api_key")
    assert key.rpartition("_")[2] not in repr([dict(row) for row in rows])
    assert key.rpartition("_")[2] not in repr(await identity.list_keys())


async def test_missing_and_wrong_keys(identity: Identity) -> None:
    for nothing in (b"", "", None):
        with pytest.raises(KeyMissing):
            identity.authenticate(nothing)
    _, key = await identity.create_key(team="a")
    for wrong in (key[:-1], key + "x", "rbk_nope", "x" * 5000, "\udce4"):
        with pytest.raises(KeyRefused):
            identity.authenticate(wrong)


async def test_unknown_expired_and_revoked_keys_get_one_answer(database: Database) -> None:
    clock = HandClock()
    async with Identity(database, clock=clock) as identity:
        _, expiring = await identity.create_key(team="a", expires=clock.now + timedelta(hours=1))
        record, revoked = await identity.create_key(team="a")
        assert identity.authenticate(expiring).team == "a"
        await identity.revoke_key(record.id)
        clock.now += timedelta(hours=1)
        answers = []
        for key in ("rbk_abc_unknown", expiring, revoked):
            with pytest.raises(Unauthorized) as caught:
                identity.authenticate(key)
            answers.append(caught.value.problem())
        assert answers[0] == answers[1] == answers[2]


async def test_a_key_of_another_workspace_is_an_unknown_key(empty_dsn: str) -> None:
    from roadbed.store.migrate import migrate

    async with (
        await Database.open(empty_dsn, "roadbed_one") as one,
        await Database.open(empty_dsn, "roadbed_other") as other,
    ):
        await migrate(one, workspace_id="one")
        await migrate(other, workspace_id="other")
        async with Identity(one) as here, Identity(other) as there:
            _, key = await here.create_key(team="a", roles=(ADMIN,))
            assert here.authenticate(key).team == "a"
            await there.refresh()
            assert is_refused(there, key)


async def test_a_key_revoked_in_one_process_is_refused_in_another(database: Database) -> None:
    # The poll is far away, so only the notification can bring it.
    async with Identity(database, poll_s=3600) as one, Identity(database, poll_s=3600) as other:
        record, key = await one.create_key(team="a")
        await until(lambda: not is_refused(other, key))
        await one.revoke_key(record.id)
        assert is_refused(one, key)
        await comes_true(lambda: is_refused(other, key), within_s=1)


async def test_the_poll_finds_what_no_notification_told(database: Database) -> None:
    async with Identity(database, poll_s=0.01) as identity:
        record, key = await identity.create_key(team="a")
        await database.execute("UPDATE api_key SET revoked = now() WHERE id = $1", record.id)
        await until(lambda: is_refused(identity, key))


async def test_the_snapshot_survives_an_outage_and_its_absence_recognises_nobody(empty_dsn: str) -> None:
    async with await Database.open(empty_dsn, "roadbed_test") as database:
        from roadbed.store.migrate import migrate

        await migrate(database, workspace_id="test")
        identity = Identity(database, poll_s=0.01)
        await identity.start()
        _, key = await identity.create_key(team="a")
        await database.close()
        with pytest.raises(StoreUnavailable):
            await identity.refresh()
        assert identity.authenticate(key).team == "a"
        await identity.stop()
        late = Identity(database, poll_s=0.01)
        await late.start()
        assert not late.is_ready
        with pytest.raises(IdentityNotReady):
            late.authenticate(key)
        await late.stop()


async def test_lists_are_newest_first_and_revoking_twice_is_not_found(identity: Identity) -> None:
    first, _ = await identity.create_key(team="a", name="first")
    second, _ = await identity.create_key(team="b", name="second")
    assert [record.name for record in await identity.list_keys()] == ["second", "first"]
    revoked = await identity.revoke_key(first.id)
    assert revoked.revoked is not None
    with pytest.raises(KeyNotFound):
        await identity.revoke_key(first.id)
    assert [record.id for record in await identity.list_keys()] == [second.id, first.id]


async def test_last_use_is_written(database: Database) -> None:
    async with Identity(database) as identity:
        _, key = await identity.create_key(team="a")
        identity.authenticate(key)
    assert await database.fetchval("SELECT last_used IS NOT NULL FROM api_key")


@pytest.mark.parametrize(
    "arguments",
    [
        {"team": ""},
        {"team": "a", "roles": ["root"]},
        {"team": "a", "roles": []},
        {"team": "a", "name": "x\n"},
        {"team": "a", "expires": datetime(2020, 1, 1, tzinfo=UTC)},
        {"team": "a", "expires": datetime(2999, 1, 1)},
    ],
)
async def test_keys_that_cannot_be(identity: Identity, arguments: dict[str, object]) -> None:
    with pytest.raises(KeyRequestInvalid):
        await identity.create_key(**arguments)  # type: ignore[arg-type]


class TestAdminKey:
    async def test_made_once_only(self, identity: Identity) -> None:
        key = await identity.ensure_admin_key()
        assert key is not None
        assert identity.authenticate(key).is_admin
        assert await identity.ensure_admin_key() is None
        assert identity.authenticate(key).is_admin

    async def test_a_chosen_value_replaces_the_first_one(self, identity: Identity) -> None:
        first = await identity.ensure_admin_key()
        assert first is not None
        assert await identity.ensure_admin_key("a chosen value of 24 chars\n") is None
        assert identity.authenticate("a chosen value of 24 chars").is_admin
        assert is_refused(identity, first)
        assert await identity.ensure_admin_key("another value of 24 characters") is None
        assert is_refused(identity, "a chosen value of 24 chars")
        assert len(await identity.list_keys()) == 1

    async def test_a_chosen_value_that_is_another_keys(self, identity: Identity) -> None:
        _, key = await identity.create_key(team="a")
        await identity.ensure_admin_key(key)
        assert identity.authenticate(key).is_admin

    @pytest.mark.parametrize("value", ["short", "", "with\na line break in the middle", "ü" * 30, "x" * 600])
    async def test_weak_values(self, identity: Identity, value: str) -> None:
        with pytest.raises(AdminKeyWeak):
            await identity.ensure_admin_key(value)

    async def test_the_last_one_stays(self, identity: Identity) -> None:
        key = await identity.ensure_admin_key()
        assert key is not None
        first = identity.authenticate(key)
        with pytest.raises(LastAdminKey):
            await identity.revoke_key(first.id)
        assert identity.authenticate(key) == first
        await identity.create_key(team="ops", roles=[ADMIN, MEMBER])
        await identity.revoke_key(first.id)
        assert is_refused(identity, key)

    async def test_two_processes_make_one(self, database: Database) -> None:
        async with Identity(database) as one, Identity(database) as other:
            made = await asyncio.gather(one.ensure_admin_key(), other.ensure_admin_key())
        assert sum(key is not None for key in made) == 1


async def test_a_key_calls_what_its_apps_and_models_name(identity: Identity) -> None:
    record, key = await identity.create_key(team="a", apps=["helpdesk"], models=["fast"], networks=["10.1.2.3/8"])
    assert (record.models, record.networks) == (frozenset({"fast"}), ("10.0.0.0/8",))
    caller = identity.authenticate(key)
    assert caller.apps == frozenset({"helpdesk", "fast"})
    assert [str(network) for network in caller.networks] == ["10.0.0.0/8"]
    _, key = await identity.create_key(team="a", models=["fast"])
    assert identity.authenticate(key).apps == frozenset({"fast"})


async def test_a_rotated_key_is_the_same_with_another_value(database: Database) -> None:
    clock = HandClock()
    async with Identity(database, clock=clock) as identity:
        record, old = await identity.create_key(team="a", expires=clock.now + timedelta(days=30))
        assert identity.may_expire(identity.authenticate(old))
        clock.now += timedelta(days=20)
        rotated, new = await identity.rotate_key(record.id, timedelta(hours=1))
        assert rotated.id == record.id
        assert rotated.previous_until == clock.now + timedelta(hours=1)
        assert rotated.expires is not None
        assert abs(rotated.expires - clock.now - timedelta(days=30)) < timedelta(minutes=1)
        assert identity.authenticate(old) == identity.authenticate(new)
        clock.now += timedelta(hours=2)
        assert is_refused(identity, old)
        assert identity.authenticate(new).id == record.id
        with pytest.raises(KeyNotFound):
            await identity.rotate_key("nobody")


async def test_a_key_rotated_without_overlap_ends_its_old_value_at_once(identity: Identity) -> None:
    record, old = await identity.create_key(team="a")
    assert not identity.may_expire(identity.authenticate(old))
    _, new = await identity.rotate_key(record.id)
    assert is_refused(identity, old)
    assert identity.authenticate(new).id == record.id
    await identity.rotate_key(record.id, timedelta(hours=1))
    assert identity.may_expire(identity.authenticate(new)), "its old value is not to be remembered with a connection"
    await identity.revoke_key(record.id)
    assert is_refused(identity, new)


async def test_the_first_admin_key_is_not_rotated(identity: Identity) -> None:
    await identity.ensure_admin_key("a" * 30)
    with pytest.raises(KeyRequestInvalid):
        await identity.rotate_key("admin")


async def test_a_withheld_value_stays_out_until_it_is_revoked_everywhere(database: Database) -> None:
    async with Identity(database) as here, Identity(database) as there:
        record, key = await here.create_key(team="sales")
        await until(lambda: not is_refused(there, key))
        assert here.withhold(key.encode()) == record.id
        assert here.withhold(b"rbk_unknown") is None
        assert is_refused(here, key)
        await here.refresh()  # the database does not know yet
        assert is_refused(here, key)
        assert await here.revoke_exposed(key.encode())
        await until(lambda: is_refused(there, key))
        assert not await here.revoke_exposed(key.encode())


async def test_an_exposed_admin_key_does_not_come_back_with_the_next_start(identity: Identity) -> None:
    value = "an admin key of somebody, 1234"
    await identity.ensure_admin_key(value)
    assert await identity.revoke_exposed(value.encode())
    instead = await identity.ensure_admin_key(value)
    assert instead is not None
    assert is_refused(identity, value)
    assert not is_refused(identity, instead)


async def test_no_name_of_a_key_holds_a_secret(identity: Identity) -> None:
    identity.holds_secret = lambda text: "AKIA" in text
    with pytest.raises(KeyRequestInvalid, match=r"^team: a secret stands in it"):
        await identity.create_key(team="AKIAIOSFODNN7ABCDEFG")
    with pytest.raises(KeyRequestInvalid, match=r"^name: a secret stands in it"):
        await identity.create_key(team="a", name="key AKIAIOSFODNN7ABCDEFG")
    with pytest.raises(KeyRequestInvalid, match=r"^apps: a secret stands in it"):
        await identity.create_key(team="a", apps=["AKIAIOSFODNN7ABCDEFG"])
    assert (await identity.create_key(team="a", name="bob@example.com"))[0].name == "bob@example.com"
