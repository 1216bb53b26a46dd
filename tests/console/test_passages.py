"""A text as pieces: nothing lost, the highlight exact, windows that go on where the one before ended."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from roadbed.console.passages import WINDOW_CHARACTERS, Segment, Window, segments, window_of
from roadbed.knowledge.parse.document import Block

TEXT = st.text(alphabet="ab é\n#|-\\", max_size=120)


@st.composite
def documents(draw: st.DrawFn) -> tuple[str, tuple[Block, ...], tuple[int, int]]:
    text = draw(TEXT)
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=8, unique=True)))
    blocks = tuple(
        Block(draw(st.sampled_from(["paragraph", "table"])), a, b) for a, b in zip(cuts[::2], cuts[1::2], strict=False)
    )
    ends = sorted((draw(st.integers(0, len(text))), draw(st.integers(0, len(text)))))
    return text, blocks, (ends[0], ends[1])


@given(documents())
def test_every_letter_of_the_text_is_shown_once(document: tuple[str, tuple[Block, ...], tuple[int, int]]) -> None:
    text, blocks, highlight = document
    shown = segments(text, blocks, Window(0, len(text), len(text)), highlight)
    joined = "".join(piece.text for segment in shown for piece in segment.pieces)
    assert [c for c in joined if c.isalnum()] == [c for c in text if c.isalnum()]


@given(documents())
def test_the_highlight_is_what_was_asked_for(document: tuple[str, tuple[Block, ...], tuple[int, int]]) -> None:
    text, blocks, highlight = document
    shown = segments(text, blocks, Window(0, len(text), len(text)), highlight)
    marked = [piece for segment in shown for piece in segment.pieces if piece.is_marked]
    letters = [c for c in text[slice(*highlight)] if c.isalnum()]
    assert [c for piece in marked for c in piece.text if c.isalnum()] == letters
    assert sum(piece.is_anchor for piece in marked) == (1 if marked else 0)


def test_marks_between_blocks_are_left_out() -> None:
    text = "## Title\n\nBody\n---\nrest"
    shown = segments(text, (Block("heading", 3, 8), Block("paragraph", 10, 14)), Window(0, len(text), len(text)), None)
    assert [segment.pieces[0].text for segment in shown] == ["Title", "Body", "---\nrest"]


@given(st.integers(1, 400_000), st.integers(0, 500_000))
def test_windows_cover_a_long_text(length: int, at: int) -> None:
    window = window_of("x" * length, at, None)
    assert 0 <= window.start < window.end <= length
    assert window.end - window.start <= max(WINDOW_CHARACTERS, 0)
    assert window.later is None or window.later == window.end
    assert (window.earlier is None) == (window.start == 0)


def test_a_highlight_is_inside_its_window() -> None:
    text = "word " * 100_000
    window = window_of(text, 0, (300_000, 300_020))
    assert window.start <= 300_000
    assert window.end >= 300_020


def cells_of(segment: Segment) -> list[list[str]]:
    """The text of each cell."""
    return [["".join(piece.text for piece in cell) for cell in row.cells] for row in segment.rows]


def test_a_table_of_markdown_is_shown_as_rows_of_cells() -> None:
    text = "| Fee | Due \\| from |\n|---|:--:|\n| 6,900 | | \n| <b> | 1 May |"
    (table,) = segments(text, (Block("table", 0, len(text)),), Window(0, len(text), len(text)), (32, 45))
    assert cells_of(table) == [["Fee", "Due \\| from"], ["6,900", ""], ["<b>", "1 May"]]
    assert [row.is_header for row in table.rows] == [True, False, False]
    marked = [piece.text for row in table.rows for cell in row.cells for piece in cell if piece.is_marked]
    assert marked == [text[32:45].strip(" |\n")]


def test_a_table_without_rules_has_names_where_its_first_line_reads_like_names() -> None:
    for first, is_named in (("Date | Version", True), ("12 | 13", False)):
        text = f"{first}\n2024 | 5.0"
        (table,) = segments(text, (Block("table", 0, len(text)),), Window(0, len(text), len(text)), None)
        assert cells_of(table)[1] == ["2024", "5.0"]
        assert table.rows[0].is_header == is_named


def test_one_column_stays_text() -> None:
    (table,) = segments("a\nb", (Block("table", 0, 3),), Window(0, 3, 3), None)
    assert table.rows == ()
    assert [piece.text for piece in table.pieces] == ["a\nb"]
