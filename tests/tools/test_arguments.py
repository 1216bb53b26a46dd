"""Arguments: the quick check says yes to nothing that the validator refuses; canonical JSON and cursors bind."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from roadbed.tools.arguments import checker_of
from roadbed.tools.canonical import canonical_json
from roadbed.tools.cursors import Cursors
from roadbed.tools.errors import ArgumentsInvalid, CursorInvalid

_TYPES = st.sampled_from(["string", "integer", "number", "boolean"])
_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 15),
    st.floats(-5, 15),
    st.text(max_size=6),
    st.lists(st.integers(), max_size=1),
)


@st.composite
def schemas(draw: st.DrawFn) -> dict[str, Any]:
    """Flat schemas as declared tools have them."""
    properties: dict[str, Any] = {}
    for name in draw(st.lists(st.sampled_from("abc"), unique=True)):
        kind = draw(_TYPES)
        properties[name] = {"type": kind}
        if kind in ("integer", "number") and draw(st.booleans()):
            properties[name] |= {"minimum": draw(st.integers(-3, 3)), "maximum": draw(st.integers(4, 9))}
        if kind == "string" and draw(st.booleans()):
            properties[name]["maxLength"] = draw(st.integers(0, 4))
    required = [name for name in properties if draw(st.booleans())]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


@given(schemas(), st.dictionaries(st.sampled_from("abcd"), _VALUES))
def test_the_check_agrees_with_the_validator(schema: dict[str, Any], arguments: dict[str, Any]) -> None:
    is_valid = Draft202012Validator(schema).is_valid(arguments)
    if is_valid:
        checker_of(schema)(arguments)
    else:
        with pytest.raises(ArgumentsInvalid):
            checker_of(schema)(arguments)


_JSON = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**53), 2**53),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(), inner, max_size=3)),
    max_leaves=8,
)


@given(_JSON)
def test_canonical_json_means_the_same_value_and_is_one_text(value: Any) -> None:
    text = canonical_json(value)
    assert json.loads(text.decode("utf-8", "surrogatepass")) == value
    assert canonical_json(json.loads(text.decode("utf-8", "surrogatepass"))) == text


def test_canonical_json_is_written_as_the_rfc_says() -> None:
    value = {
        "b": [333333333.33333329, 1e30, 4.50, 2e-3, 1e-27, -0.0, 1e-6, 1e21],
        "a\u20ac": '\x0f\n"',
        "\U0001f600": 1,
        "\ufb33": 2,
    }
    assert canonical_json(value).decode() == (
        '{"a\u20ac":"\\u000f\\n\\"","b":[333333333.3333333,1e+30,4.5,0.002,1e-27,0,0.000001,1e+21],'
        '"\U0001f600":1,"\ufb33":2}'
    )


@given(st.text(min_size=1, max_size=20), st.text(max_size=5), st.text(max_size=5), st.binary(max_size=4))
def test_a_cursor_opens_for_what_it_was_made_for_alone(cursor: str, tool: str, who: str, digest: bytes) -> None:
    try:
        cursor.encode()
        tool.encode()
        who.encode()
    except UnicodeEncodeError:
        return
    cursors = Cursors(b"key")
    sealed = cursors.sealed(cursor, tool, digest, who)
    assert cursors.opened(sealed, tool, digest, who) == cursor
    for wrong in ((tool + "x", digest, who), (tool, digest + b"x", who), (tool, digest, who + "x")):
        with pytest.raises(CursorInvalid):
            cursors.opened(sealed, *wrong)
    with pytest.raises(CursorInvalid):
        Cursors(b"other").opened(sealed, tool, digest, who)
