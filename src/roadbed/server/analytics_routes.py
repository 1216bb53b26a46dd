"""``/api/analytics``: asking an analytics app, its questions, running one, and what was answered as a file."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from roadbed.apps.analytics_desk import Prepared
from roadbed.apps.analytics_export import export_of
from roadbed.apps.analytics_saved import SavedQuestion
from roadbed.apps.analytics_shown import AnalyticsAnswer
from roadbed.apps.analytics_table import Table
from roadbed.gateway.types import Message
from roadbed.kernel.config import NAME_PATTERN
from roadbed.kernel.principal import MEMBER
from roadbed.server.admission import Admission
from roadbed.server.http import Json, endpoint, json_of
from roadbed.server.services import Services


class AnalyticsTurn(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One turn of a conversation with an analytics app."""

    role: Literal["user", "assistant"]
    content: Annotated[str, Meta(max_length=20_000)]


class AnalyticsQuestion(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``POST /api/analytics/{app}/ask``. ``history`` are the turns before."""

    question: Annotated[str, Meta(min_length=1, max_length=4_000)]
    history: Annotated[list[AnalyticsTurn], Meta(max_length=20)] = []


class AnalyticsRun(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``POST /api/analytics/{app}/run/{question}``."""

    parameters: dict[str, str | int | float | bool | None] = {}


class AnalyticsSave(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``POST /api/analytics/{app}/questions``: ``prepared`` and ``seal`` as an answer gave them."""

    name: Annotated[str, Meta(pattern=NAME_PATTERN)]
    prepared: Prepared
    seal: Annotated[str, Meta(max_length=128)]
    every: Annotated[str, Meta(max_length=40)] = ""


class AnalyticsExport(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``POST /api/analytics/{app}/export``: ``prepared`` and ``seal`` as an answer gave them."""

    prepared: Prepared
    seal: Annotated[str, Meta(max_length=128)]


def analytics_routes(services: Services) -> list[Route]:
    """The addresses."""
    calls = AnalyticsCalls(services)

    def route(path: str, handler: Any, method: str) -> Route:
        return Route(f"/api/analytics/{path}", endpoint(services, handler, role=MEMBER), methods=[method])

    return [
        route("{app}/ask", calls.ask, "POST"),
        route("{app}/questions", calls.questions, "GET"),
        route("{app}/questions", calls.save, "POST"),
        route("{app}/questions/{question}", calls.delete, "DELETE"),
        route("{app}/run/{question}", calls.run, "POST"),
        route("{app}/export", calls.export_answer, "POST"),
        route("{app}/export/{question}", calls.export_question, "GET"),
    ]


class AnalyticsCalls:
    """The handlers."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def ask(self, request: Request, admission: Admission) -> Any:
        """An answer."""
        asked = await json_of(request, AnalyticsQuestion)
        turns = [Message(role=turn.role, content=turn.content) for turn in asked.history]
        messages = [*turns, Message(role="user", content=asked.question)]
        analytics, app = self._services.analytics, request.path_params["app"]
        served, _ = analytics.served(app, admission.principal)
        deadline = admission.deadline(served.deadline_s)
        return answer_object(await analytics.ask(app, messages, admission.principal, deadline))

    async def questions(self, request: Request, admission: Admission) -> Any:
        """Declared and saved questions."""
        app = request.path_params["app"]
        served, saved = await self._services.analytics.questions(app, admission.principal)
        declared = [
            {"name": name, "title": question.title, "parameters": msgspec.to_builtins(question.parameters)}
            for name, question in served.config.questions.items()
        ]
        return {"app": app, "declared": declared, "saved": [saved_object(one) for one in saved]}

    async def save(self, request: Request, admission: Admission) -> Any:
        """Save what was answered."""
        asked = await json_of(request, AnalyticsSave)
        app = request.path_params["app"]
        await self._services.analytics.save(
            app, asked.name, asked.prepared, asked.seal, admission.principal, asked.every
        )
        return Json({"app": app, "name": asked.name, "every": asked.every}, 201)

    async def delete(self, request: Request, admission: Admission) -> Any:
        """Forget a saved question."""
        app = request.path_params["app"]
        await self._services.analytics.delete(app, request.path_params["question"], admission.principal)
        return Response(status_code=204)

    async def run(self, request: Request, admission: Admission) -> Any:
        """Run a question by its name."""
        asked = await json_of(request, AnalyticsRun)
        return answer_object(await self._ran(request, admission, asked.parameters))

    async def _ran(
        self, request: Request, admission: Admission, given: dict[str, Any], *, is_export: bool = False
    ) -> AnalyticsAnswer:
        analytics, app = self._services.analytics, request.path_params["app"]
        served, _ = analytics.served(app, admission.principal)
        deadline = admission.deadline(served.deadline_s)
        name, principal = request.path_params["question"], admission.principal
        return await analytics.run(app, name, given, principal, deadline, is_export=is_export)

    async def export_question(self, request: Request, admission: Admission) -> Any:
        """A question's result as a file; the other fields of the query are its parameters."""
        given = {name: value for name, value in request.query_params.items() if name != "format"}
        found = await self._ran(request, admission, given, is_export=True)
        return file_of(found.table, request.path_params["question"], request.query_params.get("format", "csv"))

    async def export_answer(self, request: Request, admission: Admission) -> Any:
        """What was answered, run again, as a file."""
        asked = await json_of(request, AnalyticsExport)
        analytics, app = self._services.analytics, request.path_params["app"]
        found = await analytics.run_prepared(app, asked.prepared, asked.seal, admission.principal, is_export=True)
        return file_of(found.table, asked.prepared.title, request.query_params.get("format", "csv"))


def file_of(table: Table | None, name: str, format_: str) -> Response:
    """A table as a download. `NothingToExport`, `InvalidRequest`."""
    made = export_of(table, name, format_, datetime.now(UTC))
    return Response(made.body, headers=made.headers, media_type=made.media_type)


def answer_object(found: AnalyticsAnswer) -> dict[str, Any]:
    """A finished turn on the wire."""
    return {"text": found.text, "roadbed": found.facts}


def saved_object(saved: SavedQuestion) -> dict[str, Any]:
    """A saved question on the wire, without its rows."""
    return {
        "name": saved.name,
        "title": saved.prepared.title,
        "sources": saved.prepared.sources,
        "creator": saved.creator,
        "every": saved.every,
        "created": saved.created,
        "kept": datetime.fromtimestamp(saved.kept.taken, UTC) if saved.kept is not None else None,
        "trouble": saved.trouble,
    }
