"""What a turn may still do after it has read others' text: properties, and the cases that shape the rules."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roadbed.apps.egress import TurnData, is_place, is_typed, judge
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
    assert judged.is_tainted == data.has_untrusted
    if not data.has_untrusted:
        assert judged.refusal is None


@given(TOOLS, ARGUMENTS, DATA, LABELS)
def test_reading_more_never_allows_more(tool: Tool, arguments: dict[str, Any], data: TurnData, label: Label) -> None:
    before, after = judge(tool, arguments, data), judge(tool, arguments, data.reading(label))
    assert after.is_tainted
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
