"""The embedded PostgreSQL: private, supervised, cleanly stopped, and honest about what it cannot start."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from roadbed.kernel.errors import RoadbedError
from roadbed.store import errors
from roadbed.store import postgres_process as processes
from roadbed.store.database import Database
from roadbed.store.embedded import EmbeddedPostgres

pytestmark = pytest.mark.services  # starts and kills servers: too long for `make test`

PARENT = Path(__file__).with_name("server_process.py")
NEXT_TO_NO_TIME_S = 60.0


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def ask(dsn: str, sql: str) -> object:
    connection = await asyncpg.connect(dsn, timeout=30)
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


async def gone(data: Path) -> None:
    async with asyncio.timeout(NEXT_TO_NO_TIME_S):
        while processes.processes_of(data):  # noqa: ASYNC110 - another process's end
            await asyncio.sleep(0.01)


@pytest.fixture(scope="module")
def made_state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state folder whose cluster was made, started and stopped once: copying it is faster than making one."""
    state = tmp_path_factory.mktemp("made") / "state"

    async def make() -> None:
        async with EmbeddedPostgres(state):
            pass

    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        runner.run(make())
    return state


def copy_of(state: Path, folder: Path) -> Path:
    folder.mkdir()
    subprocess.run(["cp", "-a", state, folder / "state"], check=True)
    return folder / "state"


@pytest.fixture
async def stopped(tmp_path: Path, made_state: Path) -> AsyncIterator[EmbeddedPostgres]:
    """A server of the test's own that is not started, on a path that is too long for a socket."""
    server = EmbeddedPostgres(copy_of(made_state, tmp_path / ("long-" * 20)))
    yield server
    await server.stop()


@pytest.fixture
async def server(stopped: EmbeddedPostgres) -> EmbeddedPostgres:
    """The same, started."""
    await stopped.start()
    return stopped


async def test_it_is_private(server: EmbeddedPostgres, tmp_path: Path) -> None:
    assert mode_of(server.state) == 0o700
    assert mode_of(server.folder) == 0o700
    assert mode_of(server.data) == 0o700
    assert mode_of(server.folder / "passwords.json") == 0o600
    assert mode_of(server.log) == 0o600
    assert server.socket_folder is not None
    assert mode_of(server.socket_folder) == 0o700
    assert await ask(server.dsn, "SHOW listen_addresses") == ""
    assert await ask(server.dsn, "SELECT count(*) FROM pg_roles WHERE rolsuper AND rolname = current_user") == 0
    assert await ask(server.dsn, "SELECT '[1,2]'::vector::text") == "[1,2]"
    with pytest.raises(asyncpg.InvalidPasswordError):
        await ask(server.dsn.replace("roadbed:", "roadbed:x"), "SELECT 1")
    hba = (server.data / "pg_hba.conf").read_text()
    assert "trust" not in hba
    assert "scram-sha-256" in hba


async def test_it_stops_and_starts_with_its_data(server: EmbeddedPostgres) -> None:
    await ask(server.dsn, "CREATE TABLE kept AS SELECT 7 AS n")
    folder = server.socket_folder
    await server.stop()
    await server.stop()
    assert not server.is_running
    assert folder is not None
    assert not folder.exists()
    assert not (server.data / "postmaster.pid").exists()
    await server.start()
    assert await ask(server.dsn, "SELECT n FROM kept") == 7
    assert server.restarts == 0


async def test_it_is_back_after_kill_9(server: EmbeddedPostgres) -> None:
    async with await Database.open(server.dsn, "roadbed_x") as database:
        await database.execute("CREATE SCHEMA roadbed_x; CREATE TABLE kept AS SELECT 7 AS n")
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
        await gone_or_restarted(server)
        await database.wait_until_available(NEXT_TO_NO_TIME_S)
        assert await database.fetchval("SELECT n FROM kept") == 7
    assert server.restarts == 1


async def gone_or_restarted(server: EmbeddedPostgres) -> None:
    async with asyncio.timeout(NEXT_TO_NO_TIME_S):
        while server.restarts == 0:  # noqa: ASYNC110 - another process's start
            await asyncio.sleep(0.01)


async def test_a_second_start_on_the_same_state_is_refused(server: EmbeddedPostgres) -> None:
    with pytest.raises(errors.StateInUse, match=str(os.getpid())):
        await EmbeddedPostgres(server.state).start()
    other = await asyncio.create_subprocess_exec(
        sys.executable, str(PARENT), str(server.state), stdout=asyncio.subprocess.PIPE
    )
    answer, _ = await other.communicate()
    assert answer.decode().strip() == "store.state_in_use"
    assert await ask(server.dsn, "SELECT 1") == 1


