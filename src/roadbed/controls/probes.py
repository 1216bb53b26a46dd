"""Controls that try what must not work: a revoked key, a label at the wrong endpoint, another team's documents, the
data of a person who was erased.

Each stands on the canary's ground, so real requests go over real HTTP and nobody's data is touched. Each first shows
that the thing works where it may: a probe that is refused everywhere proves nothing and is invalid.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, Protocol

from roadbed.controls import canary
from roadbed.controls import canary_requests as paths
from roadbed.controls.control import Result, judged
from roadbed.controls.loopback import Loopback
from roadbed.controls.planted import Run

HOUR_S: Final = 3600.0
DAY_S: Final = 86_400.0
WEEK_S: Final = 7 * DAY_S
LOCKED_OUT_S: Final = 1.0
LOOKS_MAX: Final = 200
QUIET_REQUESTS: Final = 8
SEALED: Final = "_canary-sealed"
MODELS_PATH: Final = "/v1/models"
CHAT_PATH: Final = "/v1/chat/completions"


class ProbeGround(canary.Ground, Protocol):
    """What probes need beyond the canary's ground."""

    async def stranger(self) -> tuple[str, str]:
        """The id and the value of a key of another team, which lives for minutes."""

    async def call_as(self, key: str, method: str, path: str, body: Any = None) -> tuple[int, bytes]:
        """A request by that key."""

    async def revoke(self, key_id: str) -> None:
        """End a key."""


@asynccontextmanager
async def standing_on(ground: ProbeGround) -> AsyncIterator[Loopback]:
    """The ground with its objects, taken back at the end."""
    async with Loopback() as loopback:
        try:
            await ground.open(loopback.url)
            yield loopback
        finally:
            await ground.close()


class Lockout:
    """A revoked key opens nothing any more."""

    id = "lockout"
    title = "A revoked key is locked out within a second, in every process"
    period_s = HOUR_S

    def __init__(self, ground: ProbeGround) -> None:
        self._ground = ground

    async def run(self) -> Result:
        """Use a key, end it, and see when it is refused."""
        async with standing_on(self._ground):
            key_id, key = await self._ground.stranger()
            status, _ = await self._ground.call_as(key, "GET", MODELS_PATH)
            if status != 200:
                return Result("invalid", f"a fresh key was answered {status}")
            began = time.monotonic()
            await self._ground.revoke(key_id)
            refused, last_open_s = 0, 0.0
            for _ in range(LOOKS_MAX):
                status, _ = await self._ground.call_as(key, "GET", MODELS_PATH)
                if status == 401:
                    refused += 1
                    if refused == QUIET_REQUESTS:
                        break
                else:
                    refused, last_open_s = 0, time.monotonic() - began
        problems = []
        if last_open_s > LOCKED_OUT_S or refused < QUIET_REQUESTS:
            problems.append(f"a revoked key was still let in {last_open_s:.2f} s later")
        facts = {"last_open_ms": round(last_open_s * 1000)}
        return judged(problems, f"last let in after {last_open_s * 1000:.0f} ms", n=1, facts=facts)


class Labels:
    """Restricted data does not climb to an endpoint outside."""

    id = "labels"
    title = "A request labelled restricted is refused where only an endpoint outside could answer"
    period_s = HOUR_S

    def __init__(self, ground: ProbeGround) -> None:
        self._ground = ground

    async def run(self) -> Result:
        """Ask a sealed route, and look whether anything arrived."""
        run = Run()
        async with standing_on(self._ground) as loopback:
            plain = {"model": paths.REMOTE, "messages": [{"role": "user", "content": "Say something."}]}
            status, _ = await self._ground.call("POST", CHAT_PATH, plain)
            if status != 200:
                return Result("invalid", f"the endpoint outside answered {status} to a public request")
            before = len(loopback.captured)
            problems = []
            for is_streamed in (False, True):
                said = [{"role": "user", "content": f"Keep this to yourself: {run.mark}"}]
                body = {"model": SEALED, "messages": said, "stream": is_streamed}
                status, answer = await self._ground.call("POST", CHAT_PATH, body)
                if status == 200 and b'"error"' not in answer:
                    problems.append("a restricted request was answered by an endpoint outside")
            arrived = len(loopback.captured) - before
        if arrived:
            problems.append(f"{arrived} restricted requests arrived at an endpoint outside")
        return judged(problems, "2 restricted requests refused, none arrived", n=2, facts={"arrived": arrived})


