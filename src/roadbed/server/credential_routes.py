"""``/api/tools/credentials``: what callers store for sources that are asked with each caller's own credential.

A caller sees, stores and removes their own; an admin also somebody else's. A value is taken and never shown. The
invariant: every change is audited, and nobody stores for a source that they may not see.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.routing import Route

from roadbed.guard.credentials import CREDENTIAL_CHARACTERS_MAX
from roadbed.kernel.errors import InvalidRequest, NotFound
from roadbed.kernel.principal import ADMIN, MEMBER, Principal
from roadbed.server.access_report import WHO_CHARACTERS_MAX, caller_named
from roadbed.server.acts import require_act
from roadbed.server.admission import Admission
from roadbed.server.http import endpoint, json_of
from roadbed.server.operations import Operation, Query
from roadbed.server.served_tools import caller_auth_of
from roadbed.server.services import Services

PATH = "/api/tools/credentials"
_FOR = Query("for", "somebody else, for admins: a person's or key's id or name")


class SourceTakesNone(NotFound):
    """There is no source of this name that is asked with credentials which its callers stored."""

    code = "credentials.no_such_source"
    hint = "`roadbed source credential list` shows the sources that take one"


class CredentialOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``PUT /api/tools/credentials/{source}``."""

    credential: Annotated[str, Meta(min_length=1, max_length=CREDENTIAL_CHARACTERS_MAX)]


CREDENTIAL_OPERATIONS = (
    Operation(
        "GET",
        PATH,
        MEMBER,
        "Tools",
        "The sources that are asked with each caller's own credential, and whether one is stored.",
        "{credentials: [{source, stored, by_owner}]}; `stored` is a time or null",
        query=(_FOR,),
    ),
    Operation(
        "PUT",
        f"{PATH}/{{source}}",
        MEMBER,
        "Tools",
        "Store a credential for a source, in place of the one before. It is never shown again.",
        "{source}",
        request=CredentialOrder,
        query=(_FOR,),
    ),
    Operation(
        "DELETE",
        f"{PATH}/{{source}}",
        MEMBER,
        "Tools",
        "Remove a stored credential; calls that need it are refused from then on.",
        "{source, removed}",
        query=(_FOR,),
    ),
)


def credential_routes(services: Services) -> list[Route]:
    """The addresses."""

    async def owner_of(request: Request, admission: Admission) -> Principal:
        who = request.query_params.get("for", "")[:WHO_CHARACTERS_MAX]
        if not who:
            return admission.principal
        require_act(services.teams, admission.principal, ADMIN, "PUT", "/api/people/credentials")
        if who.startswith("team:"):
            raise InvalidRequest("a team stores no credential", hint="name a person or a key", param="for")
        return await caller_named(services, who)

    async def listed(request: Request, admission: Admission) -> Any:
        return {"credentials": await credentials_of(services, await owner_of(request, admission))}

    async def store(request: Request, admission: Admission) -> Any:
        source = request.path_params["source"]
        owner = await owner_of(request, admission)
        order = await json_of(request, CredentialOrder)
        await store_credential(services, owner, source, order.credential, actor=admission.principal)
        return {"source": source}

    async def remove(request: Request, admission: Admission) -> Any:
        source = request.path_params["source"]
        owner = await owner_of(request, admission)
        removed = await remove_credential(services, owner, source, actor=admission.principal)
        return {"source": source, "removed": removed}

    return [
        Route(PATH, endpoint(services, listed, role=MEMBER)),
        Route(f"{PATH}/{{source}}", endpoint(services, store, role=MEMBER), methods=["PUT"]),
        Route(f"{PATH}/{{source}}", endpoint(services, remove, role=MEMBER), methods=["DELETE"]),
    ]


def sources_taking(services: Services, principal: Principal) -> list[str]:
    """The sources that a caller may see and that take a stored credential, by name."""
    found = []
    for name, source in services.manifest.sources.items():
        auth = caller_auth_of(source)
        is_seen = source.visible_to is None or principal.team in source.visible_to
        if auth is not None and auth.stored and is_seen:
            found.append(name)
    return sorted(found)


async def credentials_of(services: Services, owner: Principal) -> list[dict[str, Any]]:
    """What a caller stored and could store. A credential of a source that is gone is listed, so it can be removed."""
    kept = {one.source: one for one in await services.tools.credentials.listed(owner)}
    return [
        {
            "source": name,
            "stored": kept[name].created.isoformat() if name in kept else None,
            "by_owner": kept[name].is_by_owner if name in kept else None,
        }
        for name in sorted({*kept, *sources_taking(services, owner)})
    ]


async def store_credential(services: Services, owner: Principal, source: str, value: str, *, actor: Principal) -> None:
    """Store a credential, audited. `SourceTakesNone`, `CredentialInvalid`, `AuditUnavailable`."""
    if source not in sources_taking(services, owner):
        raise SourceTakesNone(f"no source {source[:64]!r} takes a credential of this caller")
    credentials = services.tools.credentials
    await services.trail.doing(
        "credentials.store",
        actor.id,
        source,
        lambda: credentials.store(owner, source, value, actor=actor),
        owner=services.trail.pseudonym(owner.id),
    )


async def remove_credential(services: Services, owner: Principal, source: str, *, actor: Principal) -> bool:
    """Remove a credential, audited; whether there was one. `SourceTakesNone`, `AuditUnavailable`."""
    if source not in [one["source"] for one in await credentials_of(services, owner)]:
        raise SourceTakesNone(f"no source {source[:64]!r} has or takes a credential of this caller")
    credentials = services.tools.credentials
    return await services.trail.doing(
        "credentials.remove",
        actor.id,
        source,
        lambda: credentials.remove(owner, source),
        owner=services.trail.pseudonym(owner.id),
    )