async def test_a_killed_parent_takes_it_along_and_the_next_start_goes_on(tmp_path: Path) -> None:
    state = tmp_path / "state"
    parent = await asyncio.create_subprocess_exec(
        sys.executable, str(PARENT), str(state), stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    assert int(await parent.stdout.readline()) > 0
    parent.kill()
    await parent.wait()
    async with EmbeddedPostgres(state) as server:
        assert await ask(server.dsn, "SELECT 1") == 1
    await gone(server.data)


@pytest.mark.skipif(not processes.IS_LINUX, reason="the death signal is Linux's")
async def test_it_ends_with_its_killed_parent(tmp_path: Path) -> None:
    parent = await asyncio.create_subprocess_exec(
        sys.executable, str(PARENT), str(tmp_path / "state"), stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    await parent.stdout.readline()
    parent.kill()
    await parent.wait()
    await gone(tmp_path / "state" / "postgres" / "data")
    async with EmbeddedPostgres(tmp_path / "state"):
        pass  # removes the folder of the socket that the killed one left


async def test_a_living_orphan_is_stopped_first(server: EmbeddedPostgres) -> None:
    await server.stop()
    account = processes.choose_account(server.data)
    sockets = Path(tempfile.mkdtemp(prefix="rb-"))
    processes.give_to(account, sockets)
    arguments = ["-D", processes.data_argument(server.data, account), "-c", "listen_addresses=", "-k", str(sockets)]
    program = processes.find_install() / "bin" / "postgres"
    orphan = await processes.launch(program, arguments, server.data, account, server.log)
    async with asyncio.timeout(NEXT_TO_NO_TIME_S):
        while processes.read_postmaster(server.data) != (orphan.pid, True):
            assert orphan.returncode is None, server.log.read_text()[-500:]
            await asyncio.sleep(0.01)
    await server.start()
    assert await orphan.wait() == 0
    os.rmdir(sockets)
    assert await ask(server.dsn, "SELECT 1") == 1


async def test_a_stale_process_file_of_a_reused_number_is_no_obstacle(server: EmbeddedPostgres) -> None:
    await server.stop()
    (server.data / "postmaster.pid").write_text(f"{os.getpid()}\n{server.data}\n1\n5432\n/tmp\n\n1 1\nready\n")
    await server.start()
    assert await ask(server.dsn, "SELECT 1") == 1


async def test_a_first_start_that_was_killed_is_done_again(server: EmbeddedPostgres) -> None:
    await server.stop()
    (server.folder / "prepared").unlink()
    (server.folder / "data.new").mkdir()
    (server.folder / "data.new" / "half").touch()
    await server.start()
    await server.stop()
    shutil.rmtree(server.data)
    await server.start()
    assert not (server.folder / "data.new").exists()


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        ("rm PG_VERSION", errors.StateDamaged),
        ("rm global/pg_control", errors.StateDamaged),
        ("garbage global/pg_control", errors.StateDamaged),
        ("rm -r pg_wal", errors.StateDamaged),
        ("rm postgresql.conf", errors.StateDamaged),
        ("rm ../passwords.json", errors.StateDamaged),
        ("garbage ../passwords.json", errors.StateDamaged),
        ("17 PG_VERSION", errors.PostgresVersionMismatch),
    ],
)
async def test_damage_is_named(stopped: EmbeddedPostgres, damage: str, expected: type[RoadbedError]) -> None:
    server = stopped
    how, _, name = damage.rpartition(" ")
    path = server.data / name
    if how == "rm":
        path.unlink()
    elif how == "rm -r":
        shutil.rmtree(path)
    else:
        path.write_bytes(b"17\n" if how == "17" else os.urandom(8192))
    with pytest.raises(expected) as caught:
        await server.start()
    assert str(server.folder) in caught.value.message
    assert not server.is_running
    with pytest.raises(expected):  # the lock was given back, and nothing was made worse
        await server.start()


async def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for state in (tmp_path / "file", tmp_path / "file" / "state", Path("/proc/roadbed-state")):
        with pytest.raises(errors.StateUnusable, match=str(state)):
            await EmbeddedPostgres(state).start()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
async def test_a_read_only_folder(tmp_path: Path) -> None:
    (tmp_path / "fixed").mkdir(mode=0o500)
    with pytest.raises(errors.StateUnusable):
        await EmbeddedPostgres(tmp_path / "fixed" / "state").start()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root drops privileges")
