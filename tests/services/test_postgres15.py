"""`--database` with PostgreSQL 15 and pgvector, the oldest that is served: rooms' own tests, and a whole server.

Skipped, with the reason, where `install_postgres15.sh` could not build it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import httpx2
import pytest
from tests.conftest import FAST, OTHER_POSTGRES
from tests.e2e.serving import ADMIN_KEY, ROOT, Server, eventually, serving, temporary_folder, write_files

from .older_postgres import OlderPostgres, older_postgres

TIMEOUT_S = 900
INSTALL = ROOT / ".venv" / "services" / "postgres15"
pytestmark = [
    pytest.mark.services,
    pytest.mark.timeout(TIMEOUT_S),
    pytest.mark.skipif(not (INSTALL / ".installed").is_file(), reason="install_postgres15.sh built no PostgreSQL 15"),
]
# What speaks to the database most, and has kept to what an older one knows.
ROOMS = (
    "store/test_migrate.py", "store/test_database.py", "store/test_jobs.py", "ledger/test_ledger.py",
    "ledger/test_budget_bank.py", "ledger/test_audit.py", "knowledge/test_search.py", "knowledge/test_vector_index.py",
    "guard/test_identity.py", "guard/test_people.py", "releases",
)  # fmt: skip
FILES = {
    "roadbed.yaml": "name: older\nsources:\n  notes: {type: files, path: notes}\n"
    "collections: {all: {sources: [notes]}}\napps: {helpdesk: {kind: copilot, knowledge: [all]}}\n",
    "notes/fees.md": "# Fees\n\nThe appraisal fee for a garage is 240 kroner. It is due within 30 days.\n",
    "notes/visits.md": "# Visits\n\nA visit takes two hours, and the owner is told three days before.\n",
}
QUESTION = "What is the appraisal fee for a garage?"


def test_the_rooms_keep_what_they_promise() -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-n",
            "0",
            "-p",
            "no:cacheprovider",
            *(f"tests/{name}" for name in ROOMS),
        ],
        cwd=ROOT,
        env={**os.environ, OTHER_POSTGRES: str(INSTALL)},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]


@pytest.fixture
def postgres15() -> Iterator[OlderPostgres]:
    with older_postgres(INSTALL, FAST) as server:
        yield server


def up(folder: Path, postgres: OlderPostgres) -> AbstractContextManager[Server]:
    words = ("--database", "env:DATABASE", "--migrate", "auto", "--workers", "2")
    return serving(folder / "workspace", folder / "state", *words, variables={"DATABASE": postgres.dsn})


def fee_is_told(server: Server) -> bool:
    return "240 kroner" in str(server.ask(QUESTION)["choices"])


def test_a_server_over_it_survives_its_death_and_its_own(postgres15: OlderPostgres) -> None:
    with temporary_folder() as folder:
        write_files(folder / "workspace", FILES)
        with up(folder, postgres15) as server:
            assert fee_is_told(server)
            answers = ask_while(server, postgres15)
            assert set(answers) <= {"200", "503"}, answers
            assert answers.count("200") > 0
            eventually(lambda: fee_is_told(server), within_s=30, what="an answer after the database's death")
        with up(folder, postgres15) as server:
            assert fee_is_told(server)
            documents = server.get("/api/documents", source="notes")["documents"]
            assert len(documents) == 2, "nothing was read twice"
            verified = server.cli("audit", "verify", variables={"ROADBED_API_KEY": ADMIN_KEY})
            assert verified.returncode == 0, verified.stdout + verified.stderr


def ask_while(server: Server, postgres: OlderPostgres) -> list[str]:
    """The statuses of questions asked while the database is killed, away for a moment, and back."""
    statuses: list[str] = []
    is_over = threading.Event()

    def ask() -> None:
        body = {"model": "helpdesk", "messages": [{"role": "user", "content": QUESTION}]}
        with server.client() as client:
            while not is_over.is_set():
                try:
                    statuses.append(str(client.post("/v1/chat/completions", json=body).status_code))
                except httpx2.HTTPError as error:
                    statuses.append(type(error).__name__)

    callers = [threading.Thread(target=ask, name=f"caller-{number}") for number in range(3)]
    for caller in callers:
        caller.start()
    try:
        eventually(lambda: len(statuses) > 10, within_s=60, what="load")
        postgres.kill()
        seen = len(statuses)
        eventually(lambda: len(statuses) > seen + 10, within_s=60, what="answers without the database")
        postgres.start()
        seen = len(statuses)
        eventually(lambda: len(statuses) > seen + 10, within_s=60, what="answers with it")
    finally:
        is_over.set()
        for caller in callers:
            caller.join()
    return statuses
