"""``/api``: everything that the CLI and operators do over HTTP. JSON in and out; errors are problem details.

Handlers parse, call the room that owns the matter, and shape the answer; no logic of their own. What is secret is
shown once (`POST /api/keys`) or never.
"""

from __future__ import annotations

import dataclasses
import difflib
import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from roadbed import __version__
from roadbed.gateway.policy import Asked
from roadbed.gateway.providers import describe_environment
from roadbed.guard.keys import KeyRecord
from roadbed.guard.networks import NETWORKS_MAX
from roadbed.kernel.clock import SYSTEM_CLOCK
from roadbed.kernel.config import parse_duration_s
from roadbed.kernel.errors import ConfigError, DeadlineExceeded, InvalidRequest, NotFound, Unavailable
from roadbed.kernel.label import parse_label
from roadbed.kernel.principal import ADMIN, AUDITOR, Principal
from roadbed.knowledge.search import Hit
from roadbed.knowledge.states import states_for
from roadbed.server.admission import Admission
from roadbed.server.health import is_ready, parts
from roadbed.server.http import Json, endpoint, integer_of, json_of
from roadbed.server.openai import SEARCH_DEADLINE_S
from roadbed.server.second_person import Done
from roadbed.server.second_person_routes import waiting_answer
from roadbed.server.services import Services
from roadbed.server.source_objects import connection_object, source_object, tools_only_object
from roadbed.sources.registry import SourceHealth

RANGE_DEFAULT = "24h"
FAILURES_SHOWN = 50
TOKENS_DIGITS_MAX = 9


class SearchQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``POST /api/search``."""

    query: Annotated[str, Meta(min_length=1, max_length=4000)]
    collections: list[str] | None = None
    k: Annotated[int, Meta(ge=1, le=100)] = 8


class IngestOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``POST /api/ingest``: one source, or all."""

    source: str | None = None
    delete_held: bool = False


class KeyOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``POST /api/keys``. ``expires`` is a duration from now such as ``90d``, or ``never``; the manifest's
    ``identity.keys_expire`` when left out. ``ip`` are addresses or ranges. A ``person``'s key ends with the account.
    """

    team: Annotated[str, Meta(min_length=1, max_length=63)]
    name: Annotated[str, Meta(max_length=200)] = ""
    apps: list[str] | None = None
    roles: list[Literal["member", "auditor", "admin"]] = []
    expires: str | None = None
    models: list[str] | None = None
    ip: Annotated[list[str], Meta(max_length=NETWORKS_MAX)] = []
    budget: Annotated[str, Meta(max_length=40)] = ""
    scopes: list[Literal["chat", "search", "ingest", "admin", "audit", "scim", "mcp"]] | None = None
    person: Annotated[str, Meta(max_length=63)] = ""


class RotateOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``POST /api/keys/{id}/rotate``. For ``overlap``, a duration such as ``1h``, the value before is good too."""

    overlap: str | None = None


class AliasOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``POST /api/releases/{app}/promote`` and ``/rollback``."""

    digest: Annotated[str, Meta(min_length=4, max_length=64)] | None = None
    reason: Annotated[str, Meta(max_length=500)] = ""


def admin_routes(services: Services) -> list[Route]:
    """All of ``/api`` but documents."""

    def route(path: str, handler: Any, role: str, method: str = "GET") -> Route:
        return Route(path, endpoint(services, handler, role=role), methods=[method])

    def member(path: str, handler: Any, method: str = "GET") -> Route:
        return Route(path, endpoint(services, handler), methods=[method])

    calls = AdminCalls(services)
    return [
        member("/api/status", calls.status),
        member("/api/search", calls.search, "POST"),
        member("/api/sources", calls.sources),
        route("/api/ingest", calls.ingest, ADMIN, "POST"),
        route("/api/traces", calls.traces, AUDITOR),
        route("/api/traces/{id}", calls.trace, AUDITOR),
        route("/api/keys", calls.keys, ADMIN),
        route("/api/keys", calls.create_key, ADMIN, "POST"),
        route("/api/keys/{id}", calls.revoke_key, ADMIN, "DELETE"),
        route("/api/keys/{id}/rotate", calls.rotate_key, ADMIN, "POST"),
        route("/api/releases", calls.releases, AUDITOR),
        route("/api/releases/{app}", calls.release, AUDITOR),
        route("/api/releases/{app}/promote", calls.promote, ADMIN, "POST"),
        route("/api/releases/{app}/rollback", calls.rollback, ADMIN, "POST"),
        route("/api/models", calls.models, AUDITOR),
        route("/api/routes/{name}/explain", calls.explain_route, AUDITOR),
        route("/api/sign-in-links", calls.sign_in_link, ADMIN, "POST"),
    ]


class AdminCalls:
    """The handlers, over one deployment's services."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def status(self, request: Request, admission: Admission) -> Any:
        """What runs, in one object."""
        services, principal = self._services, admission.principal
        served = services.registry.served
        apps = [
            {
                "name": name,
                "kind": app.config.kind,
                "release": app.release.digest,
                "model": found.name if (found := app.route()) is not None else None,
                "examples": app.config.examples,
            }
            for name, app in services.apps_in_order()
            if services.teams.may_call(principal, name)
        ]
        return {
            "name": services.manifest.name,
            "version": __version__,
            "ready": is_ready(services),
            "parts": parts(services),
            "problem": services.problem() if principal.roles & {ADMIN, AUDITOR} else None,
            "apps": apps,
            "models": [name for name in sorted(served.routes) if services.teams.may_call(principal, name)],
            "sources": await self._source_objects(principal),
            "connections": [connection_object(found) for found in self._connections(principal)],
        }

    async def search(self, request: Request, admission: Admission) -> Any:
        """Passages by words and meaning."""
        services = self._services
        asked = await json_of(request, SearchQuery)
        started = time.perf_counter()
        deadline, knowledge = admission.deadline(SEARCH_DEADLINE_S), services.knowledge
        search = knowledge.search_named if asked.collections else knowledge.search
        collections = asked.collections or list(services.manifest.collections)
        result = await search(collections, asked.query, admission.principal, k=asked.k, deadline=deadline)
        took_ms = (time.perf_counter() - started) * 1000
        hits = [hit_object(hit) for hit in result.hits]
        return {"hits": hits, "missing": list(result.missing), "took_ms": round(took_ms, 2)}

    async def sources(self, request: Request, admission: Admission) -> Any:
        """Every source with its progress and failures."""
        return await self._source_objects(admission.principal)

    async def _source_objects(self, principal: Principal) -> list[dict[str, Any]]:
        states = await self._services.knowledge.source_states()
        connections = {found.name: found for found in self._connections(principal)}
        documents = states_for(states, principal)
        with_documents = {state.name.partition(".")[0] for state in documents}
        return [
            *(source_object(state, connections.get(state.name.partition(".")[0])) for state in documents),
            *(tools_only_object(found) for name, found in connections.items() if name not in with_documents),
        ]

    def _connections(self, principal: Principal) -> list[SourceHealth]:
        """How data systems are reached, for those who run the deployment."""
        return self._services.source_connections() if principal.roles & {ADMIN, AUDITOR} else []

    async def ingest(self, request: Request, admission: Admission) -> Any:
        """List sources again now; at once. A source is done once its ``attempted_at`` is at or after ``asked_at``."""
        order = await json_of(request, IngestOrder)
        knowledge = self._services.knowledge
        if order.delete_held:
            if order.source is None:
                raise InvalidRequest("name the source whose held deletions are confirmed", param="source")
            await knowledge.sync_now(order.source, delete_held=True)
        asked_at = await knowledge.start_sync(order.source)
        return Json({"started": order.source or "all", "asked_at": asked_at}, status_code=202)

    async def traces(self, request: Request, admission: Admission) -> Any:
        """Recent requests, newest first."""
        given = request.query_params
        rows = await self._services.reader.traces(
            limit=integer_of(request, "limit", 50, 200),
            before=given.get("before"),
            app=given.get("app"),
            rung=given.get("rung"),
            status=given.get("status"),
            declined=given.get("declined") == "true",
            within=timedelta(seconds=_duration(given.get("within") or RANGE_DEFAULT, "within")),
        )
        return {"traces": rows, "next": rows[-1].id if rows else None}

    async def trace(self, request: Request, admission: Admission) -> Any:
        """One request with its steps."""
        return await self._services.reader.trace(request.path_params["id"])

    async def keys(self, request: Request, admission: Admission) -> Any:
        """All keys, never their values."""
        now = datetime.now(UTC)
        return [key_object(record, now) for record in await self._services.identity.list_keys()]

    async def create_key(self, request: Request, admission: Admission) -> Any:
        """Make a key and show it once."""
        order = await json_of(request, KeyOrder)
        expires = None
        lifetime = order.expires or self._services.manifest.identity.keys_expire
        if lifetime != "never":
            expires = datetime.now(UTC) + timedelta(seconds=_duration(lifetime, "expires"))
        record, plaintext = await self._services.identity.create_key(
            team=order.team,
            roles=order.roles or ("member",),
            apps=order.apps,
            models=order.models,
            networks=order.ip,
            name=order.name,
            expires=expires,
            budget=order.budget,
            scopes=order.scopes,
            person=order.person,
            maker=admission.principal,
        )
        self._services.trail.note("keys.made", admission.principal.id, record.id, roles="+".join(sorted(record.roles)))
        made = {
            **key_object(record, datetime.now(UTC)),
            "key": plaintext,
            "note": note_on(order, self._services.manifest.teams),
        }
        return Json(made, status_code=201)

    async def rotate_key(self, request: Request, admission: Admission) -> Any:
        """Give a key a new value and show it once."""
        order = await json_of(request, RotateOrder)
        overlap = timedelta(seconds=_duration(order.overlap, "overlap")) if order.overlap else timedelta()
        record, plaintext = await self._services.identity.rotate_key(
            request.path_params["id"], overlap, maker=admission.principal
        )
        return Json({**key_object(record, datetime.now(UTC)), "key": plaintext})

    async def revoke_key(self, request: Request, admission: Admission) -> Any:
        """End a key, everywhere."""
        await self._services.identity.revoke_key(request.path_params["id"])
        return Response(status_code=204)

    async def releases(self, request: Request, admission: Admission) -> Any:
        """The aliases of every app."""
        found = await self._services.releases.apps()
        return [{"app": a.app, "live": a.live, "candidate": a.candidate, "held": a.is_held} for a in found]

    async def release(self, request: Request, admission: Admission) -> Any:
        """One app's aliases and history."""
        name = request.path_params["app"]
        for found in await self._services.releases.apps():
            if found.app == name:
                history = await self._services.releases.history(name)
                return {
                    "app": name,
                    "live": found.live,
                    "candidate": found.candidate,
                    "held": found.is_held,
                    "history": history,
                }
        raise NotFound(f"there is no app named {name[:100]!r}")

    async def promote(self, request: Request, admission: Admission) -> Any:
        """Make a release live; where that takes two persons, ask for it, or agree to what another asked for."""
        order = await json_of(request, AliasOrder)
        app = request.path_params["app"]
        found = await self._services.duties.second.promote(app, order.digest, admission.principal, order.reason)
        return found.move if isinstance(found, Done) else waiting_answer(found)

    async def rollback(self, request: Request, admission: Admission) -> Any:
        """Go back, and hold."""
        order = await json_of(request, AliasOrder)
        actor = admission.principal.name or admission.principal.id
        return await self._services.releases.rollback(
            request.path_params["app"], order.digest, actor=actor, reason=order.reason
        )

    async def models(self, request: Request, admission: Admission) -> Any:
        """Routes with their endpoints' health, engines found, and provider keys that are set but not used."""
        services = self._services
        return {
            "routes": {name: services.gateway.explain(name) for name in sorted(services.gateway.routes)},
            "endpoints": await self._endpoints(),
            "engines": services.engines.found(),
            "unused_provider_keys": [
                {"provider": key.provider, "variable": key.variable, "hint": key.hint} for key in describe_environment()
            ],
        }

    async def explain_route(self, request: Request, admission: Admission) -> Any:
        """Which endpoint of a route would take a request like this one, and why not the others."""
        given = request.query_params
        try:
            label = parse_label((word for word in given.get("label", "").split(",") if word), where="label")
        except ConfigError as error:
            raise InvalidRequest(error.message, hint=error.hint, param="label") from None
        tokens = given.get("tokens", "0")
        if not (tokens.isascii() and tokens.isdigit() and len(tokens) <= TOKENS_DIGITS_MAX):
            raise InvalidRequest(f"tokens: {tokens[:20]!r} is no number of tokens", param="tokens")
        name, _, value = given.get("header", "").partition("=")
        now = SYSTEM_CLOCK.wall()
        asked = Asked(
            label,
            given.get("team", admission.principal.team),
            int(tokens),
            headers={name.lower(): value} if name else {},
            minute=now.hour * 60 + now.minute,
        )
        return self._services.gateway.explain_choice(request.path_params["name"], asked)

    async def _endpoints(self) -> list[dict[str, Any]]:
        """Every endpoint as the process that answers knows it, and what it cost since midnight (UTC)."""
        midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        try:
            spent: dict[str, int] | None = await self._services.reader.spend_by_endpoint(midnight)
        except (Unavailable, DeadlineExceeded):
            spent = None
        return [
            {**dataclasses.asdict(view), "spent_today_microusd": None if spent is None else spent.get(view.endpoint, 0)}
            for view in self._services.gateway.endpoints()
        ]

    async def sign_in_link(self, request: Request, admission: Admission) -> Any:
        """A link that signs this key in to the console, once, within 15 minutes."""
        token = await self._services.sessions.create_sign_in_token(admission.principal.id)
        return Json({"path": f"/console/sign-in?token={token}"}, status_code=201)


