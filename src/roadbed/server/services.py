"""`Services`: everything that a running deployment consists of, opened in order and closed in reverse.

`open_services` is where the rooms are wired; no other file builds them. A step that fails leaves nothing running
behind it. The order is: state lock, PostgreSQL, schema, guard and keys, ledger, knowledge, gateway, apps, releases,
workspace follower. With ``--workers N`` the owner opens all of it and the others what `open_serving_services` says: no
lock, no jobs, no parsers, no follower; `Services.agree` keeps them like their owner.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta

import msgspec

from roadbed.apps.registry import AppRegistry, ServedApp
from roadbed.controls.register import Controls
from roadbed.gateway.gateway import Gateway
from roadbed.gateway.orders import EndpointOrder, OrderName
from roadbed.gateway.prices import shipped_prices
from roadbed.guard.credentials import Credentials
from roadbed.guard.gate import Guard
from roadbed.guard.identity import Identity
from roadbed.guard.sessions import Sessions
from roadbed.kernel.config import parse_duration_s
from roadbed.kernel.errors import ConfigError
from roadbed.kernel.ids import new_id
from roadbed.knowledge.embed import EmbeddingWorker, MiniLmEmbedder
from roadbed.knowledge.parse.pool import ParserPool
from roadbed.knowledge.service import Knowledge
from roadbed.ledger.ledger import Ledger
from roadbed.ledger.metrics import Metrics
from roadbed.ledger.otlp import OtlpExporter
from roadbed.ledger.queries import LedgerReader
from roadbed.ledger.spool import SPOOL_BYTES_MAX
from roadbed.releases.aliases import Releases
from roadbed.releases.compile import compile_releases
from roadbed.releases.follow import WorkspaceFollower
from roadbed.releases.manifest import Manifest
from roadbed.releases.workspace import MANIFEST_NAME, Workspace
from roadbed.server.analytics import Analytics, open_analytics
from roadbed.server.answer_caches import configure_answer_caches, open_answer_caches
from roadbed.server.audit import AuditTrail, open_trail
from roadbed.server.canary_ground import HttpCaller
from roadbed.server.canary_objects import canary_releases, with_own
from roadbed.server.controls import open_controls
from roadbed.server.duties import Duties, open_duties
from roadbed.server.endpoint_orders import EndpointOrders, UnknownEndpoint
from roadbed.server.engines import Engines
from roadbed.server.erasure import Erasures, Stores
from roadbed.server.exporting import collector_of, open_exporter
from roadbed.server.exposed_keys import ExposedKeys
from roadbed.server.guard_alerts import GuardAlerts
from roadbed.server.link import Deployment
from roadbed.server.lost_manifest import refuse_lost
from roadbed.server.mcp_open import McpParts, open_mcp
from roadbed.server.measures import open_measures, watch_jobs
from roadbed.server.money import Money
from roadbed.server.reached_tools import open_reached
from roadbed.server.restarts import divide_connections
from roadbed.server.retention import Retention
from roadbed.server.running import RunningCalls
from roadbed.server.served_tools import ServedTools
from roadbed.server.settings import Settings
from roadbed.server.teams import Teams
from roadbed.sources.caller_auth import CallerAuths
from roadbed.sources.registry import SourceHealth, Sources
from roadbed.store.database import Database
from roadbed.store.embedded import EmbeddedPostgres
from roadbed.store.embedded_guest import EmbeddedGuest
from roadbed.store.embedded_roles import CONNECTIONS_MAX
from roadbed.store.jobs import Jobs
from roadbed.store.migrate import migrate, schema_name
from roadbed.store.objects import ObjectStore
from roadbed.store.state import StateLock
from roadbed.tools.toolbox import ToolBox
from roadbed.wire.client import UpstreamClient

log = logging.getLogger("roadbed.server")

ACTOR = "workspace"


@dataclass(slots=True)
class Serving:
    """A process's place among those that serve beside each other: what its owner said last, and the metrics of all.

    ``sources`` are the owner's connections, which reads the documents.
    """

    number: int
    deployment: Deployment
    all_metrics: Callable[[], Awaitable[str]]
    order: Callable[[EndpointOrder], None]
    sources: tuple[SourceHealth, ...] = ()


@dataclass(slots=True)
class Services:
    """What runs. Built by `open_services` and `open_serving_services` alone."""

    settings: Settings
    workspace: Workspace
    metrics: Metrics
    embedded: EmbeddedPostgres | None
    database: Database
    teams: Teams
    guard_alerts: GuardAlerts
    identity: Identity
    sessions: Sessions
    trail: AuditTrail
    erasures: Erasures
    retention: Retention
    ledger: Ledger
    reader: LedgerReader
    embedder: EmbeddingWorker
    knowledge: Knowledge
    gateway: Gateway
    engines: Engines
    registry: AppRegistry
    releases: Releases
    money: Money
    sources: Sources
    jobs: Jobs
    tools: ServedTools
    exporter: OtlpExporter
    made_admin_key: str | None = None
    follower: WorkspaceFollower | None = None
    serving: Serving | None = None
    is_draining: bool = False
    orders: EndpointOrders = field(default_factory=EndpointOrders)
    mcp: McpParts = field(init=False)
    controls: Controls = field(init=False)
    own_calls: HttpCaller = field(init=False)
    canary: str = ""
    analytics: Analytics = field(init=False)
    duties: Duties = field(init=False)
    exposed: ExposedKeys = field(init=False)
    running: RunningCalls = field(default_factory=RunningCalls)

    @property
    def manifest(self) -> Manifest:
        """The manifest that serves."""
        return self.workspace.manifest

    def apps_in_order(self) -> list[tuple[str, ServedApp]]:
        """The apps that serve, as the manifest lists them: the first copilot is the one that is meant by default."""
        served = self.registry.served.apps
        order = {name: position for position, name in enumerate(self.manifest.apps)}
        return sorted(served.items(), key=lambda pair: order.get(pair[0], len(order)))

    @property
    def toolbox(self) -> ToolBox:
        """The tools that serve, with the rules of a call."""
        return self.tools.toolbox

    @property
    def auto_promote(self) -> bool:
        """Whether a saved change goes live by itself."""
        needs_two = self.duties.second.known.needs_two("promotions")
        declared = False if self.manifest.governance.require_approval or needs_two else self.manifest.auto_promote
        return self.settings.is_embedded if declared is None else declared

    def problem(self) -> str | None:
        """Why the manifest on disk is not what serves; None when it is."""
        if self.serving is not None:
            return self.serving.deployment.problem
        problem = self.follower.problem if self.follower is not None else None
        return str(problem) if problem is not None else None

    @property
    def waits_for_disk(self) -> bool:
        """Whether jobs wait for room on the disk of the database."""
        return self.serving.deployment.waits_for_disk if self.serving is not None else self.jobs.waits_for_disk

    def source_connections(self) -> list[SourceHealth]:
        """How the connections to the declared data systems are. Asks nobody."""
        return list(self.serving.sources) if self.serving is not None else self.tools.states()

    def order_endpoint(self, endpoint: str, name: OrderName, *, actor: str) -> None:
        """Tell an endpoint something by hand, in every process that serves. `UnknownEndpoint`."""
        if not any(found.name == endpoint for route in self.gateway.routes.values() for found in route.ladder):
            raise UnknownEndpoint(f"there is no endpoint {endpoint[:200]!r}")
        order = EndpointOrder(endpoint, name)
        log.warning("endpoint %s: %s, by %s", endpoint, name, actor)
        self.trail.note(f"endpoints.{name}", actor, endpoint)
        if self.serving is not None:
            self.serving.order(order)
        else:
            self.gateway.obey(order)

    async def take(self, saved: Workspace) -> None:
        """Make a valid workspace what serves: guard and teams, sources, releases. Where two persons promote, all of it
        waits as releases.
        """
        manifest = saved.manifest
        if manifest.name != self.manifest.name:
            raise ConfigError(
                f"the workspace was renamed to {manifest.name}",
                hint="stop and start to serve it by that name",
                file=MANIFEST_NAME,
            )
        workspace = await self.duties.effective(saved)
        manifest = workspace.manifest
        digest = hashlib.sha256(msgspec.msgpack.encode((manifest, workspace.policies))).hexdigest()
        await self.trail.act("manifest.take", ACTOR, manifest.name, digest=digest)
        self.teams.access.take(workspace.policies)
        self.trail.take(manifest, workspace.folder)
        self.retention.take(manifest.retention)
        self.mcp.take(manifest)
        self.teams.take(manifest, workspace.folder)
        self.guard_alerts.take(manifest)
        self.money.take(manifest)
        configure_answer_caches(self.gateway, manifest)
        self.ledger.configure(
            keep=timedelta(seconds=parse_duration_s(manifest.traces.keep)), content=manifest.traces.content
        )
        self.exporter.configure(collector_of(manifest, workspace.folder))
        await self.tools.take(manifest)
        if self.settings.workers > 1:
            await self.sources.make_embedded()
        await self.knowledge.configure(*with_own(manifest))
        self.knowledge.watch()
        await self.engines.want(not manifest.models)
        self.workspace = workspace
        generations = {stats.name: str(stats.generation or "") for stats in await self.knowledge.collection_stats()}
        compiled = compile_releases(saved, generations, self.toolbox.all_tools())
        moves = await self.duties.save(compiled, saved, workspace, auto_promote=self.auto_promote, actor=ACTOR)
        for move in moves:
            self.trail.note(f"releases.{move.name}", ACTOR, move.app, digest=move.digest or "")
            log.info("%s: %s %s", move.app, move.name, move.digest[:12] if move.digest else "retired")

    def show_canary(self, url: str) -> None:
        """Serve the canary control's own objects by the model server at ``url``; none when it is empty."""
        self.canary = url
        self.registry.hide(canary_releases(url) if url else {})

    def deployment(self, running: int) -> Deployment:
        """What the processes that serve have to agree on with their owner, of whom ``running`` run."""
        return Deployment(
            manifest=self.manifest,
            engines=tuple(self.engines.all()),
            watched=self.knowledge.watched,
            problem=self.problem(),
            running=running,
            orders=self.orders.all(),
            policies=self.workspace.policies,
            canary=self.canary,
            waits_for_disk=self.waits_for_disk,
        )

    async def agree(self, deployment: Deployment, *, is_first: bool = False) -> None:
        """Serve what the owner took. Releases come by themselves, from the database."""
        assert self.serving is not None
        manifest = deployment.manifest
        before, self.serving.deployment = self.serving.deployment, deployment
        self.teams.access.take(deployment.policies)
        if is_first or manifest != before.manifest:
            self.trail.take(manifest, self.workspace.folder)
            self.mcp.take(manifest)
            self.teams.take(manifest, self.workspace.folder)
            self.guard_alerts.take(manifest)
            self.money.take(manifest)
            configure_answer_caches(self.gateway, manifest)
            self.ledger.configure(
                keep=timedelta(seconds=parse_duration_s(manifest.traces.keep)), content=manifest.traces.content
            )
            self.exporter.configure(collector_of(manifest, self.workspace.folder))
            await self.tools.take(manifest)
            await self.knowledge.configure(*with_own(manifest), owns_ingest=False)
            self.workspace = replace(self.workspace, manifest=manifest)
        if deployment.canary != before.canary:
            self.show_canary(deployment.canary)
        self.orders.obey(deployment.orders, self.gateway.obey, is_first=is_first)
        self.knowledge.note_watched(deployment.watched)
        await self.engines.agree(deployment.engines)


