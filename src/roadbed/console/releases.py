"""Releases: what each app serves, how it came to, and the two ways to move it. Moving is for admins, after a question.

A move is confirmed on a page of its own, so that it works without scripts and cannot happen by a slip.
"""

from __future__ import annotations

from starlette.responses import Response
from starlette.routing import Route

from roadbed.console.visits import Console, Page, Visit, seen
from roadbed.guard.duties import PROMOTIONS
from roadbed.kernel.errors import InvalidRequest, NotFound
from roadbed.kernel.principal import ADMIN, AUDITOR
from roadbed.releases.aliases import AppReleases

HISTORY_SHOWN = 50
REASON_CHARACTERS_MAX = 500
MOVES = ("rollback", "promote")


class NoSuchApp(NotFound):
    """No app of this name has a release."""

    code = "console.no_release"
    hint = "the page Releases lists the apps"


class MoveInvalid(InvalidRequest):
    """The form asks for something that is neither a rollback nor a promotion."""

    code = "console.move_invalid"


def release_routes(console: Console) -> list[Route]:
    """The routes of the pages."""
    return [
        *console.page("/console/releases", releases, role=AUDITOR),
        *console.page("/console/releases/{app}", release, role=AUDITOR),
        *console.page("/console/releases/{app}/move", confirm, role=ADMIN),
        *console.action("/console/releases/{app}/move", move, role=ADMIN),
    ]


async def releases(visit: Visit) -> Page:
    """Every app with its aliases."""
    found = await visit.services.releases.apps()
    apps = [app for app in found if not _is_inner(app)]
    movable = set()
    for app in apps if visit.principal.is_admin else ():
        history = await visit.services.releases.history(app.app, HISTORY_SHOWN)
        if _earlier(app, [move.digest for move in history]):
            movable.add(app.app)
    view = visit.services.access
    waiting = [one for one in await view.waiting() if one.duty == PROMOTIONS] if view is not None else []
    context = {"apps": apps, "with_earlier": movable, "waiting": waiting, "told": visit.query("told")}
    return Page("releases.html", "Releases", context, found)


def _is_inner(app: AppReleases) -> bool:
    return app.app.startswith("_")


async def release(visit: Visit) -> Page:
    """One app's history."""
    app = await _app(visit)
    history = await visit.services.releases.history(app.app, HISTORY_SHOWN)
    context = {"app": app, "history": history, "earlier": _earlier(app, [move.digest for move in history])}
    return Page("release.html", app.app, context, {"aliases": app, "history": history})


def _earlier(app: AppReleases, digests: list[str | None]) -> list[str]:
    """Digests that the history names and that are not live, newest first."""
    return [digest for digest in dict.fromkeys(digests) if digest and digest != app.live]


async def confirm(visit: Visit) -> Page:
    """Ask before a move."""
    app = await _app(visit)
    wanted = _move(visit.query("move"))
    context = {"app": app, "move": wanted, "digest": visit.query("digest")}
    return Page("release_move.html", f"{wanted.capitalize()} {app.app}", context, app)


async def move(visit: Visit) -> Response:
    """Promote or roll back as the form says; or say that it waits for a second person."""
    app, digest = visit.request.path_params["app"], visit.text("digest") or None
    reason = visit.text("reason").strip()[:REASON_CHARACTERS_MAX]
    store, view = visit.services.releases, visit.services.access
    wanted = _move(visit.text("move"))
    if wanted == "promote" and view is not None:
        if await view.promote(app, digest, visit.principal, reason) is not None:
            return seen("/console/releases", told=f"{app} waits for a second person, who approves it here.")
    else:
        act = store.promote if wanted == "promote" else store.rollback
        await act(app, digest, actor=visit.actor, reason=reason)
    return seen(f"/console/releases/{app}")


def _move(name: str) -> str:
    if name not in MOVES:
        raise MoveInvalid(f"a move is one of {', '.join(MOVES)}")
    return name


async def _app(visit: Visit) -> AppReleases:
    name = visit.request.path_params["app"]
    for found in await visit.services.releases.apps():
        if found.app == name:
            return found
    raise NoSuchApp(f"there is no app named {name[:100]!r}")
