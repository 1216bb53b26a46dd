"""Each control that reads what is there passes when all is well, and fails when one thing is not."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from roadbed.controls.canary import CanaryControl
from roadbed.controls.emergency import BreakGlassReviewed
from roadbed.controls.probes import CollectionAccess, Erased, Labels, Lockout
from roadbed.controls.sampling import ConnectedSourcesControl, Drawn, StoredTextControl
from roadbed.controls.standing_checks import (
    AccessReview,
    AuditHolds,
    Certificate,
    Certificates,
    Configuration,
    Configured,
    KeyAge,
    Restored,
)
from roadbed.guard.gate import Guard
from roadbed.guard.keys import KeyRecord
from roadbed.ledger.audit_verify import Report
from roadbed.server.controls import DrawnRows

T = TypeVar("T")
NOW = datetime(2026, 11, 27, tzinfo=UTC)
ALL_IDS = {
    kind.id
    for kind in (
        CanaryControl, Lockout, Labels, CollectionAccess, Configuration, StoredTextControl, ConnectedSourcesControl,
        AccessReview, BreakGlassReviewed, KeyAge, AuditHolds, Restored, Certificates, Erased,
    )
}  # fmt: skip
KEY = KeyRecord("k1", "", "staff", frozenset({"member"}), None, NOW - timedelta(days=5), None, None, NOW)


def given(value: T) -> Callable[[], Awaitable[T]]:
    async def give() -> T:
        return value

    return give


def now() -> datetime:
    return NOW


def days(count: int) -> timedelta:
    return timedelta(days=count)


async def test_access_review() -> None:
    assert (await AccessReview(given([KEY]), now).run()).outcome == "pass"
    unused = replace(KEY, created=NOW - days(91), last_used=None)
    assert (await AccessReview(given([unused]), now).run()).outcome == "fail"
    revoked = replace(unused, revoked=NOW)
    assert (await AccessReview(given([revoked]), now).run()).outcome == "pass"
    admins = [replace(KEY, id=f"k{number}", roles=frozenset({"admin"})) for number in range(6)]
    found = await AccessReview(given(admins), now).run()
    assert found.outcome == "fail"
    assert found.facts["admins"] == 6


async def test_key_age() -> None:
    old = replace(KEY, created=NOW - days(400))
    assert (await KeyAge(given([KEY]), now).run()).outcome == "pass"
    assert (await KeyAge(given([old]), now).run()).outcome == "fail"
    assert (await KeyAge(given([replace(old, rotated=NOW - days(3))]), now).run()).outcome == "pass"


async def test_configuration() -> None:
    good = Configured("a" * 64, "a" * 64, "", True, True)
    assert (await Configuration(given(good)).run()).outcome == "pass"
    for broken in (
        good._replace(on_disk="b" * 64),
        good._replace(problem="refused"),
        good._replace(is_committed=False),
    ):
        assert (await Configuration(given(broken)).run()).outcome == "fail"
    relaxed = good._replace(is_committed=False, must_be_committed=False)
    assert (await Configuration(given(relaxed)).run()).outcome == "pass"


async def test_restore() -> None:
    async def outcome(last: datetime | None, since: datetime | None) -> str:
        return (await Restored(given(last), given(since), now).run()).outcome

    assert await outcome(NOW - days(10), NOW - days(300)) == "pass"
    assert await outcome(NOW - days(91), NOW - days(300)) == "fail"
    assert await outcome(None, NOW - days(3)) == "pass"
    assert await outcome(None, NOW - days(91)) == "fail"


async def test_audit() -> None:
    report = Report()
    head: dict[str, Any] = {"fault": "", "checkpoint": {"number": 9}, "copies": [], "witnessed": []}

    async def outcome(verified: Report, **changed: Any) -> str:
        return (await AuditHolds(given(verified), given({**head, **changed})).run()).outcome

    copy = {"destination": "there", "number": 9, "error": ""}
    assert await outcome(report, copies=[copy]) == ("pass" if report.is_whole else "fail")
    report.checkpoints, report.proven = 1, 5
    assert await outcome(report, copies=[{**copy, "number": 3}]) == "fail"
    assert await outcome(report, copies=[{**copy, "error": "refused"}]) == "fail"
    assert await outcome(report, fault="chain") == "fail"
    assert await outcome(report, witnessed=[{"origin": "other", "alarm": "fork"}]) == "fail"


async def test_certificates() -> None:
    async def outcome(*found: Certificate) -> str:
        return (await Certificates(given(found), now).run()).outcome

    assert await outcome(Certificate("a", NOW + days(60)), Certificate("away", None)) == "pass"
    assert await outcome(Certificate("a", NOW + days(13))) == "fail"
    assert await outcome(Certificate("a", None, "self-signed")) == "fail"


class Rows:
    def __init__(self, *found: Drawn | str) -> None:
        self._found = found

    async def drawn(self, rows: int) -> AsyncIterator[Drawn | str]:
        for found in self._found:
            yield found


async def test_connected_sources() -> None:
    guard = Guard.open(None)
    personal, secret = "mail: ada@lovelace.org", "key: sk-proj-" + "aB3dE5gH7jK9mN1pQ2rS"

    async def outcome(*found: Drawn | str) -> str:
        return (await ConnectedSourcesControl(Rows(*found), guard).run()).outcome

    assert await outcome(DrawnRows("crm.deals", False, ["price: 5"] * 400)) == "pass"
    assert await outcome(DrawnRows("crm.users", False, [personal])) == "fail"
    assert await outcome(DrawnRows("crm.users", True, [personal])) == "pass"
    assert await outcome(DrawnRows("crm.users", True, [secret])) == "fail"
    assert await outcome("crm.users: sources.unreachable") == "invalid"
