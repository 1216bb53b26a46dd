"""``/api/erasures``: removing what is stored of a person, and the receipts of it."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.routing import Route

from roadbed.guard.erased import CHARACTERS_MAX
from roadbed.kernel.principal import ADMIN, AUDITOR
from roadbed.server.admission import Admission
from roadbed.server.erasure import Erasures
from roadbed.server.http import Json, endpoint, json_of
from roadbed.server.services import Services


class ErasureOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``POST /api/erasures``. ``compact`` rewrites the tables, so that no dead row is left; it locks them meanwhile."""

    subject: Annotated[str, Meta(min_length=1, max_length=CHARACTERS_MAX)]
    dry_run: bool = False
    compact: bool = False


def erasure_routes(services: Services) -> list[Route]:
    """The addresses."""

    def erasures() -> Erasures:
        return services.erasures

    async def erase(request: Request, admission: Admission) -> Any:
        order = await json_of(request, ErasureOrder)
        receipt = await erasures().erase(
            order.subject, admission.principal.id, is_dry_run=order.dry_run, compacts=order.compact
        )
        return Json(receipt, status_code=200 if order.dry_run else 201)

    async def receipts(request: Request, admission: Admission) -> Any:
        return await erasures().receipts()

    return [
        Route("/api/erasures", endpoint(services, erase, role=ADMIN), methods=["POST"]),
        Route("/api/erasures", endpoint(services, receipts, role=AUDITOR)),
    ]
