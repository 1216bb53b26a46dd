"""Whether an answer fits the schema that was asked for."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roadbed.gateway.json_schema import why_unfit

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
TREE: dict[str, Any] = {
    "$defs": {
        "node": {
            "type": "object",
            "properties": {"children": {"type": "array", "items": {"$ref": "#/$defs/node"}}},
            "additionalProperties": False,
        }
    },
    "$ref": "#/$defs/node",
}


@given(VALUES)
def test_every_value_fits_itself_and_no_schema_of_another_type(value: Any) -> None:
    text = json.dumps(value)
    assert not why_unfit(text, {"const": value})
    assert not why_unfit(text, {"enum": [1.5, value]})
    assert why_unfit(text, {"not": {"const": value}})
    assert why_unfit(text, {"const": [value]})


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({"type": "integer"}, "3", "3.5"),
        ({"type": "integer"}, "3.0", "true"),
        ({"type": "number"}, "3.5", '"3"'),
        ({"type": ["string", "null"]}, "null", "1"),
        ({"type": "object", "required": ["a"]}, '{"a": 1}', '{"b": 1}'),
        ({"properties": {"a": {"type": "string"}}}, '{"a": "x"}', '{"a": 1}'),
        ({"properties": {"a": {}}, "additionalProperties": False}, '{"a": 1}', '{"a": 1, "b": 2}'),
        ({"additionalProperties": {"type": "integer"}}, '{"a": 1}', '{"a": "x"}'),
        ({"items": {"type": "integer"}}, "[1, 2]", '[1, "x"]'),
        ({"prefixItems": [{"type": "string"}], "items": {"type": "integer"}}, '["x", 1]', '["x", "y"]'),
        ({"minItems": 1, "maxItems": 2}, "[1]", "[]"),
        ({"minLength": 2, "maxLength": 3}, '"ab"', '"a"'),
        ({"minimum": 1, "maximum": 2}, "2", "3"),
        ({"exclusiveMinimum": 1, "exclusiveMaximum": 3}, "2", "3"),
        ({"allOf": [{"minimum": 1}, {"maximum": 2}]}, "1", "3"),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, '"x"', "1"),
        ({"oneOf": [{"minimum": 1}, {"minimum": 5}]}, "2", "6"),
        ({"enum": [1, "x"]}, "1", "true"),
        (TREE, '{"children": [{"children": []}]}', '{"children": [{"name": 1}]}'),
        (None, '{"a": 1}', "[1]"),
        ({}, "[1]", "[1"),
    ],
)
def test_each_keyword_is_checked(schema: dict[str, Any] | None, good: str, bad: str) -> None:
    assert not why_unfit(good, schema)
    assert why_unfit(bad, schema)


def test_schemas_and_answers_that_go_too_deep_end() -> None:
    assert why_unfit("1", {"$ref": "#"}) == "it does not fit the JSON schema"
    assert why_unfit("[" * 100_000, {}) == "it is no JSON"
