"""A scripted deployment under the console, and clients of it: signed in as admin, auditor or member, or not at all."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from roadbed.apps.manifest import AppConfig
from roadbed.apps.registry import ServedApp
from roadbed.apps.types import Answered, AnswerEvent, Citation, Cited, Delta
from roadbed.console.access_view import AccessView
from roadbed.console.pages import console_routes
from roadbed.console.services import AskedTurn, ConsoleServices, TriedRoute
from roadbed.gateway.orders import OrderName
from roadbed.gateway.types import Message
from roadbed.gateway.view import EndpointView, FailureView
from roadbed.guard.keys import KeyRecord, KeyRefused
from roadbed.guard.sessions import Sessions
from roadbed.kernel.errors import NotFound, Unavailable
from roadbed.kernel.label import PUBLIC
from roadbed.kernel.principal import ADMIN, AUDITOR, MEMBER, Principal
from roadbed.kernel.release import Release
from roadbed.knowledge.documents import ChunkView, DocumentNotFound, DocumentSummary, DocumentView
from roadbed.knowledge.parse.document import Block
from roadbed.knowledge.states import CollectionStats, Failure, SourceState
from roadbed.ledger.queries import NoSuchTrace, SpanRow, TraceDetail, TraceRow, UsageTotal
from roadbed.ledger.usage_report import MEASURES, UsageRange, UsageReport
from roadbed.releases.aliases import AliasMove, AppReleases
from roadbed.server.admission import require_role
from roadbed.sources.registry import SourceHealth
from roadbed.tools.approvals import Approval
from roadbed.tools.standing import ToolCounts
from roadbed.tools.types import Ok, Outcome, Tool
from roadbed.wire.peer_certificate import PeerCertificate

NOW = datetime.now(UTC)
TEXT = "# Rates\n\nThe rate is 12 % until June.\n\nAfter that it is 14 %."
CITED = (TEXT.index("The rate"), TEXT.index("June.") + 5)
KEYS = {
    "admin-key": Principal("k-admin", "office", frozenset({ADMIN, MEMBER}), name="the boss"),
    "auditor-key": Principal("k-auditor", "office", frozenset({AUDITOR, MEMBER})),
    "member-key": Principal("k-member", "office", frozenset({MEMBER}), frozenset({"helpdesk"})),
}
DIGEST = "9f3a2c" + "0" * 58


class FakeAudit:
    """A record in memory; ``is_full`` refuses acts."""

    def __init__(self) -> None:
        self.acts: list[tuple[str, str, str]] = []
        self.noted: list[tuple[str, str]] = []
        self.is_full = False
        self.fault = ""
        self.asked: list[dict[str, Any]] = []

    async def act(self, action: str, principal_id: str, resource: str = "", **detail: Any) -> None:
        if self.is_full:
            raise Unavailable(f"{action} cannot be recorded", hint="free space")
        self.acts.append((action, principal_id, resource))

    def note(self, action: str, principal_id: str, resource: str = "", outcome: str = "ok", **detail: Any) -> None:
        self.noted.append((action, outcome))

    async def doing(self, action: str, principal_id: str, resource: str, do: Callable[[], Awaitable[Any]]) -> Any:
        await self.act(action, principal_id, resource)
        return await do()

    def pseudonym(self, principal_id: str) -> str:
        return f"p_{principal_id}"

    async def page(self, **filters: Any) -> tuple[list[dict[str, Any]], str | None]:
        self.asked.append(filters)
        row = {
            "action": "keys.rotate", "actor": "p_k-admin", "at": 1_795_800_000_000_000, "detail": {"code": "", "n": 3},
            "outcome": "done", "release": "", "resource": "k-<one>", "rung": "", "seq": 2, "shard": "S", "v": 1,
        }  # fmt: skip
        return [row], "there"

    async def head(self) -> dict[str, Any]:
        return {
            "proven_from": 0, "proven_to": 1234, "unproven": 5, "fault": self.fault,
            "checkpoint": {"number": 7, "at": NOW, "note": "note"},
            "copies": [{"destination": "/mnt/auditor", "number": 7, "shipped": NOW, "error": ""}], "witnessed": [],
        }  # fmt: skip


class FakeKeys:
    """The keys of `KEYS`, and records of what was made and revoked."""

    def __init__(self) -> None:
        self.made: list[dict[str, Any]] = []
        self.revoked: list[str] = []
        self.rotated: list[tuple[str, timedelta]] = []

    def authenticate(self, presented: bytes | str | None) -> Principal:
        key = presented.decode() if isinstance(presented, bytes) else presented or ""
        if key not in KEYS:
            raise KeyRefused
        return KEYS[key]

    def vouched_for(self, certificate: PeerCertificate, presented: bytes = b"") -> Principal:
        return self.authenticate(presented)

    def principal_of(self, key_id: str, since: float | None = None) -> Principal:
        found = [principal for principal in KEYS.values() if principal.id == key_id and key_id not in self.revoked]
        if not found:
            raise KeyRefused
        return found[0]

    async def create_key(self, **order: Any) -> tuple[KeyRecord, str]:
        self.made.append(order)
        apps = order["apps"]
        record = KeyRecord(
            "k-new",
            order["name"],
            order["team"],
            frozenset(order["roles"]),
            frozenset(apps) if apps else None,
            *(NOW, order["expires"], None, None),
        )
        return record, "rbk_k-new_PLAINTEXT"

    async def rotate_key(
        self, key_id: str, overlap: timedelta = timedelta(), *, maker: Principal | None = None
    ) -> tuple[KeyRecord, str]:
        self.rotated.append((key_id, overlap))
        return next(record for record in await self.list_keys() if record.id == key_id), "rbk_rotated_PLAINTEXT"

    async def list_keys(self) -> list[KeyRecord]:
        return [
            KeyRecord(p.id, p.name, p.team, p.roles, p.apps, NOW, None, NOW if p.id in self.revoked else None, None)
            for p in KEYS.values()
        ]

    async def revoke_key(self, key_id: str) -> None:
        self.revoked.append(key_id)


class FakeTokens:
    """The one table that sessions use: one-time tokens, each good once."""

    def __init__(self) -> None:
        self.redeemed = 0
        self.is_spent = False

    async def fetchval(self, query: str, *values: Any) -> str | None:
        self.redeemed += 1
        if self.is_spent:
            return None
        self.is_spent = True
        return "k-admin"

    async def execute(self, query: str, *values: Any) -> str:
        raise Unavailable("the database does not answer")


def source(name: str = "handbook", **changes: Any) -> SourceState:
    values: dict[str, Any] = {
        "name": name,
        "kind": "files",
        "state": "idle",
        "message": "",
        "listed": 3,
        "indexed": 2,
        "pending": 0,
        "failed": 1,
        "held": 0,
        "failures": (Failure("d-bad", "secret-plan.pdf", "encrypted", "the file has a password"),),
        "not_taken": (("huge-secret.iso", "larger than the limit"),),
        "outdated": 0,
        "rate_per_s": 0.0,
        "eta_s": None,
        "listed_at": NOW,
        "attempted_at": NOW,
        "is_watched": True,
    }
    return SourceState(**{**values, **changes})


def summary(number: int, **changes: Any) -> DocumentSummary:
    values: dict[str, Any] = {
        "id": f"d{number}",
        "source": "handbook",
        "key": f"rates/{number:03}.md",
        "title": f"Rates {number}",
        "uri": f"rates/{number:03}.md",
        "state": "indexed",
        "reason": "",
        "message": "",
        "warnings": (),
        "media_type": "text/markdown",
        "size_bytes": 2048,
        "chunk_count": 2,
        "groups": ("everyone",),
        "indexed_at": NOW,
    }
    return DocumentSummary(**{**values, **changes})


@dataclass
class FakeKnowledge:
    """Two documents: ``d1`` for everyone, ``d2`` for the team ``board``."""

    collections: list[CollectionStats] = field(default_factory=list)
    sources: list[SourceState] = field(default_factory=lambda: [source()])
    rows: list[DocumentSummary] = field(default_factory=lambda: [summary(1)])
    text: str = TEXT
    blocks: tuple[Block, ...] = (
        Block("heading", 2, 7, 1, page=1),
        Block("paragraph", 9, CITED[1], page=1),
        Block("paragraph", CITED[1] + 2, len(TEXT), page=2),
    )
    calls: list[str] = field(default_factory=list)
    asked: list[dict[str, Any]] = field(default_factory=list)
    added: list[tuple[str, str, bytes]] = field(default_factory=list)
    is_away: bool = False

    def _called(self, name: str) -> None:
        self.calls.append(name)
        if self.is_away:
            raise Unavailable("the database does not answer")

    async def source_states(self) -> list[SourceState]:
        self._called("source_states")
        return self.sources

    async def collection_stats(self) -> list[CollectionStats]:
        self._called("collection_stats")
        return self.collections

    async def documents(self, source: str, principal: Principal, **options: Any) -> list[DocumentSummary]:
        self._called("documents")
        self.asked.append({"source": source, "principal": principal.id, **options})
        return [row for row in self.rows if row.key > options["after_key"]][: options["limit"]]

    async def document(
        self, document_id: str, principal: Principal, *, highlight: tuple[int, int] | None = None
    ) -> DocumentView:
        self._called("document")
        groups = {"d1": "everyone", "d2": "team:board"}
        if groups.get(document_id) not in principal.groups:
            raise DocumentNotFound(f"there is no document {document_id!r} that this key may see")
        return DocumentView(
            *(document_id, "handbook", "rates/001.md", "Rates <1>", "rates/001.md", "v1", self.text, self.blocks),
            *(PUBLIC, "en", "text/markdown", "markdown", (), ("everyone",), NOW, highlight),
        )

    async def chunks_of(self, document_id: str, principal: Principal) -> list[ChunkView]:
        self._called("chunks_of")
        return [ChunkView("c1", "company", 0, len(self.text), self.text, 1, "page 1", ("Rates",), True)]

    async def add_document(
        self, target: str, name: str, data: bytes, principal: Principal, *, media_type: str = ""
    ) -> str:
        self.added.append((target, name, data))
        return "d9"

    async def delete_document(self, document_id: str, principal: Principal) -> None:
        self._called(f"delete {document_id}")

    async def start_sync(self, source: str | None = None) -> None:
        self._called(f"sync {source}")

    async def retry_failed(self, source: str, document_id: str | None = None) -> int:
        self._called(f"retry {source}")
        return 1


def trace_row(number: int = 1, **changes: Any) -> TraceRow:
    values: dict[str, Any] = {
        "id": f"01T{number:05}",
        "started": NOW - timedelta(minutes=number),
        "app": "helpdesk",
        "release": DIGEST,
        "principal": "k-member",
        "team": "office",
        "rung": "extractive",
        "status": "ok",
        "error_code": "",
        "duration_us": 192_000,
        "model": "",
        "input_tokens": 2114,
        "output_tokens": 96,
        "cost_microusd": 3100,
        "masked_count": 1,
        "question": "What of <b>[EMAIL]</b>?",
        "answer": "12 % [1]",
        "attributes": {},
    }
    return TraceRow(**{**values, **changes})


SPANS = [
    SpanRow(0, -1, "search", "search", 300, 19_000, "ok", {"hits": 8, "collections": "company", "missing": "vector"}),
    SpanRow(
        *(1, -1, "model openai", "model", 20_000, 80_000, "failed"),
        {"endpoint": "openai", "failure": "overload", "http_status": 503, "reason": "busy"},
    ),
    SpanRow(
        *(2, -1, "model local", "model", 100_000, 90_000, "ok"),
        {"endpoint": "local", "first_token_ms": 39.0, "input_tokens": 2114, "output_tokens": 96},
    ),
]


@dataclass
class FakeReader:
    """As many traces as a test wants."""

    rows: list[TraceRow] = field(default_factory=lambda: [trace_row()])
    spans: list[SpanRow] = field(default_factory=lambda: list(SPANS))
    asked: list[dict[str, Any]] = field(default_factory=list)
    error: Exception | None = None

    async def spend_by_endpoint(self, since: datetime) -> dict[str, int]:
        if self.error is not None:
            raise self.error
        return {"openai": 1_250_000}

    async def traces(self, **options: Any) -> list[TraceRow]:
        if options["limit"] > 1:  # the menu asks for one
            self.asked.append(options)
        return self.rows[: options["limit"]]

    async def trace(self, trace_id: str) -> TraceDetail:
        for row in self.rows:
            if row.id == trace_id:
                return TraceDetail(row, self.spans)
        raise NoSuchTrace(f"no trace {trace_id} is kept")

    async def usage_by_app(self, within: timedelta) -> list[UsageTotal]:
        return [UsageTotal("helpdesk", 7, 100, 20, 5000)]


class FakeUsage:
    """Two teams, two days, one budget."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, ...]] = []
        self.is_empty = False
        self.is_free = False

    async def report(self, by: Sequence[str], within: UsageRange) -> UsageReport:
        self.asked.append(tuple(by))
        measures = dict.fromkeys(MEASURES, 0)
        if self.is_empty:
            return UsageReport(tuple(by), within.start, within.end, [], measures, False)
        names = ["<b>support</b>", "sales"]
        if by[0] == "day":
            names = [(within.end - timedelta(days=days)).date().isoformat() for days in (1, 0)]
        rows = [{**measures, by[0]: names[0], "calls": 7, "cost_microusd": 4_000_000}]
        rows.append({**measures, by[0]: names[1], "calls": 1, "cost_microusd": 1_000_000})
        total = {**measures, "calls": 8, "cost_microusd": 5_000_000}
        if self.is_free:
            rows, total = [{**row, "cost_microusd": 0} for row in rows], {**total, "cost_microusd": 0}
        return UsageReport(tuple(by), within.start, within.end, rows, total, False)

    async def budgets(self) -> list[dict[str, Any]]:
        if self.is_empty:
            return []
        now = datetime.now(UTC)
        figures = {"cap": 10_000_000, "settled": 8_500_000, "leased": 200_000}
        return [{"id": "team:support/month", "starts": now, "ends": now + timedelta(days=3), **figures}]


