"""``/api/approvals`` and the promotions that may have to wait for a second person."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.routing import Route

from roadbed.guard.duty_requests import DutyRequest
from roadbed.kernel.principal import ADMIN, AUDITOR
from roadbed.server.admission import Admission
from roadbed.server.http import Json, endpoint, json_of
from roadbed.server.second_person import Done, request_object
from roadbed.server.services import Services


class DeclineOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``POST /api/approvals/{id}/decline``."""

    reason: Annotated[str, Meta(max_length=500)] = ""


def second_person_routes(services: Services) -> list[Route]:
    """The addresses."""
    second = services.duties.second

    async def listed(request: Request, admission: Admission) -> Any:
        everything = request.query_params.get("all") in ("1", "true")
        found = await (second.listed() if everything else second.waiting())
        rules = await second.rules()
        return {
            "two_persons": sorted(rules.two_persons),
            "persons_only": rules.persons_only,
            "approvals": [request_object(one) for one in found],
        }

    async def approve(request: Request, admission: Admission) -> Any:
        return answer_of(await second.approve(request.path_params["id"], admission.principal))

    async def decline(request: Request, admission: Admission) -> Any:
        order = await json_of(request, DeclineOrder)
        return request_object(await second.decline(request.path_params["id"], admission.principal, order.reason))

    return [
        Route("/api/approvals", endpoint(services, listed, role=AUDITOR)),
        Route("/api/approvals/{id}/approve", endpoint(services, approve, role=ADMIN), methods=["POST"]),
        Route("/api/approvals/{id}/decline", endpoint(services, decline, role=ADMIN), methods=["POST"]),
    ]


def answer_of(found: Done | DutyRequest) -> Any:
    """What was done, or 202 with the request that waits now, and how a second person approves it."""
    if isinstance(found, Done):
        return {"state": "approved", "duty": found.duty, "subject": found.subject, "digest": found.digest}
    return waiting_answer(found)


def waiting_answer(found: DutyRequest) -> Json:
    """202: it waits."""
    hint = f"it waits for another person: roadbed approvals approve {found.id}, or the console's page Access"
    return Json({**request_object(found), "hint": hint}, 202)
