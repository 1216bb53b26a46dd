"""`Finding`: one span of personal data or of a secret, and how overlapping findings become one.

Pure values shared by the detectors and the masking. A finding holds offsets and names, never the text itself, so it
may be logged and stored.
"""

from __future__ import annotations

from collections.abc import Iterable
from operator import itemgetter, le
from typing import Final, NamedTuple

EMAIL: Final = "email"
PHONE: Final = "phone"
CARD: Final = "card"
IBAN: Final = "iban"
NATIONAL_ID: Final = "national_id"
IP: Final = "ip"
PRIVATE_IP: Final = "private_ip"
DEVICE: Final = "device"
VEHICLE: Final = "vehicle"
CRYPTO: Final = "crypto"
BIRTH_DATE: Final = "birth_date"
ADDRESS: Final = "address"
PERSON: Final = "person"
CUSTOM: Final = "custom"
SECRET: Final = "secret"  # noqa: S105 - the name of a type of finding
ERASED: Final = "erased"

# Most sensitive first: of findings that overlap, the first of these gives the type.
_BY_RANK = (
    ERASED, SECRET, CUSTOM, CARD, IBAN, NATIONAL_ID, CRYPTO, EMAIL, PHONE, BIRTH_DATE, ADDRESS, PERSON, VEHICLE, DEVICE,
    IP, PRIVATE_IP,
)  # fmt: skip
PERSONAL_TYPES: Final = frozenset(_BY_RANK) - {ERASED, SECRET, PRIVATE_IP}
TYPES: Final = _BY_RANK
_START, _END = itemgetter(1), itemgetter(2)
_PRIORITY = {kind: len(_BY_RANK) - rank for rank, kind in enumerate(_BY_RANK)}


class Finding(NamedTuple):
    """``text[start:end]`` is of ``type``, as ``rule`` says, with ``confidence`` between 0 and 1."""

    type: str
    start: int
    end: int
    rule: str
    confidence: float
    is_secret: bool

    @property
    def is_personal(self) -> bool:
        """Whether the value points to a person: a secret or a private network's address does not."""
        return self.type in PERSONAL_TYPES


def merge_overlaps(findings: Iterable[Finding]) -> list[Finding]:
    """Disjoint findings in order, leftmost first: those that overlap become one that covers them all.

    It takes the type of the most sensitive of them, of two equally sensitive ones that of the longer, and of two as
    long that of the surer one: nothing that any detector claimed is left uncovered.
    """
    # By start, and of those with the same the longest first: two stable sorts, which ask nothing of Python.
    ordered = sorted(findings, key=_END, reverse=True)
    ordered.sort(key=_START)
    if all(map(le, map(_END, ordered), map(_START, ordered[1:]))):
        return ordered
    merged: list[Finding] = []
    last: Finding | None = None
    best = -1.0  # the rank of what gave `last` its type, where that was asked
    for finding in ordered:
        if last is None or finding[1] >= last[2]:
            merged.append(finding)
            last, best = finding, -1.0
            continue
        if best < 0:
            best = _rank(last)
        rank, end = _rank(finding), max(last.end, finding.end)
        if rank > best:
            best = rank
            last = merged[-1] = finding._replace(start=last.start, end=end)
        elif end != last.end:
            last = merged[-1] = last._replace(end=end)
    return merged


def _rank(finding: Finding) -> float:
    return _PRIORITY[finding.type] * 1_000_000 + min(finding.end - finding.start, 999_999) + finding.confidence / 2
