"""A stream of spreadsheet rows as blocks: title lines, column names, then one labelled row after another.

Shared by XLSX, CSV and OpenDocument sheets. Finds the header by looking at the first rows only, so a stream of any
length is read in constant memory. The invariant: each block is one row, and its location names sheet and cells.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain, islice

from roadbed.knowledge.parse.cells import column_name
from roadbed.knowledge.parse.document import DocumentBuilder
from roadbed.knowledge.parse.tables import is_header, labelled_row, pipe_row

HEADER_ROWS = 30
"""The header is looked for among this many rows."""
CELLS_MAX = 3_000_000

Row = tuple[int, dict[int, str]]


def add_sheet(
    builder: DocumentBuilder, title: str, rows: Iterable[Row], *, hidden: bool = False, heading: bool = True
) -> None:
    """Append a sheet: ``rows`` are ``(row number, {column: text})`` in order, both counted from 1, without empty
    rows.
    """
    stream = iter(rows)
    first = list(islice(stream, HEADER_ROWS))
    if not first:
        return
    if heading:
        builder.add("heading", title, level=1, location=title, hidden=hidden)
    header_at = _header_index(first)
    header: dict[int, str] = {}
    last = 0
    for position, (number, cells) in enumerate(chain(first, stream)):
        if builder.full:
            return
        columns = sorted(cells)
        location = f"{title}!{column_name(columns[0])}{number}:{column_name(columns[-1])}{number}"
        is_names = position == header_at or (bool(header) and _starts_table(cells, header, gap=number - last > 1))
        last = number
        if is_names:
            header = cells
        if is_names or not header:
            text = pipe_row([cells[column] for column in columns])
            kind_is_row = len(columns) > 1
        else:
            text = labelled_row([header.get(column, "") for column in columns], [cells[column] for column in columns])
            kind_is_row = True
        builder.add("row" if kind_is_row else "paragraph", text, location=location, hidden=hidden)


def _starts_table(cells: dict[int, str], header: dict[int, str], *, gap: bool) -> bool:
    """Whether a later row names the columns of another table: much wider, or other columns behind an empty row."""
    if len(cells) < 3 or not is_header([cells[column] for column in sorted(cells)]) or _is_form(cells):
        return False
    return len(cells) >= 1.5 * len(header) or (gap and cells.keys() != header.keys())


def _header_index(rows: list[Row]) -> int:
    """The position of the row with the column names; -1 when there is none.

    It is the first row that fills at least 60 % of the usual width with short, different texts and has a row below it.
    """
    widths = sorted(len(cells) for _, cells in rows)
    usual = widths[len(widths) * 3 // 4]
    if usual < 2 or (usual == 2 and not _has_numbers(rows)):
        # Two columns of text are labels with values as often as a table; plain "label | value" is right for both.
        return -1
    for position, (_, cells) in enumerate(rows[:-1]):
        if _is_form(cells):
            continue
        if len(cells) >= 2 and len(cells) >= usual * 0.6 and is_header([cells[column] for column in sorted(cells)]):
            return position
        if len(cells) >= usual * 0.6 and position > 0 and len(cells) > 2:
            return -1
    return -1


def _is_form(cells: dict[int, str]) -> bool:
    """Whether a row is labels, each with its value beside it ("Provider: | Acme | Level: | low"), and no names."""
    return 0 < sum(cell.endswith(":") for cell in cells.values()) < len(cells)


def _has_numbers(rows: list[Row]) -> bool:
    """Whether some column holds figures in most rows behind the first two."""
    rest = [cells for _, cells in rows[1:]]
    return any(
        sum(1 for cells in rest if cells.get(column, "x")[0].isdigit()) >= 0.6 * len(rest) for column in rows[0][1]
    )
