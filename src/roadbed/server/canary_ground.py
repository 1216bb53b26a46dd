"""`CanaryGround`: the canary control's place in a running deployment: its key, its objects, and calls over real HTTP.

Every run makes a key that lives for minutes and may call the control's own objects alone, and leaves nothing: document,
key, traces and usage of the run are removed at its end, and at the next run's start where a run was killed. The
invariant: no other caller's objects are touched.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import sqlite3
import ssl
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

from roadbed.controls import canary
from roadbed.controls import canary_requests as paths
from roadbed.guard.identity import Identity
from roadbed.guard.keys import SCIM_SCOPE
from roadbed.guard.scim import GROUP
from roadbed.kernel.deadline import Deadline
from roadbed.kernel.errors import DeadlineExceeded, InvalidRequest, NotFound, RoadbedError, Unavailable
from roadbed.kernel.ids import new_id
from roadbed.kernel.principal import SYSTEM
from roadbed.knowledge.embed import EmbeddingWorker
from roadbed.knowledge.service import Knowledge
from roadbed.ledger.audit_record import event_of
from roadbed.ledger.ledger import Ledger
from roadbed.server.audit import AuditTrail
from roadbed.server.canary_objects import APPS, MODELS, STRANGERS, TEAM, books_file
from roadbed.server.model_approvals import keep_approval
from roadbed.server.teams import Teams
from roadbed.server.written import written
from roadbed.store.database import Database
from roadbed.tools.toolbox import ToolBox
from roadbed.tools.types import Failed, Refused

KEY_LIVES: Final = timedelta(minutes=15)
CALL_S: Final = 30.0
ANSWER_BYTES_MAX: Final = 16 * 1024 * 1024
SHOWN_S: Final = 10.0
LOOK_S: Final = 0.05
GOOD_ANSWERS: Final = 3
KEY_NAME: Final = "a control's own"
TEAMS: Final = [TEAM, STRANGERS]


class NotServed(Unavailable):
    """A control's own request could not be made."""

    code = "controls.not_served"


class Parts(Protocol):
    """What the ground needs of the services."""

    database: Database
    identity: Identity
    knowledge: Knowledge
    embedder: EmbeddingWorker
    ledger: Ledger
    trail: AuditTrail
    teams: Teams

    @property
    def toolbox(self) -> ToolBox:
        """The tools that serve."""

    def show_canary(self, url: str) -> None:
        """Serve the control's objects."""


async def keep_note(parts: Parts, kind: str, principal_id: str, text: str) -> None:
    """Keep what a person wrote about something done by hand, with placeholders for what is personal or secret."""
    guarded = written(parts.teams, text).text
    await parts.database.execute(
        "INSERT INTO control_note (id, kind, actor, note) VALUES ($1, $2, $3, $4)",
        *(new_id(), kind, parts.trail.pseudonym(principal_id), guarded),
    )


def write_books(file: Path, rows: list[tuple[str, str, int]]) -> None:
    """A database with one table, in the place of what was there."""
    file.unlink(missing_ok=True)
    with contextlib.closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("CREATE TABLE ledger (person TEXT NOT NULL, note TEXT NOT NULL, fee INTEGER NOT NULL)")
        connection.executemany("INSERT INTO ledger VALUES (?, ?, ?)", rows)


async def _nothing() -> None:
    """An act of the control's own: the record is all of it."""


class HttpCaller:
    """Calls of this deployment's own address, by any key. The certificate is not checked: it is this process's own."""

    def __init__(self) -> None:
        self.url = ""

    async def call(self, method: str, path: str, body: Any = None, *, key: str) -> tuple[int, bytes]:
        """One request. `NotServed`."""
        if not self.url:
            raise NotServed("the server does not listen yet")
        try:
            return await asyncio.to_thread(self._call, method, path, body, key)
        except (OSError, http.client.HTTPException) as error:
            raise NotServed(f"its own server does not answer ({type(error).__name__})") from None

    def _call(self, method: str, path: str, body: Any, key: str) -> tuple[int, bytes]:
        parts = urlsplit(self.url)
        host = parts.hostname or "127.0.0.1"
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - what is listened on, not bound here
        if parts.scheme == "https":
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                host, parts.port, timeout=CALL_S, context=context
            )
        else:
            connection = http.client.HTTPConnection(host, parts.port, timeout=CALL_S)
        with contextlib.closing(connection):
            data = json.dumps(body).encode() if body is not None else None
            headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
            connection.request(method, path, data, headers)
            response = connection.getresponse()
            return response.status, response.read(ANSWER_BYTES_MAX)


