"""What is said of a new key, and how a start counts."""

from __future__ import annotations

import msgspec
import pytest

from roadbed.kernel.wording import counted
from roadbed.server.admin import KeyOrder, note_on

TEAMS = {"support": object(), "sales": object()}


@pytest.mark.parametrize(
    ("order", "said"),
    [
        ({"team": "suport"}, "no team suport (did you mean support?): this key may call every app"),
        ({"team": "night"}, "no team night: this key may call every app"),
        ({"team": "support"}, ""),
        ({"team": "suport", "apps": ["helpdesk"]}, ""),
        ({"team": "directory", "scopes": ["scim"]}, ""),
        ({"team": "ops", "roles": ["admin"]}, ""),
    ],
)
def test_a_team_that_is_not_declared_is_told(order: dict[str, object], said: str) -> None:
    note = note_on(msgspec.convert(order, KeyOrder), TEAMS)
    assert said in note
    assert bool(note) == bool(said)
    assert note_on(msgspec.convert(order, KeyOrder), {}) == ""


def test_one_of_a_thing_is_not_called_many() -> None:
    assert [counted(count, "document") for count in (0, 1, 2)] == ["0 documents", "1 document", "2 documents"]