def _duration(text: str, param: str) -> float:
    try:
        return parse_duration_s(text)
    except ConfigError as error:
        raise InvalidRequest(error.message, hint=error.hint, param=param) from None


def hit_object(hit: Hit) -> dict[str, Any]:
    """One passage on the wire."""
    return {
        "document_id": hit.document_id,
        "chunk_id": hit.chunk_id,
        "title": hit.title,
        "uri": hit.uri,
        "source": hit.source,
        "collection": hit.collection,
        "text": hit.text,
        "start": hit.start,
        "end": hit.end,
        "page": hit.page,
        "location": hit.location,
        "headings": list(hit.heading_path),
        "score": hit.score,
        "vector_score": hit.vector_score,
        "lexical_score": hit.lexical_score,
    }


def key_object(record: KeyRecord, now: datetime) -> dict[str, Any]:
    """One key on the wire, without its value."""
    state = "live" if record.is_live(now) else ("revoked" if record.revoked else "expired")
    return {
        "id": record.id,
        "name": record.name,
        "team": record.team,
        "roles": sorted(record.roles),
        "apps": sorted(record.apps) if record.apps is not None else None,
        "models": sorted(record.models) if record.models is not None else None,
        "ip": list(record.networks),
        "state": state,
        "created": record.created,
        "expires": record.expires,
        "last_used": record.last_used,
        "rotated": record.rotated,
        "previous_until": record.previous_until,
        "budget": record.budget or None,
        "scopes": sorted(record.scopes) if record.scopes is not None else None,
        "person": record.person or None,
        "age_days": (now - (record.rotated or record.created)).days,
    }


def note_on(order: KeyOrder, teams: Iterable[str]) -> str:
    """What an admin should know of a new key: a mistyped team is bounded by nothing that the manifest says."""
    declared = list(teams)
    is_bounded = order.apps or order.models or order.scopes
    if not declared or order.team in declared or is_bounded or ADMIN in order.roles:
        return ""
    near = difflib.get_close_matches(order.team, declared, n=1)
    meant = f" (did you mean {near[0]}?)" if near else ""
    return f"the manifest declares no team {order.team}{meant}: this key may call every app and model"