@asynccontextmanager
async def open_services(settings: Settings, workspace: Workspace) -> AsyncIterator[Services]:
    """Start everything but the HTTP server; stop it all when the block is left."""
    async with AsyncExitStack() as stack:
        embedded, database = await _open_database(stack, settings, workspace)
        services = await _build(stack, settings, workspace, embedded, database)
        admin_key = settings.admin_key.reveal() if settings.admin_key is not None else None
        services.made_admin_key = await services.identity.ensure_admin_key(admin_key)
        await services.take(workspace)
        await services.releases.start()
        stack.push_async_callback(services.releases.close)
        stack.push_async_callback(services.controls.close)
        services.duties.emergency.start_watch()
        services.follower = WorkspaceFollower(workspace, services.take)
        services.duties.on_overtaken = services.follower.ask
        services.follower.start()
        stack.push_async_callback(services.follower.close)
        yield services


@asynccontextmanager
async def open_serving_services(settings: Settings, workspace: Workspace, serving: Serving) -> AsyncIterator[Services]:
    """What a process needs that only serves, in a deployment that another one owns."""
    async with AsyncExitStack() as stack:
        assert settings.database is not None
        dsn = settings.database.reveal()
        database = await stack.enter_async_context(
            await Database.open(dsn, settings.schema, max_size=divide_connections(settings.workers).worker)
        )
        services = await _build(stack, settings, workspace, None, database, serving)
        await services.agree(serving.deployment, is_first=True)
        await services.releases.start()
        stack.push_async_callback(services.releases.close)
        yield services


