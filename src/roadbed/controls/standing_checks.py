"""Controls that read what is there: keys, their age, the configuration, drills, the audit, certificates.

Each takes what it reads as a function, so that it can be shown to fail. They change nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

from roadbed.controls.control import Fact, Result, judged
from roadbed.guard.keys import KeyRecord
from roadbed.kernel.principal import ADMIN

HOUR_S: Final = 3600.0
DAY_S: Final = 86_400.0
ADMINS_MAX: Final = 5
UNUSED: Final = timedelta(days=90)
KEY_AGE: Final = timedelta(days=365)
DRILL_EVERY: Final = timedelta(days=90)
CERTIFICATE_LEFT: Final = timedelta(days=14)
Now = Callable[[], datetime]


def _now() -> datetime:
    return datetime.now(UTC)


class AccessReview:
    """Keys that are live and should perhaps not be."""

    id = "access-review"
    title = "No key is live that nobody uses, and few are admins"
    period_s = DAY_S

    def __init__(self, keys: Callable[[], Awaitable[Sequence[KeyRecord]]], now: Now = _now) -> None:
        self._keys, self._now = keys, now

    async def run(self) -> Result:
        """Look through all keys."""
        now = self._now()
        live = [key for key in await self._keys() if key.is_live(now)]
        admins = [key for key in live if ADMIN in key.roles]
        problems = [
            f"the key {key.id} of team {key.team} was not used for {(now - (key.last_used or key.created)).days} days"
            for key in live
            if now - (key.last_used or key.created) > UNUSED
        ]
        if len(admins) > ADMINS_MAX:
            problems.append(f"{len(admins)} live keys are admins; more than {ADMINS_MAX} is hard to answer for")
        facts: dict[str, Fact] = {
            "live": len(live),
            "admins": len(admins),
            "without_expiry": sum(key.expires is None for key in live),
            "never_used": sum(key.last_used is None for key in live),
            "older_than_90_days": sum(now - key.created > UNUSED for key in live),
        }
        return judged(problems, f"{len(live)} live keys, {len(admins)} of admins", n=len(live), facts=facts)


class KeyAge:
    """Values of keys that are too old."""

    id = "key-age"
    title = "No key's value is older than a year"
    period_s = DAY_S

    def __init__(self, keys: Callable[[], Awaitable[Sequence[KeyRecord]]], now: Now = _now) -> None:
        self._keys, self._now = keys, now

    async def run(self) -> Result:
        """Look through all keys."""
        now = self._now()
        ages = {key.id: now - (key.rotated or key.created) for key in await self._keys() if key.is_live(now)}
        problems = [
            f"the value of key {name} is {age.days} days old: roadbed keys rotate {name}"
            for name, age in ages.items()
            if age > KEY_AGE
        ]
        oldest = max((age.days for age in ages.values()), default=0)
        return judged(
            problems, f"the oldest of {len(ages)} is {oldest} days old", n=len(ages), facts={"oldest_days": oldest}
        )


class Configured(NamedTuple):
    """What serves, and what is on disk. ``is_committed`` is None where the folder is in no repository."""

    serving: str
    on_disk: str
    problem: str
    is_committed: bool | None
    must_be_committed: bool


class Configuration:
    """Whether what serves is what is written down."""

    id = "configuration"
    title = "What serves is the manifest on disk, and that is committed"
    period_s = HOUR_S

    def __init__(self, look: Callable[[], Awaitable[Configured]]) -> None:
        self._look = look

    async def run(self) -> Result:
        """Compare the digests."""
        found = await self._look()
        problems = []
        if found.problem:
            problems.append("the manifest on disk cannot be served; `roadbed check` says why")
        elif found.serving != found.on_disk:
            problems.append(f"what serves ({found.serving[:12]}) is not the manifest on disk ({found.on_disk[:12]})")
        if found.must_be_committed and found.is_committed is False:
            problems.append("the manifest on disk has changes that are not committed")
        git = {None: "none", True: "committed", False: "changed"}[found.is_committed]
        inputs: dict[str, Fact] = {"serving": found.serving, "on_disk": found.on_disk}
        return judged(problems, f"digest {found.serving[:12]}, git: {git}", n=1, facts={"git": git}, inputs=inputs)


class Restored:
    """Whether a backup was restored lately, as people noted."""

    id = "restore"
    title = "A backup was restored and looked at within 90 days"
    period_s = DAY_S

    def __init__(
        self,
        last: Callable[[], Awaitable[datetime | None]],
        since: Callable[[], Awaitable[datetime | None]],
        now: Now = _now,
    ) -> None:
        self._last, self._since, self._now = last, since, now

    async def run(self) -> Result:
        """Look up the last note; a deployment that is younger than the period is not late yet."""
        now, last = self._now(), await self._last()
        began = last or await self._since() or now
        days = (now - began).days
        facts: dict[str, Fact] = {"days": days, "ever": last is not None}
        if now - began > DRILL_EVERY:
            words = "no restore was noted" if last is None else "the last restore was noted"
            return judged(
                [f"{words} {'for' if last is None else ''} {days} days; roadbed controls note-restore"], "", facts=facts
            )
        due = (began + DRILL_EVERY).date().isoformat()
        good = f"restored {days} days ago" if last is not None else f"none yet; due by {due}"
        return Result("pass", good, facts=facts)


class AuditHolds:
    """The audit verifies, and its copies agree."""

    id = "audit"
    title = "The audit verifies, and its copies are up to date"
    period_s = DAY_S

    def __init__(self, verify: Callable[[], Awaitable[Any]], head: Callable[[], Awaitable[dict[str, Any]]]) -> None:
        self._verify, self._head = verify, head

    async def run(self) -> Result:
        """Verify an export, and compare how far the copies are."""
        report, head = await self._verify(), await self._head()
        problems = [f"the log does not hold: {fault}" for fault in report.faults]
        if not report.is_whole and not problems:
            problems.append("the log is not whole")
        if head["fault"]:
            problems.append("the last checkpoint was refused")
        newest = head["checkpoint"]["number"] if head["checkpoint"] else 0
        problems += [
            f"the copy at {copy['destination']} stands at checkpoint {copy['number']} of {newest}"
            for copy in head["copies"]
            if copy["number"] < newest - 1 or copy["error"]
        ]
        problems += [f"the witnessed log {other['origin']} forked" for other in head["witnessed"] if other["alarm"]]
        facts: dict[str, Fact] = {"copies": len(head["copies"]), "checkpoint": newest, "proven": int(report.proven)}
        return judged(
            problems,
            f"verified to record {report.proven}, {len(head['copies'])} copies",
            n=int(report.proven),
            facts=facts,
        )


class Certificate(NamedTuple):
    """One certificate. ``fault`` says why it does not verify; ``until`` is None where nobody answered."""

    name: str
    until: datetime | None
    fault: str = ""


class Certificates:
    """How long the certificates of endpoints, and our own, are good."""

    id = "certificates"
    title = "Certificates are good for two weeks more"
    period_s = DAY_S

    def __init__(self, look: Callable[[], Awaitable[Sequence[Certificate]]], now: Now = _now) -> None:
        self._look, self._now = look, now

    async def run(self) -> Result:
        """Ask each for its certificate; no request is sent."""
        now, found = self._now(), await self._look()
        problems = [f"{found.name}: {found.fault}" for found in found if found.fault]
        problems += [
            f"{one.name} is good for {(one.until - now).days} days more"
            for one in found
            if one.until is not None and one.until - now < CERTIFICATE_LEFT
        ]
        unreached = sum(one.until is None and not one.fault for one in found)
        facts: dict[str, Fact] = {"certificates": len(found), "unreached": unreached}
        return judged(
            problems, f"{len(found) - unreached} looked at, {unreached} not reached", n=len(found), facts=facts
        )