class CollectionAccess:
    """Documents of a team are nothing to another team."""

    id = "collection-access"
    title = "Another team sees nothing of a restricted collection"
    period_s = HOUR_S

    def __init__(self, ground: ProbeGround) -> None:
        self._ground = ground

    async def run(self) -> Result:
        """Upload, find it as its own team, and look for it as a stranger at every address that shows documents."""
        ground, run = self._ground, Run()
        async with standing_on(ground):
            text = f"# Thistledown\n\nThe thistledown fee is 35 % for {run.mark}.\n"
            document_id = await ground.add_document(f"thistledown-{time.time_ns()}.md", text)
            await canary.until_read(ground, document_id)
            search = {"query": f"thistledown fee {run.mark}", "collections": [paths.COLLECTION]}
            status, body = await ground.call("POST", "/api/search", search)
            if status != 200 or run.mark.encode() not in body:
                return Result("invalid", f"its own team does not find the document ({status})")
            _, stranger = await ground.stranger()
            asked = {"model": paths.ASKING, "messages": [{"role": "user", "content": f"thistledown fee {run.mark}"}]}
            tries: list[tuple[str, str, Any]] = [
                ("POST", "/api/search", search),
                ("GET", f"/api/documents?source={paths.COLLECTION}", None),
                ("GET", f"/api/documents/{document_id}", None),
                ("GET", f"/api/documents/{document_id}/text", None),
                ("GET", f"/api/documents/{document_id}/chunks", None),
                ("GET", "/api/sources", None),
                ("POST", CHAT_PATH, asked),
            ]
            problems = []
            for method, path, sent in tries:
                status, body = await ground.call_as(stranger, method, path, sent)
                seen = body.replace(json.dumps(search["query"]).encode(), b"")
                if status >= 500:
                    return Result("invalid", f"{path} answered {status}")
                if b"35 %" in seen or (document_id.encode() in seen and status == 200):
                    problems.append(f"another team sees it at {method} {path.replace(document_id, '{id}')}")
        return judged(problems, f"{len(tries)} addresses show nothing of it", n=len(tries))


class Erased:
    """A person who was erased is gone, with a receipt that verifies."""

    id = "erasure"
    title = "A test person is erased everywhere, with a signed receipt"
    period_s = WEEK_S

    def __init__(
        self,
        ground: ProbeGround,
        erase: Callable[[str], Awaitable[dict[str, Any]]],
        verifies: Callable[[dict[str, Any]], bool],
    ) -> None:
        self._ground, self._erase, self._verifies = ground, erase, verifies

    async def run(self) -> Result:
        """Upload a document on a person, erase the person, and search."""
        ground, run = self._ground, Run()
        async with standing_on(ground):
            run.person("erased")
            mail = run.mail_of("erased")
            text = f"# Thistledown\n\nThe thistledown fee is 35 %, says {mail}.\n"
            document_id = await ground.add_document(f"thistledown-{time.time_ns()}.md", text)
            await canary.until_read(ground, document_id)
            status, body = await ground.call("GET", f"/api/documents/{document_id}/text")
            if status != 200 or mail.encode() not in body:
                return Result("invalid", f"the test person is not stored ({status})")
            receipt = await self._erase(mail)
            status, body = await ground.call("GET", f"/api/documents/{document_id}/text")
        problems = []
        if mail.encode() in body:
            problems.append("the document still holds the person")
        if not self._verifies(receipt):
            problems.append("the receipt's signature does not verify")
        if not receipt["stores"].get("documents"):
            problems.append("the receipt names no document")
        return judged(
            problems, f"erased in {len(receipt['stores'])} stores; the receipt verifies", n=len(receipt["stores"])
        )
