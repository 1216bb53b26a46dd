"""``POST /v1/messages/count_tokens``: how many tokens a request of Anthropic's dialect has, as an estimate.

Endpoints count in their own ways and most offer no way to ask, so the count is worked out from the bytes of the
request's texts, by what endpoints reported for earlier ones. Nothing is sent anywhere. The invariant: whoever may not
call a model learns nothing about it.
"""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from roadbed.apps.registry import ServedApp
from roadbed.gateway.dialects.anthropic_incoming import decode_count
from roadbed.gateway.dialects.anthropic_server import count_body
from roadbed.gateway.dialects.reading import REQUEST_BYTES_MAX
from roadbed.server.admission import Admission
from roadbed.server.http import MESSAGES_PATH, body_of, endpoint
from roadbed.server.services import Services


def message_routes(services: Services) -> list[Route]:
    """The small address beside ``/v1/messages``."""

    async def count_tokens(request: Request, admission: Admission) -> Any:
        incoming = decode_count(await body_of(request, REQUEST_BYTES_MAX))
        found = services.registry.find(incoming.model, admission.principal)
        services.teams.require_app(admission.principal, incoming.model)
        route = found.route() if isinstance(found, ServedApp) else found
        tokens = services.gateway.estimate_tokens(route, incoming.request)
        return Response(count_body(tokens), media_type="application/json")

    return [Route(f"{MESSAGES_PATH}/count_tokens", endpoint(services, count_tokens), methods=["POST"])]
