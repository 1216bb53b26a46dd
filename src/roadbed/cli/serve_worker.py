"""The program of one serving process of ``roadbed up --workers N``. Not a command: `up` alone starts it.

It is run as a fresh interpreter (``python -P -m roadbed.cli.serve_worker``), never by fork, because `up` has threads;
``-P`` keeps the folder that it was started in off the import path. Its arguments name inherited descriptors; how to
serve, secrets too, comes over the first of them. The invariant: it does not outlive the process that started it.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import os
import signal
import sys

from roadbed.cli.logs import configure_logging, report_loop_failure
from roadbed.cli.main import EXIT_FAILED, EXIT_OK

PR_SET_PDEATHSIG = 1


def main() -> int:
    """Serve until the owner says stop, or is gone."""
    parser = argparse.ArgumentParser(description="One serving process of `roadbed up --workers N`.")
    for name in ("parent", "link", "listener", "seats"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--log-level", default="warning")
    arguments = parser.parse_args()
    # What a terminal sends to all is the owner's to handle: it tells each process to drain.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != arguments.parent:
        return EXIT_FAILED
    configure_logging(arguments.log_level)
    from roadbed.server.worker import serve_worker
    from roadbed.wire.direct import new_loop

    async def run() -> bool:
        asyncio.get_running_loop().set_exception_handler(report_loop_failure)
        return await serve_worker(arguments.link, arguments.listener, arguments.seats)

    with asyncio.Runner(loop_factory=new_loop) as runner:
        return EXIT_OK if runner.run(run()) else EXIT_FAILED


if __name__ == "__main__":
    sys.exit(main())
