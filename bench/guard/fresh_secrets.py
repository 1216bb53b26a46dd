"""Cases of secrets that no rule was written from: `fresh_secrets.py make RULES OUT FOLDER...`, then `measure OUT`.

True ones are drawn at random (seeded) from the patterns of another scanner, CredSweeper, that say by their form what
they are. False ones are lines of published packages (which hold no live credentials) that a third scanner,
detect-secrets, flags for their entropy or their words; what its other rules flag is by form and left out, and so are
tests, where fixtures are meant to look real. Both are split by a hash: `measure` prints misses of the half that may be
looked at, and counts alone of the one that is kept aside.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
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
FILES_MAX, FILE_BYTES_MAX, LINES_OF_FILE_MAX, LINE_CHARACTERS_MAX = 250, 60_000, 3, 400
ENDINGS = {".py", ".js", ".json", ".md", ".txt", ".yaml", ".yml", ".toml", ".cfg", ".html", ".css", ".lock", ".ts"}
KINDS = {"Base64 High Entropy String", "Hex High Entropy String", "Secret Keyword"}
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
    """Lines that another scanner takes for secrets."""
    from detect_secrets import SecretsCollection
    from detect_secrets.settings import default_settings

    chance = random.Random(SEED)
    files = [path for folder in folders for path in sorted(folder.rglob("*")) if path.suffix in ENDINGS]
    files = [path for path in files if path.is_file() and not SKIPPED.search("/".join(path.parts[-4:]))]
    files = [path for path in files if path.stat().st_size < FILE_BYTES_MAX]
    seen: set[str] = set()
    with default_settings():
        for path in chance.sample(files, min(FILES_MAX, len(files))):
            secrets = SecretsCollection()
            secrets.scan_file(str(path))
            numbers = sorted({one.line_number for _, one in secrets if one.type in KINDS})
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
            for number in numbers[:LINES_OF_FILE_MAX]:
                line = lines[number - 1].strip()
                shape = re.sub(r"[0-9a-zA-Z+/=]{16,}", "#", line)
                if len(line) <= LINE_CHARACTERS_MAX and shape not in seen:
                    seen.add(shape)
                    yield {"text": line, "positive": False, "rule": path.suffix}


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
