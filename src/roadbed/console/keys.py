"""Keys: which exist, what they may do, when they were used; admins make, rotate and revoke them.

A new value is shown once, on the page that answers its form, and is never stored or shown again.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from starlette.responses import Response
from starlette.routing import Route

from roadbed.console.pills import Pill, key_pill
from roadbed.console.visits import Console, Page, Visit, seen
from roadbed.guard.keys import KeyNotFound, KeyRecord, KeyRequestInvalid
from roadbed.kernel.principal import ADMIN, AUDITOR, MEMBER

KEYS_SHOWN = 200
LIFETIMES = {"": "never", "30": "in 30 days", "90": "in 90 days", "365": "in a year"}
OVERLAPS = {"0": "at once", "1": "in an hour", "24": "in a day", "168": "in a week"}
ROLES = {
    MEMBER: "asks apps, searches, reads documents that it may see",
    AUDITOR: "also reads traces, keys and releases",
    ADMIN: "also changes things",
}


def key_routes(console: Console) -> list[Route]:
    """The routes of the pages."""
    return [
        *console.page("/console/keys", keys, role=AUDITOR),
        *console.action("/console/keys", create, role=ADMIN),
        *console.page("/console/keys/{id}/rotate", confirm_rotation, role=ADMIN),
        *console.action("/console/keys/{id}/rotate", rotate, role=ADMIN),
        *console.page("/console/keys/{id}/revoke", confirm, role=ADMIN),
        *console.action("/console/keys/{id}/revoke", revoke, role=ADMIN),
    ]


async def keys(visit: Visit) -> Page:
    """The list, and the form for another."""
    return await _page(visit)


async def _page(
    visit: Visit, made: tuple[KeyRecord, str] | None = None, error: KeyRequestInvalid | None = None
) -> Page:
    now = datetime.now(UTC)
    records = sorted(await visit.services.identity.list_keys(), key=lambda record: not record.is_live(now))
    live: list[tuple[KeyRecord, Pill]] = []
    ended: list[tuple[KeyRecord, Pill]] = []
    for record in records[:KEYS_SHOWN]:
        is_live = record.is_live(now)
        (live if is_live else ended).append((record, key_pill(record, is_live)))
    context = {
        "live": live,
        "ended": ended,
        "made": made,
        "teams": visit.services.teams(),
        "error": error,
        "apps": list(visit.services.apps()),
        "roles": ROLES,
        "lifetimes": LIFETIMES,
    }
    status = error.http_status if error is not None else 200
    return Page("keys.html", "Keys", context, records, status=status)


async def create(visit: Visit) -> Page:
    """Make a key and show it, this once."""
    days = visit.text("expires")
    expires = datetime.now(UTC) + timedelta(days=int(days)) if days and days in LIFETIMES else None
    role = visit.text("role", MEMBER)
    apps = [app for app in visit.form.getlist("apps") if isinstance(app, str)]
    try:
        made = await visit.services.identity.create_key(
            team=visit.text("team").strip(),
            roles=sorted({MEMBER, role}),
            apps=apps or None,
            networks=visit.text("ip").replace(",", " ").split(),
            name=visit.text("name").strip(),
            expires=expires,
            maker=visit.principal,
        )
    except KeyRequestInvalid as error:
        return await _page(visit, error=error)
    return await _page(visit, made)


async def confirm(visit: Visit) -> Page:
    """Ask before a key is ended."""
    record = await _live(visit)
    context = {"record": record, "is_own": record.id == visit.principal.id}
    return Page("key_revoke.html", "Revoke a key", context, record)


async def confirm_rotation(visit: Visit) -> Page:
    """Ask how long the value before stays good."""
    record = await _live(visit)
    return Page("key_rotate.html", "Rotate a key", {"record": record, "overlaps": OVERLAPS}, record)


async def rotate(visit: Visit) -> Page:
    """Give a key a new value and show it, this once."""
    hours = visit.text("overlap", "0")
    overlap = timedelta(hours=int(hours)) if hours in OVERLAPS else timedelta()
    try:
        made = await visit.services.identity.rotate_key(visit.request.path_params["id"], overlap, maker=visit.principal)
    except KeyRequestInvalid as error:
        return await _page(visit, error=error)
    return await _page(visit, made)


async def _live(visit: Visit) -> KeyRecord:
    key_id = visit.request.path_params["id"]
    for record in await visit.services.identity.list_keys():
        if record.id == key_id and record.revoked is None:
            return record
    raise KeyNotFound(f"there is no live key {key_id[:40]!r}")


async def revoke(visit: Visit) -> Response:
    """End a key, everywhere."""
    await visit.services.identity.revoke_key(visit.request.path_params["id"])
    return seen("/console/keys")
