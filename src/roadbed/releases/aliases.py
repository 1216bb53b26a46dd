"""`Releases`: stored releases, the aliases that point to them, and the snapshot that requests are served from.

A move is one transaction: the counter row serialises moves, the steps of ``moves.py`` are applied, history is
written, and ``NOTIFY roadbed_alias`` tells every process. Each process keeps the live releases as one immutable
mapping and replaces it whole; a poll is the safety net, and the mapping stays as it is while PostgreSQL is away.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from roadbed.kernel.errors import Conflict, DeadlineExceeded, NotFound, Unavailable
from roadbed.kernel.release import Release
from roadbed.releases.compile import unseal
from roadbed.releases.moves import CANDIDATE, LIVE, Alias, Step, plan_promote, plan_rollback, plan_save
from roadbed.store.database import Database

log = logging.getLogger("roadbed.releases")

CHANNEL = "roadbed_alias"
POLL_INTERVAL_S = 2.0
HISTORY_MAX = 200


class NoSuchRelease(NotFound):
    """No release with this digest (or beginning of one) belongs to the app."""

    code = "releases.not_found"
    hint = "`roadbed releases APP` lists them"


class NothingToRollBack(Conflict):
    """The app has served only one release, so there is nothing to go back to."""

    code = "releases.no_previous"


@dataclass(frozen=True, slots=True)
class AliasMove:
    """One line of the history of an alias."""

    app: str
    name: str
    digest: str | None
    previous: str | None
    action: str
    actor: str
    reason: str
    at: datetime


@dataclass(frozen=True, slots=True)
class AppReleases:
    """What an app serves: its live and candidate digests, and whether a rollback holds it."""

    app: str
    live: str | None
    candidate: str | None
    is_held: bool


class Releases:
    """The release store of one deployment and this process's snapshot of what is live."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._live: Mapping[str, Release] = {}
        self._generation = -1
        self._listeners: list[Callable[[Mapping[str, Release]], None]] = []
        self._refreshing = asyncio.Lock()
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.before_promote: Callable[[str, str], Awaitable[None]] | None = None
        self.before_rollback: Callable[[str, bool], Awaitable[None]] | None = None

    @property
    def live(self) -> Mapping[str, Release]:
        """The live release of each app: an immutable mapping, replaced as a whole when an alias moves."""
        return self._live

    def on_change(self, listener: Callable[[Mapping[str, Release]], None]) -> None:
        """Call ``listener`` with the new mapping whenever it is replaced."""
        self._listeners.append(listener)

    async def start(self) -> None:
        """Load the snapshot and follow changes."""
        await self._database.listen(CHANNEL, lambda payload: self._changed.set())
        await self.refresh()
        self._task = asyncio.create_task(self._follow(), name="releases-follow")

    async def close(self) -> None:
        """Stop following changes."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _follow(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), POLL_INTERVAL_S)
            self._changed.clear()
            with contextlib.suppress(Unavailable, DeadlineExceeded):
                await self.refresh()

    async def refresh(self) -> None:
        """Read the aliases when their counter has moved, and swap the snapshot."""
        async with self._refreshing:
            generation = await self._database.fetchval("SELECT value FROM alias_counter")
            if generation == self._generation:
                return
            rows = await self._database.fetch(
                "SELECT alias.app, digest, manifest FROM alias JOIN release USING (digest) WHERE name = $1", LIVE
            )
            fresh: dict[str, Release] = {}
            for row in rows:
                known = self._live.get(row["app"])
                if known is not None and known.digest == row["digest"]:
                    fresh[row["app"]] = known
                    continue
                release = unseal(row["app"], row["digest"], bytes(row["manifest"])) or known
                if release is None or release is known:
                    log.error("the stored release of %s is damaged; the one in memory keeps serving", row["app"])
                if release is not None:
                    fresh[row["app"]] = release
            self._live, self._generation = fresh, generation
            for listener in self._listeners:
                listener(fresh)

    async def save(
        self,
        compiled: Mapping[str, Release],
        *,
        auto_promote: bool,
        actor: str,
        needs_two: bool = False,
        goes_first: str = "",
    ) -> list[AliasMove]:
        """Store what a workspace compiled to and move the aliases that `plan_save` says; returns the moves. With
        ``needs_two`` nothing goes live by itself, but for the first releases that a deployment ever has, and
        ``goes_first`` while it serves none.
        """
        async with self._database.transaction() as connection:
            generation = await self._next_generation(connection)
            aliases = await self._aliases(connection)
            await connection.executemany(
                "INSERT INTO release (digest, app, manifest) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
                [(release.digest, app, release.manifest) for app, release in compiled.items()],
            )
            digests = {app: release.digest for app, release in compiled.items()}
            holds_new = needs_two and await connection.fetchval("SELECT EXISTS (SELECT FROM alias_history)")
            steps = plan_save(
                aliases,
                digests,
                auto_promote=auto_promote and not needs_two,
                holds_new=holds_new,
                goes_first=goes_first,
            )
            moves = await self._apply(connection, generation, aliases, steps, actor, "")
        await self.refresh()
        return moves

    async def wanted(self, app: str, digest: str | None) -> str:
        """The whole digest of a release that a promotion names; the candidate's without one. `NoSuchRelease`."""
        async with self._database.transaction() as connection:
            if digest is not None:
                return await self._full_digest(connection, app, digest)
            candidate = (await self._aliases(connection)).get((app, CANDIDATE))
        if candidate is None:
            raise NoSuchRelease(f"{app} has no candidate to promote")
        return candidate.digest

    async def promote(
        self, app: str, digest: str | None, *, actor: str, reason: str = "", agreed: str = ""
    ) -> AliasMove:
        """Make a release live (the candidate when no digest is given) and end a hold; ``agreed`` is who agreed to it
        where that takes a second person. Raises `NoSuchRelease`, and whatever ``before_promote`` refuses it with.
        """
        if self.before_promote is not None:
            await self.before_promote(app, agreed)
        async with self._database.transaction() as connection:
            generation = await self._next_generation(connection)
            aliases = await self._aliases(connection)
            if digest is not None:
                chosen = await self._full_digest(connection, app, digest)
            elif (app, CANDIDATE) in aliases:
                chosen = aliases[(app, CANDIDATE)].digest
            else:
                raise NoSuchRelease(f"{app} has no candidate to promote")
            moves = await self._apply(
                connection, generation, aliases, plan_promote(aliases, app, chosen), actor, reason
            )
        await self.refresh()
        return moves[0]

    async def rollback(self, app: str, digest: str | None, *, actor: str, reason: str = "") -> AliasMove:
        """Move ``live`` back (to the release before, when no digest is given) and hold it there.

        Raises `NoSuchRelease`, `NothingToRollBack`.
        """
        async with self._database.transaction() as connection:
            generation = await self._next_generation(connection)
            aliases = await self._aliases(connection)
            live = aliases.get((app, LIVE))
            if live is None:
                raise NoSuchRelease(f"{app} serves no release")
            if digest is not None:
                chosen: str | None = await self._full_digest(connection, app, digest)
                if self.before_rollback is not None:
                    await self.before_rollback(app, await self._was_live(connection, app, str(chosen)))
            else:
                chosen = await self._release_before(connection, app, live.digest)
            if chosen is None:
                raise NothingToRollBack(f"{app} has served no other release than {live.digest[:12]}")
            steps = plan_rollback(aliases, app, chosen)
            moves = await self._apply(connection, generation, aliases, steps, actor, reason)
        await self.refresh()
        return moves[0]

    @staticmethod
    async def _release_before(connection: Any, app: str, digest: str) -> str | None:
        """What was live before ``digest`` last went live by a save or promotion (a rollback is not a way forward)."""
        previous = await connection.fetchval(
            "SELECT previous FROM alias_history WHERE app = $1 AND name = $2 AND digest = $3 AND previous <> $3"
            " AND action IN ('save', 'promote') ORDER BY generation DESC LIMIT 1",
            app,
            LIVE,
            digest,
        )
        return cast("str | None", previous)

    @staticmethod
    async def _was_live(connection: Any, app: str, digest: str) -> bool:
        return cast(
            bool,
            await connection.fetchval(
                "SELECT EXISTS (SELECT FROM alias_history WHERE app = $1 AND name = $2 AND digest = $3)",
                *(app, LIVE, digest),
            ),
        )

    @staticmethod
    async def _next_generation(connection: Any) -> int:
        return cast(int, await connection.fetchval("UPDATE alias_counter SET value = value + 1 RETURNING value"))

    @staticmethod
    async def _aliases(connection: Any) -> dict[tuple[str, str], Alias]:
        rows = await connection.fetch("SELECT app, name, digest, held FROM alias")
        return {(row["app"], row["name"]): Alias(row["digest"], row["held"]) for row in rows}

    @staticmethod
    async def _full_digest(connection: Any, app: str, beginning: str) -> str:
        rows = await connection.fetch(
            "SELECT digest FROM release WHERE app = $1 AND starts_with(digest, $2) LIMIT 2", app, beginning.lower()
        )
        if len(rows) != 1:
            what = "is not a release" if not rows else "is the beginning of several releases"
            raise NoSuchRelease(f"{beginning} {what} of {app}")
        return cast(str, rows[0]["digest"])

    async def _apply(
        self,
        connection: Any,
        generation: int,
        aliases: Mapping[tuple[str, str], Alias],
        steps: list[Step],
        actor: str,
        reason: str,
    ) -> list[AliasMove]:
        moves = []
        for step in steps:
            present = aliases.get((step.app, step.name))
            previous = present.digest if present is not None else None
            if step.digest is None:
                await connection.execute("DELETE FROM alias WHERE app = $1 AND name = $2", step.app, step.name)
            else:
                await connection.execute(
                    "INSERT INTO alias (app, name, digest, generation, held) VALUES ($1, $2, $3, $4, $5)"
                    " ON CONFLICT (app, name) DO UPDATE"
                    " SET digest = excluded.digest, generation = excluded.generation, held = excluded.held",
                    step.app,
                    step.name,
                    step.digest,
                    generation,
                    step.is_held,
                )
            at = await connection.fetchval(
                "INSERT INTO alias_history (generation, app, name, digest, previous, action, actor, reason)"
                " VALUES ($1, $2, $3, $4, $5, $6, $7, $8) RETURNING at",
                generation,
                step.app,
                step.name,
                step.digest,
                previous,
                step.action,
                actor,
                reason,
            )
            moves.append(AliasMove(step.app, step.name, step.digest, previous, step.action, actor, reason, at))
        if moves:
            await self._database.notify(CHANNEL, str(generation), connection=connection)
        return moves

    async def apps(self) -> list[AppReleases]:
        """Every app with its aliases."""
        rows = await self._database.fetch(
            "SELECT app, max(digest) FILTER (WHERE name = 'live') AS live,"
            " max(digest) FILTER (WHERE name = 'candidate') AS candidate, bool_or(held) AS held"
            " FROM alias GROUP BY app ORDER BY app"
        )
        return [AppReleases(row["app"], row["live"], row["candidate"], row["held"]) for row in rows]

    async def history(self, app: str, limit: int = 50) -> list[AliasMove]:
        """The newest moves of an app's aliases, newest first."""
        rows = await self._database.fetch(
            "SELECT app, name, digest, previous, action, actor, reason, at FROM alias_history WHERE app = $1"
            " ORDER BY generation DESC, name LIMIT $2",
            app,
            min(limit, HISTORY_MAX),
        )
        return [AliasMove(*row.values()) for row in rows]

    async def serving(self, app: str) -> Release | None:
        """What an app serves by the database, for whoever asks before `start`; None when nothing, or damaged."""
        row = await self._database.fetchrow(
            "SELECT digest, manifest FROM alias JOIN release USING (digest) WHERE alias.app = $1 AND name = $2",
            *(app, LIVE),
        )
        return unseal(app, row["digest"], bytes(row["manifest"])) if row is not None else None

    async def release(self, app: str, digest: str) -> Release:
        """A stored release by its digest or the beginning of it. Raises `NoSuchRelease`."""
        async with self._database.transaction() as connection:
            full = await self._full_digest(connection, app, digest)
            manifest = await connection.fetchval("SELECT manifest FROM release WHERE digest = $1", full)
        release = unseal(app, full, bytes(manifest))
        if release is None:
            raise NoSuchRelease(f"the stored release {full[:12]} of {app} is damaged")
        return release
