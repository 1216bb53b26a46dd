"""What `roadbed doctor` says of the Python that runs, of data systems, and of lists of revoked certificates."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from tests.e2e.authority import Authority

from roadbed.kernel.secrets import Secret
from roadbed.server.doctor import (
    is_optimized,
    part_checks,
    postgres_checks,
    python_check,
    revoked_checks,
    source_checks,
)
from roadbed.server.health import WAITS_FOR_DISK
from roadbed.server.settings import Settings
from roadbed.store.embedded import EmbeddedPostgres
from roadbed.testing.flaky_endpoint import refused_port


@pytest.mark.parametrize(
    ("arguments", "flag", "verdict"),
    [
        ("'--prefix=/usr/local' '--enable-optimizations'", "-fprofile-use -fprofile-correction", True),
        ("'--prefix=/home/me/.pyenv/versions/3.11.7'", "-fprofile-use -fprofile-correction", False),
        ("'--prefix=/usr' '--with-system-expat'", "", True),  # Debian's own
        (None, None, None),
    ],
)
def test_a_python_without_optimizations_is_known(arguments: str | None, flag: str | None, verdict: bool | None) -> None:
    assert is_optimized(arguments, flag) is verdict


def test_what_is_not_well_with_python_comes_with_what_to_do() -> None:
    assert [python_check((3, 12, 1), known).verdict for known in (True, None)] == ["ok", "ok"]
    slow = python_check((3, 11, 7), False)
    assert slow.verdict == "note"
    assert slow.message == "Python 3.11.7 was built without optimizations: up to 1.8 times slower"
    assert "--enable-optimizations" in slow.fix
    assert python_check((3, 10, 9), False).verdict == "wrong"


def test_a_data_system_that_is_away_is_wrong_and_a_writable_role_a_note_with_its_grants() -> None:
    pool = {"size": 4, "in_use": 1, "breaker": "open", "last_failure": "it refuses connections"}
    away = {"name": "crm", "well": False, "pool": pool, "warnings": []}
    (check,) = source_checks(away)
    assert (check.name, check.verdict) == ("source: crm", "wrong")
    assert "it refuses connections" in check.message
    assert check.fix
    warned = {"message": "its role app may change tables", "fix": ["GRANT SELECT ON users TO roadbed_reader;"]}
    reached, note = source_checks({**away, "well": True, "warnings": [warned]})
    assert (reached.verdict, note.verdict) == ("ok", "note")
    assert "GRANT SELECT ON users TO roadbed_reader;" in note.fix
    assert [check.verdict for check in source_checks({**away, "pool": None})] == ["ok"]


def test_a_list_of_revoked_certificates_that_does_not_hold_is_wrong(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "ours")
    crl = authority.revoke()
    (check,) = revoked_checks(crl, authority.file)
    assert (check.verdict, check.message) == ("ok", "1 lists of revoked client certificates hold")
    authority.revoke(lives=timedelta(hours=-1))
    (check,) = revoked_checks(crl, authority.file)
    assert check.verdict == "wrong"
    assert "the list of CN=ours has run out on" in check.message
    assert check.fix
    crl.write_text("-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n")
    (check,) = revoked_checks(crl, authority.file)
    assert (check.verdict, check.message) == ("wrong", f"the CRL file {crl} is damaged")


def test_jobs_that_wait_for_the_disk_are_wrong_and_come_with_what_to_do() -> None:
    (check,) = part_checks("http://x", {"parts": {"server": "ok", "jobs": WAITS_FOR_DISK}})
    assert (check.name, check.verdict, check.message) == ("server: jobs", "wrong", WAITS_FOR_DISK)
    assert "free some disk space" in check.fix
    (well,) = part_checks("http://x", {"parts": {"server": "ok", "jobs": "ok"}})
    assert well.verdict == "ok"


def test_a_managed_database_is_asked_what_it_is(postgres: EmbeddedPostgres, tmp_path: Path) -> None:
    [found] = postgres_checks(Settings(tmp_path, tmp_path, database=Secret(postgres.dsn)))
    assert (found.verdict, found.message[:10]) == ("ok", "PostgreSQL")
    away = Secret(f"postgresql://u:kettle@127.0.0.1:{refused_port()}/x")
    [found] = postgres_checks(Settings(tmp_path, tmp_path, database=away))
    assert (found.verdict, "nothing listens there" in found.message) == ("wrong", True)
    assert found.fix
    assert "kettle" not in f"{found}"
