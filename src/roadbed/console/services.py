"""`ConsoleServices`: everything that the console's pages need of the deployment, passed in by ``server/``.

The protocols name the few methods that pages call, so that tests can script them. Nothing here does any work. The
invariant: pages read documents, traces and apps through these alone, each call with the principal for whom it is.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

from roadbed.apps.analytics_desk import Prepared
from roadbed.apps.analytics_saved import SavedQuestion
from roadbed.apps.analytics_shown import AnalyticsAnswer
from roadbed.apps.registry import ServedApp
from roadbed.apps.types import AnswerEvent
from roadbed.console.access_view import AccessView
from roadbed.controls.evidence import Evidence
from roadbed.controls.register import Stands
from roadbed.gateway.orders import OrderName
from roadbed.gateway.types import Message
from roadbed.gateway.view import EndpointView
from roadbed.guard.keys import KeyRecord
from roadbed.guard.oidc import Oidc
from roadbed.guard.sessions import Sessions
from roadbed.kernel.errors import RoadbedError
from roadbed.kernel.principal import Principal
from roadbed.knowledge.documents import ChunkView, DocumentState, DocumentSummary, DocumentView
from roadbed.knowledge.states import CollectionStats, SourceState
from roadbed.ledger.queries import TraceDetail, TraceRow, UsageTotal
from roadbed.ledger.usage_report import UsageRange, UsageReport
from roadbed.releases.aliases import AliasMove, AppReleases
from roadbed.sources.registry import SourceHealth
from roadbed.tools.approvals import Approval
from roadbed.tools.standing import ToolCounts
from roadbed.tools.types import Outcome, Tool
from roadbed.wire.peer_certificate import PeerCertificate


@dataclass(frozen=True, slots=True)
class AskedTurn:
    """A turn that was begun: its trace, its pinned release, and its events. Iterating runs it; closing cancels it."""

    trace_id: str
    release: str
    events: AsyncGenerator[AnswerEvent, None]
    deadline_s: float


class Ask(Protocol):
    """Begins a turn of an app: the same path, trace and ledger as ``/v1``."""

    def __call__(self, app: str, messages: Sequence[Message], principal: Principal) -> AskedTurn:
        """Raises `UnknownModel` and `AppNotAllowed` before anything runs."""
        ...


class AuditView(Protocol):
    """What the console needs of the audit: to record acts before they are done, and to show the record."""

    async def act(self, action: str, principal_id: str, resource: str = "", **detail: Any) -> None:
        """Record an act before it is done. `AuditUnavailable`."""

    def note(self, action: str, principal_id: str, resource: str = "", outcome: str = "ok", **detail: Any) -> None:
        """Record what has happened."""

    async def doing(self, action: str, principal_id: str, resource: str, do: Callable[[], Awaitable[Any]]) -> Any:
        """Do an act that is recorded before."""

    def pseudonym(self, principal_id: str) -> str:
        """What records call a caller."""

    async def page(self, **filters: Any) -> tuple[list[dict[str, Any]], str | None]:
        """Records, newest first, and where the next page begins."""

    async def head(self) -> dict[str, Any]:
        """Where the record stands."""


class KnowledgeView(Protocol):
    """What pages need of `knowledge.service.Knowledge`."""

    async def source_states(self) -> list[SourceState]:
        """Every declared source."""
        ...

    async def collection_stats(self) -> list[CollectionStats]:
        """Every collection."""
        ...

    async def documents(
        self,
        source: str,
        principal: Principal,
        *,
        state: DocumentState | None = None,
        after_key: str = "",
        limit: int = 100,
    ) -> list[DocumentSummary]:
        """Documents of a source by key."""
        ...

    async def document(
        self, document_id: str, principal: Principal, *, highlight: tuple[int, int] | None = None
    ) -> DocumentView:
        """A document with its text."""
        ...

    async def chunks_of(self, document_id: str, principal: Principal) -> list[ChunkView]:
        """The chunks of a document."""
        ...

    async def add_document(
        self, target: str, name: str, data: bytes, principal: Principal, *, media_type: str = ""
    ) -> str:
        """Keep an upload and queue it; its id."""
        ...

    async def delete_document(self, document_id: str, principal: Principal) -> None:
        """Delete an uploaded document."""
        ...

    async def start_sync(self, source: str | None = None) -> Any:
        """Queue a listing of a source."""
        ...

    async def retry_failed(self, source: str, document_id: str | None = None) -> int:
        """Read failed documents again."""
        ...


class TrialView(Protocol):
    """What the playground needs to keep real data out of trials."""

    def found(self, text: str) -> Mapping[str, int]:
        """How many values of each type a prompt holds that belong to people, or are secrets."""
        ...

    def replaced(self, text: str) -> str:
        """The prompt with made-up values in their place."""
        ...

    def sources(self, principal: Principal) -> list[str]:
        """The sources and collections of which this caller may try made-up data."""
        ...

    async def sample(self, name: str, principal: Principal) -> str:
        """Made-up rows or a document. `NotFound`, `Unavailable`."""
        ...


class TraceReader(Protocol):
    """What pages need of `ledger.queries.LedgerReader`."""

    async def traces(
        self,
        *,
        limit: int = 50,
        before: str | None = None,
        app: str | None = None,
        rung: str | None = None,
        status: str | None = None,
        declined: bool = False,
        within: timedelta = timedelta(hours=24),
    ) -> list[TraceRow]:
        """The newest traces."""
        ...

    async def trace(self, trace_id: str) -> TraceDetail:
        """One trace with its steps."""
        ...

    async def spend_by_endpoint(self, since: datetime) -> dict[str, int]:
        """What each endpoint cost since a time."""
        ...

    async def usage_by_app(self, within: timedelta) -> list[UsageTotal]:
        """Totals of each app."""
        ...


class UsageView(Protocol):
    """What pages need of usage and budgets."""

    async def report(self, by: Sequence[str], within: UsageRange) -> UsageReport:
        """The sums of a range."""
        ...

    async def budgets(self) -> list[dict[str, Any]]:
        """The budgets of the running period."""
        ...


class ReleaseStore(Protocol):
    """What pages need of `releases.aliases.Releases`."""

    async def apps(self) -> list[AppReleases]:
        """Every app with its aliases."""
        ...

    async def history(self, app: str, limit: int = 50) -> list[AliasMove]:
        """The newest moves."""
        ...

    async def promote(self, app: str, digest: str | None, *, actor: str, reason: str = "") -> AliasMove:
        """Make a release live."""
        ...

    async def rollback(self, app: str, digest: str | None, *, actor: str, reason: str = "") -> AliasMove:
        """Go back and hold."""
        ...


class KeyStore(Protocol):
    """What pages need of `guard.identity.Identity`."""

    def authenticate(self, presented: bytes | str | None) -> Principal:
        """The caller who presents this key."""
        ...

    def vouched_for(self, certificate: PeerCertificate, presented: bytes = b"") -> Principal:
        """The caller on a connection with this certificate, who may present a key, too."""
        ...

    def principal_of(self, key_id: str, since: float | None = None) -> Principal:
        """The caller behind a key's or a person's id."""
        ...

    async def create_key(
        self,
        *,
        team: str,
        roles: Iterable[str] = ...,
        apps: Iterable[str] | None = None,
        models: Iterable[str] | None = None,
        networks: Iterable[str] = (),
        name: str = "",
        expires: datetime | None = None,
        budget: str = "",
        maker: Principal | None = None,
    ) -> tuple[KeyRecord, str]:
        """Make a key."""
        ...

    async def rotate_key(
        self, key_id: str, overlap: timedelta = ..., *, maker: Principal | None = None
    ) -> tuple[KeyRecord, str]:
        """Give a key a new value."""
        ...

    async def list_keys(self) -> list[KeyRecord]:
        """All keys, newest first."""
        ...

    async def revoke_key(self, key_id: str) -> Any:
        """End a key."""
        ...


class Routes(Protocol):
    """What pages need of `gateway.gateway.Gateway`."""

    @property
    def routes(self) -> Mapping[str, Any]:
        """The routes that serve."""
        ...

    def endpoints(self) -> list[EndpointView]:
        """Every endpoint with what this process knows of it."""
        ...

    def explain(self, name: str) -> list[dict[str, Any]]:
        """Each endpoint of a route and whether it would be asked now."""
        ...


@dataclass(frozen=True, slots=True)
class TriedRoute:
    """What became of one prompt at one route. ``first_s`` is the time to its first text; None when none came.

    ``missing`` are the endpoints that did not answer, each with why; ``continued`` is how often another one went on.
    """

    route: str
    text: str
    trace_id: str
    rung: str
    endpoint: str
    first_s: float | None
    total_s: float
    input_tokens: int
    output_tokens: int
    cost_microusd: int
    is_priced: bool
    error: RoadbedError | None
    missing: tuple[str, ...] = ()
    continued: int = 0


class TryRoute(Protocol):
    """Sends one prompt to one route: text as it comes, then a `TriedRoute`. Closing it stops the model."""

    def __call__(self, name: str, prompt: str, principal: Principal) -> AsyncGenerator[str | TriedRoute, None]:
        """`AppNotAllowed` when the caller may not use the route."""
        ...


class ToolsView(Protocol):
    """What the page needs of the tools that serve."""

    def tools_for(self, principal: Principal) -> list[Tool]:
        """Those that the caller may see, by name."""
        ...

    def counts(self, tool: str) -> ToolCounts | None:
        """How a tool has gone in this process."""
        ...

    async def call(self, tool: str, arguments: Mapping[str, Any], principal: Principal) -> Outcome:
        """Call one, with a trace."""
        ...

    async def waiting(self) -> list[Approval]:
        """The approvals that wait. `StoreUnavailable`."""
        ...

    async def approve(self, approval_id: str, principal: Principal) -> Outcome:
        """Let a call run. `ApprovalInvalid`."""
        ...

    async def deny(self, approval_id: str, principal: Principal, reason: str) -> None:
        """Decide against a call. `ApprovalInvalid`."""
        ...

    async def credentials(self, principal: Principal) -> list[dict[str, Any]]:
        """The sources that are asked with the caller's own credential: ``source``, ``stored``. `StoreUnavailable`."""
        ...

    async def store_credential(self, source: str, value: str, principal: Principal) -> None:
        """Store one. `CredentialInvalid`, `SourceTakesNone`."""
        ...

    async def remove_credential(self, source: str, principal: Principal) -> None:
        """Remove one."""
        ...


