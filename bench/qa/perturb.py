"""How often the grounding check catches a changed number, date, negation or name, and how often it cries wolf.

``python bench/qa/perturb.py DATA_DIR [--claims 600]``: claims are sentences of the documents, as they stand and lightly
reworded (number words, other formats of numbers and dates, a lead-in, dropped words); each is then changed in one
place. It is checked against its own passage. Exit 1 below 95 % caught or above 5 % false alarms.
"""

from __future__ import annotations

import argparse
import random
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from qa_data import read_set
from run import EXAMPLE

from roadbed.apps.grounding import Verdict, examine
from roadbed.apps.passage_units import units

CAUGHT_MIN = 0.95
FALSE_ALARMS_MAX = 0.05
PASSAGE_CHARACTERS = 1_200
_NUMBER = re.compile(r"(?<![\w.,-])\d[\d,]*(?:\.\d+)?(?![\w-]*\d)")
_MONTH_TEXT = "January February March April May June July August September October November December"
_MONTHS = _MONTH_TEXT.split()
_DATE = re.compile(
    rf"\b(\d{{1,2}}) ({'|'.join(_MONTHS)})(?: (\d{{4}}))?|\b({'|'.join(_MONTHS)}) (\d{{1,2}})(, \d{{4}})?"
)
_ISO = re.compile(r"\b(\d{4})-(\d\d)-(\d\d)\b")
_VERB = re.compile(r"\b(is|are|was|were|can|must|may|will|has|have|had|does|did|do)\b(?! not|n't)")
_NOT = re.compile(r"\b(is|are|was|were|can|must|may|will|has|have|had|does|did|do) not\b")
_NAME = re.compile(r"(?<=[a-z,] )[A-Z][a-z]{3,}\b(?! [A-Z])")
_WORDS = {"2": "two", "3": "three", "4": "four", "5": "five", "6": "six", "7": "seven", "10": "ten", "12": "twelve"}
_OTHER_NAMES = ("Velmora", "Tarkwin", "Ostrell", "Brandivik")

Change = Callable[[str, random.Random], str | None]


def change_number(text: str, chance: random.Random) -> str | None:
    """One digit of one number made another."""
    spans = [match.span() for match in _NUMBER.finditer(text) if not _inside_date(text, match.start())]
    if not spans:
        return None
    start, end = chance.choice(spans)
    places = [place for place in range(start, end) if text[place].isdigit()]
    place = chance.choice(places)
    digit = chance.choice([digit for digit in "123456789" if digit != text[place]])
    return text[:place] + digit + text[place + 1 :]


def change_date(text: str, chance: random.Random) -> str | None:
    """Another month, or another day."""
    match = _DATE.search(text)
    if match is not None:
        month = match[2] or match[4]
        other = chance.choice([name for name in _MONTHS if name != month])
        return text[: match.start()] + match.group().replace(month, other) + text[match.end() :]
    match = _ISO.search(text)
    if match is None:
        return None
    day = int(match[3]) % 28 + 1
    return f"{text[: match.start()]}{match[1]}-{match[2]}-{day:02d}{text[match.end() :]}"


def change_negation(text: str, chance: random.Random) -> str | None:
    """A "not" put in or taken out."""
    if _NOT.search(text):
        return _NOT.sub(r"\1", text, count=1)
    if re.search(r"\b(?:not?|never|without|none|only|except|unless|nor|cannot)\b|n['’]t", text, re.IGNORECASE):
        return None
    return _VERB.sub(r"\1 not", text, count=1) if _VERB.search(text) else None


def change_name(text: str, chance: random.Random) -> str | None:
    """One name made another."""
    match = _NAME.search(text)
    return text[: match.start()] + chance.choice(_OTHER_NAMES) + text[match.end() :] if match else None


CHANGES: dict[str, Change] = {
    "number": change_number,
    "date": change_date,
    "negation": change_negation,
    "name": change_name,
}


def _inside_date(text: str, place: int) -> bool:
    return any(match.start() <= place < match.end() for pattern in (_DATE, _ISO) for match in pattern.finditer(text))


def reworded(text: str) -> Iterator[str]:
    """The same claim said otherwise."""
    yield text
    yield f"According to the documents, {text[:1].lower()}{text[1:]} [1]" if text[:1].isupper() else f"{text} [1]"
    if re.search(r"\d,\d{3}\b", text):
        yield re.sub(r"(\d),(\d{3})\b", r"\1 \2", text)
    if " %" in text or re.search(r"\d%", text):
        yield re.sub(r"\s?%", " percent", text)
    for digits, word in _WORDS.items():
        if re.search(rf"\b{word} (?=[a-z])", text):
            yield re.sub(rf"\b{word} (?=[a-z])", f"{digits} ", text, count=1)
            break
    match = _ISO.search(text)
    if match is not None and 1 <= int(match[2]) <= 12:
        said = f"{int(match[3])} {_MONTHS[int(match[2]) - 1]} {match[1]}"
        yield text[: match.start()] + said + text[match.end() :]


def claims(data: Path, count: int) -> list[tuple[str, str]]:
    """(sentence, passage) pairs, the same in every run."""
    found = []
    for name in ("squad2", "clapnq", "example"):
        own = []
        for document in read_set(name, data, EXAMPLE).documents:
            for part in units(document.text):
                text = " ".join(document.text[part.start : part.end].split())
                if part.kind != "sentence" or not 40 <= len(text) <= 300 or not text.endswith("."):
                    continue
                middle = max(0, part.start - PASSAGE_CHARACTERS // 2)
                own.append((text, document.text[middle : part.end + PASSAGE_CHARACTERS // 2]))
        found += random.Random(5).sample(own, min(count, len(own)))
    return found


def main() -> int:
    """Generate, check, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("--claims", type=int, default=600)
    parser.add_argument("--show", type=int, default=0)
    options = parser.parse_args()
    chance = random.Random(11)
    alarms: list[str] = []
    said = 0
    caught: dict[str, list[bool]] = {name: [] for name in CHANGES}
    missed: list[str] = []
    seconds: list[float] = []
    for sentence, passage in claims(options.data_dir, options.claims):
        for text in reworded(sentence):
            began = time.perf_counter()
            finding = examine(text, [passage])
            seconds.append(time.perf_counter() - began)
            said += 1
            if finding.verdict is Verdict.UNSUPPORTED:
                alarms.append(f"{finding.reason}: {text}")
        for name, change in CHANGES.items():
            changed = change(sentence, chance)
            if changed is not None:
                is_caught = examine(changed, [passage]).verdict is not Verdict.SUPPORTED
                caught[name].append(is_caught)
                if not is_caught:
                    missed.append(f"{name}: {changed}")
    rate = len(alarms) / said
    seconds.sort()
    middle, high = seconds[said // 2] * 1e3, seconds[said * 99 // 100] * 1e3
    print(f"{said} true claims: {rate:.3f} false alarms; ms p50 {middle:.2f} p99 {high:.2f}")
    is_good = rate <= FALSE_ALARMS_MAX
    for name, values in caught.items():
        share = sum(values) / len(values)
        print(f"  changed {name}: {share:.3f} of {len(values)} caught")
        is_good &= name == "name" or share >= CAUGHT_MIN
    for line in [
        *chance.sample(alarms, min(options.show, len(alarms))),
        *chance.sample(missed, min(options.show, len(missed))),
    ]:
        print("   ", line[:220])
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())
