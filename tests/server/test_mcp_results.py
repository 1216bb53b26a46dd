"""A kept result of a source that is away is told from a fresh one: in the data, in words, and in ``_meta``."""

from __future__ import annotations

import json
from typing import Any

import pytest

from roadbed.server.mcp_results import ok_result
from roadbed.tools.tables import OUTPUT_SCHEMA
from roadbed.tools.types import Ok, Provenance, Tool

CLOSED = {"type": "object", "properties": {"n": {"type": "integer"}}, "additionalProperties": False}


def result(data: Any, age_s: float, schema: dict[str, Any] | None = None) -> dict[str, Any]:
    async def run(request: Any) -> Ok:
        raise AssertionError

    tool = Tool("sales", "d", "shop", run, output_schema=schema)
    return dict(ok_result(Ok(data, (Provenance("shop", "orders", 1.0, age_s=age_s),)), tool))


@pytest.mark.parametrize(("data", "schema"), [({"columns": [], "rows": []}, OUTPUT_SCHEMA), ([1, 2], None)])
def test_a_kept_result_says_its_age_everywhere(data: Any, schema: dict[str, Any] | None) -> None:
    stale = result(data, 61.2, schema)
    fresh = result(data, 0.0, schema)
    assert stale["structuredContent"] == {**fresh["structuredContent"], "stale": {"age_s": 62}}
    assert json.loads(stale["content"][0]["text"])["stale"] == {"age_s": 62}
    assert stale["content"][-1]["text"] == "The source was away; this result is 62 seconds old."
    assert stale["_meta"]["roadbed/stale"] == {"age_s": 62}
    assert "stale" not in str(fresh)


def test_a_schema_that_allows_nothing_more_is_kept_to() -> None:
    stale = result({"n": 1}, 0.2, CLOSED)
    assert stale["structuredContent"] == {"n": 1}
    assert "1 second old" in stale["content"][-1]["text"]
    assert stale["_meta"]["roadbed/stale"] == {"age_s": 1}