@dataclass
class FakeReleases:
    """One app with a candidate and a history."""

    moves: list[tuple[Any, ...]] = field(default_factory=list)
    has_earlier: bool = True

    async def apps(self) -> list[AppReleases]:
        return [AppReleases("helpdesk", DIGEST, "c" * 64, False), AppReleases("_routes", "d" * 64, None, False)]

    async def history(self, app: str, limit: int = 50) -> list[AliasMove]:
        moves = [
            AliasMove(app, "live", DIGEST, "e" * 64, "save", "workspace", "", NOW),
            AliasMove(app, "live", "e" * 64, None, "save", "workspace", "", NOW),
        ]
        return moves if self.has_earlier else moves[:1]

    async def _move(self, action: str, app: str, digest: str | None, actor: str, reason: str) -> AliasMove:
        self.moves.append((action, app, digest, actor, reason))
        return AliasMove(app, "live", digest, DIGEST, action, actor, reason, NOW)

    async def promote(self, app: str, digest: str | None, *, actor: str, reason: str = "") -> AliasMove:
        return await self._move("promote", app, digest, actor, reason)

    async def rollback(self, app: str, digest: str | None, *, actor: str, reason: str = "") -> AliasMove:
        return await self._move("rollback", app, digest, actor, reason)


class FakeGateway:
    """The routes of a manifest."""

    def __init__(self) -> None:
        self.routes: Mapping[str, Any] = {}
        self.views: list[EndpointView] = []

    def endpoints(self) -> list[EndpointView]:
        return self.views

    def explain(self, name: str) -> list[dict[str, Any]]:
        return [
            {
                "endpoint": "openai",
                "model": "gpt-5-mini",
                "address": "api.openai.com",
                "is_local": False,
                "rung": "full",
                "breaker": "open",
                "unavailable": "resting after failures",
                "failed_last": "it fell silent in its answer",
            }
        ]


