"""Starting and stopping: what a person at a terminal, a supervisor and a crash do to `roadbed up`."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from roadbed.cli.main import EXIT_CONFIG, EXIT_FAILED

from .serving import (
    ADMIN_KEY,
    Server,
    eventually,
    launch,
    one_line_error,
    run_cli,
    run_up,
    serving,
    temporary_folder,
    write_files,
)

pytestmark = pytest.mark.services  # whole servers: too long for `make test`

FILES = {
    "fees.md": "# Fees\n\nA rush order costs 35 % extra.\n",
    "notes/kept.txt": "Reports are kept for seven years.\n",
}
SECOND_START_S = 3.0


@pytest.fixture(scope="module")
def served_once() -> Iterator[Path]:
    """A folder with a workspace and a state that was served and stopped cleanly; copy it, do not change it."""
    with temporary_folder() as folder:
        with serving(write_files(folder / "plain", FILES), folder / "state") as server:
            assert "35 %" in str(server.ask("What does a rush order cost?", "copilot")["choices"])
        yield folder


@pytest.fixture
def copied(served_once: Path, scratch: Path) -> Path:
    """A copy of it, with owners and modes."""
    subprocess.run(["cp", "-a", f"{served_once}/plain", f"{served_once}/state", str(scratch)], check=True)
    return scratch


def processes_naming(path: Path) -> list[str]:
    """Living processes whose command line or working directory names ``path``."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                folder = os.readlink(entry / "cwd")
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue
            if state != "Z" and (str(path) in command or folder.startswith(str(path))):
                found.append(command)
    return found


def socket_folder(server: Server) -> Path:
    return Path((server.state / "postgres" / "data" / "postmaster.pid").read_text().splitlines()[4])


def test_a_folder_without_manifest_just_works_and_ctrl_c_leaves_nothing(scratch: Path) -> None:
    workspace = write_files(scratch / "plain", FILES)
    server = launch(workspace, scratch / "state", variables={"ROADBED_ADMIN_KEY": ""})
    sockets = socket_folder(server)
    try:
        assert set(server.ready) == {"url", "api", "key", "pid", "version"}
        assert stat.S_IMODE(server.ready_file.stat().st_mode) == 0o600
        key = server.ready["key"]
        assert [row["id"] for row in _models(server, key)] == ["copilot", "search"]
        answer = server.ask("What does a rush order cost?", "copilot", key=key)
        assert answer["roadbed"]["citations"][0]["uri"].endswith("fees.md")
        assert key in server.output
        assert "/console/sign-in?token=" in server.output
        for path in (server.state, server.state / "run", sockets):
            assert stat.S_IMODE(path.stat().st_mode) == 0o700, path
        assert stat.S_IMODE((server.state / "run" / "cli.json").stat().st_mode) == 0o600
    finally:
        code = server.stop(signal.SIGINT)
    assert code == 0, server.output
    assert server.output.rstrip().endswith("stopped")
    assert "Traceback" not in server.output
    assert processes_naming(scratch) == []
    assert not sockets.exists()
    assert not (server.state / "run" / "cli.json").exists()


def _models(server: Server, key: str) -> list[dict[str, str]]:
    with server.client(key) as client:
        return list(client.get("/v1/models").json()["data"])


def test_init_writes_the_manifest_that_was_inferred(scratch: Path) -> None:
    workspace = write_files(scratch / "plain", FILES)
    done = run_cli("init", str(workspace), home=scratch)
    assert done.returncode == 0, done.stderr
    text = (workspace / "roadbed.yaml").read_text()
    assert "#" in text
    checked = run_cli("check", str(workspace), "--json", home=scratch)
    assert json.loads(checked.stdout)["apps"] == 2
    assert json.loads(checked.stdout)["inferred"] is False
    assert run_cli("init", str(workspace), home=scratch).returncode == EXIT_CONFIG
    assert (workspace / "roadbed.yaml").read_text() == text


