"""Which address somebody meant who called one that does not exist: most often a base URL without ``/v1``, or with two.

Pure; the server's answer to an unknown address says it. The invariant: only addresses that exist are named.
"""

from __future__ import annotations

from collections.abc import Collection

_INSTEAD = {"completions": "chat/completions"}  # the older call of the same interface


def near_address(path: str, known: Collection[str]) -> str | None:
    """The known address under ``/v1`` that the end of a path names; None where it names none."""
    segments = [segment for segment in path.split("/") if segment]
    for first in range(len(segments)):
        end = "/".join(segments[first:])
        meant = f"/v1/{_INSTEAD.get(end, end)}"
        if meant in known and meant != path:
            return meant
    return None


def address_hint(meant: str) -> str:
    """What to do to reach it."""
    return f"did you mean {meant}? A client's base URL ends in /v1, once, and the client adds the rest"
