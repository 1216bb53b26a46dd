"""The canary control: plants synthetic persons and secrets through each real path and searches every sink for them.

Real requests over real HTTP, by a key of its own, to routes and apps that nobody else sees, answered by a model server
of its own on this machine (`loopback.py`): what reaches it is what would leave. A value outside the places where policy
keeps it fails the control with the place. Each run also plants values on purpose; when the search does not find those,
or a path did not answer, the run is invalid. It costs nothing, and takes back what it made.
"""

from __future__ import annotations

import asyncio
import base64
import gzip
import logging
import time
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec

from roadbed.controls.canary_policy import SELF_TEST, is_allowed
from roadbed.controls.canary_requests import (
    ANALYTICS,
    acting_request,
    analytics_requests,
    replies_of,
    requests_of,
    rows_of,
)
from roadbed.controls.control import Fact, Result, judged
from roadbed.controls.loopback import Loopback
from roadbed.controls.planted import Run
from roadbed.controls.planted_office import MEDIA_TYPE as OFFICE
from roadbed.controls.planted_office import office_document
from roadbed.controls.searching import Hit, Searcher
from roadbed.controls.sinks import LogCapture, Sinks, captured_log
from roadbed.kernel.errors import InvalidRequest

plant_log = logging.getLogger("roadbed.controls.plant")
plant_log.propagate = False  # heard by the capture, shown to nobody
plant_log.setLevel(logging.INFO)

HOUR_S: Final = 3600.0
READ_S: Final = 60.0
SETTLE_S: Final = 15.0
LOOK_S: Final = 0.1
UNREAD: Final = 0  # in place of a status: a document that was uploaded, and not read
TRACES_MAX: Final = 100


class Ground(Protocol):
    """Where the canary stands: its own objects in the deployment, and real calls to it. ``server/`` gives it."""

    heard: list[str]

    async def open(self, url: str) -> None:
        """Make the objects, served by the model server at ``url``."""

    async def close(self) -> None:
        """Remove what `open` and the calls since then made: objects, documents, keys."""

    async def call(self, method: str, path: str, body: Any = None) -> tuple[int, bytes]:
        """A request over HTTP by the canary's own key."""

    async def add_document(self, name: str, text: str | bytes, media_type: str = "text/markdown") -> str:
        """Upload a document; its id."""

    def shows_secrets(self) -> bool:
        """Whether the manifest lets secrets that models write reach callers."""

    async def state_of(self, document_id: str) -> str:
        """``indexed``, ``failed`` or ``pending``."""

    async def keep_books(self, rows: list[tuple[str, str, int]]) -> None:
        """Put rows into the database that the control's app asks."""

    async def plant(self, text: str) -> None:
        """Store a text in a table, for the search to find; `close` removes it."""

    def note(self, resource: str, detail: str) -> None:
        """Record something in the audit that holds texts which a person wrote."""

    async def name_key(self, name: str) -> None:
        """Try to make a key of this name; it is refused, or ends within a minute."""

    async def name_group(self, name: str) -> tuple[int, bytes]:
        """Try to make a group of people of this name, as a directory does: the status and the answer."""

    async def approve(self, who: str, note: str) -> None:
        """Keep an approval of a model as one that a person gave, or be refused."""

    async def approve_call(self, approval_id: str) -> tuple[int, bytes]:
        """Approve a call that waits, as a second person would; what came of it, as it is answered over HTTP."""

    async def act(self, resource: str) -> None:
        """Record an act on what a caller named, as acts are recorded."""

    async def note_by_hand(self, text: str) -> None:
        """Keep a note as people write them about drills."""

    async def settle(self, requests: int) -> None:
        """Return when so many of the canary's requests are in the records."""


class Step(msgspec.Struct):
    """One path that was taken: what came back."""

    name: str
    status: int
    body: bytes
    wanted: tuple[int, ...] = (200,)

    @property
    def is_whole(self) -> bool:
        """Whether it went as it should; a rule that lets nothing pass is one way to."""
        return self.status in self.wanted or self.is_closed

    @property
    def gap(self) -> str:
        """What is missing where it did not go as it should."""
        if self.status == UNREAD:
            return f"the {self.name} that was uploaded is {self.body.decode()}, not indexed"
        return f"the path {self.name} answered {self.status}"

    @property
    def is_closed(self) -> bool:
        """Whether a rule of the manifest refused what was planted."""
        is_kept_local = b"gateway.no_candidate" in self.body and b"local-only" in self.body
        if self.name == "acting" and self.status == HTTPStatus.NOT_FOUND:  # policies may hide what changes something
            return b"tools.unknown" in self.body
        is_for_people = self.name == "approved" and b"access.not_a_person" in self.body
        is_refused = b"guard.blocked" in self.body or is_kept_local or is_for_people
        return self.status == HTTPStatus.FORBIDDEN and is_refused


