"""``/api/controls``: how the controls stand, their evidence, running one, and what was done by hand."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.routing import Route

from roadbed.controls.frameworks import control_map
from roadbed.controls.governance import cards_of
from roadbed.controls.oscal import assessment_results
from roadbed.controls.readiness import is_ready, readiness
from roadbed.controls.register import Stands
from roadbed.kernel.principal import ADMIN, AUDITOR
from roadbed.server.admission import Admission
from roadbed.server.audit_routes import time_of
from roadbed.server.canary_ground import keep_note
from roadbed.server.governance import register, surroundings_of
from roadbed.server.http import Json, endpoint, json_of
from roadbed.server.second_person import Done
from roadbed.server.second_person_routes import waiting_answer
from roadbed.server.services import Services


class RestoreNote(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``POST /api/controls/notes/restore``: a backup was restored and looked at."""

    note: Annotated[str, Meta(max_length=500)] = ""


class ApprovalOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``POST /api/governance/models/{name}/approve``: who approves the model as it is."""

    by: Annotated[str, Meta(min_length=1, max_length=200)]
    note: Annotated[str, Meta(max_length=500)] = ""


def control_routes(services: Services) -> list[Route]:
    """The addresses."""
    controls = services.controls

    async def stand(request: Request, admission: Admission) -> Any:
        return {"controls": [stands_object(found) for found in await controls.stand(is_fresh=True)]}

    async def run(request: Request, admission: Admission) -> Any:
        kept = await controls.run(request.path_params["id"])
        return Json(kept.document(), status_code=201)

    async def evidence(request: Request, admission: Admission) -> Any:
        given = request.query_params
        found = await controls.store.since(time_of(given.get("from"), "from"), given.get("control") or "")
        if given.get("format") == "oscal":
            text = assessment_results(found, control_map(), services.manifest.name)
            return {"text": text, "key": services.trail.key, "signature": services.trail.sign_text(text)}
        return {"key": services.trail.key, "evidence": [kept.document() for kept in found]}

    async def restored(request: Request, admission: Admission) -> Any:
        order = await json_of(request, RestoreNote)
        await keep_note(services, "restore", admission.principal.id, order.note)
        return Json({"noted": "restore"}, status_code=201)

    async def ready(request: Request, admission: Admission) -> Any:
        name = request.path_params["app"]
        items = readiness(name, services.manifest, await surroundings_of(services))
        return {"app": name, "is_ready": is_ready(items), "items": items}

    async def governed(request: Request, admission: Admission) -> Any:
        found = await register(services)
        return {"register": found, "cards": cards_of(found)}

    async def approved(request: Request, admission: Admission) -> Any:
        order = await json_of(request, ApprovalOrder)
        name = request.path_params["name"]
        found = await services.duties.second.approve_model(name, admission.principal, order.by, order.note)
        if not isinstance(found, Done):
            return waiting_answer(found)
        return Json({"model": name, "digest": found.digest, "by": order.by}, status_code=201)

    return [
        Route("/api/governance", endpoint(services, governed, role=AUDITOR)),
        Route("/api/governance/models/{name}/approve", endpoint(services, approved, role=ADMIN), methods=["POST"]),
        Route("/api/ready/{app}", endpoint(services, ready, role=AUDITOR)),
        Route("/api/controls", endpoint(services, stand, role=AUDITOR)),
        Route("/api/controls/evidence", endpoint(services, evidence, role=AUDITOR)),
        Route("/api/controls/notes/restore", endpoint(services, restored, role=ADMIN), methods=["POST"]),
        Route("/api/controls/{id}/run", endpoint(services, run, role=ADMIN), methods=["POST"]),
    ]


def stands_object(stands: Stands) -> dict[str, Any]:
    """One control on the wire."""
    return {
        "id": stands.id,
        "title": stands.title,
        "period_s": stands.period_s,
        "standing": stands.standing,
        "is_failed": stands.is_failed,
        "last": stands.last.document() if stands.last is not None else None,
        "clauses": control_map().clauses(stands.id),
    }