async def _build(
    stack: AsyncExitStack,
    settings: Settings,
    workspace: Workspace,
    embedded: EmbeddedPostgres | None,
    database: Database,
    serving: Serving | None = None,
) -> Services:
    """The rooms over a database, the same whether this process owns the deployment or serves in it."""
    manifest, metrics = workspace.manifest, Metrics()
    teams = await _open_guard(settings, workspace)
    identity = await stack.enter_async_context(Identity(database))
    trail, ledger = await _open_records(stack, settings, workspace, database, metrics, serving)
    client, guard_alerts = _open_client(stack, metrics, workspace, teams)
    gateway = Gateway(client, teams.guard)
    is_owner = serving is None
    money = Money(database, metrics, gateway, client, identity, settings, workspace.folder, is_owner=is_owner)
    money.start()
    stack.push_async_callback(money.close)
    measures = open_measures(stack, metrics, gateway)
    exporter = open_exporter(client, gateway, metrics, manifest.name)
    stack.push_async_callback(exporter.close)
    measures.count_finished(ledger, exporter.offer)
    ledger.content_by(teams.lets_trace)
    sources = Sources(workspace.folder, embedded or (_guest_of(settings) if serving is not None else None))
    stack.push_async_callback(sources.close)
    knows = stack, settings, workspace, database, teams, sources
    embedder, knowledge, jobs = await _open_knowledge(*knows, runs_jobs=is_owner)
    credentials = await asyncio.to_thread(Credentials.open, settings.state, database, identity)
    held = teams, gateway, ledger, knowledge, trail, credentials
    stores = Stores(manifest.name, settings.state, database, embedded, *held)
    erasures, retention = await _open_keepers(stack, stores, is_owner=is_owner)
    open_answer_caches(stack, gateway, database, teams, embedder, is_owner=is_owner)
    tools = await _open_tools(stack, settings, workspace, database, sources, metrics, teams, credentials)
    money.divide(tools.toolbox.rates.gauges)
    registry = _make_registry(workspace, knowledge, gateway, teams, tools)
    engines, releases = Engines(registry, client), Releases(database)
    stack.push_async_callback(engines.close)
    releases.on_change(registry.take)
    services = Services(
        settings=settings,
        workspace=workspace,
        metrics=metrics,
        embedded=embedded,
        database=database,
        teams=teams,
        guard_alerts=guard_alerts,
        identity=identity,
        sessions=await Sessions.open(database, identity),
        trail=trail,
        erasures=erasures,
        retention=retention,
        ledger=ledger,
        reader=LedgerReader(database),
        embedder=embedder,
        knowledge=knowledge,
        gateway=gateway,
        engines=engines,
        registry=registry,
        releases=releases,
        money=money,
        sources=sources,
        jobs=jobs,
        tools=tools,
        exporter=exporter,
        serving=serving,
    )
    services.analytics = await open_analytics(stack, services, is_owner=is_owner)
    await _attach(stack, services, client)
    return services


