"""Engines: who finds the triggers of `guard.patterns` in a text. Hyperscan where its wheel exists, else ``re``.

Both report ``(trigger id, end offset)``; the detectors do the rest, so both lead to the same findings. Hyperscan's
compiled database is cached as a file named by what it depends on, with its sha256 beside it, because the library
loads a damaged file without a word. One scratch per thread: a shared one raises ``ScratchInUseError``, and the scan
releases the GIL.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import platform
import re
import sys
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol

from roadbed.guard.letter_ids import LENGTH_MAX
from roadbed.guard.patterns import (
    CODED,
    COMMON,
    EVERY_GATE,
    GATE,
    GATES,
    LETTERED,
    LONG,
    TRIGGERS,
    Trigger,
    has_long_word,
)

DATABASE_BYTES_MAX: Final = 64 * 1024 * 1024
logger = logging.getLogger(__name__)


class Engine(Protocol):
    """Finds triggers."""

    name: str

    def hits(self, view: str) -> list[tuple[int, int]]:
        """``(trigger id, end)`` for an ASCII text; ends ascend for each id, and some may be told more than once.

        Gates may be among them, which tell no reader anything.
        """
        ...


class PortableEngine:
    """The triggers by Python's ``re``: the same findings, some twenty times slower."""

    name = "re"

    def __init__(self) -> None:
        # A lookahead makes matches zero-width, so that overlapping ones are found too, as Hyperscan finds them.
        self._patterns = [
            (trigger.id, re.compile(f"(?=({trigger.expression}))", re.IGNORECASE if trigger.is_caseless else 0))
            for trigger in TRIGGERS
        ]

    def hits(self, view: str) -> list[tuple[int, int]]:
        """See `Engine`."""
        return [(number, match.end(1)) for number, pattern in self._patterns for match in pattern.finditer(view)]


def _collect(number: int, start: int, end: int, flags: int, hits: Any) -> None:
    hits.append((number, end))


def _collect_few(number: int, start: int, end: int, flags: int, found: Any) -> bool | None:
    """Note where a pattern ends, and stop when it is known that there are too many."""
    ends, ends_max = found
    ends.append(end)
    return True if len(ends) > ends_max else None


