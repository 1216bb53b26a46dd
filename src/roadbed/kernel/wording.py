"""Words that more than one room says to people. Pure."""

from __future__ import annotations


def counted(count: int, noun: str) -> str:
    """``1 document``, ``2 documents``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
