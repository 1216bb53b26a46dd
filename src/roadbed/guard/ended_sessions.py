"""Console sessions that their people ended by signing out, so that a copy of the cookie is good for nothing.

A session is a signed cookie and stored nowhere; its end is a row of ``sign_in_token``, by the cookie's digest, until
the session would have ended anyway. Each process has them in memory: read at its start, then told by notification.
While the database is away, an end holds in the process that was asked. The invariant: no cookie is kept, only digests.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from roadbed.kernel.clock import Clock
from roadbed.kernel.errors import DeadlineExceeded, Unavailable
from roadbed.store.database import Database

CHANNEL: Final = "session_ended"
SPENT_CHANNEL: Final = "sign_in_spent"
ENDED_MAX: Final = 10_000
SPENT_MAX: Final = 10_000
AWAY: Final = (Unavailable, DeadlineExceeded)


class EndedSessions:
    """The ended sessions of a deployment, as one process knows them."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self.changed = asyncio.Event()
        self._database = database
        self._clock = clock
        self._until: dict[bytes, int] = {}
        self._spent: dict[bytes, int] = {}  # where no table can keep it
        self._reading: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Hear of ends from now on, and read those before. `StoreUnavailable`."""
        await self._database.listen(CHANNEL, self._heard)
        await self._database.listen(SPENT_CHANNEL, self._heard_spent)
        await self._read()

    def __len__(self) -> int:
        return len(self._until)

    def __contains__(self, cookie: object) -> bool:
        return bool(self._until) and isinstance(cookie, str) and digest_of(cookie) in self._until

    async def add(self, cookie: str, expires: int) -> None:
        """End a session that would last until ``expires`` (seconds since 1970), here at once and then everywhere."""
        digest = digest_of(cookie)
        self.note(digest, expires)
        with contextlib.suppress(*AWAY):
            # The table asks for a key, and a person or a certificate has none: any one stands for the deployment.
            await self._database.execute(
                "INSERT INTO sign_in_token (digest, key_id, expires, used)"
                " SELECT $1, (SELECT id FROM api_key ORDER BY created LIMIT 1), $2, $3 ON CONFLICT DO NOTHING",
                *(digest, datetime.fromtimestamp(expires, UTC), self._clock.wall()),
            )
            await self._database.notify(CHANNEL, f"{digest.hex()} {expires}")

    async def spend(self, once: str, expires: int) -> bool:
        """Use what may be used once before ``expires``, in whichever process; False where it was.

        Without any key there is no row: each process remembers, and another one knows once it was told.
        """
        digest = digest_of(once)
        taken = await self._database.fetchval(
            "INSERT INTO sign_in_token (digest, key_id, expires, used) SELECT $1, one.id, $2, $3"
            " FROM (SELECT id FROM api_key ORDER BY created LIMIT 1) one ON CONFLICT DO NOTHING RETURNING true",
            *(digest, datetime.fromtimestamp(expires, UTC), self._clock.wall()),
        )
        if taken is None:  # it was used, or there is no key at all that a row could belong to
            kept = await self._database.fetchval("SELECT true FROM sign_in_token WHERE digest = $1", digest)
            if kept or digest in self._spent:
                return False
            self._note_spent(digest, expires)
            await self._database.notify(SPENT_CHANNEL, f"{digest.hex()} {expires}")
        return True

    def note(self, digest: bytes, expires: int) -> None:
        """Know of an end; the oldest are forgotten where there are too many."""
        self._take({digest: expires})

    def _take(self, ends: Mapping[bytes, int]) -> None:
        now = self._clock.wall().timestamp()
        kept = [(digest, until) for digest, until in {**self._until, **ends}.items() if until > now]
        self._until = dict(kept[-ENDED_MAX:])
        self.changed.set()

    def _heard(self, payload: str | None) -> None:
        if payload is None:  # some may have been missed
            self._reading = asyncio.get_running_loop().create_task(self._read(), name="ended-sessions")
            return
        digest, _, expires = payload.partition(" ")
        self.note(bytes.fromhex(digest), int(expires))

    def _heard_spent(self, payload: str | None) -> None:
        if payload is not None:
            digest, _, expires = payload.partition(" ")
            self._note_spent(bytes.fromhex(digest), int(expires))
            self.changed.set()

    def _note_spent(self, digest: bytes, expires: int) -> None:
        now = self._clock.wall().timestamp()
        kept = [(known, until) for known, until in self._spent.items() if until > now]
        self._spent = dict([*kept, (digest, expires)][-SPENT_MAX:])

    async def _read(self) -> None:
        with contextlib.suppress(*AWAY):
            rows = await self._database.fetch(
                "SELECT digest, expires FROM sign_in_token WHERE used IS NOT NULL AND expires > $1"
                " ORDER BY expires DESC LIMIT $2",
                *(self._clock.wall(), ENDED_MAX),
            )
            self._take({bytes(row["digest"]): int(row["expires"].timestamp()) for row in reversed(rows)})


def digest_of(cookie: str) -> bytes:
    """What stands for a session once it has ended."""
    return hashlib.sha256(cookie.encode()).digest()
