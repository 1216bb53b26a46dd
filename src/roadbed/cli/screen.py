"""What reaches a terminal: text without control characters, which a document, a file name, a row or a model's answer
could use to move the cursor, to change the window's title or to answer for the person at the keyboard.

Pure but for `guard_terminals`, which ``main`` calls once. Only terminals are guarded: what goes into a file or a pipe
is passed on as it is. The invariant: no character of Unicode's category Cc is written but a line's end and a tab, and
on standard error the carriage return with which progress is written over.
"""

from __future__ import annotations

import sys
from typing import Any, Final, TextIO

CONTROLS: Final = dict.fromkeys([*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029], "\N{REPLACEMENT CHARACTER}")


class Screen:
    """A text stream whose text is cleaned before it is written; all else is the stream's own."""

    def __init__(self, stream: TextIO, allowed: str = "\n\t") -> None:
        self._stream = stream
        self._table = {code: text for code, text in CONTROLS.items() if chr(code) not in allowed}

    def write(self, text: str) -> int:
        """Write cleaned text."""
        return self._stream.write(text.translate(self._table))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def guard_terminals() -> None:
    """Clean what is printed on terminals from here on."""
    if sys.stdout.isatty():
        sys.stdout = Screen(sys.stdout)
    if sys.stderr.isatty():
        sys.stderr = Screen(sys.stderr, "\n\t\r")
