"""Masking: the replacement of findings in a text, and the map between offsets before and after.

Pure; works on findings that are disjoint and in order. `guard.stream_mask` does the same for text in pieces. The
invariant: outside the findings not a character changes, and the map finds each of them again.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence

from roadbed.guard.finding import Finding

Replacer = Callable[[Finding, str], str]


def placeholder(finding: Finding, value: str) -> str:
    """``[EMAIL]``, ``[SECRET]``: says what stood here and nothing else."""
    return f"[{finding.type.upper()}]"


class OffsetMap:
    """Translates offsets of a text to those of its masked form; inside a replacement, to its start."""

    __slots__ = ("_masked", "_shift", "_source")

    def __init__(self, edits: Sequence[tuple[int, int, int]]) -> None:
        """``edits`` are ``(start, end, length of the replacement)`` in the source, in order."""
        self._source, self._masked, self._shift = [0], [0], [0]
        shift = 0
        for start, end, length in edits:
            self._push(start, start + shift, None)
            shift += length - (end - start)
            self._push(end, end + shift, shift)

    def _push(self, source: int, masked: int, shift: int | None) -> None:
        self._source.append(source)
        self._masked.append(masked)
        self._shift.append(shift if shift is not None else -(1 << 62))

    def to_masked(self, offset: int) -> int:
        """The offset in the masked text of an offset in the source."""
        index = bisect_right(self._source, offset) - 1
        shift = self._shift[index]
        return self._masked[index] if shift == -(1 << 62) else offset + shift


def mask_text(text: str, findings: Sequence[Finding], replace: Replacer = placeholder) -> str:
    """``text`` with each of the disjoint, ordered ``findings`` replaced."""
    if not findings:
        return text
    parts: list[str] = []
    done = 0
    for finding in findings:
        parts.append(text[done : finding.start])
        parts.append(replace(finding, text[finding.start : finding.end]))
        done = finding.end
    parts.append(text[done:])
    return "".join(parts)


def mask_text_with_map(
    text: str, findings: Sequence[Finding], replace: Replacer = placeholder
) -> tuple[str, OffsetMap]:
    """As `mask_text`, with the map between offsets before and after."""
    replacements = [replace(finding, text[finding.start : finding.end]) for finding in findings]
    edits = [(f.start, f.end, len(new)) for f, new in zip(findings, replacements, strict=True)]
    ordered = iter(replacements)
    return mask_text(text, findings, lambda finding, value: next(ordered)), OffsetMap(edits)
