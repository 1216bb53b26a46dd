"""Precision and recall of the detectors, per type, on two public sets: `python bench/guard/quality.py FOLDER`.

FOLDER holds `presidio_research/synth_v2.jsonl.gz` (synthetic sentences with marked spans) and
`secrets/cases.jsonl.gz` (strings of a secret scanner's rules, wanted and unwanted). A found span counts when it
overlaps a marked one of its type; `exact` is the share of those with the same ends. `--show TYPE` prints the misses.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from roadbed.guard.detect import Detector, Looking

PEER_TYPES = {"PERSON": "person", "LOCATION": "address"}
TYPES = {
    "PERSON": "person",
    "STREET_ADDRESS": "address",
    "EMAIL_ADDRESS": "email",
    "PHONE_NUMBER": "phone",
    "CREDIT_CARD": "card",
    "IBAN_CODE": "iban",
    "US_SSN": "national_id",
    "US_DRIVER_LICENSE": "national_id",
    "IP_ADDRESS": "ip",
}


Span = tuple[str, int, int]


def read(path: Path) -> Iterator[dict[str, Any]]:
    """The records of a compressed file of JSON lines."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


HALVES = ("tuned on", "kept aside")


def half_of(text: str) -> str:
    """Which half of the cases a text is in, by its hash: rules were written looking at the first half alone."""
    return HALVES[hashlib.sha256(text.encode()).digest()[0] % 2]


class Table:
    """Counts of one detector against what is marked."""

    def __init__(self) -> None:
        self.wanted: Counter[str] = Counter()
        self.right: Counter[str] = Counter()
        self.exact: Counter[str] = Counter()
        self.wrong: Counter[str] = Counter()

    def add(self, marked: set[Span], found: set[Span]) -> tuple[list[Span], list[Span]]:
        """Count one text; returns what was missed and what was wrong."""
        missed, wrong = [], []
        for span in marked:
            kind, start, end = span
            hit = any(kind == f[0] and f[1] < end and f[2] > start for f in found)
            self.wanted[kind] += 1
            self.right[kind] += hit
            self.exact[kind] += span in found
            if not hit:
                missed.append(span)
        for span in found:
            kind, start, end = span
            if not any(kind == m[0] and m[1] < end and m[2] > start for m in marked):
                self.wrong[kind] += 1
                wrong.append(span)
        return missed, wrong

    def print(self) -> None:
        """Print recall, precision and F1 per type."""
        print(f"{'type':<12} {'marked':>6} {'recall':>7} {'precision':>9} {'F1':>6} {'exact':>6}")
        for kind in sorted(self.wanted):
            recall = self.right[kind] / max(1, self.wanted[kind])
            precision = self.right[kind] / max(1, self.right[kind] + self.wrong[kind])
            f1 = 2 * recall * precision / max(1e-9, recall + precision)
            share = self.exact[kind] / max(1, self.right[kind])
            print(f"{kind:<12} {self.wanted[kind]:>6} {recall:>7.3f} {precision:>9.3f} {f1:>6.3f} {share:>6.3f}")


def personal(folder: Path, detector: Detector, show: str) -> None:
    """Print the table of personal data."""
    table, rows = Table(), 0
    for record in read(folder / "presidio_research" / "synth_v2.jsonl.gz"):
        rows += 1
        text = record["text"]
        marked = {(TYPES[s["label"]], s["start"], s["end"]) for s in record["spans"] if s["label"] in TYPES}
        found = {("ip" if f.type == "private_ip" else f.type, f.start, f.end) for f in detector.find(text)}
        for word, spans in zip(("missed:", "wrong:"), table.add(marked, found), strict=True):
            for kind, start, end in spans if show else ():
                if kind == show:
                    print(word, repr(text[max(0, start - 40) : end + 10]), "->", repr(text[start:end]))
    print(f"{rows} texts, engine {detector.engine_name}")
    table.print()


def secret(folder: Path, detector: Detector, show: str) -> None:
    """Print how many wanted secrets were found, and how many unwanted strings, in each half."""
    cases = list(read(folder / "secrets" / "cases.jsonl.gz"))
    for half in HALVES:
        rows = []
        for case in cases:
            if half_of(case["text"]) != half:
                continue
            is_found = any(finding.is_secret for finding in detector.find(case["text"]))
            rows.append((case["positive"], is_found))
            if show == "secret" and half == HALVES[0] and is_found != case["positive"]:
                print("missed:" if case["positive"] else "wrong:", case["rule"], repr(case["text"][:150]))
        print_secrets(f"secrets, {half}", rows)


def print_secrets(title: str, rows: list[tuple[bool, bool]]) -> None:
    """Print the shares found of wanted and of unwanted strings."""
    for is_wanted in (True, False):
        hits = [hit for wanted, hit in rows if wanted is is_wanted]
        share = sum(hits) / max(1, len(hits))
        print(f"{title}, {'wanted' if is_wanted else 'unwanted'}: {sum(hits)} of {len(hits)} found ({share:.3f})")


def main() -> None:
    """Read the arguments, print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--peers", default="", help="a Python that has presidio-analyzer and detect-secrets")
    parser.add_argument("--show", default="", help="a type whose misses are printed, or `secret`")
    arguments = parser.parse_args()
    detector = Detector().with_looking(Looking(optional=frozenset({"person", "address"})))
    personal(arguments.folder, detector, arguments.show)
    secret(arguments.folder, detector, arguments.show)
    if arguments.peers:
        peers(arguments.folder, arguments.peers)


def ask(python: str, mode: str, texts: list[str]) -> tuple[Any, list[Any]]:
    """What the peers say of each text, and their versions."""
    lines = "".join(json.dumps({"text": text}) + "\n" for text in texts)
    script = str(Path(__file__).with_name("peers.py"))
    done = subprocess.run([python, script, mode], input=lines, capture_output=True, text=True, check=True)
    head, *answers = [json.loads(line) for line in done.stdout.splitlines()]
    return head, answers


def peers(folder: Path, python: str) -> None:
    """Print the same tables for Presidio and detect-secrets."""
    records = list(read(folder / "presidio_research" / "synth_v2.jsonl.gz"))
    head, answers = ask(python, "spans", [record["text"] for record in records])
    print(head)
    known = TYPES | PEER_TYPES
    table = Table()
    for record, spans in zip(records, answers, strict=True):
        marked = {(TYPES[s["label"]], s["start"], s["end"]) for s in record["spans"] if s["label"] in TYPES}
        table.add(marked, {(known[kind], start, end) for kind, start, end in spans if kind in known})
    table.print()
    cases = list(read(folder / "secrets" / "cases.jsonl.gz"))
    head, found = ask(python, "secrets", [case["text"] for case in cases])
    for half in HALVES:
        rows = [
            (case["positive"], hit) for case, hit in zip(cases, found, strict=True) if half_of(case["text"]) == half
        ]
        print_secrets(f"detect-secrets, {half}", rows)


if __name__ == "__main__":
    main()
