"""Patterns of paths, as ``include`` and ``exclude`` write them: ``**`` any folders, ``*`` and ``?`` in a name.

Pure. A pattern without a slash matches a name in any folder (``*.tmp``), one that ends in a slash a whole folder.
"""

from __future__ import annotations

import re
from collections.abc import Sequence


class Globs:
    """Which paths are taken: those that an ``include`` matches and no ``exclude`` does. Paths use forward slashes."""

    def __init__(self, include: Sequence[str], exclude: Sequence[str] = ()) -> None:
        self._include = [_compiled(pattern) for pattern in include]
        self._exclude = [_compiled(pattern) for pattern in exclude]

    def match(self, path: str) -> bool:
        """Whether the path is taken."""
        if not any(pattern.fullmatch(path) for pattern in self._include):
            return False
        return not any(pattern.fullmatch(path) for pattern in self._exclude)


def _compiled(pattern: str) -> re.Pattern[str]:
    text = pattern.removeprefix("./")
    if text.endswith("/"):
        text += "**"
    if "/" not in text and text != "**":
        text = f"**/{text}"
    parts = []
    position = 0
    while position < len(text):
        if text.startswith("**/", position):
            parts.append("(?:[^/]+/)*")
            position += 3
        elif text.startswith("**", position):
            parts.append(".*")
            position += 2
        elif text[position] == "*":
            parts.append("[^/]*")
            position += 1
        elif text[position] == "?":
            parts.append("[^/]")
            position += 1
        else:
            parts.append(re.escape(text[position]))
            position += 1
    return re.compile("".join(parts), re.DOTALL)