def test_a_start_after_the_manifest_was_lost_is_refused(copied: Path) -> None:
    manifest = copied / "plain" / "roadbed.yaml"
    assert run_cli("init", str(manifest.parent), home=copied).returncode == 0
    text = manifest.read_text().replace("name: plain", "name: acme")
    manifest.write_text(text.replace("labels: [internal]", "labels: [internal]\n    visible_to: [board]"))
    with serving(manifest.parent, copied / "state"):
        pass
    manifest.unlink()
    refused = run_up(manifest.parent, copied / "state")
    assert refused.returncode == EXIT_CONFIG
    assert "the source documents for some teams alone" in one_line_error(refused)
    assert "roadbed init" in one_line_error(refused)


def test_a_second_start_is_quick_and_has_lost_nothing(copied: Path) -> None:
    server = launch(copied / "plain", copied / "state", wait=False)
    try:
        found = copied / "state" / "run" / "cli.json"
        eventually(found.exists, within_s=2 * SECOND_START_S, what="a start")
        server.wait_ready()
        answer = server.ask("How long are reports kept?", "copilot")
        assert "seven years" in str(answer["choices"])
        assert "key" not in server.ready
        assert ADMIN_KEY not in server.output
        history = server.get("/api/releases/copilot")["history"]
        assert len(history) == 1
        assert eventually(lambda: len(server.get("/api/traces")["traces"]) == 2, what="the traces of both runs")
    finally:
        assert server.stop(signal.SIGTERM) == 0


def test_one_state_has_one_server_and_one_port_one_listener(copied: Path) -> None:
    with serving(copied / "plain", copied / "state") as server:
        refused = run_up(copied / "plain", copied / "state")
        assert refused.returncode == EXIT_FAILED
        assert f"in use by process {server.process.pid}" in one_line_error(refused)
        taken = run_cli(
            "up", str(copied / "plain"), "--state", str(copied / "other"), "--port", str(server.port), home=copied
        )
        assert taken.returncode == EXIT_FAILED
        assert str(server.port) in one_line_error(taken)
        assert "--port 0" in one_line_error(taken)
        twice = run_cli(
            "up", str(copied / "plain"), "--state", str(copied / "state"), "--port", str(server.port), home=copied
        )
        assert f"in use by process {server.process.pid}" in one_line_error(twice)
        assert server.get("/api/status")["ready"]


def test_a_killed_parent_leaves_nothing_that_the_next_start_cannot_take_over(copied: Path) -> None:
    server = launch(copied / "plain", copied / "state")
    postmaster = server.postmaster()
    server.kill()
    again = launch(copied / "plain", copied / "state")
    try:
        assert again.postmaster() != postmaster
        eventually(lambda: not Path(f"/proc/{postmaster}").exists(), what="the end of the orphan")
        assert "35 %" in str(again.ask("What does a rush order cost?", "copilot")["choices"])
    finally:
        assert again.stop() == 0
    assert processes_naming(copied) == []


def test_a_stop_before_it_is_ready_is_clean(scratch: Path) -> None:
    workspace = write_files(scratch / "plain", FILES)
    server = launch(workspace, scratch / "state", wait=False)
    eventually(lambda: (scratch / "state" / "run" / "lock").exists(), what="the lock")
    server.signal_group(signal.SIGINT)
    server.process.wait(60)
    assert "Traceback" not in server.output
    assert processes_naming(scratch) == []
    with serving(workspace, scratch / "state") as server:
        assert server.get("/api/status")["ready"]


async def test_the_state_of_a_newer_build_is_refused(copied: Path) -> None:
    with serving(copied / "plain", copied / "state") as server:
        connection = await asyncpg.connect(server.database_dsn())
        try:
            await connection.execute(
                "INSERT INTO roadbed_plain.schema_migration (number, name, checksum, compatible_from)"
                " VALUES (9999, 'later', 'x', 9999)"
            )
        finally:
            await connection.close()
    refused = run_up(copied / "plain", copied / "state")
    assert refused.returncode == EXIT_FAILED
    line = one_line_error(refused)
    assert "9999" in line
    assert "newer" in line
    assert processes_naming(copied) == []