class CanaryGround:
    """One per owner. Implements `controls.canary.Ground`."""

    def __init__(self, parts: Parts, caller: HttpCaller, state: Path) -> None:
        self._books = books_file(state)
        self.heard: list[str] = []
        self._parts = parts
        self._caller = caller
        self._key = self._key_id = self._directory_key = ""
        self._documents: list[str] = []

    async def open(self, url: str) -> None:
        """Make the objects, and wait until every serving process shows them."""
        await self._sweep()
        self._parts.show_canary(url)
        self.heard = []
        self._parts.embedder.heard = self.heard
        record, self._key = await self._parts.identity.create_key(
            team=TEAM,
            roles=("member", "auditor"),
            apps=APPS,
            models=MODELS,
            name=KEY_NAME,
            expires=datetime.now(UTC) + KEY_LIVES,
        )
        self._key_id = record.id
        _, self._directory_key = await self._parts.identity.create_key(
            team=TEAM, scopes=(SCIM_SCOPE,), name=KEY_NAME, expires=datetime.now(UTC) + KEY_LIVES
        )
        body = {"model": paths.LOCAL, "messages": [{"role": "user", "content": "Are you there?"}]}
        if not await self._is_served(self._key, "POST", "/v1/chat/completions", body):
            raise NotServed("its own routes are not served")

    async def _is_served(self, key: str, method: str, path: str, body: Any = None) -> bool:
        """Wait until this is answered, several times in a row: each time it may be another process that answers."""
        deadline = time.monotonic() + SHOWN_S
        good = 0
        while good < GOOD_ANSWERS and time.monotonic() < deadline:
            status, _ = await self.call_as(key, method, path, body)
            good = good + 1 if status == 200 else 0
            if not good:
                await asyncio.sleep(LOOK_S)
        return good > 0

    async def close(self) -> None:
        """Take everything back."""
        self._parts.embedder.heard = None
        self._parts.show_canary("")
        await asyncio.to_thread(self._books.unlink, missing_ok=True)
        for document_id in self._documents:
            with contextlib.suppress(NotFound):
                await self._parts.knowledge.delete_document(document_id, SYSTEM)
        self._documents = []
        with contextlib.suppress(RoadbedError):
            await self._parts.identity.revoke_key(self._key_id)
        await self._sweep()

    async def _sweep(self) -> None:
        """Remove what a run leaves, of this one or of one that was killed."""
        database = self._parts.database
        await self._parts.ledger.flush()
        async with database.transaction() as connection:
            await connection.execute(
                "DELETE FROM span WHERE trace_id IN (SELECT id FROM trace WHERE team = ANY($1))", TEAMS
            )
            await connection.execute("DELETE FROM trace WHERE team = ANY($1)", TEAMS)
            await connection.execute("DELETE FROM usage WHERE team = ANY($1)", TEAMS)
            await connection.execute("DELETE FROM control_plant")
            await connection.execute("DELETE FROM control_note WHERE kind = 'canary'")
            await connection.execute("DELETE FROM analytics_question WHERE team = ANY($1)", TEAMS)
            await connection.execute("DELETE FROM tool_approval WHERE team = ANY($1)", TEAMS)
            await connection.execute("DELETE FROM model_approval WHERE model = $1", TEAM)
            await connection.execute("DELETE FROM api_key WHERE team = ANY($1)", TEAMS)
            await connection.execute("DELETE FROM person_group WHERE external_id = $1", TEAM)
            left = await connection.fetch("SELECT id FROM document WHERE source = $1", paths.COLLECTION)
        for row in left:
            with contextlib.suppress(NotFound):
                await self._parts.knowledge.delete_document(row["id"], SYSTEM)
        await self._parts.identity.refresh()

    async def call(self, method: str, path: str, body: Any = None) -> tuple[int, bytes]:
        """A request by the control's key."""
        return await self._caller.call(method, path, body, key=self._key)

    async def call_as(self, key: str, method: str, path: str, body: Any = None) -> tuple[int, bytes]:
        """A request by another key."""
        return await self._caller.call(method, path, body, key=key)

    async def stranger(self) -> tuple[str, str]:
        """A key of another team, without any role but a member's, which every process knows. `NotServed`.

        Before they all know it, it is refused because nobody knows it, and a control would take that for its answer.
        """
        record, key = await self._parts.identity.create_key(
            team=STRANGERS, apps=(*APPS, *MODELS), name=KEY_NAME, expires=datetime.now(UTC) + KEY_LIVES
        )
        if not await self._is_served(key, "GET", "/v1/models"):
            raise NotServed("a fresh key is not let in")
        return record.id, key

    async def revoke(self, key_id: str) -> None:
        """End a key."""
        await self._parts.identity.revoke_key(key_id)

    async def add_document(self, name: str, text: str | bytes, media_type: str = "text/markdown") -> str:
        """Upload a document."""
        data = text.encode() if isinstance(text, str) else text
        document_id = await self._parts.knowledge.add_document(
            paths.COLLECTION, name, data, SYSTEM, media_type=media_type
        )
        self._documents.append(document_id)
        return document_id

    def shows_secrets(self) -> bool:
        """Whether the manifest lets secrets that models write reach callers."""
        return not self._parts.teams.guard.hides_secrets

    async def state_of(self, document_id: str) -> str:
        """How far it is."""
        state = await self._parts.database.fetchval("SELECT state FROM document WHERE id = $1", document_id)
        return str(state or "pending")

    async def name_key(self, name: str) -> None:
        """Try to make a key of this name."""
        with contextlib.suppress(InvalidRequest):
            await self._parts.identity.create_key(
                team=STRANGERS, name=name, expires=datetime.now(UTC) + timedelta(minutes=1)
            )

    async def name_group(self, name: str) -> tuple[int, bytes]:
        """Try to make a group of people of this name, as a directory does."""
        body = {"schemas": [GROUP], "displayName": name, "externalId": TEAM}
        return await self.call_as(self._directory_key, "POST", "/scim/v2/Groups", body)

    async def approve(self, who: str, note: str) -> None:
        """Keep an approval of a model that there is not."""
        with contextlib.suppress(InvalidRequest):
            await keep_approval(self._parts, TEAM, "", who, note, "system")

    async def approve_call(self, approval_id: str) -> tuple[int, bytes]:
        """Approve a call of the control's own tool. Its key may not: that takes an admin's."""
        try:
            outcome = await self._parts.toolbox.approve(approval_id, SYSTEM, Deadline.after(CALL_S))
        except RoadbedError as error:
            return error.http_status, f"{error.code}: {error.message}".encode()
        if isinstance(outcome, Refused | Failed):
            return 503, f"{outcome.code}: {outcome.message}".encode()
        return 200, b"{}"

    async def keep_books(self, rows: list[tuple[str, str, int]]) -> None:
        """Write the database of the control's app anew."""
        await asyncio.to_thread(write_books, self._books, rows)

    async def plant(self, text: str) -> None:
        """Store a text in a table."""
        await self._parts.database.execute("INSERT INTO control_plant (text) VALUES ($1)", text)

    def note(self, resource: str, detail: str) -> None:
        """Record an act on something that a person named."""
        # As records were before names were masked in them: what shows and hands them out must mask them itself.
        event = event_of("controls.canary", actor="system", resource=resource, outcome="ok", words=detail)
        self._parts.trail.audit.note(event)

    async def act(self, resource: str) -> None:
        """Record an act before and after it, as every way in does."""
        await self._parts.trail.doing("controls.canary", "system", resource, _nothing)

    async def note_by_hand(self, text: str) -> None:
        """Keep a note, as `roadbed controls note-restore` does."""
        await keep_note(self._parts, "canary", "system", text)

    async def settle(self, requests: int) -> None:
        """Wait for the records of this process, and for those of the others within a bound."""
        await self._parts.ledger.flush()
        await self._parts.trail.act("controls.canary", "system", "settled")
        deadline = time.monotonic() + canary.SETTLE_S
        with contextlib.suppress(DeadlineExceeded):
            while time.monotonic() < deadline:
                found = await self._parts.database.fetchval("SELECT count(*) FROM trace WHERE team = $1", TEAM)
                if found >= requests:
                    return
                await asyncio.sleep(LOOK_S)
