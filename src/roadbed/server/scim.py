"""``/scim/v2``: users and groups for a directory such as Entra ID or Okta, by keys with the scope ``scim`` alone.

HTTP around `guard.scim` and `guard.directory`; errors have SCIM's shape. The invariant: every change is recorded
before it is done, without the names in it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from roadbed.guard.directory import Directory, Entry
from roadbed.guard.keys import SCIM_SCOPE, require_scope
from roadbed.guard.scim import (
    ERROR,
    GROUP,
    LIST,
    PAGE_MAX,
    USER,
    Filter,
    ScimInvalid,
    checked,
    parse_filter,
    patched,
    texts_of,
)
from roadbed.kernel.errors import InvalidRequest, RoadbedError
from roadbed.server.admission import admit, check_credentials
from roadbed.server.client_certificates import certificate_shown
from roadbed.server.http import READING, address_of, body_of
from roadbed.server.services import Services

PREFIX: Final = "/scim/v2"
BODY_BYTES_MAX: Final = 2 * 1024 * 1024
PAGE_DEFAULT: Final = 100
START_MAX: Final = 10_000_000
MEDIA_TYPE: Final = "application/scim+json"
USER_FILTERS: Final = {name.lower(): name for name in ("userName", "externalId", "id", "displayName", "active")}
GROUP_FILTERS: Final = {name.lower(): name for name in ("displayName", "externalId", "id")}
Handler = Callable[[Request], Awaitable[Response]]


def scim_routes(services: Services) -> list[Route]:
    """The addresses."""
    calls = ScimCalls(
        Directory(services.database),
        lambda: services.mcp.tokens.address,
        lambda text: services.identity.holds_secret(text),
    )

    def route(path: str, handler: Handler, *methods: str) -> list[Route]:
        return [Route(PREFIX + path, _endpoint(services, handler), methods=[method]) for method in methods or ("GET",)]

    return [
        *route("/ServiceProviderConfig", calls.provider),
        *route("/ResourceTypes", calls.types),
        *route("/Schemas", calls.schemas),
        *route("/Users", calls.users),
        *route("/Users", calls.create_user, "POST"),
        *route("/Users/{id}", calls.user),
        *route("/Users/{id}", calls.change_user, "PUT", "PATCH"),
        *route("/Users/{id}", calls.delete_user, "DELETE"),
        *route("/Groups", calls.groups),
        *route("/Groups", calls.create_group, "POST"),
        *route("/Groups/{id}", calls.group),
        *route("/Groups/{id}", calls.change_group, "PUT", "PATCH"),
        *route("/Groups/{id}", calls.delete_group, "DELETE"),
    ]


def _endpoint(services: Services, handler: Handler) -> Any:
    """Admits a directory, records what it changes, and renders errors as SCIM does."""

    async def call(request: Request) -> Response:
        try:
            check_credentials(request.headers.raw)
            authorization = request.headers.get("authorization", "").encode("latin-1")
            address = address_of(request, behind_proxy=services.settings.behind_proxy)
            shown = certificate_shown(request)
            principal = admit(services.identity, authorization, None, None, address, certificate=shown).principal
            require_scope(principal, SCIM_SCOPE, is_own=True)
            if request.method in READING:
                return await handler(request)
            kind = request.url.path.removeprefix(PREFIX).strip("/").partition("/")[0].lower()
            name = f"people.{kind}.{request.method.lower()}"
            resource = str(request.path_params.get("id", ""))
            return await services.trail.doing(name, principal.id, resource, partial(handler, request))
        except RoadbedError as error:
            return _error(error)
        except ClientDisconnect:
            return Response(status_code=400)

    return call


class ScimCalls:
    """The handlers. ``address`` gives the deployment's own public address."""

    def __init__(self, directory: Directory, address: Callable[[], str], holds_secret: Callable[[str], bool]) -> None:
        self._directory = directory
        self._address = address
        self._holds_secret = holds_secret

    async def provider(self, request: Request) -> Response:
        """What is served."""
        return _answer(
            {
                "schemas": ["urn:ietf:params:scim:schemas:core:2.0:ServiceProviderConfig"],
                "patch": {"supported": True},
                "bulk": {"supported": False, "maxOperations": 0, "maxPayloadSize": 0},
                "filter": {"supported": True, "maxResults": PAGE_MAX},
                "changePassword": {"supported": False},
                "sort": {"supported": False},
                "etag": {"supported": False},
                "authenticationSchemes": [
                    {"type": "oauthbearertoken", "name": "Key", "description": "a key with the scope scim"}
                ],
            }
        )

    async def types(self, request: Request) -> Response:
        """Users and groups."""
        kinds: list[tuple[str, str, str, list[str]]] = [("User", "/Users", USER, []), ("Group", "/Groups", GROUP, [])]
        schema = "urn:ietf:params:scim:schemas:core:2.0:ResourceType"
        return _list(
            [
                {"schemas": [schema], "id": n, "name": n, "endpoint": at, "schema": of, "schemaExtensions": more}
                for n, at, of, more in kinds
            ]
        )

    async def schemas(self, request: Request) -> Response:
        """What users and groups are made of; what else is sent is dropped."""
        users = [("userName", "string", True), ("active", "boolean", False), ("displayName", "string", False)]
        users += [("externalId", "string", False), ("name", "complex", False), ("emails", "complex", False)]
        groups = [("displayName", "string", True), ("members", "complex", False)]
        schema = "urn:ietf:params:scim:schemas:core:2.0:Schema"
        return _list(
            [
                {
                    "schemas": [schema],
                    "id": identifier,
                    "name": identifier.rpartition(":")[2],
                    "attributes": [
                        {
                            "name": name,
                            "type": kind,
                            "multiValued": name in ("members", "emails"),
                            "required": is_needed,
                            "caseExact": False,
                            "mutability": "readWrite",
                            "returned": "default",
                            "uniqueness": "server" if is_needed else "none",
                        }
                        for name, kind, is_needed in attributes
                    ],
                }
                for identifier, attributes in ((USER, users), (GROUP, groups))
            ]
        )

    async def users(self, request: Request) -> Response:
        """A page of users, filtered by one attribute where the request says so."""
        start, count = _page(request)
        found, total = await self._directory.users(_filter(request, USER_FILTERS), start, count)
        return _list([self._user(entry) for entry in found], total, start)

    async def user(self, request: Request) -> Response:
        """One."""
        return _answer(self._user(await self._directory.user(request.path_params["id"])))

    async def create_user(self, request: Request) -> Response:
        """Take a user in, and answer 201 with the address."""
        made = self._user(await self._directory.create_user(self._checked(await _body(request), is_user=True)))
        return _answer(made, 201, made["meta"]["location"])

    async def change_user(self, request: Request) -> Response:
        """PUT says all anew, PATCH some of it."""
        user_id, body = request.path_params["id"], await _body(request)
        if request.method == "PATCH":
            body = patched((await self._directory.user(user_id)).said, body)
        return _answer(self._user(await self._directory.change_user(user_id, self._checked(body, is_user=True))))

    async def delete_user(self, request: Request) -> Response:
        """Switch a user off and empty what the directory said; the id stays, so that no token is taken again."""
        await self._directory.delete_user(request.path_params["id"])
        return Response(status_code=204)

    async def groups(self, request: Request) -> Response:
        """A page of groups, filtered by one attribute where the request says so."""
        start, count = _page(request)
        found, total = await self._directory.groups(_filter(request, GROUP_FILTERS), start, count)
        shows = "members" not in request.query_params.get("excludedAttributes", "")
        return _list([self._group(entry, shows_members=shows) for entry in found], total, start)

    async def group(self, request: Request) -> Response:
        """One."""
        shows = "members" not in request.query_params.get("excludedAttributes", "")
        return _answer(self._group(await self._directory.group(request.path_params["id"]), shows_members=shows))

    async def create_group(self, request: Request) -> Response:
        """Make."""
        made = self._group(await self._directory.write_group(None, self._checked(await _body(request), is_user=False)))
        return _answer(made, 201, made["meta"]["location"])

    async def change_group(self, request: Request) -> Response:
        """PUT says all anew, PATCH some of it."""
        group_id, body = request.path_params["id"], await _body(request)
        if request.method == "PUT":
            said = self._checked(body, is_user=False)
            return _answer(self._group(await self._directory.write_group(group_id, said)))
        said = patched((await self._directory.group(group_id)).said, body)
        await self._directory.write_group(group_id, self._checked(said, is_user=False))
        return Response(status_code=204)

    async def delete_group(self, request: Request) -> Response:
        """Remove."""
        await self._directory.delete_group(request.path_params["id"])
        return Response(status_code=204)

    def _checked(self, body: Any, *, is_user: bool) -> dict[str, Any]:
        """What is kept of what was sent. `ScimInvalid`, also for a name with a secret in it: names are shown."""
        found = checked(body, is_user=is_user)
        if any(map(self._holds_secret, texts_of(found))):
            raise ScimInvalid("a secret stands in a name, an address or an id", "invalidValue")
        return found

    def _user(self, entry: Entry) -> dict[str, Any]:
        groups = [{"value": group_id, "display": name} for group_id, name in entry.linked]
        said = {name: value for name, value in entry.said.items() if name != "schemas"}
        return {**said, "schemas": [USER], "id": entry.id, "groups": groups, "meta": self._meta(entry, "User")}

    def _group(self, entry: Entry, *, shows_members: bool = True) -> dict[str, Any]:
        members = [{"value": user_id, "display": name} for user_id, name in entry.linked]
        said = {**entry.said, "schemas": [GROUP], "id": entry.id, "meta": self._meta(entry, "Group")}
        if shows_members:
            return {**said, "members": members}
        return {name: value for name, value in said.items() if name != "members"}

    def _meta(self, entry: Entry, kind: str) -> dict[str, Any]:
        location = f"{self._address()}{PREFIX}/{kind}s/{entry.id}"
        return {"resourceType": kind, "created": entry.created, "lastModified": entry.changed, "location": location}