class HyperscanEngine:
    """The triggers by Hyperscan (Vectorscan), about a microsecond per kilobyte and pass. `ImportError` without it.

    Two passes always; that of the encoded runs where the second finds a word that is as long, and that of the
    identifiers with letters where what was found says that one may be there: in a long text only around those places.
    """

    name = "hyperscan"

    def __init__(self, cache_folder: Path | None = None) -> None:
        import hyperscan

        self._library = hyperscan
        self._databases = []
        for triggers in _PASSES:
            database = _load(hyperscan, triggers, cache_folder) or _compile(hyperscan, triggers, cache_folder)
            # The library keeps a scratch of its own per database, and a loaded one has none until it is given.
            database.scratch = hyperscan.Scratch(database)
            self._databases.append(database)
        self._threads = threading.local()
        self._process = os.getpid()

    def hits(self, view: str) -> list[tuple[int, int]]:
        """See `Engine`."""
        try:
            common, long, coded, lettered, every_gate = self._threads.scans
        except AttributeError:
            common, long, coded, lettered, every_gate = self._threads.scans = [
                partial(database.scan, match_event_handler=handler, scratch=self._library.Scratch(database))
                for database, handler in zip(self._databases, _HANDLERS, strict=True)
            ]
        data = view.encode("ascii")
        hits: list[tuple[int, int]] = []
        common(data, context=hits)
        if len(data) >= _LONG_CHARACTERS:
            has_long: list[tuple[int, int]] = []
            long(data, context=has_long)
            if has_long:
                coded(data, context=hits)
        if hits:
            has_gate = any(number == GATE for number, _ in hits)
            if (has_gate and len(data) < _NEAR_BYTES_MIN) or has_long_word(view, hits):
                lettered(data, context=hits)
            elif has_gate:
                for begin, end in self._near_gates(every_gate, data):
                    near: list[tuple[int, int]] = []
                    lettered(data[begin:end], context=near)
                    hits += [(number, begin + stop) for number, stop in near]
        return hits

    def _near_gates(self, every_gate: Callable[..., object], data: bytes) -> list[tuple[int, int]]:
        """The parts of a text in which an identifier may be: all of it where it has many gates."""
        size = len(data)
        ends: list[int] = []
        try:
            every_gate(data, context=(ends, size // _BYTES_PER_GATE_MIN))
        except self._library.ScanTerminated:
            return [(0, size)]
        return parts_around(ends, size)


def parts_around(ends: list[int], size: int) -> list[tuple[int, int]]:
    """What is within an identifier's length of any of the places, in parts that do not meet."""
    parts: list[tuple[int, int]] = []
    begin = stop = 0
    for end in sorted(ends):
        if end - _REACH > stop:
            if stop:
                parts.append((begin, stop))
            begin = end - _REACH
        stop = min(size, end + _REACH)
    if stop:
        parts.append((begin, stop))
    return parts


_PASSES: Final = ((*COMMON, *GATES), LONG, CODED, LETTERED, EVERY_GATE)
_HANDLERS: Final = (_collect, _collect, _collect, _collect, _collect_few)
_LONG_CHARACTERS: Final = 16
_REACH: Final = LENGTH_MAX + 1  # with the character before an identifier
# A part costs about what a kilobyte of the whole does, and a short text is searched before its parts are known.
_NEAR_BYTES_MIN: Final = 4096
_BYTES_PER_GATE_MIN: Final = 2048


def _compile(library: Any, triggers: Sequence[Trigger], cache_folder: Path | None) -> Any:
    database = library.Database(mode=library.HS_MODE_BLOCK)
    database.compile(
        expressions=[trigger.expression.encode() for trigger in triggers],
        ids=[trigger.id for trigger in triggers],
        elements=len(triggers),
        flags=[
            (library.HS_FLAG_CASELESS if trigger.is_caseless else 0)
            | (library.HS_FLAG_SINGLEMATCH if trigger.is_once else 0)
            for trigger in triggers
        ],
    )
    if cache_folder is not None:
        _save(library.dumpb(database), _cache_file(library, triggers, cache_folder))
    return database


def _cache_file(library: Any, triggers: Sequence[Trigger], folder: Path) -> Path:
    """Named by everything that a compiled database depends on."""
    flags = ""
    if sys.platform == "linux":
        try:
            with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
                flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
        except OSError:
            flags = "unknown"
    parts = (repr(triggers), library.__version__, platform.machine(), sys.platform, flags)
    return folder / f"triggers-{hashlib.sha256(chr(0).join(parts).encode()).hexdigest()[:24]}.hsdb"


def _save(data: bytes, path: Path) -> None:
    """Write the sha256 and the database, whole or not at all. A read-only folder only costs the next start time."""
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary.unlink(missing_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(hashlib.sha256(data).digest() + data)
        temporary.replace(path)
    except OSError as error:
        logger.info("the compiled patterns cannot be cached in %s: %s", path.parent, error.strerror)


def _load(library: Any, triggers: Sequence[Trigger], cache_folder: Path | None) -> Any:
    """The cached database, or ``None`` when there is none that is whole."""
    if cache_folder is None:
        return None
    path = _cache_file(library, triggers, cache_folder)
    try:
        if path.stat().st_size > DATABASE_BYTES_MAX:
            return None
        content = path.read_bytes()
    except OSError:
        return None
    if hashlib.sha256(content[32:]).digest() != content[:32]:
        logger.warning("the cached patterns in %s are damaged and are compiled again", path.parent)
        return None
    try:
        return library.loadb(content[32:], library.HS_MODE_BLOCK)
    except library.error:
        return None


def make_engine(cache_folder: Path | None = None) -> Engine:
    """The fastest engine that this machine can run; without a folder the one of this process, compiled once."""
    return _made(cache_folder) if cache_folder is not None else _of_process(os.getpid())


@functools.lru_cache(maxsize=1)
def _of_process(process: int) -> Engine:
    return _made(None)


def _made(cache_folder: Path | None) -> Engine:
    try:
        return HyperscanEngine(cache_folder)
    except ImportError:
        return PortableEngine()
