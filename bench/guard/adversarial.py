"""Texts made to cost the guard much: `python bench/guard/adversarial.py [--characters 40000]`.

For each, the CPU of a text and of one four times as long. Fails where four times the length costs more than
`RATIO_MAX` times as much: linear work costs four times, and work with the square sixteen.
"""

from __future__ import annotations

import argparse
import base64
import sys
import time
from collections.abc import Callable
from urllib.parse import quote

from roadbed.guard.detect import Detector

RATIO_MAX = 8.0
TRIES = 3
UNITS = {
    "cards": "4111 1111 1111 1111 ", "social security numbers": "536-90-4399 ", "telephone numbers": "212-736-5000 ",
    "digits": "1", "single digits": "1 ", "digits and dots": "1.", "digits and dashes": "1-", "at signs": "@",
    "addresses": "a@b.co ", "addresses in one": "a@b.", "dots": ".", "IPv4": "1.2.3.4.", "IPv6": "a:b:",
    "passwords": "password=", "passwords, colon": "password:", "passwords, quote": 'password="', "tokens": "api_key:",
    "authorization": "authorization=basic ", "bearers": "bearer ", "services": "aws", "services, sign": "aws_secret=",
    "private keys": "-----BEGIN RSA PRIVATE KEY-----", "prefixes": "sk-", "JSON tokens": "eyJ", "user urls": "a://b:c@",
    "percent": "%41", "percent twice": "%2541", "entities": "&amp;", "unicode": "\\u0041", "base64": "QUJD",
    "base64 words": "aB3dE5gH7jK9mN1p ", "letters": "a", "blanks": " ", "hidden": "a\u200b", "born": "born on 1",
    "passports": "passport ", "secrets of Kubernetes": "kind: Secret\ndata:\n  a: QUJDREVGR0g=\n", "MACs": "00:1A:2b:",
}  # fmt: skip


def texts(count: int) -> dict[str, str]:
    """Each text at about this length."""
    made = {name: unit * (count // len(unit)) for name, unit in UNITS.items()}
    made["base64 of text"] = base64.b64encode(b"hello there my friend " * (count // 30)).decode()
    made["quoted twice"] = quote(quote("bob@example.com " * (count // 40)))
    made["longest values"] = ("password=" * 440 + " ") * (count // 3961)
    made["longest runs"] = (("aB3dE5gH7jK9mN1pQ" * 941)[:16_000] + " ") * (count // 16_001)
    return made


def cpu_s(call: Callable[[str], object], text: str) -> float:
    """The CPU of one call, the least of some."""
    best = float("inf")
    for _ in range(TRIES):
        start = time.thread_time()
        call(text)
        best = min(best, time.thread_time() - start)
    return best


def main() -> int:
    """Print the table, the dearest first."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--characters", type=int, default=40_000)
    count = parser.parse_args().characters
    detector = Detector()
    detector.warm_up()
    rows = []
    longer = texts(4 * count)
    for name, text in texts(count).items():
        short, long = cpu_s(detector.find, text), cpu_s(detector.find, longer[name])
        rows.append((long / len(longer[name]) * 1e6, name, long / short))
    print(f"{'us of CPU a character':<32} {'':>8} {'ratio':>8}")
    for each, name, ratio in sorted(rows, reverse=True):
        print(f"{name:<32} {each:>8.3f} {ratio:>8.1f}")
    worst = max(ratio for _, _, ratio in rows)
    print(f"worst ratio {worst:.1f} (most {RATIO_MAX:g})")
    return int(worst > RATIO_MAX)


if __name__ == "__main__":
    sys.exit(main())