class ControlsView(Protocol):
    """What the page needs of `controls.register.Controls`."""

    async def stand(self, *, is_fresh: bool = False) -> list[Stands]:
        """How every control stands."""

    async def failed(self) -> list[Stands]:
        """Those that do not hold."""

    async def history(self, start: datetime | None, control: str = "") -> list[Evidence]:
        """Evidence, oldest first."""

    async def run(self, control_id: str) -> Evidence:
        """Run one now."""


class AnalyticsView(Protocol):
    """What the page Analytics needs of the analytics apps, each call under the caller's own rules."""

    def apps_for(self, principal: Principal) -> list[str]:
        """Those that a caller may use."""
        ...

    async def ask(self, app: str, messages: Sequence[Message], principal: Principal) -> AnalyticsAnswer:
        """Ask in words."""
        ...

    async def run(
        self, app: str, name: str, given: Mapping[str, Any], principal: Principal, *, is_export: bool = False
    ) -> AnalyticsAnswer:
        """Run a question by its name, for a file where ``is_export``. `UnknownQuestion`, `ParameterInvalid`."""
        ...

    async def run_prepared(
        self, app: str, prepared: Prepared, seal: str, principal: Principal, *, is_export: bool = False
    ) -> AnalyticsAnswer:
        """Run what was answered before, for a file where ``is_export``. `SealInvalid`."""
        ...

    async def save(
        self, app: str, name: str, prepared: Prepared, seal: str, principal: Principal, every: str = ""
    ) -> None:
        """Save what was answered. `SealInvalid`, `ScheduleInvalid`, `TooManyQuestions`."""
        ...

    async def delete(self, app: str, name: str, principal: Principal) -> None:
        """Forget a saved question."""
        ...

    async def questions(self, app: str, principal: Principal) -> tuple[ServedApp, list[SavedQuestion]]:
        """The app, and the team's saved questions."""
        ...


