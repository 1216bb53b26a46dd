"""How log lines are written: one line each, and failures without their own texts.

`roadbed up` installs it. What other libraries raise quotes what it was given (a statement's values, a document's
words), so a traceback shows where and of what kind, never the message. The invariant: nothing in a line can begin
another one.
"""

from __future__ import annotations

import asyncio
import logging
import traceback
from types import TracebackType
from typing import Any

LINE_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
FRAMES_MAX = 20
CAUSES_MAX = 5
# Line ends, terminal escapes and marks that turn the reading direction.
_CONTROLS = {
    number: repr(chr(number))[1:-1]
    for number in (*range(32), *range(127, 160), 0x2028, 0x2029, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
    if number != ord("\t")
}

logger = logging.getLogger("roadbed")


class LogFormatter(logging.Formatter):
    """Lines that hold neither control characters nor texts of exceptions."""

    def __init__(self) -> None:
        super().__init__(LINE_FORMAT)

    def format(self, record: logging.LogRecord) -> str:
        """A line, and the lines of its failure, whatever another handler made of that failure before."""
        record.exc_text = None
        return super().format(record)

    def formatMessage(self, record: logging.LogRecord) -> str:
        """One line."""
        return super().formatMessage(record).translate(_CONTROLS)

    def formatException(self, ei: Any) -> str:
        """Where it was raised, of what kind it is, and what it came of."""
        return describe(ei[1], ei[2])


def describe(error: BaseException | None, trace: TracebackType | None = None) -> str:
    """An exception as kinds and places, the newest last."""
    lines: list[str] = []
    for _ in range(CAUSES_MAX):
        if error is None:
            break
        frames = traceback.extract_tb(trace or error.__traceback__)[-FRAMES_MAX:]
        lines = [type(error).__qualname__, *(f"  {f.filename}:{f.lineno} {f.name}" for f in frames), *lines]
        error, trace = error.__cause__ or error.__context__, None
    return "\n".join(lines)


def report_loop_failure(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """For ``loop.set_exception_handler``: asyncio's own one prints what it holds with all texts."""
    error = context.get("exception")
    found = (type(error), error, error.__traceback__) if error is not None else None
    logger.error("%s", context.get("message", "a failure in the event loop"), exc_info=found)


def configure_logging(level: str) -> None:
    """Send the log to standard error in this form."""
    handler = logging.StreamHandler()
    handler.setFormatter(LogFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler])
    # While PostgreSQL is away its pool warns at every attempt; the store says it once, in words.
    logging.getLogger("asyncpg").setLevel(logging.CRITICAL)
