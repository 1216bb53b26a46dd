"""What a turn may still do after it has read others' text: properties, and the cases that shape the rules."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roadbed.apps.egress import Judged, TurnData, is_place, is_typed, is_users_own, judge, leaves
from roadbed.apps.own_words import plain, quotations
from roadbed.kernel.label import PERSONAL, PUBLIC, Label, Level
from roadbed.tools.types import Effect, Ok, Outcome, Tool, ToolRequest

CONFIDENTIAL = Label(Level.CONFIDENTIAL)


async def nothing(request: ToolRequest) -> Outcome:
    """Is never called."""
    return Ok(None)


def a_tool(effect: Effect = "read", *, is_outside: bool = False, **properties: Any) -> Tool:
    """A tool with these arguments."""
    schema = {"type": "object", "properties": properties}
    return Tool("mail", "", "post", nothing, schema, effect=effect, is_outside=is_outside)


LABELS = st.sampled_from([PUBLIC, Label(Level.INTERNAL), CONFIDENTIAL, PUBLIC.with_category(PERSONAL)])
ARGUMENTS = st.dictionaries(
    st.sampled_from(["to", "body", "url", "note"]),
    st.recursive(st.text(max_size=12) | st.integers(), lambda inner: st.lists(inner, max_size=2), max_leaves=4),
    max_size=3,
)
DATA = st.builds(
    TurnData,
    typed=st.lists(st.text(max_size=20), max_size=2).map(tuple),
    label=LABELS,
    has_untrusted=st.booleans(),
)
TOOLS = st.builds(a_tool, st.sampled_from(["read", "write", "irreversible", "send"]), is_outside=st.booleans())


@given(TOOLS, ARGUMENTS, DATA)
def test_others_text_taints_every_call_and_nothing_else_does(
    tool: Tool, arguments: dict[str, Any], data: TurnData
) -> None:
    judged = judge(tool, arguments, data)
    is_free = tool.effect == "send" and judged.refusal is None and is_users_own(tool, arguments, data)
    assert judged.is_tainted == (data.has_untrusted and not is_free)
    if not data.has_untrusted:
        assert judged.refusal is None


@given(TOOLS, ARGUMENTS, DATA, LABELS)
def test_reading_more_never_allows_more(tool: Tool, arguments: dict[str, Any], data: TurnData, label: Label) -> None:
    before, after = judge(tool, arguments, data), judge(tool, arguments, data.reading(label))
    assert after.is_tainted >= before.is_tainted
    assert before.refusal is None or after.refusal is not None


@given(ARGUMENTS, DATA)
def test_confidential_data_never_meets_a_way_out(arguments: dict[str, Any], data: TurnData) -> None:
    tainted = data.reading(CONFIDENTIAL)
    assert judge(a_tool("send"), arguments, tainted).refusal is not None
    told = judge(a_tool(is_outside=True), {"q": "KESTREL-7731"}, tainted)
    assert told.refusal is not None


@given(st.emails(), st.lists(st.text(max_size=30), max_size=3))
def test_a_recipient_that_nobody_typed_is_refused(recipient: str, typed: list[str]) -> None:
    data = TurnData(tuple(text for text in typed if recipient.casefold() not in text.casefold())).reading(PUBLIC)
    assert judge(a_tool("send"), {"to": recipient, "body": "hello"}, data).refusal is not None
    asked = TurnData((f"send it to {recipient} please",)).reading(PUBLIC)
    assert judge(a_tool("send"), {"to": recipient, "body": "hello"}, asked).refusal is None


@pytest.mark.parametrize(
    ("value", "is_own"),
    [
        ("anna@office.example", True),
        ("ANNA@office.example", True),
        ("nna@office.example", False),
        ("anna@office.example.evil.example", False),
        ("office.example", False),
        ("https://office.example/a", True),
        ("https://office.example", False),
        ("17", True),
        ("1", False),
        ("Bruvang", True),
        ("Oslo", False),
        ("", True),
    ],
)
def test_what_counts_as_typed(value: str, is_own: bool) -> None:
    data = TurnData(("Send order 17 in Bruvang to anna@office.example, see https://office.example/a",))
    assert is_typed(value, data) is is_own


def test_values_of_a_trusted_source_are_as_good_as_typed_ones() -> None:
    data = TurnData().trusting(PUBLIC, {"rows": [["berit@office.example"]]}).reading(PUBLIC)
    assert judge(a_tool("send"), {"to": "berit@office.example"}, data).refusal is None
    assert judge(a_tool("send"), {"to": "berit@office"}, data).refusal is not None


def test_constants_of_our_own_schema_may_be_sent_and_those_of_others_may_not() -> None:
    data = TurnData().reading(CONFIDENTIAL)
    ours = a_tool("send", channel={"enum": ["#office"]})
    assert judge(ours, {"channel": "#office"}, TurnData().reading(PUBLIC)).refusal is None
    theirs = a_tool(is_outside=True, units={"enum": ["KESTREL"]})
    assert judge(theirs, {"units": "KESTREL"}, data).refusal is not None


def test_names_that_a_model_makes_up_are_values_too() -> None:
    data = TurnData(("weather in Bruvang",)).reading(CONFIDENTIAL)
    tool = a_tool(is_outside=True, place={"type": "string"}, filter={"type": "object"})
    assert judge(tool, {"place": "Bruvang"}, data).refusal is None
    assert judge(tool, {"KESTREL": "Bruvang"}, data).refusal is not None
    assert judge(tool, {"filter": {"KESTREL": "Bruvang"}}, data).refusal is not None


@pytest.mark.parametrize("name", ["to", "mailTo", "webhook_url", "options.recipient"])
def test_places_are_known_by_their_names(name: str) -> None:
    assert is_place(name, "x")


# -- the user's own words ----------------------------------------------------------------------------------------------

MAIL = a_tool("send", to={"type": "string"}, body={"type": "string"})
WORDS = st.text(st.characters(codec="utf-8", exclude_characters='"`'), min_size=1, max_size=30).filter(
    lambda text: bool(text.strip())
)
ASKED = 'Send "We open at nine." to anna@office.example, not to bert@office.example; say nothing of the merger'


@given(st.emails(), WORDS, st.sampled_from(["Send {} to {}", "To {1}: {0}!", "Please\n{0}\nfor {1}"]))
def test_a_quotation_to_an_address_that_was_typed_needs_nobody(to: str, body: str, message: str) -> None:
    data = TurnData((message.format(f'"{body}"', f"{to} "),)).reading(PUBLIC)
    assert judge(MAIL, {"to": to, "body": body}, data) == Judged()


@given(WORDS, WORDS)
def test_no_other_text_than_a_whole_quotation_goes_by_itself(quoted: str, body: str) -> None:
    data = TurnData((f'Send "{quoted}" to anna@office.example',)).reading(PUBLIC)
    judged = judge(MAIL, {"to": "anna@office.example", "body": body}, data)
    is_token = is_place("body", body) or re.fullmatch(r"-?\d+([.,]\d+)?", body)
    assert judged.is_tainted or plain(body) == plain(quoted) or is_token


@given(ARGUMENTS, st.lists(st.text(max_size=20), max_size=2), LABELS)
def test_what_goes_by_itself_is_all_in_the_last_message(
    arguments: dict[str, Any], typed: list[str], label: Label
) -> None:
    data = TurnData((*typed, "Hello")).reading(label)
    properties: dict[str, Any] = {name: {} for name in arguments}
    judged = judge(a_tool("send", **properties), arguments, data)
    assert judged.is_tainted or all(text in "Hello" for text in leaves(arguments) if text.strip())


@pytest.mark.parametrize(
    ("arguments", "goes"),
    [
        ({"to": "anna@office.example", "body": "We open at nine."}, True),
        ({"to": "anna@office.example", "body": "We  open\nat nine."}, True),
        ({"to": "bert@office.example", "body": "We open at nine."}, True),  # named, if not for this: the user typed it
        ({"to": "anna@office.example", "body": "We open"}, False),
        ({"to": "anna@office.example", "body": "merger"}, False),
        ({"to": "anna@office.example", "body": "to anna@office.example"}, False),
        ({"to": "anna@office.example", "body": "We open at nine.", "urgent": True}, False),
        ({"to": "anna@office.example", "body": {"merger": "We open at nine."}}, False),
        ({"to": ["anna@office.example"], "body": ""}, True),
        ({"body": "We open at nine."}, False),  # to nowhere that the user said
        ({}, False),
    ],
)
def test_what_counts_as_the_users_own_words(arguments: dict[str, Any], goes: bool) -> None:
    data = TurnData((ASKED,)).reading(PUBLIC)
    assert judge(MAIL, arguments, data) == Judged(is_tainted=not goes)
    earlier = TurnData((ASKED, "Thanks.")).reading(PUBLIC)
    assert judge(MAIL, arguments, earlier).is_tainted
    assert judge(MAIL, arguments, data.reading(CONFIDENTIAL)).refusal is not None


def test_constants_and_trusted_values_may_stand_beside_the_users_own() -> None:
    data = TurnData(("Note it for #office please",)).trusting(PUBLIC, {"rows": [["shut on Monday"]]}).reading(PUBLIC)
    tool = a_tool("send", channel={}, text={}, kind={"enum": ["note", "alarm"]})
    assert not judge(tool, {"channel": "#office", "text": "shut on Monday", "kind": "note"}, data).is_tainted
    assert judge(tool, {"channel": "#office", "text": "shut on Monday", "kind": "other"}, data).is_tainted
    assert judge(tool, {"text": "shut on Monday", "kind": "note"}, data).is_tainted


@pytest.mark.parametrize(
    ("message", "found"),
    [
        ('Say "a b" and „c d“ and «e f» and “g h”.', {"a b", "c d", "e f", "g h"}),
        ("Say\n> one\n> two\nto her", {"one two"}),
        ("Say `this` or\n```text\nthat\n```", {"this", "that"}),
        ('don\'t say \'this\' or 5" by 7" or say"that"too', set()),
        ('an "open end', set()),
        ("", set()),
    ],
)
def test_what_is_set_apart(message: str, found: set[str]) -> None:
    assert quotations(message) == found