async def _attach(stack: AsyncExitStack, services: Services, client: UpstreamClient) -> None:
    """What is made over all of the services: MCP, the controls, and who has to approve a promotion."""
    teams = services.teams
    watch_jobs(services.metrics, services.jobs)
    services.trail.guarded = lambda text: teams.guard.for_name(text)
    services.identity.holds_secret = lambda text: teams.guard.holds_secret(text)
    offered = services.toolbox, services.knowledge, services.registry, services.teams, services.ledger
    services.mcp = await open_mcp(
        stack, services.database, services.identity, client, offered, lambda: services.workspace
    )
    services.mcp.oidc.keep_in(services.tools.credentials, services.tools.exchanges)
    services.controls = open_controls(services)
    services.exposed = ExposedKeys(services.identity, services.trail, services.guard_alerts, services.metrics)
    stack.push_async_callback(services.exposed.close)
    services.running.watch(services.identity)
    stack.callback(services.running.close)
    services.duties = open_duties(stack, services)


async def _open_guard(settings: Settings, workspace: Workspace) -> Teams:
    """The guard with its patterns loaded, and the teams of the manifest."""
    manifest, folder = workspace.manifest, workspace.folder
    guard = await asyncio.to_thread(Guard.open, settings.state / "cache", manifest.guard, manifest.teams, folder=folder)
    await asyncio.to_thread(guard.warm_up)
    teams = Teams(guard)
    teams.take(manifest, folder)
    return teams


