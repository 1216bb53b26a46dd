"""`Saved`: the saved questions of each team, their schedules, and the last result that a schedule kept.

Rows of ``analytics_question``; a job ``analytics.run`` runs each scheduled one on behalf of its creator and queues
itself again. Bounded per app and team. The invariant: a kept result is shown only to those who may see all of its
sources now, and where rows differ between members of a team, to its creator alone.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import msgspec

from roadbed.apps.analytics import AnalyticsApp, Kept, Known, UnknownQuestion
from roadbed.apps.analytics_desk import Cite, Desk, Prepared, Ran
from roadbed.apps.analytics_schedule import parse_schedule
from roadbed.apps.analytics_table import Table
from roadbed.apps.types import App, Turn
from roadbed.kernel.deadline import Deadline
from roadbed.kernel.errors import Conflict, RoadbedError
from roadbed.kernel.ids import new_id
from roadbed.kernel.label import PUBLIC
from roadbed.kernel.principal import Principal
from roadbed.store.database import Database
from roadbed.store.jobs import Job, Jobs

log = logging.getLogger("roadbed.apps")

JOB = "analytics.run"
SAVED_MAX = 200
SCHEDULED_MAX = 50
KEPT_ROWS_MAX = 1_000
KEPT_BYTES_MAX = 512 * 1024
RUN_S = 120.0
AWAY_S = 300.0


class TooManyQuestions(Conflict):
    """The team has saved or scheduled as many questions of the app as it may."""

    code = "apps.too_many_questions"
    hint = "delete one that is no longer needed"


@dataclass(frozen=True, slots=True)
class SavedQuestion:
    """One saved question as lists show it."""

    id: str
    app: str
    team: str
    name: str
    prepared: Prepared
    creator: str
    every: str
    created: datetime
    kept: Kept | None
    trouble: str


class _Kept(msgspec.Struct, frozen=True):
    table: Table
    cites: tuple[Cite, ...]


class Saved:
    """The saved questions of one deployment. ``find`` gives an app's live release, None when it is gone."""

    def __init__(
        self,
        database: Database,
        desk: Callable[[], Desk | None],
        find: Callable[[str], App | None],
        may_use: Callable[[Principal, str], bool],
    ) -> None:
        self._database = database
        self._desk = desk
        self._find = find
        self._may_use = may_use
        self._jobs = Jobs(database)

    @property
    def jobs(self) -> Jobs:
        """The queue that the owner runs."""
        return self._jobs

    async def start(self) -> None:
        """Run schedules in this process from now on."""
        self._jobs.register(JOB, self._run, concurrency=2, timeout_s=RUN_S + 30.0)
        rows = await self._database.fetch("SELECT id, every FROM analytics_question WHERE every <> '' LIMIT 5000")
        await self._jobs.enqueue_many(None, JOB, [_order(row["id"], row["every"]) for row in rows])

    # -- what people do -----------------------------------------------------------------------------------------------

    async def save(self, app: str, name: str, prepared: Prepared, principal: Principal, every: str = "") -> None:
        """Save or replace a team's question. `ScheduleInvalid`, `TooManyQuestions`."""
        if every:
            parse_schedule(every)
        async with self._database.transaction() as connection:
            await connection.execute(
                "SELECT pg_advisory_xact_lock(hashtextextended($1, 51))", f"{app}/{principal.team}"
            )
            counts = await connection.fetchrow(
                "SELECT count(*) AS saved, count(*) FILTER (WHERE every <> '') AS scheduled FROM analytics_question "
                "WHERE app = $1 AND team = $2 AND name <> $3",
                app,
                principal.team,
                name,
            )
            assert counts is not None
            if counts["saved"] >= SAVED_MAX or (every and counts["scheduled"] >= SCHEDULED_MAX):
                raise TooManyQuestions(f"the team has {counts['saved']} saved questions of {app}")
            found = await connection.fetchval(
                "INSERT INTO analytics_question (id, app, team, name, prepared, creator, every) "
                "VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (app, team, name) DO UPDATE SET "
                "prepared = excluded.prepared, creator = excluded.creator, every = excluded.every, kept = NULL, "
                "taken = NULL, trouble = '' RETURNING id",
                new_id(),
                app,
                principal.team,
                name,
                msgspec.to_builtins(prepared),
                principal.id,
                every,
            )
            if every:
                await self._jobs.enqueue(connection, JOB, *_order(found, every))

    async def delete(self, app: str, name: str, principal: Principal) -> None:
        """Forget a team's question. `UnknownQuestion`."""
        found = await self._database.fetchval(
            "DELETE FROM analytics_question WHERE app = $1 AND team = $2 AND name = $3 RETURNING id",
            app,
            principal.team,
            name,
        )
        if found is None:
            raise UnknownQuestion(f"there is no saved question {name[:64]!r}")

    async def listed(self, app: str, principal: Principal) -> list[SavedQuestion]:
        """The team's questions of an app, by name; what was kept of them only where the caller may see it."""
        rows = await self._database.fetch(
            "SELECT id, app, team, name, prepared, creator, every, created, kept, taken, trouble "
            "FROM analytics_question WHERE app = $1 AND team = $2 ORDER BY name LIMIT $3",
            app,
            principal.team,
            SAVED_MAX,
        )
        found = []
        for row in rows:
            fields = dict(row)
            prepared = msgspec.convert(fields.pop("prepared"), Prepared)
            kept, taken = fields.pop("kept"), fields.pop("taken")
            shown = None
            if kept is not None and taken is not None and self._may_see(prepared, row["creator"], principal):
                one = msgspec.convert(kept, _Kept)
                desk = self._desk()
                label = desk.label(prepared.sources) if desk is not None else PUBLIC
                shown = Kept(one.table, Ran(one.table, one.cites, label=label), taken.timestamp())
            found.append(SavedQuestion(prepared=prepared, kept=shown, **fields))
        return found

    async def known(self, app: str, turn: Turn) -> Sequence[Known]:
        """The saved questions that a turn may run."""
        return [Known(one.name, one.prepared, one.kept) for one in await self.listed(app, turn.principal)]

    def _may_see(self, prepared: Prepared, creator: str, principal: Principal) -> bool:
        desk = self._desk()
        if desk is None or len(desk.visible(prepared.sources, principal)) < len(prepared.sources):
            return False
        return creator == principal.id or not desk.is_personal(prepared.sources)

    # -- schedules ----------------------------------------------------------------------------------------------------

    async def _run(self, job: Job) -> None:
        """Run one scheduled question when it is due, and queue its next run."""
        row = await self._database.fetchrow(
            "SELECT id, app, team, prepared, creator, every, taken FROM analytics_question "
            "WHERE id = $1 AND every = $2",
            job.payload["id"],
            job.payload["every"],
        )
        if row is None:
            return  # deleted, or scheduled otherwise by now
        now = datetime.now(UTC)
        schedule = parse_schedule(row["every"])
        app = self._find(row["app"])
        zone = ZoneInfo(app.config.time_zone if isinstance(app, AnalyticsApp) else "UTC")
        due = schedule.after(row["taken"], zone) if row["taken"] is not None else now
        if due <= now:
            worked = await self._keep(row["id"], row["app"], row["team"], row["creator"], row["prepared"])
            due = schedule.after(now, zone) if worked else now + timedelta(seconds=AWAY_S)
        delay_s = max(1.0, (due - now).total_seconds())
        await self._jobs.enqueue(None, JOB, *_order(row["id"], row["every"]), delay_s=delay_s)

    async def _keep(self, id_: str, app: str, team: str, creator: str, prepared: object) -> bool:
        """Run it on behalf of its creator and keep what comes; whether it came."""
        desk, principal = self._desk(), Principal(id=creator, team=team)
        trouble, kept = "apps.gone", None
        if desk is not None and self._find(app) is not None and self._may_use(principal, app):
            try:
                ran = await desk.run(msgspec.convert(prepared, Prepared), principal, Deadline.after(RUN_S))
                trouble = ran.missing[0].code if ran.missing else ""
                desk.guard().check_label(ran.label, "cache", team)
                if ran.table is not None and not ran.missing:
                    kept = msgspec.to_builtins(_Kept(ran.table.without_rows(KEPT_ROWS_MAX), ran.cites))
                    if len(msgspec.json.encode(kept)) > KEPT_BYTES_MAX:
                        trouble, kept = "apps.result_too_large", None
            except RoadbedError as error:
                trouble = error.code
        if kept is not None:
            sql = "UPDATE analytics_question SET kept = $2, taken = now(), trouble = '' WHERE id = $1"
            await self._database.execute(sql, id_, kept)
        else:
            log.warning("a scheduled question of %s kept nothing: %s", app, trouble)
            await self._database.execute("UPDATE analytics_question SET trouble = $2 WHERE id = $1", id_, trouble)
        return kept is not None


def _order(id_: str, every: str) -> tuple[dict[str, str], str]:
    """A job's payload and key. The schedule is part of both: a job of an earlier one ends by itself."""
    return {"id": id_, "every": every}, f"{id_}/{every}"
