"""What the guard costs: `python bench/guard/run.py [--peers PYTHON]`. Prints medians and 99th percentiles.

With the Python of an environment that has Presidio and detect-secrets, Presidio's figures stand beside in the same run.

Each figure is the time of one call, over batches, in one thread; the engines run side by side in the same process.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from roadbed.guard.detect import Detector
from roadbed.guard.engine import PortableEngine
from roadbed.guard.gate import Guard
from roadbed.guard.keys import KeyRecord, digest_of, new_key
from roadbed.guard.stream_mask import StreamMasker
from roadbed.guard.vault import StreamUnmasker, Vault
from roadbed.kernel.label import PUBLIC

PROSE = (
    "The valuation follows the comparable sales of the last two years in the same district. Parcels on the slope were "
    "adjusted by 4 percent in 2024, as the manual of 2019 says in section 3.2; the report went to the owner on 12 May. "
)
DENSE = (
    "Bob Hansen, bob.hansen@example.com, +47 22 33 44 55, card 4111 1111 1111 1111, IBAN NO93 8601 1117 947, "
    "SSN 536-90-4399, api_key=a8f5f167f44f4964e6c998dee827110c, host 8.8.8.8. "
)
VALUES = (
    *("bob.hansen@example.com", "+47 22 33 44 55", "4111 1111 1111 1111", "NO93 8601 1117 947", "SSN 536-90-4399"),
    *("api_key=a8f5f167f44f4964e6c998dee827110c", "8.8.8.8", "ghp_aB3dE5gH7jK9mN1pQ3sT5vW7yZ9bC1dE3fG5"),
    *("212-736-5000", "BSN: 111222333"),
)
BETWEEN = "As we agreed on Monday the figures follow below and should be checked by everyone. "
TWENTY = "".join(f"{BETWEEN}{value}. " for value in VALUES * 2)[:2_300]


def fill(text: str, size: int) -> str:
    """``text`` repeated up to ``size`` characters."""
    return (text * (size // len(text) + 1))[:size]


def measure(name: str, call: Callable[[], object], *, budget_s: float = 0.6) -> None:
    """Time ``call`` in batches and print a row, in microseconds."""
    call()
    start = time.perf_counter()
    call()
    batch = max(1, min(200, int(0.002 / max(1e-7, time.perf_counter() - start))))
    times: list[float] = []
    stop = time.perf_counter() + budget_s
    while time.perf_counter() < stop:
        start = time.perf_counter()
        for _ in range(batch):
            call()
        times.append((time.perf_counter() - start) / batch * 1e6)
    times.sort()
    print(f"{name:<52} {statistics.median(times):>10.2f} {times[int(len(times) * 0.99)]:>10.2f}")


def body_of(prompt: str) -> bytes:
    """A chat request with this prompt."""
    messages = [{"role": "system", "content": "You are a helpful assistant."}, {"role": "user", "content": prompt}]
    return json.dumps({"model": "helpdesk", "messages": messages, "max_tokens": 256, "stream": True}).encode()


def identity_row() -> None:
    """Time `Identity.authenticate` on a snapshot of 1,000 keys, without a database."""
    from datetime import UTC, datetime

    from roadbed.guard.identity import Identity, _Entry
    from roadbed.store.database import Database

    identity = Identity(Database("postgresql://unused", "roadbed", "bench"))
    entries = {}
    key = ""
    for _ in range(1000):
        key_id, key = new_key()
        digest = digest_of(key.encode())
        record = KeyRecord(key_id, "", "a", frozenset({"member"}), None, datetime.now(UTC), None, None, None)
        entries[digest] = _Entry(digest, record, record.principal(), None)
    identity._by_digest = entries
    presented = key.encode()
    measure("authenticate, 1,000 keys", lambda: identity.authenticate(presented))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", default="", help="a Python that has presidio-analyzer and detect-secrets")
    arguments = parser.parse_args()
    detector = Detector()
    detector.warm_up()
    portable = Detector(engine=PortableEngine())
    guard = Guard(detector)
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {detector.engine_name}")
    print(f"{'microseconds per call':<52} {'p50':>10} {'p99':>10}")
    for name, size in (("500 B", 500), ("2 kB", 2_000), ("100 kB", 100_000)):
        text = fill(PROSE, size)
        measure(f"find, ordinary prose, {name}", lambda text=text: detector.find(text))  # type: ignore[misc]
    print(f"twenty: {len(TWENTY)} characters, {len(detector.find(TWENTY))} findings")
    measure("find, twenty values in 2 kB", lambda: detector.find(TWENTY))
    measure("find, personal data throughout, 2 kB", lambda: detector.find(fill(DENSE, 2_000)))
    mixed = fill("Übergabe der Schlüssel – für 3 Räume, größer als 20 m². ", 2_000)
    measure("find, German prose with umlauts, 2 kB", lambda: detector.find(mixed))
    measure("find, ordinary prose, 2 kB, portable engine", lambda: portable.find(fill(PROSE, 2_000)))
    ordinary, escaped = body_of(fill(PROSE, 500)), body_of(fill(PROSE, 450) + '\n"quoted"\n')
    measure("scan_bytes, request with 500 B", lambda: guard.scan_bytes(ordinary))
    measure("scan_bytes, request with 500 B and escapes", lambda: guard.scan_bytes(escaped))
    measure("for_record, ordinary prose, 2 kB", lambda: guard.for_record(fill(PROSE, 2_000)))
    measure(
        "for_model elsewhere, dense, 2 kB",
        lambda: guard.for_model(fill(DENSE, 2_000), PUBLIC, is_local=False, vault=Vault()),
    )
    vault = Vault()
    vault.token_for("email", "bob@example.com")
    answer = fill(PROSE, 2_000)
    pieces = [answer[place : place + 5] for place in range(0, len(answer), 5)]
    stream = StreamUnmasker(vault)
    measure("StreamUnmasker, 400 pieces of 5", lambda: [stream.feed(piece) for piece in pieces])
    masker = StreamMasker(detector.candidates)
    measure("StreamMasker, 400 pieces of 5", lambda: [masker.feed(piece) for piece in pieces])
    identity_row()
    throughput(guard)
    if arguments.peers:
        peers(arguments.peers)


def throughput(guard: Guard) -> None:
    """Print megabytes per second on large ordinary text, in one thread."""
    text = fill(PROSE, 10_000_000)
    body = text.encode()
    for name, call in (("Guard.scan", lambda: guard.scan(text)), ("Guard.scan_bytes", lambda: guard.scan_bytes(body))):
        best_s = min(timed_s(call) for _ in range(5))
        print(f"{name + ', 10 MB of ordinary prose, MB/s':<52} {10 / best_s:>10.0f}")


def timed_s(call: Callable[[], object]) -> float:
    """How long one call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def peers(python: str) -> None:
    """Print Presidio's times on the same texts."""
    texts = {"ordinary prose, 2 kB": fill(PROSE, 2_000), "twenty values in 2 kB": TWENTY}
    lines = "".join(json.dumps({"text": text}) + "\n" for text in texts.values())
    script = str(Path(__file__).with_name("peers.py"))
    done = subprocess.run([python, script, "speed"], input=lines, capture_output=True, text=True, check=True)
    head, *rows = [json.loads(line) for line in done.stdout.splitlines()]
    print(head)
    for name, (median, worst) in zip(texts, rows, strict=True):
        print(f"{'Presidio, ' + name:<52} {median:>10.0f} {worst:>10.0f}")


if __name__ == "__main__":
    main()