class OrderEndpoint(Protocol):
    """Tells an endpoint something by hand, in every process that serves."""

    def __call__(self, endpoint: str, name: OrderName, *, actor: str) -> None:
        """`UnknownEndpoint`, a `NotFound`."""
        ...


class RequireAct(Protocol):
    """Refuses a caller who may not do what an address of the console does."""

    def __call__(self, principal: Principal, role: str, method: str, path: str) -> None:
        """`RoleMissing`, `NotPermitted`, both a `Forbidden`."""
        ...


@dataclass(frozen=True, slots=True)
class ConsoleServices:
    """What the pages show and do. ``url`` is the server's own address, as a person would open it.

    ``parts`` gives each part's state, ``ok`` when it is as it should be; ``problem`` why the manifest on disk is not
    the one that serves; ``apps`` what serves, in the order in which people should see it; ``may_use`` whether a
    caller's key and team may call an app; ``engines`` the local model engines that answer; ``connections`` how the
    declared data systems are reached; ``teams`` those that the manifest declares; ``process`` which serving
    process this is, of how many.
    """

    name: str
    version: str
    url: str
    identity: KeyStore
    sessions: Sessions
    knowledge: KnowledgeView
    reader: TraceReader
    usage: UsageView
    releases: ReleaseStore
    gateway: Routes
    apps: Callable[[], Mapping[str, ServedApp]]
    may_use: Callable[[Principal, str], bool]
    ask: Ask
    parts: Callable[[], Mapping[str, str]]
    problem: Callable[[], str | None]
    engines: Callable[[], Sequence[Mapping[str, Any]]]
    connections: Callable[[], Sequence[SourceHealth]]
    order_endpoint: OrderEndpoint
    try_route: TryRoute
    process: Callable[[], tuple[int, int]]
    require_act: RequireAct
    audit: AuditView
    behind_proxy: bool = False
    tools: ToolsView | None = None
    oidc: Oidc | None = None
    controls: ControlsView | None = None
    analytics: AnalyticsView | None = None
    access: AccessView | None = None
    trial: TrialView | None = None
    teams: Callable[[], Sequence[str]] = tuple
