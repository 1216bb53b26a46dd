"""Session ids of the older MCP versions, and what of an answer goes through the database. Pure."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from roadbed.kernel.principal import Principal
from roadbed.server.mcp_questions import FIELDS_MAX, call_name, carried
from roadbed.server.mcp_session import SESSION_S, Sessions, session_of

KEY = b"k" * 32
names = st.text("ab\0/é", max_size=3)
values = st.none() | st.booleans() | st.text(max_size=8) | st.dictionaries(names, st.booleans(), max_size=2)


@given(names, names, names, names, st.dictionaries(st.sampled_from(("elicitation", "sampling")), values))
def test_a_session_opens_for_its_principal_alone(team: str, id_: str, team2: str, id2: str, said: Any) -> None:
    sessions = Sessions(KEY, lambda: 1_000.0)
    mine, theirs = Principal(id_, team), Principal(id2, team2)
    session = sessions.opening(said)
    sealed = sessions.sealed(session, mine).encode()
    assert sealed.isascii()
    assert b" " not in sealed
    assert sessions.opened(sealed, mine) == session
    if (team, id_) != (team2, id2):
        assert sessions.opened(sealed, theirs) is None
    assert Sessions(b"x" * 32, lambda: 1_000.0).opened(sealed, mine) is None


@given(st.integers(0, 200), st.integers(1, 255))
def test_a_session_that_was_changed_does_not_open(at: int, by: int) -> None:
    sessions = Sessions(KEY, lambda: 1_000.0)
    mine = Principal("anna", "support")
    sealed = bytearray(sessions.sealed(sessions.opening({"sampling": {}}), mine).encode())
    sealed[at % len(sealed)] ^= by
    found = sessions.opened(bytes(sealed), mine)
    assert found is None or bytes(sealed).rstrip(b"=")[:-1] == sessions.sealed(found, mine).encode()[:-1]


def test_a_session_ends_after_a_day() -> None:
    now = 1_000.0
    sessions = Sessions(KEY, lambda: now)
    mine = Principal("anna", "support")
    sealed = sessions.sealed(sessions.opening({}), mine).encode()
    now += SESSION_S - 1
    assert sessions.opened(sealed, mine) is not None
    now += 1
    assert sessions.opened(sealed, mine) is None


def test_what_a_client_can_do_is_what_it_said() -> None:
    assert session_of({"elicitation": {}}, 0).capabilities() == {"elicitation": {"form": {}}}
    assert session_of({"elicitation": {"url": {}}}, 0).asks == ("url",)
    assert session_of({"elicitation": {"url": {}, "form": {}}, "sampling": {}}, 0).asks == ("form", "url")
    nothing: tuple[Any, ...] = ({}, None, [], {"elicitation": True}, {"elicitation": None})
    for said in nothing:
        assert session_of(said, 0).capabilities() == {}


@given(st.dictionaries(names, values, max_size=FIELDS_MAX + 4))
def test_no_text_of_a_person_is_carried(content: dict[str, Any]) -> None:
    kept = carried({"result": {"action": "accept", "content": content, "more": "text"}})["result"]
    assert kept["action"] == "accept"
    assert all(isinstance(value, bool) for value in kept["content"].values())
    assert len(kept["content"]) <= FIELDS_MAX


def test_a_choice_is_carried_and_anything_else_is_none() -> None:
    accepted = {"action": "accept", "content": {"approved": True}}
    assert carried({"result": accepted}) == {"result": accepted}
    assert carried({"result": {"action": "my secret"}}) == {"result": {"action": "cancel"}}
    assert carried({"error": {"message": "my secret"}}) == {"error": {}}


def test_ids_of_other_kinds_and_sessions_name_other_calls() -> None:
    found = {call_name(session, number) for session in ("a", "b") for number in (1, "1", None, 1.5)}
    assert len(found) == 8
