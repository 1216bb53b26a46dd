"""What a user of a running server meets: search over HTTP, the second start, idle memory, re-ingest of unchanged files.

    python bench/http/run.py FOLDER [--queries 400] [--state DIR]

It serves FOLDER with the real command in a state folder of its own, waits for the first ingest, then measures with
one client on one keep-alive connection. Queries are 2 to 8 consecutive words of the folder's own text files, all
different. Memory is PSS summed over the server's process tree, 20 s after 50 searches. Prints its conditions.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import platform
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from roadbed.testing.first_controls import run_controls

START_S_MAX = 3600.0
IDLE_S = 20.0


class RunningServer:
    """`roadbed up` on a folder, from its start to its stop."""

    def __init__(self, folder: Path, state: Path) -> None:
        self.ready = state.parent / "ready.json"
        self.ready.unlink(missing_ok=True)
        self.state = state
        self.started = time.perf_counter()
        self.log = (state.parent / "up.log").open("ab")
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "roadbed.cli", "up", str(folder), "--port", "0"),
                *("--state", str(state), "--ready-file", str(self.ready)),
            ],
            stdout=self.log,
            stderr=self.log,
            start_new_session=True,
        )
        self.answers_s = self._wait(lambda: (state / "run" / "cli.json").exists() and self._answers())
        self.settled_s = self._wait(self.ready.exists)

    def _wait(self, is_done: Any) -> float:
        while not is_done():
            if self.process.poll() is not None or time.perf_counter() - self.started > START_S_MAX:
                raise SystemExit(f"the server ended: see {self.log.name}")
            time.sleep(0.01)
        return time.perf_counter() - self.started

    def _answers(self) -> bool:
        try:
            return self.call("GET", "/readyz")[0] == 200
        except (OSError, ValueError, KeyError):
            return False

    def run_first_controls(self) -> None:
        """Have the controls that run for the first time soon after a start run now, and not in a figure."""
        found = json.loads((self.state / "run" / "cli.json").read_text())
        run_controls(found["url"], found["key"])

    def connection(self) -> tuple[http.client.HTTPConnection, dict[str, str]]:
        """A connection and the headers of an admin."""
        found = json.loads((self.state / "run" / "cli.json").read_text())
        parts = urlsplit(found["url"])
        headers = {"authorization": f"Bearer {found['key']}", "content-type": "application/json"}
        return http.client.HTTPConnection(parts.hostname or "", parts.port), headers

    def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """One JSON call on a connection of its own."""
        connection, headers = self.connection()
        connection.request(method, path, json.dumps(body) if body is not None else None, headers)
        response = connection.getresponse()
        data = response.read()
        connection.close()
        return response.status, json.loads(data) if data[:1] in (b"{", b"[") else data

    def processes(self) -> list[int]:
        """The server's process and all that descend from it."""
        children: dict[int, list[int]] = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
                except OSError:
                    continue
                children.setdefault(parent, []).append(int(entry.name))
        found, waiting = [], [self.process.pid]
        while waiting:
            found.append(waiting.pop())
            waiting += children.get(found[-1], [])
        return found

    def memory_mb(self) -> dict[str, float]:
        """PSS by kind of process."""
        total = {"roadbed": 0.0, "postgres": 0.0}
        for pid in self.processes():
            try:
                text = Path(f"/proc/{pid}/smaps_rollup").read_text()
                name = Path(f"/proc/{pid}/comm").read_text().strip()
            except OSError:
                continue
            match = re.search(r"^Pss:\s+(\d+)", text, re.MULTILINE)
            total["postgres" if "postgres" in name else "roadbed"] += int(match[1]) / 1024 if match else 0.0
        return total

    def stop(self) -> None:
        """Ctrl-C."""
        os.killpg(self.process.pid, signal.SIGINT)
        self.process.wait(60)


def queries_of(folder: Path, count: int) -> list[str]:
    """Runs of 2 to 8 words of the folder's text files."""
    chooser = random.Random(11)
    files = [
        path for path in sorted(folder.rglob("*")) if path.suffix in (".md", ".txt", ".html") and path.stat().st_size
    ]
    found: dict[str, None] = {}
    while len(found) < count:
        words = re.findall(r"[A-Za-z][A-Za-z'-]+", chooser.choice(files).read_text(errors="replace"))
        length = chooser.randint(2, 8)
        if len(words) > length:
            start = chooser.randrange(len(words) - length)
            found[" ".join(words[start : start + length])] = None
    return list(found)


def percentile(values: list[float], share: float) -> float:
    """The value at a share of the sorted values."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def measure_search(server: RunningServer, queries: list[str]) -> list[float]:
    """Milliseconds of each query on one connection."""
    connection, headers = server.connection()
    took = []
    for query in queries:
        body = json.dumps({"query": query, "k": 8})
        started = time.perf_counter()
        connection.request("POST", "/api/search", body, headers)
        response = connection.getresponse()
        response.read()
        took.append((time.perf_counter() - started) * 1000)
        if response.status != 200:
            raise SystemExit(f"search answered {response.status}")
    connection.close()
    return took


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--queries", type=int, default=400)
    parser.add_argument("--state", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        state = given.state or Path(scratch) / "state"
        print(
            f"{platform.platform()}, Python {platform.python_version()}, {os.cpu_count()} cores, load {os.getloadavg()}"
        )
        server = RunningServer(given.folder, state)
        print(f"first start: answers after {server.answers_s:.2f} s, every source read after {server.settled_s:.1f} s")
        sources = server.call("GET", "/api/sources")[1]
        print("; ".join(f"{s['name']}: {s['indexed']} indexed, {s['failed']} failed" for s in sources))
        server.run_first_controls()
        queries = queries_of(given.folder, given.queries)
        for name in ("first sight", "again"):
            took = measure_search(server, queries)
            p50, p99 = statistics.median(took), percentile(took, 0.99)
            print(f"search over HTTP, one client, {len(took)} queries, {name}: p50 {p50:.1f} ms, p99 {p99:.1f} ms")
        server.stop()
        server = RunningServer(given.folder, state)
        print(
            f"second start: answers after {server.answers_s:.2f} s, all found unchanged after {server.settled_s:.2f} s"
        )
        measure_search(server, queries[:50])
        time.sleep(IDLE_S)
        memory = server.memory_mb()
        shares = ", ".join(f"{name} {size:.0f}" for name, size in memory.items())
        print(f"idle memory (PSS, 20 s after 50 searches): {sum(memory.values()):.0f} MB ({shares})")
        server.stop()


if __name__ == "__main__":
    main()
