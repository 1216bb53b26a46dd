"""The documents that MCP clients of the older versions follow: what they last knew lies in the database.

A subscription belongs to a session and its principal; a stream of that session, on any process, learns what changed
since it was told last. Whether the caller may read a document is asked each time. The invariant: a change is told on
one stream of a session alone, and to nobody who could never read the document.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any

from roadbed.knowledge.service import Knowledge
from roadbed.server.mcp_offering import as_reader, document_id, document_uri, no_such_document
from roadbed.server.mcp_session import SESSION_S, Session, principal_key
from roadbed.server.mcp_types import INVALID_REQUEST, Caller, McpFault
from roadbed.store.database import Database

FOLLOWED_BY_SESSION_MAX = 100
FOLLOWED_BY_ONE_MAX = 500
FOLLOWED_MAX = 20_000


class DocumentFollows:
    """See `Follows`: over the documents of a deployment."""

    def __init__(self, database: Database, knowledge: Knowledge) -> None:
        self._database = database
        self._knowledge = knowledge
        self._watching: set[asyncio.Event] = set()
        self._subscription: Any = None

    async def start(self) -> None:
        """Learn of changes made by any process. `StoreUnavailable`."""
        self._subscription = await self._knowledge.follow(self._wake)

    async def stop(self) -> None:
        """Learn of no more changes."""
        if self._subscription is not None:
            await self._subscription.close()

    async def add(self, caller: Caller, uri: str) -> None:
        """See `Follows`."""
        session, id_ = session_of(caller), document_id(uri)
        versions = await self._knowledge.versions([id_], as_reader(caller.principal))
        if id_ not in versions:
            raise no_such_document(uri)
        await self._database.execute("DELETE FROM mcp_subscription WHERE expires < now()")
        tag = await self._database.execute(
            """
            INSERT INTO mcp_subscription (session, document, principal, version, expires)
            SELECT $1, $2, $3, $4, now() + make_interval(secs => $5)
            WHERE (SELECT count(*) FROM mcp_subscription) < $6
              AND (SELECT count(*) FROM mcp_subscription WHERE principal = $3) < $7
              AND (SELECT count(*) FROM mcp_subscription WHERE session = $1 AND document <> $2) < $8
            ON CONFLICT (session, document) DO UPDATE SET expires = excluded.expires
            """,
            *(session.name, id_, principal_key(caller.principal), versions[id_], float(SESSION_S)),
            *(FOLLOWED_MAX, FOLLOWED_BY_ONE_MAX, FOLLOWED_BY_SESSION_MAX),
        )
        if not tag.endswith(" 1"):
            raise McpFault(INVALID_REQUEST, "too many documents are followed; unsubscribe from some")

    async def remove(self, caller: Caller, uri: str) -> None:
        """See `Follows`."""
        await self._database.execute(
            "DELETE FROM mcp_subscription WHERE session = $1 AND document = $2 AND principal = $3",
            *(session_of(caller).name, document_id(uri), principal_key(caller.principal)),
        )

    async def end(self, caller: Caller) -> None:
        """See `Follows`."""
        await self._database.execute(
            "DELETE FROM mcp_subscription WHERE session = $1 AND principal = $2",
            *(session_of(caller).name, principal_key(caller.principal)),
        )

    async def changed(self, caller: Caller) -> list[str]:
        """See `Follows`."""
        session = session_of(caller)
        rows = await self._database.fetch(
            "SELECT document, version FROM mcp_subscription WHERE session = $1 AND principal = $2 AND expires > now()",
            *(session.name, principal_key(caller.principal)),
        )
        if not rows:
            return []
        versions = await self._knowledge.versions([row["document"] for row in rows], as_reader(caller.principal))
        found = [row["document"] for row in rows if row["version"] != versions.get(row["document"], "")]
        if not found:
            return []
        told = await self._database.fetch(
            """
            UPDATE mcp_subscription s SET version = c.version
            FROM unnest($2::text[], $3::text[]) AS c (document, version)
            WHERE s.session = $1 AND s.document = c.document AND s.version <> c.version
            RETURNING s.document
            """,
            *(session.name, found, [versions.get(id_, "") for id_ in found]),
        )
        return [document_uri(row["document"]) for row in told]

    @contextlib.contextmanager
    def watching(self) -> Iterator[asyncio.Event]:
        """See `Follows`."""
        event = asyncio.Event()
        self._watching.add(event)
        try:
            yield event
        finally:
            self._watching.discard(event)

    def _wake(self) -> None:
        for event in self._watching:
            event.set()


def session_of(caller: Caller) -> Session:
    """The caller's session; what is followed hangs on it."""
    if caller.session is None:
        raise McpFault(INVALID_REQUEST, "following needs the session id that initialize gave")
    return caller.session
