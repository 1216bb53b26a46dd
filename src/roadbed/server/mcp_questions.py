"""Questions to clients of the older MCP versions: asked on the stream of a call, answered by a POST to any process.

The asking process waits; where the answer lands, it is handed over: at once in the same process, else through the
database, which also bounds how many wait in the whole deployment. A cancelled call and an ended session are told the
same way. Values of the wire are not looked at here. The invariant: a question takes one answer, from the principal
who was asked, while its call still waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import re
import secrets
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from roadbed.kernel.errors import RoadbedError
from roadbed.server.mcp_session import SESSION_S
from roadbed.store.database import Database
from roadbed.store.listener import Subscription

log = logging.getLogger("roadbed.mcp")

CHANNEL = "roadbed_mcp"
WAITING_OF_ONE_MAX = 8
WAITING_MAX = 256
ANSWER_BYTES_MAX = 64 * 1024
ENDED_MAX = 20_000
ID_BYTES = 16
ACTIONS = ("accept", "decline", "cancel")
FIELDS_MAX = 16
FIELD = re.compile(r"[a-z_]{1,32}")

Json = dict[str, Any]
Tell = Callable[[str, str, Any], None]


class Relay(Protocol):
    """How processes of one deployment tell each other of answers and cancelled calls."""

    async def start(self, tell: Tell) -> None:
        """Call ``tell(kind, id, value)`` for what other processes handed over."""

    async def open(self, question: str, principal: str, expires_s: float) -> bool:
        """Note a question; False when too many wait."""

    async def answer(self, question: str, principal: str, answer: Json) -> bool:
        """Hand an answer to the process that waits for it; False when none does."""

    async def close(self, question: str) -> None:
        """Forget a question."""

    async def cancel(self, call: str) -> None:
        """Tell the other processes of a cancelled call."""

    async def end(self, session: str) -> None:
        """Have all processes know that a session was ended."""

    async def stop(self) -> None:
        """Listen no more."""


class NoRelay:
    """One process alone."""

    async def start(self, tell: Tell) -> None:
        """See `Relay`."""

    async def open(self, question: str, principal: str, expires_s: float) -> bool:
        """See `Relay`."""
        return True

    async def answer(self, question: str, principal: str, answer: Json) -> bool:
        """See `Relay`."""
        return False

    async def close(self, question: str) -> None:
        """See `Relay`."""

    async def cancel(self, call: str) -> None:
        """See `Relay`."""

    async def end(self, session: str) -> None:
        """See `Relay`."""

    async def stop(self) -> None:
        """See `Relay`."""


def carried(answer: Json) -> Json:
    """What of an answer goes through the database: what its person chose, and each yes or no, never a text. Pure."""
    result = answer.get("result")
    if not isinstance(result, dict):
        return {"error": {}}
    action, content = result.get("action"), result.get("content")
    kept: Json = {"action": action if action in ACTIONS else "cancel"}
    if isinstance(content, dict):
        chosen = {key: value for key, value in content.items() if isinstance(value, bool) and FIELD.fullmatch(key)}
        kept["content"] = dict(sorted(chosen.items())[:FIELDS_MAX])
    return {"result": kept}


class StoredRelay:
    """Processes over one database: a row per question, a notification per answer.

    Only what `carried` lets through reaches another process: enough for what a deployment asks, which is approvals.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._subscription: Subscription | None = None
        self._own: set[str] = set()
        self._fetching: set[asyncio.Task[None]] = set()
        self._tell: Tell = lambda kind, id_, value: None

    async def start(self, tell: Tell) -> None:
        """See `Relay`."""
        self._tell = tell
        self._subscription = await self._database.listen(CHANNEL, self._heard)
        await self._fetched([], with_ends=True)

    async def open(self, question: str, principal: str, expires_s: float) -> bool:
        """See `Relay`."""
        await self._database.execute("DELETE FROM mcp_question WHERE expires < now()")
        tag = await self._database.execute(
            """
            INSERT INTO mcp_question (id, principal, expires)
            SELECT $1, $2, now() + make_interval(secs => $3)
            WHERE (SELECT count(*) FROM mcp_question) < $4
              AND (SELECT count(*) FROM mcp_question WHERE principal = $2) < $5
            """,
            *(question, principal, expires_s, WAITING_MAX, WAITING_OF_ONE_MAX),
        )
        if tag.endswith(" 1"):
            self._own.add(question)
        return question in self._own

    async def answer(self, question: str, principal: str, answer: Json) -> bool:
        """See `Relay`."""
        async with self._database.transaction() as connection:
            row = await connection.fetchrow(
                "UPDATE mcp_question SET answer = $3 WHERE id = $1 AND principal = $2 AND answer IS NULL"
                " AND expires > now() RETURNING id",
                *(question, principal, carried(answer)),
            )
            if row is not None:
                await self._database.notify(CHANNEL, f"answer {question}", connection=connection)
        return row is not None

    async def close(self, question: str) -> None:
        """See `Relay`."""
        self._own.discard(question)
        await self._database.execute("DELETE FROM mcp_question WHERE id = $1", question)

    async def cancel(self, call: str) -> None:
        """See `Relay`."""
        await self._database.notify(CHANNEL, f"cancel {call}")

    async def end(self, session: str) -> None:
        """See `Relay`."""
        async with self._database.transaction() as connection:
            await connection.execute("DELETE FROM mcp_ended_session WHERE expires < now()")
            await connection.execute(
                "INSERT INTO mcp_ended_session (session, expires) SELECT $1, now() + make_interval(secs => $2)"
                " WHERE (SELECT count(*) FROM mcp_ended_session) < $3 ON CONFLICT DO NOTHING",
                *(session, float(SESSION_S), ENDED_MAX),
            )
            await self._database.notify(CHANNEL, f"end {session}", connection=connection)

    async def stop(self) -> None:
        """See `Relay`."""
        if self._subscription is not None:
            await self._subscription.close()
        for task in list(self._fetching):
            task.cancel()
        await asyncio.gather(*self._fetching, return_exceptions=True)

    def _heard(self, payload: str | None) -> None:
        kind, _, id_ = (payload or "").partition(" ")
        if kind in ("cancel", "end"):
            self._tell(kind, id_, None)
        elif kind == "answer" and id_ in self._own:
            self._fetch([id_])
        elif payload is None:  # answers and ends may have been missed
            self._fetch(sorted(self._own), with_ends=True)

    def _fetch(self, questions: list[str], *, with_ends: bool = False) -> None:
        task = asyncio.create_task(self._fetched(questions, with_ends=with_ends), name="mcp-answer")
        self._fetching.add(task)
        task.add_done_callback(self._fetching.discard)

    async def _fetched(self, questions: list[str], *, with_ends: bool) -> None:
        try:
            if with_ends:
                for row in await self._database.fetch("SELECT session FROM mcp_ended_session WHERE expires > now()"):
                    self._tell("end", row["session"], None)
            rows = await self._database.fetch(
                "SELECT id, answer FROM mcp_question WHERE id = ANY($1::text[]) AND answer IS NOT NULL", questions
            )
        except RoadbedError as error:  # its call waits on, until its deadline
            log.warning("an answer could not be fetched: %s", error.code)
            return
        for row in rows:
            self._tell("answer", row["id"], row["answer"])