def _make_registry(
    workspace: Workspace, knowledge: Knowledge, gateway: Gateway, teams: Teams, tools: ServedTools
) -> AppRegistry:
    """The apps and routes, none yet."""
    return AppRegistry(
        searcher=knowledge,
        gateway=gateway,
        guard=lambda: teams.guard,
        prices=shipped_prices(),
        folder=workspace.folder,
        tools=lambda: tools.toolbox,
        may_call=teams.may_call,
    )


async def _open_tools(
    stack: AsyncExitStack,
    settings: Settings,
    workspace: Workspace,
    database: Database,
    sources: Sources,
    metrics: Metrics,
    teams: Teams,
    credentials: Credentials,
) -> ServedTools:
    """The toolbox, and the connections to what is no database."""
    callers = CallerAuths(workspace.folder, credentials)
    stack.push_async_callback(callers.close)
    reached = open_reached(stack, workspace.folder, settings.state, callers)
    parts = database, sources, metrics, teams, reached, workspace.folder, callers, credentials, settings.state
    tools = await ServedTools.open(*parts)
    stack.push_async_callback(tools.close)
    return tools


def _open_client(
    stack: AsyncExitStack, metrics: Metrics, workspace: Workspace, teams: Teams
) -> tuple[UpstreamClient, GuardAlerts]:
    """The way out to other systems, and who is told by it of the guard's rules."""
    client = UpstreamClient()
    stack.push_async_callback(client.close)
    alerts = GuardAlerts(metrics, client, workspace.folder)
    stack.push_async_callback(alerts.close)
    alerts.take(workspace.manifest)
    teams.tell(alerts.told)
    return client, alerts


async def _open_keepers(stack: AsyncExitStack, stores: Stores, *, is_owner: bool) -> tuple[Erasures, Retention]:
    """What removes data: at a person's request, and by age."""
    erasures = Erasures(stores)
    await erasures.start()
    stack.push_async_callback(erasures.close)
    retention = Retention(stores.database, stores.knowledge, stores.trail, stores.state)
    stack.push_async_callback(retention.close)
    if is_owner:
        retention.start()
    return erasures, retention