def view(name: str = "openai", **changes: Any) -> EndpointView:
    """An endpoint that answered twice and failed once."""
    values: dict[str, Any] = {
        "endpoint": name,
        "model": "gpt-5-mini",
        "dialect": "openai",
        "address": "https://api.openai.com",
        "is_local": False,
        "routes": ("smart",),
        "unavailable": "",
        "breaker": "closed",
        "open_for_s": 0.0,
        "is_drained": False,
        "in_flight": 3,
        "connections_max": 64,
        "requests": 2,
        "failures": 1,
        "first_token_ms": 412.3,
        "first_token_shares_ms": {"p50": 390.2, "p95": 800.0, "p99": 1212.0},
        "failed_last": "",
        "is_unproven": False,
        "recent_failures": (FailureView("timeout", "it fell silent in its answer", 90.0),),
    }
    return EndpointView(**{**values, **changes})


QUOTE = TEXT[slice(*CITED)]
CITATION = Citation(
    *(1, "d1", "c1", "Rates", "rates/001.md", "handbook", "company"),
    *CITED,
    QUOTE,
    page=1,
    version="v1",
    before="# Rates ",
    after="",
)
ANSWER: tuple[AnswerEvent, ...] = (
    Cited(CITATION),
    Delta("The rate is **12 %** until June. [1]"),
    Delta(" <script>alert(1)</script>"),
    Answered(
        "The rate is **12 %** until June. [1] <script>alert(1)</script>",
        (CITATION,),
        "partial",
        degraded=("profiles: no answer within 800 ms",),
        supported_sentences=1,
        sentences=2,
    ),
)


