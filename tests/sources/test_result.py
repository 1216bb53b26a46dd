"""Bounded results and the rights of a role, as pure functions."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roadbed.sources.errors import ResultTooLarge
from roadbed.sources.result import COLUMNS_MAX, ResultBounds, ResultBuilder, cell_bytes, check_columns
from roadbed.sources.rights import Rights, reader_statements, rights_warning

CELLS = st.one_of(st.none(), st.booleans(), st.integers(), st.text(), st.binary(), st.lists(st.text(), max_size=3))


@given(st.lists(st.lists(CELLS, min_size=2, max_size=2), max_size=20), st.integers(1, 10), st.integers(1, 200))
def test_a_result_is_a_prefix_of_whole_rows_within_both_bounds(
    rows: list[list[Any]], rows_max: int, bytes_max: int
) -> None:
    builder = ResultBuilder(ResultBounds(rows_max, bytes_max))
    try:
        taken = 0
        while taken < len(rows) and builder.take(rows[taken]):
            taken += 1
    except ResultTooLarge:
        assert taken == 0
        assert sum(map(cell_bytes, rows[0])) > bytes_max
        return
    result = builder.result(())
    assert list(result.rows) == [tuple(row) for row in rows[:taken]]
    assert len(result.rows) <= rows_max
    assert result.size_bytes == sum(cell_bytes(cell) for row in result.rows for cell in row) <= bytes_max
    assert result.is_truncated == (taken < len(rows))


def test_sizes_are_those_of_the_text_and_columns_are_bounded() -> None:
    assert [cell_bytes(value) for value in ("abc", "äö", b"abc", {"a": "b"}, [1, "abc"])] == [3, 4, 3, 2, 11]
    check_columns(COLUMNS_MAX)
    with pytest.raises(ResultTooLarge):
        check_columns(COLUMNS_MAX + 1)


def rights(**found: bool) -> Rights:
    names = ("is_superuser", "is_powerful", "reads_server", "writes_tables", "creates", "everyone_creates")
    return Rights.of({"role": "app", "database": "sales", **{name: found.get(name, False) for name in names}})


def test_a_role_with_more_than_reading_is_named_with_its_excess() -> None:
    assert rights_warning(rights(), []) is None
    warned = rights_warning(rights(writes_tables=True, creates=True, everyone_creates=True), ["parcels"])
    assert warned is not None
    assert warned.message == "its role app may change tables, may create objects"
    assert warned.fix[-1] == "REVOKE CREATE ON SCHEMA public FROM PUBLIC;"
    superuser = rights_warning(rights(is_superuser=True, writes_tables=True), ["parcels"])
    assert superuser is not None
    assert superuser.message == "its role app is a superuser"


def test_the_statements_name_exactly_what_is_read() -> None:
    statements = "\n".join(reader_statements('sa"les', ["parcels", "land.owners"]))
    assert 'ON DATABASE "sa""les"' in statements
    assert 'GRANT USAGE ON SCHEMA "land"' in statements
    assert 'GRANT SELECT ON "land"."owners", "public"."parcels" TO' in statements
    assert "ALL TABLES" in "\n".join(reader_statements("sales", []))
