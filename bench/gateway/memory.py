"""Whether the server's memory grows with what it answered: resident bytes after 10,000, 100,000 and 1,000,000 requests.

The real server (key check, guard, usage, trace, metrics and ledger on, its own PostgreSQL) answers through a scripted
upstream on loopback, driven by wrk over one pool of connections. Each figure is taken after the ledger has written what
was finished. The aim is that the last is within 5 % of the one after 100,000. Each control runs at the start and before
the figures from 100,000 on: the first run, which else comes by itself after 90 seconds, takes some 40 MiB for what it
is the first to use (a session of the embedding model, the guard's room for threads), and the first that has records to
verify as much again, at a time that has nothing to do with the requests.

    python bench/gateway/memory.py [--requests 1000000] [--connections 64] [--minutes 10]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import re
import tempfile
import time
from pathlib import Path

from run import ANSWER, KEY, PROMPT, free_port, post_script, run_upstream, start_roadbed, stop, versions, wrk

from roadbed.testing.first_controls import run_controls

MARKS = (10_000, 30_000, 100_000, 200_000, 400_000, 600_000, 800_000)
STEP_S = 5
SETTLE_S = 3.0


def upstream(port: int) -> None:
    """The scripted upstream, in a process of its own."""
    import asyncio

    asyncio.run(run_upstream(port))


def rss_bytes(pid: int) -> int:
    """Resident memory of one process."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) * 1024 if found else 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--minutes", type=float, default=20.0, help="give up the rest after this long")
    options = parser.parse_args()
    body = json.dumps({"model": "fast", "messages": [{"role": "user", "content": PROMPT}]}, separators=(",", ":"))
    port = free_port()
    model = multiprocessing.Process(target=upstream, args=(port,), daemon=True)
    model.start()
    with tempfile.TemporaryDirectory(prefix="rb-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        candidate = start_roadbed(folder, port)
        try:
            used = rss_bytes(candidate.process.pid)
            print(f"an answer of {len(ANSWER)} bytes; after the first controls {used / 2**20:.1f} MiB")
            script = post_script(folder, candidate, body.encode())
            done, at_100k, ends_s = 0, 0, time.monotonic() + options.minutes * 60
            marks = [mark for mark in MARKS if mark < options.requests] + [options.requests]
            for mark in marks:
                while done < mark and time.monotonic() < ends_s:
                    seconds = 1 if mark <= 30_000 else STEP_S
                    done += int(wrk(candidate.port, options.connections, seconds, script)["requests"])
                if mark >= 100_000:
                    run_controls(f"http://127.0.0.1:{candidate.port}", KEY)
                time.sleep(SETTLE_S)
                used = rss_bytes(candidate.process.pid)
                if mark == 100_000:
                    at_100k = used
                growth = f", {used / at_100k - 1:+.1%} of after 100,000" if at_100k and mark > 100_000 else ""
                print(f"after {done:9,d} requests: {used / 2**20:7.1f} MiB{growth}", flush=True)
                if time.monotonic() >= ends_s:
                    print("out of time")
                    break
        finally:
            stop(candidate.process)
            model.terminate()
    print(versions(argparse.Namespace(nginx=None, sglang_router=None)))


if __name__ == "__main__":
    main()
