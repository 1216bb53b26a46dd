"""How commands print: tables, JSON, durations, and progress lines that stay away when nobody watches."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from typing import Any


def print_json(value: Any) -> None:
    """Pretty JSON on standard output."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def print_table(headings: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Columns aligned by content; numbers to the right. On a terminal the last column is cut so that a line fits."""
    cells = [[str(cell) if cell is not None else "" for cell in row] for row in rows]
    widths = [max([len(heading), *(len(row[i]) for row in cells)]) for i, heading in enumerate(headings)]
    if sys.stdout.isatty():
        room = shutil.get_terminal_size((110, 24)).columns
        widths[-1] = max(8, min(widths[-1], room - sum(widths[:-1]) - 2 * (len(widths) - 1)))
    right = [all(isinstance(row[i], int | float) for row in rows) and bool(rows) for i in range(len(headings))]
    for line in ([str(heading) for heading in headings], *cells):
        parts = []
        for text, width, is_right in zip(line, widths, right, strict=True):
            cut = text if len(text) <= width else text[: width - 1] + "…"
            parts.append(cut.rjust(width) if is_right else cut.ljust(width))
        print("  ".join(parts).rstrip())


def seconds(microseconds: int) -> str:
    """``12 ms`` or ``1.92 s``."""
    return f"{microseconds / 1000:.0f} ms" if microseconds < 1_000_000 else f"{microseconds / 1e6:.2f} s"


def money(microusd: int) -> str:
    """``0.0031 USD``."""
    return f"{microusd / 1e6:.4f} USD"


class Progress:
    """One line on standard error that is written over; silent when that is not a terminal."""

    def __init__(self) -> None:
        self._shown = 0
        self._is_live = sys.stderr.isatty()

    def show(self, text: str) -> None:
        """Replace the line."""
        if self._is_live:
            width = shutil.get_terminal_size((110, 24)).columns - 1
            cut = text[:width]
            sys.stderr.write("\r" + cut.ljust(self._shown))
            sys.stderr.flush()
            self._shown = len(cut)

    def end(self, text: str = "") -> None:
        """Clear the line, and leave ``text`` instead of it."""
        if self._is_live and self._shown:
            sys.stderr.write("\r" + " " * self._shown + "\r")
            self._shown = 0
        if text:
            print(text, file=sys.stderr)