@dataclass
class FakeAsk:
    """Answers every question with the same events, or fails as it is told to."""

    events: Sequence[AnswerEvent] = ANSWER
    error: Exception | None = None
    asked: list[tuple[str, list[Message], str]] = field(default_factory=list)
    finished: int = 0

    def __call__(self, app: str, messages: Sequence[Message], principal: Principal) -> AskedTurn:
        self.asked.append((app, list(messages), principal.id))
        return AskedTurn("01TRACE", DIGEST, self._run(), 5.0)

    async def _run(self) -> AsyncGenerator[AnswerEvent, None]:
        try:
            for event in self.events:
                yield event
            if self.error is not None:
                raise self.error
        finally:
            self.finished += 1


def served(name: str, kind: str = "copilot") -> ServedApp:
    config = AppConfig(kind=cast(Any, kind), examples=[f"A question for {name}?"], description=f"About {name}")
    release = Release(name, DIGEST, b"{}", {})
    return ServedApp(name, release, config, cast(Any, None), 60.0, lambda: None)


class FakeTools:
    """Tools whose outcome is set, and a record of what was called and decided."""

    def __init__(self) -> None:
        self.tools: list[Tool] = []
        self.outcome: Outcome = Ok({"n": 1})
        self.approvals: list[Approval] = []
        self.called: list[tuple[str, dict[str, Any], str]] = []
        self.decided: list[tuple[str, str]] = []
        self.stored: dict[str, str | None] = {}
        self.kept: list[tuple[str, str | None, str]] = []

    def tools_for(self, principal: Principal) -> list[Tool]:
        return [tool for tool in self.tools if tool.visible_to is None or principal.team in tool.visible_to]

    def counts(self, tool: str) -> ToolCounts | None:
        counts = ToolCounts(calls=412, errors=3)
        counts.latencies_s.extend([0.010, 0.020])
        return counts

    async def call(self, tool: str, arguments: Mapping[str, Any], principal: Principal) -> Outcome:
        self.called.append((tool, dict(arguments), principal.id))
        return self.outcome

    async def waiting(self) -> list[Approval]:
        return self.approvals

    async def approve(self, approval_id: str, principal: Principal) -> Outcome:
        self.decided.append((approval_id, "approve"))
        return self.outcome

    async def deny(self, approval_id: str, principal: Principal, reason: str) -> None:
        self.decided.append((approval_id, "deny"))

    async def credentials(self, principal: Principal) -> list[dict[str, Any]]:
        return [{"source": name, "stored": stored, "by_owner": True} for name, stored in self.stored.items()]

    async def store_credential(self, source: str, value: str, principal: Principal) -> None:
        self.kept.append((source, value, principal.id))

    async def remove_credential(self, source: str, principal: Principal) -> None:
        self.kept.append((source, None, principal.id))


