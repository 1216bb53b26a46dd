"""Scanning of whole files and bodies: what the guard finds in bytes, as rows that hold offsets and never the values.

Called by ``roadbed guard scan`` and ``POST /api/guard/scan``. Bytes that are no text are an answer of their own kind,
an error with its reason, and not a scan that found nothing.
"""

from __future__ import annotations

from typing import Final

import msgspec

from roadbed.guard.gate import Guard
from roadbed.kernel.errors import InvalidRequest, TooLarge

SCAN_BYTES_MAX: Final = 10_000_000
FINDINGS_MAX: Final = 100_000


class NotText(InvalidRequest):
    """The bytes are no UTF-8 text, so that nothing can be said about what they hold."""

    code = "guard.not_text"
    hint = "send UTF-8 text; `roadbed ingest` reads PDF and office files"


class FoundSpan(msgspec.Struct, frozen=True):
    """``text[start:end]``, in code points, is of ``type`` as ``rule`` says."""

    type: str
    start: int
    end: int
    rule: str
    confidence: float


class ScanReport(msgspec.Struct, frozen=True):
    """What was found. ``missing`` names recognizers that did not answer; ``is_cut`` when there were too many spans."""

    findings: list[FoundSpan]
    counts: dict[str, int]
    characters: int
    engine: str
    missing: list[str]
    is_cut: bool


def text_of(data: bytes) -> str:
    """The text that the bytes are. Raises `TooLarge` or `NotText`."""
    if len(data) > SCAN_BYTES_MAX:
        raise TooLarge(f"the text is larger than {SCAN_BYTES_MAX} bytes", hint="scan it in parts")
    zero = data.find(b"\0")
    if zero >= 0:
        raise NotText(f"a zero byte at offset {zero}: this is binary data")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise NotText(f"the byte at offset {error.start} is no UTF-8") from None


def scan_report(guard: Guard, data: bytes) -> ScanReport:
    """Scan the bytes of a text."""
    text = text_of(data)
    found, missing = guard.scan_with_missing(text)
    counts: dict[str, int] = {}
    for finding in found:
        counts[finding.type] = counts.get(finding.type, 0) + 1
    spans = [FoundSpan(f.type, f.start, f.end, f.rule, f.confidence) for f in found[:FINDINGS_MAX]]
    return ScanReport(spans, counts, len(text), guard.engine_name, missing, len(found) > FINDINGS_MAX)
