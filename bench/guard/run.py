"""What the guard costs: `python bench/guard/run.py`. Prints its conditions, then the median and the 99th percentile.

Each figure is the time of one call, over batches, in one thread; the engines run side by side in the same process.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable

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
        entries[digest] = _Entry(digest, record)
    identity._by_digest = entries
    presented = key.encode()
    measure("authenticate, 1,000 keys", lambda: identity.authenticate(presented))


def main() -> None:
    """Print the table."""
    detector = Detector()
    detector.warm_up()
    portable = Detector(engine=PortableEngine())
    guard = Guard(detector)
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {detector.engine_name}")
    print(f"{'microseconds per call':<52} {'p50':>10} {'p99':>10}")
    for name, size in (("500 B", 500), ("2 kB", 2_000), ("100 kB", 100_000)):
        text = fill(PROSE, size)
        measure(f"find, ordinary prose, {name}", lambda text=text: detector.find(text))  # type: ignore[misc]
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


if __name__ == "__main__":
    main()