async def _body(request: Request) -> Any:
    try:
        return msgspec.json.decode(await body_of(request, BODY_BYTES_MAX))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ScimInvalid("the body is not valid JSON", "invalidSyntax") from None


def _filter(request: Request, known: dict[str, str]) -> Filter | None:
    text = request.query_params.get("filter")
    return parse_filter(text, known) if text else None


def _page(request: Request) -> tuple[int, int]:
    """(startIndex, from 1; count)."""
    numbers = []
    for name, default in (("startIndex", 1), ("count", PAGE_DEFAULT)):
        text = request.query_params.get(name, str(default))
        if not text.lstrip("-").isdecimal() or len(text) > 10:
            raise ScimInvalid(f"{name} is a whole number", "invalidValue")
        numbers.append(int(text))
    return max(1, min(numbers[0], START_MAX)), max(0, min(numbers[1], PAGE_MAX))


def _list(resources: list[dict[str, Any]], total: int | None = None, start: int = 1) -> Response:
    return _answer(
        {
            "schemas": [LIST],
            "totalResults": len(resources) if total is None else total,
            "startIndex": start,
            "itemsPerPage": len(resources),
            "Resources": resources,
        }
    )


def _answer(body: Any, status: int = 200, location: str = "") -> Response:
    headers = {"location": location} if location else {}
    return Response(msgspec.json.encode(body), status, headers, MEDIA_TYPE)


def _error(error: RoadbedError) -> Response:
    kind = getattr(error, "kind", None) if isinstance(error, InvalidRequest) else None
    body = {"schemas": [ERROR], "status": str(error.http_status), "detail": error.message}
    headers = {"www-authenticate": "Bearer"} if error.http_status == 401 else {}
    if error.retry_after_s is not None:
        headers["retry-after"] = str(max(1, round(error.retry_after_s)))
    encoded = msgspec.json.encode({**body, "scimType": kind} if kind else body)
    return Response(encoded, error.http_status, headers, MEDIA_TYPE)
