"""What happens around every page: who is signed in, what they may open, forged forms, errors as pages, JSON twins.

Pages are functions from a `Visit` to a `Page` (or to a response of their own); `Console` makes routes of them. Errors
that rooms raise become a page that says what, why and what to do; anything else is a bug and goes to the server. The
invariant: no page function runs without a principal, and no POST without this session's form token.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from roadbed.console.csp import protect
from roadbed.console.menu import Menu, is_auditor
from roadbed.console.rendering import Templates, link
from roadbed.console.services import ConsoleServices
from roadbed.guard.networks import caller_address, require_address
from roadbed.guard.sessions import SESSION_COOKIE, SessionRefused
from roadbed.kernel.errors import Forbidden, InvalidRequest, RoadbedError
from roadbed.kernel.principal import ADMIN, AUDITOR, MEMBER, Principal

COOKIE_PATH: Final = "/console"
QUERY_CHARACTERS_MAX: Final = 1_000
FORM_FIELDS_MAX: Final = 100
FORM_FIELD_BYTES_MAX: Final = 1024 * 1024
TOKEN_FIELD: Final = "form_token"  # noqa: S105 - the name of a form field


class ForeignForm(Forbidden):
    """A form was sent to the console from a page of another site."""

    code = "console.foreign_form"
    hint = "open the console itself and repeat there"


class PageForbidden(Forbidden):
    """The page is for auditors or admins, and the session's key is neither."""

    code = "console.page_forbidden"
    hint = "sign in with a key whose role allows it; `roadbed keys create --role auditor` makes one"


class FormInvalid(InvalidRequest):
    """A form could not be read: it is cut off, not a form, or over a limit of fields, files or bytes."""

    code = "console.form_invalid"
    hint = "load the page again and repeat"


@dataclass(frozen=True, slots=True)
class Visit:
    """One request of someone who is signed in."""

    request: Request
    services: ConsoleServices
    principal: Principal
    cookie: str
    form: FormData = field(default_factory=FormData)

    def query(self, name: str, default: str = "") -> str:
        """A value of the query, bounded and without NUL."""
        return self.request.query_params.get(name, default).replace("\0", "")[:QUERY_CHARACTERS_MAX]

    def text(self, name: str, default: str = "") -> str:
        """A text field of the form."""
        value = self.form.get(name, default)
        return value.replace("\0", "") if isinstance(value, str) else default

    @property
    def is_auditor(self) -> bool:
        """Whether traces, keys and releases may be read."""
        return is_auditor(self.principal)

    @property
    def actor(self) -> str:
        """What history calls this caller."""
        return self.principal.name or self.principal.id


@dataclass(frozen=True, slots=True)
class Page:
    """What a page shows. ``data`` is what its JSON twin says."""

    template: str
    title: str
    context: Mapping[str, Any]
    data: Any = None
    status: int = 200


Handler = Callable[[Visit], Awaitable[Page | Response]]


