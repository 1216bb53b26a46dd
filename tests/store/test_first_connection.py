"""A given PostgreSQL that cannot be used: each reason is one typed error that says what to do and no password."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import pytest

from roadbed.kernel.errors import RoadbedError
from roadbed.store.database import Database
from roadbed.store.embedded import EmbeddedPostgres
from roadbed.store.errors import (
    DatabaseMissing,
    DatabaseRefused,
    MigrationFailed,
    PostgresTooOld,
    StoreUnavailable,
    VectorMissing,
    VectorTooOld,
)
from roadbed.store.first_connection import examine, place_of, require_vector, require_version
from roadbed.store.migrate import migrate
from roadbed.testing.flaky_endpoint import refused_port

PASSWORD = "kettle-81-million"


@pytest.fixture
async def poor_dsn(postgres: EmbeddedPostgres, empty_dsn: str) -> AsyncIterator[str]:
    """A role that may connect to a fresh database, and nothing else."""
    database = re.search(r"/([a-z0-9_]+)\?", empty_dsn)
    assert database is not None
    async with postgres.superuser("postgres") as connection:
        await connection.execute(f"CREATE ROLE poor LOGIN PASSWORD '{PASSWORD}'")
        await connection.execute(f'GRANT CONNECT ON DATABASE "{database[1]}" TO poor')
    yield re.sub(r"//[^@]*@", f"//poor:{PASSWORD}@", empty_dsn)
    async with postgres.superuser("postgres") as connection:
        await connection.execute(f'REVOKE ALL ON DATABASE "{database[1]}" FROM poor')
        await connection.execute("DROP ROLE poor")


async def refused(dsn: str) -> RoadbedError:
    with pytest.raises(RoadbedError) as found:
        await (await Database.open(dsn, "roadbed_x", max_size=1)).close()
    said = f"{found.value.message} {found.value.hint}"
    assert PASSWORD not in said
    assert found.value.hint
    assert "\n" not in said
    return found.value


async def test_a_wrong_password_a_missing_database_and_a_bad_address_are_told_apart(poor_dsn: str) -> None:
    wrong = await refused(poor_dsn.replace(PASSWORD, f"{PASSWORD}-not"))
    assert isinstance(wrong, DatabaseRefused)
    assert "refuses the password of the role poor" in wrong.message
    missing = await refused(re.sub(r"/[a-z0-9_]+\?", "/nothing?", poor_dsn))
    assert isinstance(missing, DatabaseMissing)
    for address in (f"postgresql://u:{PASSWORD}@h:port/x", f"postgresql://u:{PASSWORD}@h/x?sslmode=perhaps"):
        assert isinstance(await refused(address), DatabaseMissing), address


async def test_a_server_that_is_away_is_named() -> None:
    port = refused_port()
    away = await refused(f"postgresql://u:{PASSWORD}@127.0.0.1:{port}/x")
    assert isinstance(away, StoreUnavailable)
    assert f"127.0.0.1:{port} (nothing listens there)" in away.message


async def test_a_role_without_rights_is_told_what_it_lacks(poor_dsn: str, postgres: EmbeddedPostgres) -> None:
    async with await Database.open(poor_dsn, "roadbed_x", max_size=1) as database:
        with pytest.raises(MigrationFailed) as failed:
            await migrate(database, workspace_id="x")
    assert "GRANT CREATE ON DATABASE" in failed.value.hint
    name = re.search(r"/([a-z0-9_]+)\?", poor_dsn)
    assert name is not None
    async with postgres.superuser(name[1]) as connection:
        await connection.execute("DROP EXTENSION vector")
    without = await refused(poor_dsn)
    assert isinstance(without, VectorMissing)
    assert "CREATE EXTENSION vector" in without.hint


def test_old_servers_are_refused_and_addresses_shown_without_secrets() -> None:
    with pytest.raises(PostgresTooOld, match=r"PostgreSQL 14\.9; 15 or newer"):
        require_version(14, "14.9")
    require_version(15, "15.0")
    assert place_of(f"postgresql://u:{PASSWORD}@db.example/x") == "db.example:5432"
    assert place_of(f"postgresql://u:{PASSWORD}@/x?host=/run/pg") == "/run/pg"


@pytest.mark.parametrize(("version", "is_enough"), [("0.5.1", False), ("0.7.4", False), ("0.8.0", True), ("1.0", True)])
def test_a_pgvector_without_what_searches_need_is_refused(version: str, is_enough: bool) -> None:
    if is_enough:
        require_vector(version)
        return
    with pytest.raises(VectorTooOld, match=version) as found:
        require_vector(version)
    assert "ALTER EXTENSION" in found.value.hint


async def test_a_server_is_examined_without_a_change_to_it(empty_dsn: str) -> None:
    said = await examine(empty_dsn, timeout_s=5)
    assert re.fullmatch(r"PostgreSQL \d+\.\d+ with pgvector 0\.\d+\.\d+ at /.*", said)
