"""Access: who there is, what may be done and why, what waits for a second person, and break-glass.

For auditors and admins. Deciding is for admins, reviewing for auditors too; breaking the glass is for whom the policies
permit it. Each form works without scripts. What decides is asked through `AccessView`, and nothing is decided here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from starlette.responses import Response
from starlette.routing import Route

from roadbed.console.access_view import AccessView
from roadbed.console.pills import Pill, key_pill
from roadbed.console.visits import Console, Page, Visit, seen
from roadbed.guard.duty_requests import DutyRequest
from roadbed.guard.glasses import MINUTES_MAX, REASON_CHARACTERS_MAX, Glass
from roadbed.guard.people import Person
from roadbed.kernel.errors import NotFound, RoadbedError
from roadbed.kernel.principal import ADMIN, AUDITOR

PEOPLE_SHOWN = 200
KEYS_SHOWN = 200
USES_SHOWN = 20
NAMED_CHARACTERS_MAX = 200
MINUTES = (15, 30, MINUTES_MAX)
PATH = "/console/access"


class NoAccessPage(NotFound):
    """This console shows nothing of access."""

    code = "console.no_access_page"


def access_routes(console: Console) -> list[Route]:
    """The routes of the page."""
    return [
        *console.page(PATH, access, role=AUDITOR),
        *console.action(f"{PATH}/approvals", decide, role=ADMIN),
        *console.action(f"{PATH}/break-glass", break_glass, is_audited=True),
        *console.action(f"{PATH}/break-glass/end", end_glass, is_audited=True),
        *console.action(f"{PATH}/break-glass/review", review_glass, role=AUDITOR, is_audited=True),
    ]


def _view(visit: Visit) -> AccessView:
    if visit.services.access is None:
        raise NoAccessPage("this console shows nothing of access")
    return visit.services.access


async def access(visit: Visit) -> Page:
    """Everything at a glance."""
    view, now = _view(visit), datetime.now(UTC)
    people = view.people()
    names = {person.id: person.display_name or person.user_name for person in people}
    live = [record for record in await visit.services.identity.list_keys() if record.is_live(now)]
    keys = [
        {
            "record": record,
            "pill": key_pill(record, True),
            "days": (now - (record.rotated or record.created)).days,
            "person": names.get(record.person, record.person),
        }
        for record in live[:KEYS_SHOWN]
    ]
    uses = list(await view.uses())[:USES_SHOWN]
    rules, waiting = await view.rules(), await view.waiting()
    context: dict[str, Any] = {
        "people": people[:PEOPLE_SHOWN],
        "groups": sorted(Counter(group for person in people for group in person.groups).items()),
        "keys": keys,
        "is_own": any(name != "shipped" for name, _ in view.policies()),
        "policies": view.policies(),
        "rules": rules,
        "waiting": waiting,
        "uses": [(glass, glass_pill(glass)) for glass in uses],
        "may_break": view.may_break(visit.principal),
        "own": next((glass for glass in view.glasses() if glass.principal == visit.principal.id), None),
        "minutes": MINUTES,
        "reason_characters": REASON_CHARACTERS_MAX,
        "told": visit.query("told"),
        **await _explained(visit, view),
    }
    return Page("access.html", "Access", context, _data(people, live, rules.two_persons, waiting, uses))


def _data(
    people: Sequence[Person],
    keys: Sequence[Any],
    two_persons: frozenset[str],
    waiting: Sequence[DutyRequest],
    uses: Sequence[Glass],
) -> dict[str, Any]:
    """What the JSON twin says."""
    return {
        "people": [{"id": one.id, "active": one.is_active, "groups": sorted(one.groups)} for one in people],
        "keys": [{"id": key.id, "team": key.team, "person": key.person or None} for key in keys],
        "two_persons": sorted(two_persons),
        "waiting": [{"id": one.id, "what": one.what, "asker": one.asker_name, "asked": one.asked} for one in waiting],
        "break_glass": [{"id": one.id, "ended": one.ended, "reviewed": one.reviewed} for one in uses],
    }


async def _explained(visit: Visit, view: AccessView) -> dict[str, Any]:
    """The form of ``explain``, with its answer when something was asked."""
    who, what, on = (visit.query(name).strip()[:NAMED_CHARACTERS_MAX] for name in ("who", "what", "on"))
    asked = {"who": who, "what": what or "app.use", "on": on}
    found: dict[str, Any] | None = None
    error: RoadbedError | None = None
    if who:
        try:
            found = await view.explain(who, asked["what"], on)
        except RoadbedError as refusal:
            error = refusal
    return {"asked": asked, "explained": found, "explain_error": error, "actions": view.actions()}


def glass_pill(glass: Glass) -> Pill:
    """How a use of break-glass stands."""
    if glass.ended is None:
        return Pill("bad", "!", "in force")
    return Pill("good", "✓", "reviewed") if glass.reviewed else Pill("warn", "!", "waits for a review")


async def decide(visit: Visit) -> Response:
    """Approve or decline what waits for a second person."""
    view, request_id = _view(visit), visit.text("request")
    if visit.text("order") == "approve":
        waits = await view.approve(request_id, visit.principal)
        told = "It was done." if waits is None else "You have asked for it; it waits for another person."
    else:
        await view.decline(request_id, visit.principal, visit.text("reason"))
        told = "It was declined."
    return seen(PATH, told=told)


async def break_glass(visit: Visit) -> Response:
    """Raise the caller's rights."""
    minutes = visit.text("minutes")
    reason = visit.text("reason").strip()
    order = int(minutes) if minutes.isascii() and minutes.isdigit() and len(minutes) <= len(str(MINUTES_MAX)) else 0
    glass = await _view(visit).break_glass(visit.principal, reason, order)
    return seen(PATH, told=f"You have an admin's rights until {glass.ends:%H:%M} UTC.")


async def end_glass(visit: Visit) -> Response:
    """End a use, in every process."""
    await _view(visit).end_glass(visit.text("use"), visit.principal)
    return seen(PATH if visit.is_auditor else "/console", told="It is over, and waits for a review.")


async def review_glass(visit: Visit) -> Response:
    """Note that the caller looked at another's use."""
    note = visit.text("note").strip()[:REASON_CHARACTERS_MAX]
    await _view(visit).review_glass(visit.text("use"), visit.principal, note or "looked at")
    return seen(PATH, told="Your review is recorded.")
