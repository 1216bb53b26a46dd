"""One way to write a table as text, whatever file it came from.

A small table becomes one block with ``a | b | c`` lines; a long one becomes row blocks in the form ``Header: value;
Header: value``, so that a row found alone still says what its cells mean. Called by the DOCX, PPTX, HTML,
OpenDocument, RTF and sheet parsers.
"""

from __future__ import annotations

from collections.abc import Sequence

from roadbed.knowledge.parse.document import DocumentBuilder, one_line

TABLE_CHARS_MAX = 1_500
"""A longer table is written row by row with its header repeated."""
HEADER_CHARS_MAX = 120
"""A header cell is a label, not a sentence of this length."""


def add_table(
    builder: DocumentBuilder,
    rows: Sequence[Sequence[str]],
    *,
    has_header: bool | None = None,
    page: int | None = None,
    location: str = "",
    hidden: bool = False,
) -> None:
    """Append ``rows`` to ``builder``; ``has_header`` None means: decide by the first row."""
    clean = [[one_line(cell) for cell in row] for row in rows]
    clean = [row for row in clean if any(row)]
    if not clean:
        return
    width = max(len(row) for row in clean)
    used = [column for column in range(width) if any(column < len(row) and row[column] for row in clean)]
    clean = [[row[column] if column < len(row) else "" for column in used] for row in clean]
    if len(used) == 1:
        for row in clean:
            builder.add("paragraph", row[0], page=page, location=location, hidden=hidden)
        return
    lines = [pipe_row(row) for row in clean]
    if sum(map(len, lines)) <= TABLE_CHARS_MAX or len(clean) == 1:
        builder.add("table", "\n".join(lines), page=page, location=location, hidden=hidden)
        return
    header = clean[0] if (is_header(clean[0]) if has_header is None else has_header) and len(used) > 1 else None
    for number, row in enumerate(clean):
        if header is not None and number == 0:
            builder.add("row", lines[0], page=page, location=location, hidden=hidden)
        else:
            text = lines[number] if header is None else labelled_row(header, row)
            builder.add("row", text, page=page, location=location, hidden=hidden)


def is_header(row: Sequence[str]) -> bool:
    """Whether a row reads like column names: nearly every cell filled, short, no bare number, hardly any repeated."""
    filled = [cell for cell in row if cell]
    if len(filled) < 2 or len(filled) < len(row) * 0.6:
        return False
    if any(len(cell) > HEADER_CHARS_MAX or _is_number(cell) for cell in filled):
        return False
    return len(set(filled)) > len(filled) * 0.7


def pipe_row(row: Sequence[str]) -> str:
    """``a | b | c``; repeats of a merged cell next to each other appear once, trailing empty cells not at all."""
    cells: list[str] = []
    for cell in row:
        if not (cells and cell and cells[-1] == cell and len(cell) > 3):
            cells.append(cell)
    while cells and not cells[-1]:
        cells.pop()
    return " | ".join(cells)


def labelled_row(header: Sequence[str], row: Sequence[str]) -> str:
    """``Header: value; Header: value`` over the filled cells.

    A cell equal to its header or without one stands alone.
    """
    parts: list[str] = []
    for column, cell in enumerate(row):
        if not cell:
            continue
        label = header[column] if column < len(header) else ""
        part = f"{label.rstrip(':')}: {cell}" if label and label != cell else cell
        if not parts or parts[-1] != part:
            parts.append(part)
    return "; ".join(parts)


def _is_number(cell: str) -> bool:
    return any(char.isdigit() for char in cell) and not any(char.isalpha() for char in cell)