@dataclass(slots=True)
class _Waiting:
    principal: str
    answer: asyncio.Future[Json | None]


class Questions:
    """The questions and the running calls of one process, which other processes can reach by name."""

    def __init__(self, relay: Relay | None = None) -> None:
        self._relay: Relay = relay or NoRelay()
        self._waiting: dict[str, _Waiting] = {}
        self._running: dict[str, Callable[[], None]] = {}
        self._ended: dict[str, None] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._is_closed = False

    async def start(self) -> None:
        """Listen to the other processes. `StoreUnavailable`."""
        await self._relay.start(self._told)

    async def stop(self) -> None:
        """End every wait, and listen no more."""
        self.give_up()
        await asyncio.gather(*self._ending, return_exceptions=True)
        await self._relay.stop()

    def give_up(self) -> None:
        """No question is waited for any longer: this process is about to end. Their calls go on without an answer."""
        self._is_closed = True
        for waiting in self._waiting.values():
            if not waiting.answer.done():
                waiting.answer.set_result(None)

    async def ask(self, principal: str, send: Callable[[str], Coroutine[Any, Any, None]], wait_s: float) -> Json | None:
        """Send a question under a new id and wait for its answer, as the client's ``{"result"}`` or ``{"error"}``.

        None when nobody answered in time, or too many wait already.
        """
        if self._is_closed or len(self._waiting) >= WAITING_MAX:
            return None
        if sum(waiting.principal == principal for waiting in self._waiting.values()) >= WAITING_OF_ONE_MAX:
            return None
        question = secrets.token_urlsafe(ID_BYTES)
        waiting = _Waiting(principal, asyncio.get_running_loop().create_future())
        self._waiting[question] = waiting
        try:
            if not await self._relay.open(question, principal, wait_s):
                return None
            await send(question)
            with contextlib.suppress(TimeoutError):
                return await asyncio.wait_for(waiting.answer, wait_s)
            return None
        except RoadbedError as error:  # without the database the call goes on as for a client that cannot be asked
            log.warning("a client could not be asked: %s", error.code)
            return None
        finally:
            del self._waiting[question]
            self._end(self._relay.close(question))

    async def answer(self, principal: str, question: str, answer: Json) -> bool:
        """Take a client's answer; False when no question of this id waits for one of this principal."""
        waiting = self._waiting.get(question)
        if waiting is None:
            return await self._relay.answer(question, principal, answer)
        return waiting.principal == principal and self._deliver(waiting, answer)

    @contextlib.contextmanager
    def running(self, call: str, cancel: Callable[[], None]) -> Iterator[None]:
        """Have ``cancel`` called when the client cancels the call of this name, wherever that is said."""
        self._running[call] = cancel
        try:
            yield
        finally:
            if self._running.get(call) is cancel:
                del self._running[call]

    async def cancel(self, call: str) -> None:
        """Cancel a call of this process or of another."""
        found = self._running.get(call)
        if found is not None:
            found()
        else:
            await self._relay.cancel(call)

    async def end_session(self, name: str) -> None:
        """A client ended its session: no process goes on with it. `StoreUnavailable`."""
        self._note_end(name)
        await self._relay.end(name)

    def has_ended(self, name: str) -> bool:
        """Whether a session was ended by its client."""
        return name in self._ended

    def _note_end(self, name: str) -> None:
        self._ended[name] = None
        if len(self._ended) > ENDED_MAX:
            del self._ended[next(iter(self._ended))]

    def _deliver(self, waiting: _Waiting, answer: Json) -> bool:
        if waiting.answer.done():
            return False
        waiting.answer.set_result(answer)
        return True

    def _told(self, kind: str, id_: str, value: Any) -> None:
        if kind == "end":
            self._note_end(id_)
        elif kind == "cancel" and id_ in self._running:
            self._running[id_]()
        elif kind == "answer" and id_ in self._waiting and isinstance(value, dict):
            self._deliver(self._waiting[id_], value)

    def _end(self, work: Coroutine[Any, Any, None]) -> None:
        """Forget a question even when its call was cancelled; a row that stays ends by itself."""

        async def end() -> None:
            with contextlib.suppress(RoadbedError):
                await work

        task = asyncio.create_task(end(), name="mcp-question-end")
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)


def call_name(session: str, number: Any) -> str:
    """The name of a running call: its session's name, and a digest of the client's own id."""
    return f"{session}:{hashlib.sha256(msgspec.json.encode(number)).hexdigest()[:32]}"
