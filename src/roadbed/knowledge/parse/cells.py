"""What a spreadsheet cell shows: numbers, dates and percentages from stored values and number formats.

Pure functions. Called by ``xlsx``. The invariant: a date is written in ISO form, and a number in the shortest form
that Excel's fifteen digits hold, so that a question about "0.1" finds 0.1 and not 0.1000000000000000055.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta

_BUILTIN_DATES = frozenset((*range(14, 23), *range(27, 37), *range(45, 48), *range(50, 59)))
_BUILTIN_PERCENT = {9: 0, 10: 2}
_NOT_FORMAT = re.compile(r'"[^"]*"|\\.|_.|\*.|\[(?!h+\]|m+\]|s+\])[^\]]*\]', re.IGNORECASE)
_EXCEL_DAYS_MAX = 2_958_465
_COLUMN = re.compile(r"^([A-Z]{1,3})([0-9]{1,7})$")


def style_of(format_id: int, code: str) -> str:
    """``date``, ``time``, ``datetime``, ``percent:N`` or ``""`` for a number format."""
    if format_id in _BUILTIN_PERCENT:
        return f"percent:{_BUILTIN_PERCENT[format_id]}"
    if not code:
        if format_id not in _BUILTIN_DATES:
            return ""
        return "datetime" if format_id == 22 else "time" if format_id in (18, 19, 20, 21, 45, 46, 47) else "date"
    first = _NOT_FORMAT.sub("", code.split(";")[0]).lower()
    if "general" in first:
        return ""
    if "%" in first:
        digits = re.search(r"\.([0#?]+)%", first)
        return f"percent:{len(digits.group(1)) if digits else 0}"
    has_time = "h" in first or "s" in first
    has_date = "y" in first or "d" in first or ("m" in first and not has_time)
    if has_date and not re.search(r"[0#?]", first.replace("ss.0", "")):
        return "datetime" if has_time else "date"
    return "time" if has_time and not re.search(r"[#?]", first) else ""


def show_number(raw: str, style: str, *, is_1904: bool = False) -> str:
    """The text of a stored number under a style; text that is no number comes back as it is."""
    try:
        value = float(raw)
    except ValueError:
        return raw
    if style in ("date", "time", "datetime"):
        shown = show_date(value, style, is_1904=is_1904)
        if shown:
            return shown
    if style.startswith("percent:"):
        return f"{value * 100:.{min(int(style[8:]), 10)}f}%"
    if value != value or value in (float("inf"), float("-inf")):
        return raw
    if value == int(value) and abs(value) < 1e15:
        return str(int(value))
    return f"{value:.15g}"


def show_date(serial: float, style: str, *, is_1904: bool = False) -> str:
    """An Excel serial day as ISO text; an empty string when it is outside of the calendar.

    The 1900 system counts a 29 February 1900 that never was; the 1904 system starts 1,462 days later.
    """
    if not 0 <= serial <= _EXCEL_DAYS_MAX:
        return ""
    if is_1904:
        serial += 1462
    base = datetime(1899, 12, 30) if serial >= 60 else datetime(1899, 12, 31)
    moment = base + timedelta(seconds=round(serial * 86_400))
    if style == "time" and serial < 1:
        return moment.strftime("%H:%M:%S" if moment.second else "%H:%M")
    if style == "date" or (style == "datetime" and (moment.hour, moment.minute, moment.second) == (0, 0, 0)):
        return moment.date().isoformat()
    return moment.strftime("%Y-%m-%d %H:%M:%S" if moment.second else "%Y-%m-%d %H:%M")


def place(reference: str) -> tuple[int, int] | None:
    """``(row, column)`` of "B7", both from 1; None when it is no cell reference."""
    match = _COLUMN.match(reference.replace("$", "").upper())
    if match is None:
        return None
    column = 0
    for letter in match.group(1):
        column = column * 26 + ord(letter) - 64
    return int(match.group(2)), column


def column_name(column: int) -> str:
    """The letters of a column number from 1."""
    name = ""
    while column > 0:
        column, rest = divmod(column - 1, 26)
        name = chr(65 + rest) + name
    return name