def _guest_of(settings: Settings) -> EmbeddedGuest | None:
    """The way of a process that only serves into the embedded server that its owner runs."""
    if settings.database is None or not (settings.state / "postgres" / "passwords.json").exists():
        return None
    return EmbeddedGuest(settings.state, settings.database.reveal())


def schema_of(settings: Settings, manifest: Manifest) -> str:
    """The schema that a workspace lives in."""
    return settings.schema or schema_name(manifest.name)


async def _open_database(
    stack: AsyncExitStack, settings: Settings, workspace: Workspace
) -> tuple[EmbeddedPostgres | None, Database]:
    """Lock the state folder, start PostgreSQL where it is ours, and bring the schema to this build's version."""
    pools = divide_connections(settings.workers)
    lock = stack.enter_context(StateLock.acquire(settings.state))
    embedded = None
    if settings.database is None:
        connections = str(max(CONNECTIONS_MAX, pools.needed))
        embedded = EmbeddedPostgres(settings.state, lock=lock, settings={"max_connections": connections})
        await stack.enter_async_context(embedded)
        dsn = embedded.dsn
    else:
        dsn = settings.database.reveal()
    manifest = workspace.manifest
    schema = schema_of(settings, manifest)
    database = await stack.enter_async_context(await Database.open(dsn, schema, max_size=pools.owner))
    await refuse_lost(database, workspace, is_own=embedded is not None)
    await migrate(database, workspace_id=manifest.name, mode="check" if settings.migrate == "check" else "auto")
    return embedded, database


async def _open_records(
    stack: AsyncExitStack,
    settings: Settings,
    workspace: Workspace,
    database: Database,
    metrics: Metrics,
    serving: Serving | None,
) -> tuple[AuditTrail, Ledger]:
    """The audit, and the ledger, which tells it of every request."""
    manifest, slot = workspace.manifest, serving.number if serving is not None else None
    trail = await open_trail(stack, settings, manifest, workspace.folder, database, metrics, slot=slot)
    spool = settings.state / "spool"
    ledger = Ledger(
        database,
        spool if serving is None else spool / f"worker-{serving.number}-{new_id()}",
        metrics,
        keep=timedelta(seconds=parse_duration_s(manifest.traces.keep)),
        content=manifest.traces.content,
        spool_bytes_max=SPOOL_BYTES_MAX // settings.workers,
        is_owner=serving is None,
    )
    ledger.audit_to(trail.audit.note_trace)
    ledger.start()
    stack.push_async_callback(ledger.close)
    return trail, ledger


async def _open_knowledge(
    stack: AsyncExitStack,
    settings: Settings,
    workspace: Workspace,
    database: Database,
    teams: Teams,
    sources: Sources,
    *,
    runs_jobs: bool,
) -> tuple[EmbeddingWorker, Knowledge, Jobs]:
    """The embedder, the parsers, the documents, and, in the owner, the jobs that read them."""
    embedder = EmbeddingWorker(MiniLmEmbedder())
    stack.push_async_callback(embedder.aclose)
    await embedder.warm()
    parsers = ParserPool()
    stack.push_async_callback(parsers.close)
    jobs = Jobs(database)
    knowledge = Knowledge(
        database,
        jobs,
        ObjectStore.at_folder(settings.state / "objects"),
        teams,
        embedder,
        parsers,
        workspace=workspace.folder,
        passed_over=(settings.state,),
        rows=sources,
    )
    if runs_jobs:
        knowledge.register_jobs()
    await knowledge.start()
    stack.push_async_callback(knowledge.aclose)
    if runs_jobs:
        await _run_jobs(stack, jobs)
    return embedder, knowledge, jobs


async def _run_jobs(stack: AsyncExitStack, jobs: Jobs) -> None:
    """Run the job workers until the stack is unwound."""
    stop = asyncio.Event()
    task = asyncio.create_task(jobs.keep_running(stop), name="jobs")

    async def close() -> None:
        stop.set()
        await asyncio.gather(task, return_exceptions=True)

    stack.push_async_callback(close)