class Console:
    """Makes routes of page functions."""

    def __init__(self, services: ConsoleServices, templates: Templates) -> None:
        self.services = services
        self.templates = templates
        self._menu = Menu(services)

    # -- routes -------------------------------------------------------------------------------------------------------

    def page(self, path: str, handler: Handler, *, role: str = MEMBER, twin_path: str = "") -> list[Route]:
        """The routes of a page: itself, and its JSON twin, as a rule under the same address with ``.json``."""

        async def show(request: Request) -> Response:
            try:
                visit = self.visit(request, role)
            except SessionRefused:
                return protect(RedirectResponse(link("/console/sign-in", next=_here(request)), status_code=303))
            except RoadbedError as error:
                return await self.failed(request, error)
            return await self._answer(visit, handler)

        async def twin(request: Request) -> Response:
            try:
                visit = self.visit(request, role)
                self._note_emergency(visit)
                answer = await handler(visit)
            except RoadbedError as error:
                return protect(_json(error.problem(), error.http_status))
            return protect(_json(answer.data, answer.status) if isinstance(answer, Page) else answer)

        return [Route(twin_path or f"{path}.json", twin, methods=["GET"]), Route(path, show, methods=["GET"])]

    def action(
        self,
        path: str,
        handler: Handler,
        *,
        role: str = MEMBER,
        files_max: int = 0,
        file_bytes_max: int = 0,
        is_audited: bool = False,
    ) -> list[Route]:
        """The route of a form that changes something or asks something; an admin's is recorded before it acts."""
        act_name = ".".join(part for part in path.split("/")[2:] if not part.startswith("{"))
        is_act = is_audited or role == ADMIN

        async def recorded(visit: Visit) -> Page | Response:
            resource = "/".join(map(str, visit.request.path_params.values()))
            audit = visit.services.audit
            done: Page | Response = await audit.doing(
                f"console.{act_name}", visit.principal.id, resource, lambda: handler(visit)
            )
            return done

        does = recorded if is_act else handler

        async def act(request: Request) -> Response:
            try:
                check_origin(request)
                visit = self.visit(request, role)
                form = await read_form(request, files_max, file_bytes_max)
            except RoadbedError as error:
                return await self.failed(request, error)
            try:
                visit = Visit(request, self.services, visit.principal, visit.cookie, form)
                try:
                    self.services.sessions.check_form_token(visit.cookie, visit.text(TOKEN_FIELD) or None)
                except RoadbedError as error:
                    return await self.failed(request, error)
                return await self._answer(visit, does)
            finally:
                await form.close()

        return [Route(path, act, methods=["POST"])]

    # -- the parts ----------------------------------------------------------------------------------------------------

    def visit(self, request: Request, role: str) -> Visit:
        """The caller's visit. `SessionRefused`, `AddressNotAllowed`, `PageForbidden`."""
        cookie = request.cookies.get(cookie_name(request, self.services), "")
        principal = self.services.sessions.principal_of(cookie)
        if principal.networks:
            forwarded_for = request.headers.getlist("x-forwarded-for")
            last = forwarded_for[-1].encode("latin-1") if forwarded_for else None
            require_address(principal, caller_address(request.client, last, behind_proxy=self.services.behind_proxy))
        if role in (ADMIN, AUDITOR):
            try:
                self.services.require_act(principal, role, request.method, request.url.path)
            except Forbidden as error:
                raise PageForbidden(f"this page needs a key with the role {role}", hint=error.hint) from None
        return Visit(request, self.services, principal, cookie)

    def _note_emergency(self, visit: Visit) -> None:
        """Record what somebody sees and does whose rights an emergency raises."""
        access, path = self.services.access, visit.request.url.path
        if access is not None and access.is_raised(visit.principal):
            call = f"console.{visit.request.method.lower()}"
            self.services.audit.note("breakglass.use", visit.principal.id, path, call=call)

    async def _answer(self, visit: Visit, handler: Handler) -> Response:
        self._note_emergency(visit)
        try:
            answer = await handler(visit)
        except RoadbedError as error:
            return await self.failed(visit.request, error)
        return protect(await self.rendered(answer, visit) if isinstance(answer, Page) else answer)

    async def rendered(self, page: Page, visit: Visit | None, request: Request | None = None) -> Response:
        """A page as a response; without a visit it has neither menu nor forms."""
        request = visit.request if visit is not None else request
        assert request is not None
        frame: dict[str, Any] = {
            "title": page.title,
            "workspace": self.services.name,
            "version": self.services.version,
            "path": request.url.path,
            "principal": visit.principal if visit is not None else None,
            "menu": await self._menu.entries(visit.principal) if visit is not None else [],
            "form_token": self.services.sessions.form_token(visit.cookie) if visit is not None else "",
            "is_admin": visit is not None and visit.principal.is_admin,
            "is_auditor": visit is not None and visit.is_auditor,
            "failed_controls": await self._failed_controls(visit),
            "glasses": self.services.access.glasses() if visit is not None and self.services.access is not None else (),
        }
        body = self.templates.render(page.template, {**frame, **page.context})
        return Response(body, status_code=page.status, media_type="text/html")

    async def _failed_controls(self, visit: Visit | None) -> list[Any]:
        """What the banner of every page names, for those who may know."""
        controls = self.services.controls
        return await controls.failed() if controls is not None and visit is not None and visit.is_auditor else []

    async def failed(self, request: Request, error: RoadbedError) -> Response:
        """An error as a page."""
        try:
            visit: Visit | None = self.visit(request, MEMBER)
        except RoadbedError:
            visit = None
        context = {"error": error, "needs_sign_in": isinstance(error, SessionRefused), "here": _here(request)}
        page = Page("error.html", "Not done" if request.method == "POST" else "Not shown", context)
        response = await self.rendered(page, visit, request)
        response.status_code = error.http_status
        if error.retry_after_s is not None:
            response.headers["retry-after"] = str(max(1, round(error.retry_after_s)))
        return protect(response)


def cookie_name(request: Request, services: ConsoleServices) -> str:
    """The session cookie's name. ``__Host-`` needs the path ``/``; ``__Secure-`` too keeps plain http out."""
    return f"__Secure-{SESSION_COOKIE}" if is_https(request, services) else SESSION_COOKIE


def is_https(request: Request, services: ConsoleServices) -> bool:
    """Whether people reach the console over TLS, here or at a proxy before it.

    That a proxy ends TLS is what ``--behind-proxy`` says; one that takes plain http as well says so of each request.
    """
    if services.behind_proxy:
        return request.headers.get("x-forwarded-proto", "https").rpartition(",")[2].strip().lower() != "http"
    return request.url.scheme == "https" or services.url.startswith("https:")


def check_origin(request: Request) -> None:
    """`ForeignForm` when a browser says that another site sent this form.

    Under ``no-referrer`` browsers send ``Origin: null`` with forms, so the fetch metadata is asked first; a browser
    that sends neither is left to the form token.
    """
    site = request.headers.get("sec-fetch-site")
    if site is not None and site not in ("same-origin", "none"):
        raise ForeignForm("this form was sent from another site")
    origin = request.headers.get("origin", "null")
    if origin != "null" and urlsplit(origin).netloc.lower() != request.headers.get("host", "").lower():
        raise ForeignForm("this form was sent from another site")


async def read_form(request: Request, files_max: int, file_bytes_max: int) -> FormData:
    """The form of a request. `FormInvalid`."""
    try:
        return await request.form(
            max_files=files_max, max_fields=FORM_FIELDS_MAX, max_part_size=max(file_bytes_max, FORM_FIELD_BYTES_MAX)
        )
    except HTTPException as error:
        raise FormInvalid(f"the form could not be read: {error.detail}") from None
    except ClientDisconnect:
        raise FormInvalid("the form was cut off while it was sent") from None


def seen(path: str, /, **query: Any) -> Response:
    """Go on to a page after something was done."""
    return RedirectResponse(link(path, **query), status_code=303)


def _here(request: Request) -> str:
    return f"{request.url.path}?{request.url.query}" if request.url.query else request.url.path


def _json(data: Any, status: int) -> Response:
    return Response(msgspec.json.encode(data, enc_hook=str), status_code=status, media_type="application/json")