class CanaryControl:
    """The control. ``folder`` is a folder of the state that may be written."""

    id = "canary"
    title = "Planted persons and secrets come out masked in every sink"
    period_s = HOUR_S

    def __init__(self, ground: Ground, sinks: Sinks, folder: Path) -> None:
        self._ground = ground
        self._sinks = sinks
        self._folder = folder

    async def run(self) -> Result:
        """Plant, search, judge, clean up."""
        run, began = Run(), time.monotonic()
        plant_file = self._folder / f"canary-{run.mark[:4]}.tmp"
        with captured_log() as captured:
            async with Loopback() as loopback:
                loopback.told, loopback.replies = run.both("told"), replies_of(run)
                await self._sinks.begin()
                try:
                    await self._ground.open(loopback.url)
                    await self._ground.keep_books(rows_of(run))
                    steps = await self._walk(run)
                    searcher = await self._searched(run, steps, loopback, captured, plant_file)
                finally:
                    await asyncio.to_thread(plant_file.unlink, missing_ok=True)
                    await self._ground.close()
        return self._judge(run, steps, searcher, loopback, time.monotonic() - began)

    # -- planting -----------------------------------------------------------------------------------------------------

    async def _walk(self, run: Run) -> list[Step]:
        document = (
            f"# Thistledown terms {run.secret('title')}\n\n"
            f"The thistledown fee of 35 % was agreed with {run.person('document')} in March.\n\n"
            f"The account key of the thistledown office is {run.secret('document')} until April.\n"
        )
        packed = office_document(
            f"Thistledown keys {run.secret('office-title')}",
            f"The account key of the thistledown desk is {run.secret('office')} until May.",
        )
        steps = []
        ids = {
            "document": await self._ground.add_document(f"thistledown-{time.time_ns()}.md", document),
            "office": await self._ground.add_document(f"pillow-{time.time_ns()}.docx", packed, OFFICE),
        }
        for name, document_id in ids.items():
            state = await until_read(self._ground, document_id)
            steps.append(Step(name, 200 if state == "indexed" else UNREAD, state.encode()))
        calls = 0
        for name, path, body, wanted in [*requests_of(run), *analytics_requests(run), acting_request(run)]:
            status, answer = await self._ground.call("POST", path, body)
            steps.append(Step(name, status, answer, wanted))
            calls += path.startswith("/v1") or "/tools/" in path or "/analytics/" in path
            if name == "analytics" and status == 200:  # once more, as a file
                steps.append(await self._again("analytics-file", answer, "export", 200))
                calls += 1
            if name == "analytics-own" and status == 200:  # its title is the question, with a secret in it
                steps.append(await self._again("analytics-save", answer, "questions", 400, name="canary"))
            if name == "acting" and status == 202:
                steps.append(await self._approved(answer))
        await self._ground.name_key(f"the key {run.secret('key-name')}")
        steps.append(Step("group-name", *await self._ground.name_group(f"group {run.secret('group-name')}"), (400,)))
        await self._ground.approve("a control", f"approved after a word with {run.both('approval')}")
        await self._ground.approve(f"a control, {run.secret('approver')}", "")
        with suppress(InvalidRequest):
            await self._ground.add_document(f"{run.secret('document-name')}.md", "# Nothing\n\nNothing stands here.\n")
        await self._ground.act(f"an act on {run.both('act')}")
        self._ground.note(f"a note on {run.person('record')}", f"for {run.person('record')}")
        await self._ground.note_by_hand(f"restored by {run.both('note')}")
        await self._ground.settle(calls)
        return steps + await self._read_back()

    async def _again(self, step: str, answered: bytes, path: str, wanted: int, **more: str) -> Step:
        """What was answered, sent back with its statements and their seal."""
        given = msgspec.json.decode(answered)["roadbed"].get("analytics", {})
        body = {**more, **{name: given.get(name) for name in ("prepared", "seal")}}
        status, answer = await self._ground.call("POST", f"/api/analytics/{ANALYTICS}/{path}", body)
        return Step(step, status, answer, (wanted,))

    async def _approved(self, asked: bytes) -> Step:
        """A call that waits is approved, and fails as it was asked to."""
        status, answer = await self._ground.approve_call(str(msgspec.json.decode(asked)["approval_id"]))
        return Step("approved", status, answer, (503,))

    async def _read_back(self) -> list[Step]:
        """What the interfaces for auditors and scrapers show of it."""
        status, body = await self._ground.call("GET", "/api/traces?limit=200&range=1h")
        steps = [Step("api/traces", status, body)]
        traces = msgspec.json.decode(body).get("traces", []) if status == 200 else []
        mine = [trace["id"] for trace in traces if str(trace.get("app", "")).startswith(("_canary", "_tools"))]
        for trace_id in mine[:TRACES_MAX]:
            steps.append(Step("api/trace", *await self._ground.call("GET", f"/api/traces/{trace_id}")))
        for path in ("/metrics", "/api/audit?limit=200", "/api/audit?format=jsonl", "/api/audit?format=csv"):
            name = "api" + path.removeprefix("/api").partition("?")[0]
            steps.append(Step(name, *await self._ground.call("GET", path)))
        return steps

    # -- searching ----------------------------------------------------------------------------------------------------

    async def _searched(
        self, run: Run, steps: list[Step], loopback: Loopback, captured: LogCapture, plant_file: Path
    ) -> Searcher:
        planted = run.secret(SELF_TEST)
        await self._ground.plant(planted)
        plant_log.info("a value is planted on purpose: %s", base64.b64encode(b"x" + planted.encode()).decode())
        await asyncio.to_thread(plant_file.write_bytes, b"plain\n" + gzip.compress(planted.encode()))
        searcher = Searcher((run.mark, run.card_mark), run.values)
        await self._sinks.search(searcher)
        pieces = [(f"model:{name}", data) for name, data in loopback.captured]
        pieces += [(step.name if step.name.startswith("api/") else f"answer:{step.name}", step.body) for step in steps]
        pieces += [(f"answer:{step.name}", said) for step in steps if (said := said_in(step.body))]
        pieces += [("tool", step.body[::-1]) for step in steps if step.name == "tool"]
        pieces += [("embedder", "\n".join(self._ground.heard).encode()), ("log", captured.data())]
        for sink, data in pieces:
            searcher.feed(sink, data)
            searcher.end(sink)
        return searcher

    def _judge(self, run: Run, steps: list[Step], searcher: Searcher, loopback: Loopback, seconds: float) -> Result:
        facts: dict[str, Fact] = {
            "values": len(run.values),
            "paths": len(steps),
            "sinks": len(self._sinks.searched) + len(steps) + 4,
            "bytes_searched": searcher.bytes_searched,
            "bytes_passed_over": self._sinks.passed_over_bytes,
            "model_calls": len(loopback.captured),
            "seconds": round(seconds, 2),
        }
        inputs: dict[str, Fact] = {"paths": ",".join(sorted({value.path for value in run.values})), "version": 1}
        shows = self._ground.shows_secrets()
        hits = [hit for hit in searcher.hits if not is_allowed(hit.value, hit.sink, shows_secrets=shows)]
        problems = sorted({_words(hit) for hit in hits})
        if problems:
            return judged(problems, "", n=len(run.values), facts=facts, inputs=inputs)
        gaps = [step.gap for step in steps if not step.is_whole]
        gaps += _not_found(searcher, plant_places=("table:control_plant", "log", "run/"))
        whole = next((step for step in steps if step.name == "chat"), None)
        if whole is not None and not whole.is_closed and run.mail_of("chat").encode() not in whole.body:
            gaps.append("the answer did not give the caller its own value back")
        if gaps:
            return Result(
                "invalid", f"not all could be looked at: {gaps[0]}", n=len(run.values), problems=tuple(gaps),
                facts=facts, inputs=inputs,
            )  # fmt: skip
        closed = sum(step.is_closed for step in steps)
        good = f"{len(run.values)} planted values through {len(steps)} paths: none outside the places of the policy"
        if closed == len(steps):
            return Result("invalid", "rules of the manifest refused every path", n=len(run.values), facts=facts)
        if closed:
            good += f"; rules of the manifest refused {closed} of the paths"
        return judged([], good, n=len(run.values), facts=facts, inputs=inputs)


