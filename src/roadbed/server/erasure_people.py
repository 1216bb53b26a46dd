"""Erasing a person whom the directory or an issuer named: the account goes with the value.

A row whose name, address or id *is* the value is that person: it is switched off and emptied as when a directory
deletes it, and their keys, sessions and streams end. A row that merely holds the value somewhere is redacted by the
sweep of all tables. The invariant: what stays is an id of our own, and the issuer's where it does not hold the value,
so that tokens of the person are still refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from roadbed.guard.erased import WordFinder, words_of
from roadbed.guard.people import CHANNEL
from roadbed.store.database import Database

ROWS_AT_ONCE = 200
_COLUMNS = ("user_name", "external_id", "subject", "display_name")


async def erase_people(database: Database, finder: WordFinder, *, is_dry_run: bool) -> int:
    """Switch off and empty everyone whom the value names; how many there are."""
    pattern = "[^[:alnum:]]+".join(re.escape(word) for word in finder.words)
    found = 0
    async with database.transaction(timeout_s=600) as connection:
        cursor = await connection.cursor(
            "SELECT id, user_name, external_id, subject, display_name, profile FROM person CROSS JOIN LATERAL (SELECT"
            " concat_ws(' ', user_name, external_id, subject, display_name, profile::text) AS told) texts"
            " WHERE lower(told) ~ $1 OR position($2 in lower(told)) > 0 OR told ~ $3 OR profile ? 'name'",
            *(pattern, finder.value.lower(), r"[^\x01-\x7f]"),
        )
        while batch := await cursor.fetch(ROWS_AT_ONCE):
            for row in batch:
                if not is_subject(finder, row):
                    continue
                found += 1
                if is_dry_run:
                    continue
                holds = finder.redacted(row["subject"] or "") is not None
                await connection.execute(
                    "UPDATE person SET provisioned = false, active = false, sessions_from = now(), changed = now(),"
                    " profile = '{}', display_name = '', user_name = id, external_id = NULL, team = '', claimed = '{}',"
                    " subject = CASE WHEN $2 THEN id ELSE subject END WHERE id = $1",
                    *(row["id"], holds),
                )
                await connection.execute("DELETE FROM person_group_member WHERE person_id = $1", row["id"])
        if found and not is_dry_run:
            await database.notify(CHANNEL, connection=connection)
    return found


def is_subject(finder: WordFinder, person: Mapping[str, Any]) -> bool:
    """Whether the value is one of a person's names, addresses or ids as a whole."""
    return any([word for word, _, _ in words_of(name)] == finder.words for name in names_of(person))


def names_of(person: Mapping[str, Any]) -> Iterator[str]:
    """What names a person: the ids, the names in their usual orders, the e-mail addresses and telephone numbers."""
    yield from (person[column] for column in _COLUMNS if person[column])
    said = person["profile"]
    name = said.get("name")
    if isinstance(name, dict):
        given, family = str(name.get("givenName") or ""), str(name.get("familyName") or "")
        if given and family:
            yield from (f"{given} {family}", f"{family} {given}")
        yield str(name.get("formatted") or "")
    yield str(said.get("nickName") or "")
    for kind in ("emails", "phoneNumbers"):
        values = said.get(kind)
        if isinstance(values, list):
            yield from (str(one.get("value") or "") for one in values if isinstance(one, dict))
