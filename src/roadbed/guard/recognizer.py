"""Recognizers that are code: the seam for what no pattern finds, such as names by a model.

`Recognizer` is what a plug-in offers; `BoundedRecognizer` runs it within its time. A failure is never silent: the
result names the recognizer as missing, and where it is required the gate refuses to let the text out. Models' answers
are not read by it, for it needs the whole text: a manifest whose rules count on that is refused.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import itertools
import logging
import threading
from collections.abc import Iterable
from typing import Any, Final, Protocol

from roadbed.guard.finding import CUSTOM, PERSONAL_TYPES, Finding
from roadbed.guard.manifest import RecognizerConfig
from roadbed.kernel.errors import ConfigError, Unavailable

ENTRY_POINTS: Final = "roadbed.recognizers"
FINDINGS_MAX: Final = 10_000
THREADS_MAX: Final = 4
logger = logging.getLogger(__name__)


class Recognizer(Protocol):
    """A plug-in. May be called by several threads at a time."""

    def find(self, text: str) -> Iterable[tuple[str, int, int]]:
        """``(type, start, end)`` in code points; a type that the guard does not know counts as ``custom``."""
        ...


class RecognizerMissing(Unavailable):
    """A required recognizer did not answer, so nothing may leave."""

    code = "guard.recognizer_missing"
    hint = "see the log for the recognizer's failure, or set guard.recognizer.required to false"


class BoundedRecognizer:
    """A recognizer within its bounds."""

    def __init__(self, config: RecognizerConfig, recognizer: Recognizer) -> None:
        self.name = config.name
        self.is_required = config.required
        self._recognizer = recognizer
        self._timeout_s = config.timeout_ms / 1_000
        self._busy = threading.BoundedSemaphore(THREADS_MAX)  # one that hangs holds its thread, and no queue behind it

    def find(self, text: str) -> list[Finding] | None:
        """Its findings; none when it failed or was late."""
        if not self._busy.acquire(blocking=False):
            logger.warning("the recognizer %s is busy with texts that it does not finish", self.name)
            return None
        said: list[list[Finding]] = []
        thread = threading.Thread(target=self._run, args=(text, said), name="recognizer", daemon=True)
        thread.start()
        thread.join(self._timeout_s)
        if said:
            return said[0]
        if thread.is_alive():
            logger.warning("the recognizer %s took longer than %.3f s", self.name, self._timeout_s)
        return None

    def _run(self, text: str, said: list[list[Finding]]) -> None:
        try:
            rows = itertools.islice(self._recognizer.find(text), FINDINGS_MAX)
            said.append([_finding(row, len(text), self.name) for row in rows])
        except Exception as error:  # whatever a plug-in raises is its failure and is named as such
            logger.warning("the recognizer %s failed: %s", self.name, type(error).__name__)
        finally:
            self._busy.release()


def _finding(row: Any, length: int, name: str) -> Finding:
    kind, start, end = row
    if not (isinstance(start, int) and isinstance(end, int) and 0 <= start < end <= length):
        raise ValueError("a span lies outside the text")
    return Finding(kind if kind in PERSONAL_TYPES else CUSTOM, start, end, f"recognizer.{name}", 0.5, False)


def check_answers(config: RecognizerConfig, rules: tuple[str, ...]) -> None:
    """`ConfigError` where ``rules`` speak of what a recognizer finds in models' answers, which it does not read."""
    if rules and config.answers != "patterns":
        raise ConfigError(
            f"{rules[0]} acts on models' answers, which guard.recognizer does not read",
            hint="name the types that patterns find, or say guard.recognizer.answers: patterns",
        )


def load_recognizer(config: RecognizerConfig) -> BoundedRecognizer:
    """The recognizer that a manifest names. `ConfigError` when there is none."""
    try:
        if ":" in config.name:
            module, _, attribute = config.name.partition(":")
            made = getattr(importlib.import_module(module), attribute)()
        else:
            (entry,) = importlib.metadata.entry_points(group=ENTRY_POINTS, name=config.name)
            made = entry.load()()
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise ConfigError(f"guard.recognizer: {config.name} cannot be loaded: {type(error).__name__}") from None
    if not callable(getattr(made, "find", None)):
        raise ConfigError(f"guard.recognizer: {config.name} has no find(text)")
    return BoundedRecognizer(config, made)
