"""Cases of secrets that no rule was written from: `fresh_secrets.py make RULES OUT FOLDER...`, then `measure OUT`.

True ones are drawn at random (seeded) from the patterns of another scanner, CredSweeper (RULES is its `config.yaml`),
that say by their form what they are. These are looser than the formats, so that some of what is drawn is no value that
an issuer would make. False ones are lines of published packages (which hold no live credentials) with a quoted value of
high entropy, or a word for secrets beside a quoted value; tests are left out, where fixtures look real. Both are split
by a hash: `measure --show` prints misses of the half that may be looked at, and only counts of the other.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import math
import random
import re
import string
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SEED = "fresh secrets 1"
HALVES = ("tuned on", "kept aside")
EACH = 4
FILES_MAX, FILE_BYTES_MAX, LINES_OF_FILE_MAX, LINE_CHARACTERS_MAX = 4_000, 400_000, 2, 400
ENDINGS = {".py", ".js", ".json", ".md", ".txt", ".yaml", ".yml", ".toml", ".cfg", ".html", ".css", ".lock", ".ts"}
QUOTED = re.compile(r"[\"'`]([A-Za-z0-9+/=_-]{20,})[\"'`]")
HEX = re.compile(r"[0-9a-fA-F]+")
ASSIGNED = re.compile(
    r"(?i)(?:api_?key|auth_?key|token|passw(?:or)?d|pwd|secret|private_?key)\w*[\"']?\s*[:=]{1,2}\s*[\"'][^\"']{3,}"
)
SKIPPED = re.compile(r"(?i)tests?|fixtures?|examples?|samples?|__pycache__|certifi|secret|credential")
FRAMES = ("{}", 'x = "{}"', "- {}", "value: {}", "see {} for it")


def half_of(text: str) -> str:
    """Which half a text is in."""
    return HALVES[hashlib.sha256((SEED + text).encode()).digest()[0] % 2]


def true_cases(rules: Path) -> Iterator[dict[str, Any]]:
    """Values of each pattern that tells a secret by its form."""
    import rstr
    import yaml

    chance = random.Random(SEED)
    maker = rstr.Rstr(chance)
    for rule in yaml.safe_load(rules.read_text(encoding="utf-8")):
        if rule["type"] != "pattern" or rule.get("confidence") != "strong":
            continue
        for pattern in rule["values"]:
            if "(?P<variable>" in pattern:
                continue
            made = 0
            for _ in range(40 * EACH):
                found = _value(maker, pattern)
                if found and made < EACH:
                    made += 1
                    yield {"text": chance.choice(FRAMES).format(found), "positive": True, "rule": rule["name"]}


def _value(maker: Any, pattern: str) -> str:
    plain = re.sub(r"\(\?<?[=!][^()]*(?:\([^()]*\)[^()]*)*\)", "", pattern)
    try:
        text = maker.xeger(plain)
        found = re.search(pattern, text)
    except (re.error, ValueError, TypeError, KeyError, IndexError, OverflowError):
        return ""
    value = (found.groupdict().get("value") or found[0]) if found else ""
    return value if value and len(value) < 600 and set(value) <= set(string.printable) else ""


def false_cases(folders: list[Path]) -> Iterator[dict[str, Any]]:
    """Lines that look like secrets by chance alone, or by a word beside a quoted value; one of each shape."""
    chance = random.Random(SEED)
    files = [path for folder in folders for path in sorted(folder.rglob("*")) if path.suffix in ENDINGS]
    files = [path for path in files if path.is_file() and not SKIPPED.search("/".join(path.parts[-4:]))]
    files = [path for path in files if path.stat().st_size < FILE_BYTES_MAX]
    seen: set[str] = set()
    for path in chance.sample(files, min(FILES_MAX, len(files))):
        taken = 0
        for line in map(str.strip, path.read_text(encoding="utf-8", errors="replace").splitlines()):
            if taken == LINES_OF_FILE_MAX or len(line) > LINE_CHARACTERS_MAX or not _is_suspect(line):
                continue
            shape = re.sub(r"[0-9a-zA-Z+/=]{12,}", "#", line)
            if shape not in seen:
                seen.add(shape)
                taken += 1
                yield {"text": line, "positive": False, "rule": path.suffix}


def _is_suspect(line: str) -> bool:
    """By the limits that detect-secrets documents: 3.0 bits a character of quoted hex, 4.5 of base64; or by a word."""
    if ASSIGNED.search(line):
        return True
    for quoted in QUOTED.findall(line):
        limit = 3.0 if HEX.fullmatch(quoted) else 4.5
        counts = Counter(quoted)
        if sum(-n / len(quoted) * math.log2(n / len(quoted)) for n in counts.values()) >= limit:
            return True
    return False


def measure(path: Path, *, shows: bool) -> None:
    """What the detectors find, by half; what they miss of the first half where it is asked for."""
    from roadbed.guard.detect import Detector

    detector = Detector()
    hits: Counter[tuple[str, bool, bool]] = Counter()
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for case in map(json.loads, lines):
            half = half_of(case["text"])
            is_found = any(finding.is_secret for finding in detector.find(case["text"]))
            hits[half, case["positive"], is_found] += 1
            if shows and half == HALVES[0] and is_found != case["positive"]:
                print("missed:" if case["positive"] else "wrong:", case["rule"], repr(case["text"][:200]))
    for half in HALVES:
        for wanted in (True, False):
            found, all_of = hits[half, wanted, True], hits[half, wanted, True] + hits[half, wanted, False]
            words = "true ones found" if wanted else "false ones flagged"
            print(f"{half}, {words}: {found} of {all_of} ({found / max(1, all_of):.3f})")


def main() -> None:
    """Make the cases, or measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("mode", choices=["make", "measure"])
    parser.add_argument("paths", type=Path, nargs="+")
    parser.add_argument("--show", action="store_true")
    arguments = parser.parse_args()
    if arguments.mode == "measure":
        measure(arguments.paths[0], shows=arguments.show)
        return
    rules, out, *folders = arguments.paths
    with gzip.open(out, "wt", encoding="utf-8") as file:
        for case in [*true_cases(rules), *false_cases(folders)]:
            file.write(json.dumps(case) + "\n")


if __name__ == "__main__":
    main()