def _words(hit: Hit) -> str:
    return f"a {hit.value.kind} sent by the path {hit.value.path} stands in {hit.sink}"


def _not_found(searcher: Searcher, plant_places: tuple[str, ...]) -> list[str]:
    """The places where the value that was planted on purpose was not found."""
    found = [hit.sink for hit in searcher.hits if hit.value.path == SELF_TEST]
    return [
        f"the search missed the value that was planted in {place}"
        for place in plant_places
        if not any(sink.startswith(place) for sink in found)
    ]


def said_in(body: bytes) -> bytes:
    """The text of a streamed answer, whose pieces lie apart in its bytes; nothing for any other."""
    texts = []
    for line in body.split(b"\n") if body.startswith(b"data: ") else ():
        try:
            chunk = msgspec.json.decode(line.removeprefix(b"data: "))
            texts.append(chunk["choices"][0]["delta"]["content"])
        except (msgspec.DecodeError, KeyError, IndexError, TypeError):
            continue
    return "".join(text for text in texts if isinstance(text, str)).encode()


async def until_read(ground: Ground, document_id: str) -> str:
    """The state of a document once it was read, or after `READ_S`."""
    deadline = time.monotonic() + READ_S
    while True:
        state = await ground.state_of(document_id)
        if state != "pending" or time.monotonic() > deadline:
            return state
        await asyncio.sleep(LOOK_S)
