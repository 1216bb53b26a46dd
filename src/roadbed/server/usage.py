"""``GET /api/usage``: what was used and what it cost, as JSON or CSV, with how the budgets of the period stand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from roadbed.kernel.config import parse_duration_s
from roadbed.kernel.errors import ConfigError
from roadbed.kernel.principal import AUDITOR
from roadbed.ledger.usage_report import UsageQueryInvalid, groups_of, range_of, report
from roadbed.server.admission import Admission
from roadbed.server.http import endpoint
from roadbed.server.services import Services

BY_DEFAULT = "team"
WITHIN_DEFAULT = "30d"


def usage_routes(services: Services) -> list[Route]:
    """The address."""

    async def usage(request: Request, admission: Admission) -> Any:
        given = request.query_params
        by = groups_of(given.get("by") or BY_DEFAULT)
        within = timedelta(seconds=_duration_s(given.get("within") or WITHIN_DEFAULT))
        wanted = range_of(given.get("from") or "", given.get("to") or "", within, datetime.now(UTC))
        form = given.get("format") or "json"
        if form not in ("json", "csv"):
            raise UsageQueryInvalid("format is json or csv", param="format")
        found = await report(services.database, by, wanted)
        if form == "csv":
            await services.trail.act("usage.export", admission.principal.id)
            disposition = {"content-disposition": 'attachment; filename="usage.csv"'}
            return Response(found.csv(), media_type="text/csv", headers=disposition)
        return {
            "by": found.by,
            "from": found.start,
            "to": found.end,
            "rows": found.rows,
            "total": found.total,
            "is_cut": found.is_cut,
            "budgets": await services.money.bank.standing(),
        }

    return [Route("/api/usage", endpoint(services, usage, role=AUDITOR))]


def _duration_s(text: str) -> float:
    try:
        return parse_duration_s(text)
    except ConfigError as error:
        raise UsageQueryInvalid(error.message, hint=error.hint, param="within") from None
