"""The verifier in a process of its own, so that reading a long log leaves nothing behind in the one that serves.

`verify_apart` starts it and reads its report; run as a program it takes its limits upon itself and then is
`audit_verify` with one job. Called by the control that verifies the log. The invariant: it ends with whoever started
it, within `VERIFY_S_MAX` and `MEMORY_BYTES_MAX`, and an end without a report is a fault, never a log that holds.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import resource
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from roadbed.ledger.audit_verify import Fault, Report, main
from roadbed.store.worker_process import start_worker

VERIFY_S_MAX: Final = 200.0
MEMORY_BYTES_MAX: Final = 1024 * 1024 * 1024
REPORT_BYTES_MAX: Final = 4 * 1024 * 1024
_PR_SET_PDEATHSIG = 1


async def verify_apart(
    folder: Path, key: str, *, seconds_max: float = VERIFY_S_MAX, memory_bytes_max: int = MEMORY_BYTES_MAX
) -> Report:
    """What `verify_export` finds in an export with one key and no copies. ``folder`` is absolute."""
    process = await start_worker(__name__, str(memory_bytes_max), str(folder), key, buffer_bytes=REPORT_BYTES_MAX)
    try:
        async with asyncio.timeout(seconds_max):
            said, _ = await process.communicate()
    except TimeoutError:
        return _unread(f"the verifier did not end within {seconds_max:g} s")
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.communicate()
    try:
        return report_of(json.loads(said))
    except (ValueError, KeyError, TypeError):
        return _unread(f"the verifier ended with status {process.returncode} and no report")


def report_of(summary: dict[str, Any]) -> Report:
    """The report that a `Report.summary` was made of."""
    report = Report()
    report.origin, report.root = summary["origin"], summary["root"]
    report.first, report.proven, report.tail = summary["proven_from"], summary["proven_to"], summary["unproven"]
    report.checkpoints, report.copies = summary["checkpoints"], summary["copies"]
    report.rotations, report.notes = summary["rotations"], summary["notes"]
    report.faults = [Fault(**fault) for fault in summary["faults"]]
    report.left_out = summary["faults_left_out"]
    return report


def _unread(why: str) -> Report:
    report = Report()
    report.add("unread", why)
    return report


def run(arguments: Sequence[str]) -> int:
    """The program: the parent's number, bytes of memory, the export's folder, the key."""
    parent, memory_bytes_max, folder, key = arguments
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(ValueError, OSError):  # not every platform has it
        resource.setrlimit(resource.RLIMIT_AS, (int(memory_bytes_max), int(memory_bytes_max)))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != int(parent):
        return 2  # it died before the signal was armed
    return main([folder, "--key", key, "--jobs", "1", "--json"])


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