def test_a_renamed_workspace_does_not_take_another_ones_state(copied: Path) -> None:
    (copied / "plain").rename(copied / "other")
    with serving(copied / "other", copied / "state") as server:
        assert server.get("/api/status")["name"] == "other"
        assert server.get("/api/releases/copilot")["history"][0]["action"] == "save"


@pytest.mark.parametrize(
    "damage",
    [
        "rm state/postgres/data/global/pg_control",
        "rm state/postgres/passwords.json",
        "rm -r state/postgres/data/pg_wal",
        "truncate -s 100 state/postgres/data/global/pg_control",
        "rm -r state/postgres && touch state/postgres",
        "rm -r state && touch state",
    ],
)
def test_a_damaged_state_folder_is_named_and_not_touched(copied: Path, damage: str) -> None:
    subprocess.run(damage, shell=True, cwd=copied, check=True)
    refused = run_up(copied / "plain", copied / "state")
    assert refused.returncode == EXIT_FAILED
    assert "state" in one_line_error(refused)
    assert processes_naming(copied) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes wherever it likes")
def test_a_read_only_state_is_one_line(copied: Path) -> None:
    (copied / "state").chmod(0o500)
    (copied / "state" / "run").chmod(0o500)
    refused = run_up(copied / "plain", copied / "state")
    assert "not writable" in one_line_error(refused)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs to mount")
def test_a_state_on_a_read_only_disk_is_one_line(copied: Path) -> None:
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "ro,mode=700", "tmpfs", str(copied / "state")], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("this machine does not let root mount")
    try:
        refused = run_up(copied / "plain", copied / "state")
        assert refused.returncode == EXIT_FAILED
        assert "writable" in one_line_error(refused)
    finally:
        subprocess.run(["umount", str(copied / "state")], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs to mount")
def test_a_full_disk_is_one_line(scratch: Path) -> None:
    workspace = write_files(scratch / "plain", FILES)
    (scratch / "state").mkdir(mode=0o700)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m,mode=700", "tmpfs", str(scratch / "state")],
        capture_output=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip("this machine does not let root mount")
    try:
        refused = run_up(workspace, scratch / "state")
        assert refused.returncode == EXIT_FAILED
        assert "no room left" in one_line_error(refused)
        assert processes_naming(scratch) == []
    finally:
        subprocess.run(["umount", str(scratch / "state")], check=True)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--host", "0.0.0.0"), "--tls-cert"),
        (("--port", "99999"), "65535"),
        (("--tls-cert", "x.pem"), "--tls-key"),
    ],
)
def test_unsafe_settings_are_refused(scratch: Path, arguments: tuple[str, ...], says: str) -> None:
    refused = run_cli("up", str(scratch), "--state", str(scratch / "state"), *arguments, home=scratch)
    assert refused.returncode == EXIT_CONFIG
    assert says in one_line_error(refused)
    assert not (scratch / "state").exists()


def test_a_weak_admin_key_and_a_folder_that_is_not_there(scratch: Path) -> None:
    refused = run_up(scratch, scratch / "state", variables={"ROADBED_ADMIN_KEY": "short"})
    assert refused.returncode == EXIT_CONFIG
    assert "24" in one_line_error(refused)
    assert "short" not in refused.stderr.replace("shorter", "")
    missing = run_up(scratch / "nowhere", scratch / "state")
    assert missing.returncode == EXIT_CONFIG
    assert "is not a folder" in one_line_error(missing)


def test_a_port_that_is_taken_by_something_else(scratch: Path) -> None:
    workspace = write_files(scratch / "plain", FILES)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        refused = run_cli("up", str(workspace), "--state", str(scratch / "state"), "--port", port, home=scratch)
    assert refused.returncode == EXIT_FAILED
    assert port in one_line_error(refused)
    assert shutil.which("postgres") or processes_naming(scratch) == []