class FakeTrial:
    """Made-up data of one source; whoever is named Ann in a prompt is a person."""

    def found(self, text: str) -> dict[str, int]:
        return {"email": text.count("ann@")} if "ann@" in text else {}

    def replaced(self, text: str) -> str:
        return text.replace("ann@", "made-up@")

    def sources(self, principal: Principal) -> list[str]:
        return ["crm"]

    async def sample(self, name: str, principal: Principal) -> str:
        if name != "crm":
            raise NotFound("there is no trial data of it", hint="name another")
        return "people:\nname,town\n<Alda>,Elderby"


class NoAnalytics:
    """No analytics app, unless a test sets one."""

    inner: Any = None

    def apps_for(self, principal: Principal) -> list[str]:
        return [] if self.inner is None else list(self.inner.apps_for(principal))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


class Deployment:
    """The scripted services, their console, and clients of it."""

    def __init__(
        self, url: str = "http://testserver", access: AccessView | None = None, *, behind_proxy: bool = False
    ) -> None:
        self.keys = FakeKeys()
        self.audit = FakeAudit()
        self.tokens = FakeTokens()
        self.knowledge = FakeKnowledge()
        self.reader = FakeReader()
        self.usage = FakeUsage()
        self.releases = FakeReleases()
        self.gateway = FakeGateway()
        self.ask = FakeAsk()
        self.apps: dict[str, ServedApp] = {"helpdesk": served("helpdesk"), "search": served("search", "search")}
        self.parts = {"server": "ok", "database": "ok"}
        self.problem: str | None = None
        self.connections: list[SourceHealth] = []
        self.orders: list[tuple[str, str, str]] = []
        self.process = (1, 1)
        self.tools = FakeTools()
        self.analytics = NoAnalytics()
        self.tried: list[tuple[str, str, str]] = []
        self.url = url
        self.sessions = Sessions(cast(Any, self.tokens), cast(Any, self.keys), b"a signing key of thirty-two byte")
        services = ConsoleServices(
            name="acme",
            version="0.1.0",
            url=url,
            behind_proxy=behind_proxy,
            identity=self.keys,
            sessions=self.sessions,
            knowledge=self.knowledge,
            reader=self.reader,
            usage=self.usage,
            releases=self.releases,
            gateway=self.gateway,
            apps=lambda: self.apps,
            may_use=lambda principal, app: principal.may_use(app),
            ask=self.ask,
            parts=lambda: self.parts,
            problem=lambda: self.problem,
            engines=list,
            connections=lambda: self.connections,
            order_endpoint=self.order_endpoint,
            try_route=self.try_route,
            process=lambda: self.process,
            require_act=lambda principal, role, method, path: require_role(principal, role),
            audit=self.audit,
            tools=self.tools,
            analytics=self.analytics,
            access=access,
            trial=FakeTrial(),
            teams=lambda: ["office", "support"],
        )
        self.app = Starlette(routes=console_routes(services))

    async def try_route(self, name: str, prompt: str, principal: Principal) -> AsyncGenerator[str | TriedRoute, None]:
        self.tried.append((name, prompt, principal.id))
        yield f"{name} says"
        yield " <well>"
        error = Unavailable("no endpoint answered", hint="try later") if name == "broken" else None
        yield TriedRoute(
            name, f"{name} says <well>", "01TRACE", "full", "openai", 0.25, 1.5, 12, 34, 5_600, name != "free", error,
            ("near: it is away",) if name in ("broken", "free") else (), int(name == "free"),
        )  # fmt: skip

    def order_endpoint(self, endpoint: str, name: OrderName, *, actor: str) -> None:
        self.orders.append((endpoint, name, actor))

    def client(self, key: str | None = "admin-key") -> TestClient:
        """A browser without scripts, signed in with a key."""
        client = TestClient(self.app, base_url=self.url, follow_redirects=False)
        if key is not None:
            answer = client.post("/console/sign-in", data={"key": key})
            assert answer.status_code == 303, answer.text
        return client


@pytest.fixture
def deployment() -> Deployment:
    return Deployment()


@pytest.fixture
def admin(deployment: Deployment) -> Iterator[TestClient]:
    with deployment.client() as client:
        yield client


@pytest.fixture
def auditor(deployment: Deployment) -> Iterator[TestClient]:
    with deployment.client("auditor-key") as client:
        yield client


@pytest.fixture
def member(deployment: Deployment) -> Iterator[TestClient]:
    with deployment.client("member-key") as client:
        yield client


@pytest.fixture
def stranger(deployment: Deployment) -> Iterator[TestClient]:
    with deployment.client(None) as client:
        yield client


def form_token(client: TestClient, path: str = "/console") -> str:
    """The token that the forms of a page carry."""
    found = re.search(r'name="form_token" value="([^"]+)"', client.get(path).text)
    assert found is not None
    return found[1]


def missing() -> NotFound:
    """An error of a room below."""
    return NotFound("there is no such thing", hint="look elsewhere")
