"""Charts: the rule that chooses, and a picture that stays in its box and is no markup, whatever the cells are."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

from hypothesis import given
from hypothesis import strategies as st

from roadbed.apps.analytics_table import Table, TableColumn
from roadbed.apps.chart import ASLANT_PX, BARS_MAX, NARROW, POINTS_MAX, WIDE, choose, svg_of

NUMBERS = st.none() | st.integers(-(10**30), 10**30) | st.floats(allow_nan=True, allow_infinity=True)
TEXTS = st.text(max_size=30)
DAYS = st.dates().map(str)


def table_of(kinds: list[str], rows: list[tuple[object, ...]]) -> Table:
    return Table(tuple(TableColumn(f"c{n}", kind) for n, kind in enumerate(kinds)), tuple(rows))


@st.composite
def tables(draw: st.DrawFn) -> Table:
    kinds = draw(st.lists(st.sampled_from(["integer", "number", "text", "date"]), min_size=1, max_size=4))
    cells = {"integer": NUMBERS, "number": NUMBERS, "text": st.none() | TEXTS, "date": st.none() | DAYS}
    rows = draw(st.lists(st.tuples(*(cells[kind] for kind in kinds)), max_size=16))
    return table_of(kinds, rows)


@given(tables(), TEXTS, st.booleans(), st.booleans())
def test_every_coordinate_is_finite_and_in_the_box(
    table: Table, title: str, is_standalone: bool, is_narrow: bool
) -> None:
    chart = choose(table)
    if chart is None:
        return
    box = NARROW if is_narrow else WIDE
    svg = svg_of(table, chart, title, is_standalone=is_standalone, box=box)
    root = ElementTree.fromstring(svg)
    assert {element.tag.rpartition("}")[2] for element in root.iter()} <= {
        "svg", "title", "desc", "style", "line", "text", "rect", "polyline", "circle",
    }  # fmt: skip
    for element in root.iter():
        height = box.height + ASLANT_PX if is_narrow else box.height
        for name, most in (("x", box.width), ("cx", box.width), ("y", height), ("cy", height), ("height", height)):
            if name in element.attrib:
                assert 0 <= float(element.attrib[name]) <= most
        for x, y in re.findall(r"(\S+),(\S+)", element.attrib.get("points", "")):
            assert 0 <= float(x) <= box.width
            assert 0 <= float(y) <= height


def test_the_rule() -> None:
    days = [(f"2025-0{n}-01", n * 10) for n in range(1, 7)]
    assert choose(table_of(["date", "integer"], list(days))).kind == "line"  # type: ignore[union-attr]
    assert choose(table_of(["text", "integer"], list(days))).kind == "line"  # type: ignore[union-attr]
    names = [(f"n{n}", n) for n in range(BARS_MAX)]
    assert choose(table_of(["text", "integer"], list(names))).kind == "bar"  # type: ignore[union-attr]
    assert choose(table_of(["text", "integer"], [*names, ("more", 1)])) is None
    points = [(3.5, 1), (1.5, 2), (2.5, 9)]
    assert choose(table_of(["number", "integer"], list(points))).kind == "scatter"  # type: ignore[union-attr]
    assert choose(table_of(["text", "text"], [("a", "b"), ("c", "d")])) is None
    assert choose(table_of(["text", "integer"], [("a", 1)])) is None
    assert choose(table_of(["text", "integer"], list(names)), "none") is None
    assert choose(table_of(["number", "integer"], [(n / 7, n) for n in range(POINTS_MAX + 1)])) is None


def test_the_axis_has_round_numbers() -> None:
    table = table_of(["text", "integer"], [("a", 334), ("b", 122)])
    chart = choose(table)
    assert chart is not None
    assert re.findall(r'class="tick"[^>]*>([^<]+)<', svg_of(table, chart, "t")) == ["0", "100", "200", "300", "400"]


def test_names_of_a_narrow_chart_all_stand_aslant_when_one_has_no_room() -> None:
    short, long = ([(f"{letter * size}", n) for n, letter in enumerate("abcdef")] for size in (3, 12))
    for rows, is_aslant in ((short, False), (long, True)):
        table = table_of(["text", "integer"], list(rows))
        chart = choose(table)
        assert chart is not None
        svg = svg_of(table, chart, "t", box=NARROW)
        assert svg.count("rotate(") == (len(rows) if is_aslant else 0)
        assert "rotate(" not in svg_of(table, chart, "t")
        assert all(name in svg for name, _ in rows)
