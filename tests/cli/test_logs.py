"""The log: one line each, and failures without their texts."""

from __future__ import annotations

import asyncio
import logging
import sys

import pytest

from roadbed.cli.logs import LogFormatter, report_loop_failure


def written(message: str, *arguments: object, with_failure: bool = False) -> str:
    record = logging.LogRecord(
        "roadbed.test", logging.ERROR, __file__, 1, message, arguments, sys.exc_info() if with_failure else None
    )
    return LogFormatter().format(record)


def test_what_callers_send_begins_no_line_and_moves_no_cursor() -> None:
    line = written("a request to %s failed", "/a\n2026 ERROR forged\r\x1b[2J\u2028\u202e\x85")
    assert len(line.splitlines()) == 1
    assert r"/a\n2026 ERROR forged\r\x1b[2J\u2028\u202e\x85" in line
    assert "grüße ✓" in written("grüße %s", "✓")


def test_a_failure_says_where_and_what_and_nothing_else() -> None:
    try:
        try:
            raise KeyError("anna@example.org")
        except KeyError as error:
            raise ValueError("the password is hunter2") from error
    except ValueError:
        line = written("it failed", with_failure=True)
    assert "hunter2" not in line
    assert "anna" not in line
    assert line.index("KeyError") < line.index("ValueError")
    assert "test_logs.py" in line


async def test_a_task_nobody_waited_for_tells_no_text(caplog: pytest.LogCaptureFixture) -> None:
    async def fail() -> None:
        raise ValueError("the password is hunter2")

    task = asyncio.ensure_future(fail())
    await asyncio.wait([task])
    context = {"message": "Task exception was never retrieved", "exception": task.exception(), "future": task}
    report_loop_failure(asyncio.get_running_loop(), context)
    text = "".join(LogFormatter().format(record) for record in caplog.records)
    assert "never retrieved" in text
    assert "ValueError" in text
    assert "hunter2" not in text