async def test_as_root_nothing_outside_the_state_is_opened_up(tmp_path: Path) -> None:
    """STATE and the programs lie under a folder that only root may enter, as in a clone under root's home."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    install = processes.copy_install(processes.find_install(), closed)
    async with EmbeddedPostgres(closed / "state", install=install) as server:
        assert server.pid is not None
        assert os.stat(f"/proc/{server.pid}").st_uid != 0
        assert await ask(server.dsn, "SELECT '[1]'::vector::text") == "[1]"
    assert mode_of(closed) == 0o700
    assert mode_of(install) == 0o755
    assert closed.stat().st_uid == 0


async def test_a_backup_that_was_copied_back_is_used(tmp_path: Path) -> None:
    """`cp -r` and the like lose the modes, and make root the owner of every file, as which PostgreSQL does not run."""
    async with EmbeddedPostgres(tmp_path / "state") as server:
        await ask(server.dsn, "CREATE TABLE kept AS SELECT 7 AS n")
    shutil.copytree(tmp_path / "state", tmp_path / "copy")
    data = tmp_path / "copy" / "postgres" / "data"
    data.chmod(0o755)
    assert (data / "base").stat().st_uid == os.geteuid()
    async with EmbeddedPostgres(tmp_path / "copy") as server:
        assert await ask(server.dsn, "SELECT n::text FROM kept") == "7"


async def test_a_squatted_socket_folder_is_left_alone(server: EmbeddedPostgres, tmp_path: Path) -> None:
    folder = server.socket_folder
    assert folder is not None
    await server.stop()
    bait = tmp_path / "bait"
    bait.mkdir()
    folder.symlink_to(bait)
    try:
        await server.start()
        assert server.socket_folder != folder
        assert list(bait.iterdir()) == []
        assert await ask(server.dsn, "SELECT 1") == 1
    finally:
        folder.unlink()


async def test_databases_are_apart(server: EmbeddedPostgres) -> None:
    made = await server.create_database("appraisals")
    await ask(made.owner_dsn, "CREATE TABLE sale AS SELECT 3 AS n")
    again = await server.create_database("appraisals")
    assert again.reader_dsn == made.reader_dsn
    assert await ask(made.reader_dsn, "SELECT n FROM sale") == 3
    for sql in ("DELETE FROM sale", "CREATE TABLE x (n integer)", "CREATE TEMPORARY TABLE x (n integer)"):
        with pytest.raises((asyncpg.ReadOnlySQLTransactionError, asyncpg.InsufficientPrivilegeError)):
            await ask(made.reader_dsn, sql)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):  # the setting is a convenience, the rights are the wall
        await ask(made.reader_dsn + "&default_transaction_read_only=off", "DELETE FROM sale")
    with pytest.raises(errors.VectorMissing):
        await Database.open(made.reader_dsn, "roadbed_x")
    other = await server.create_database("profiles")
    for dsn, to in ((made.reader_dsn, "roadbed"), (made.owner_dsn, "profiles"), (server.dsn, "appraisals")):
        source = "roadbed" if dsn == server.dsn else "appraisals"
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await ask(dsn.replace(f"/{source}?", f"/{to}?"), "SELECT 1")
    assert "password" not in repr(other)
    assert other.owner_dsn.split(":")[2][:20] not in repr(other)
    for name in ("postgres", "roadbed", "pg", "pg_x", "A", 'x"y', "", "x" * 41):
        with pytest.raises(errors.InvalidName):
            await server.create_database(name)


async def test_the_log_holds_no_statement_and_no_value(server: EmbeddedPostgres) -> None:
    connection = await asyncpg.connect(server.dsn)
    await connection.execute("CREATE TABLE person (email text UNIQUE)")
    await connection.execute("INSERT INTO person VALUES ('kay@example.org')")
    with pytest.raises(asyncpg.UniqueViolationError):
        await connection.execute("INSERT INTO person VALUES ('kay@example.org')")
    with pytest.raises(asyncpg.DataError):
        await connection.execute("SELECT 'kay@example.org'::integer")
    await connection.close()
    log = server.log.read_text()
    assert "ready to accept connections" in log
    assert "kay@example.org" not in log
    assert "INSERT" not in log


@pytest.mark.parametrize(
    ("tail", "expected"),
    [
        ('FATAL:  could not write lock file "postmaster.pid": No space left on device', errors.StoreDiskFull),
        ("FATAL:  could not open file: Read-only file system", errors.StateUnusable),
        ("FATAL:  database files are incompatible with server", errors.StateDamaged),
        ("FATAL:  could not create any Unix-domain sockets", errors.SocketUnusable),
        ("FATAL:  pre-existing shared memory block (key 1, ID 2) is still in use", errors.StateInUse),
        ("PANIC:  could not locate a valid checkpoint record at 0/1", errors.StateDamaged),
        ("FATAL:  something else", errors.PostgresStartFailed),
        ("initdb: error: could not look up effective user ID 1234", errors.PostgresStartFailed),
        ("", errors.PostgresStartFailed),
    ],
)
def test_failures_are_explained(tail: str, expected: type[RoadbedError]) -> None:
    found = processes.explain_failure(tail, Path("/state/postgres/data"))
    assert type(found) is expected
    assert found.hint
