"""Precision and recall of the detectors, per type, on two public sets: `python bench/guard/quality.py FOLDER`.

FOLDER holds `presidio_research/synth_v2.jsonl.gz` (synthetic sentences with marked spans) and
`secrets/cases.jsonl.gz` (strings of a secret scanner's rules, wanted and unwanted). A found span counts when it
overlaps a marked one of its type; `exact` is the share of those with the same ends. `--show TYPE` prints the misses.
"""

from __future__ import annotations

import argparse
import gzip
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from roadbed.guard.detect import Detector

TYPES = {
    "EMAIL_ADDRESS": "email",
    "PHONE_NUMBER": "phone",
    "CREDIT_CARD": "card",
    "IBAN_CODE": "iban",
    "US_SSN": "national_id",
    "IP_ADDRESS": "ip",
}


def read(path: Path) -> Iterator[dict[str, Any]]:
    """The records of a compressed file of JSON lines."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def personal(folder: Path, detector: Detector, show: str) -> None:
    """Print the table of personal data."""
    wanted: Counter[str] = Counter()
    right: Counter[str] = Counter()
    exact: Counter[str] = Counter()
    wrong: Counter[str] = Counter()
    rows = 0
    for record in read(folder / "presidio_research" / "synth_v2.jsonl.gz"):
        rows += 1
        text = record["text"]
        marked = {(TYPES[s["label"]], s["start"], s["end"]) for s in record["spans"] if s["label"] in TYPES}
        found = {("ip" if f.type == "private_ip" else f.type, f.start, f.end) for f in detector.find(text)}
        for kind, start, end in marked:
            wanted[kind] += 1
            hit = [f for f in found if f[0] == kind and f[1] < end and f[2] > start]
            right[kind] += bool(hit)
            exact[kind] += (kind, start, end) in found
            if not hit and show == kind:
                print("missed:", repr(text[max(0, start - 40) : end + 10]), "->", repr(text[start:end]))
        for kind, start, end in found:
            if not any(kind == m[0] and m[1] < end and m[2] > start for m in marked):
                wrong[kind] += 1
                if show == kind:
                    print("wrong:", repr(text[max(0, start - 40) : end + 10]), "->", repr(text[start:end]))
    print(f"{rows} texts, engine {detector.engine_name}")
    print(f"{'type':<12} {'marked':>6} {'recall':>7} {'precision':>9} {'F1':>6} {'exact':>6}")
    for kind in sorted(wanted | wrong):
        recall = right[kind] / max(1, wanted[kind])
        precision = right[kind] / max(1, right[kind] + wrong[kind])
        f1 = 2 * recall * precision / max(1e-9, recall + precision)
        share = exact[kind] / max(1, right[kind])
        print(f"{kind:<12} {wanted[kind]:>6} {recall:>7.3f} {precision:>9.3f} {f1:>6.3f} {share:>6.3f}")


def secret(folder: Path, detector: Detector, show: str) -> None:
    """Print how many wanted secrets were found, and how many unwanted strings."""
    counts = {True: [0, 0], False: [0, 0]}
    for record in read(folder / "secrets" / "cases.jsonl.gz"):
        is_found = any(finding.is_secret for finding in detector.find(record["text"]))
        counts[record["positive"]][0] += is_found
        counts[record["positive"]][1] += 1
        if show == "secret" and is_found != record["positive"]:
            print("missed:" if record["positive"] else "wrong:", record["rule"], repr(record["text"][:150]))
    for is_wanted, (found, total) in counts.items():
        print(f"secrets {'wanted' if is_wanted else 'unwanted'}: {found} of {total} found ({found / total:.3f})")


def main() -> None:
    """Read the arguments, print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--show", default="", help="a type whose misses are printed, or `secret`")
    arguments = parser.parse_args()
    detector = Detector()
    personal(arguments.folder, detector, arguments.show)
    secret(arguments.folder, detector, arguments.show)


if __name__ == "__main__":
    main()
