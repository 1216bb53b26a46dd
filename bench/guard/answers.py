"""What it costs to keep secrets out of streamed answers, and how much is held back: `python bench/guard/answers.py`.

Texts are this project's own: its documentation, its sources, and a few sentences in other writing. Each is cut as
models cut (a blank and a word, or six characters), and at random places with secrets planted in it: the second part
compares the joined output with the masked whole for every cut.
"""

from __future__ import annotations

import argparse
import random
import re
import time
from pathlib import Path

from roadbed.gateway.answer_rules import RuledUnmasker
from roadbed.gateway.types import TextDelta
from roadbed.guard.detect import Detector
from roadbed.guard.gate import Guard
from roadbed.guard.vault import Vault
from roadbed.kernel.label import PUBLIC
from roadbed.kernel.principal import SYSTEM

ROOT = Path(__file__).resolve().parents[2]
CHUNKS = 4_000
ROUNDS = 25
_CHUNK = re.compile(r"\s*\S{1,6}|\s+")
SECRETS = (
    "AKIAIOSFODNN7ABCDEFG", "ghp_aB3dE5gH7jK9mN1pQ3sT5vW7yZ9bC1dE3fG5", "postgres://owner:s3cr3tPw@db/x",
    "password: hunter2!x", "api_key = 'a8f5f167f44f4964e6c998dee827110c'",
    "-----BEGIN PRIVATE KEY-----\nMIIEvQ abc\n-----END PRIVATE KEY-----",
)  # fmt: skip


def texts() -> dict[str, str]:
    """The texts by kind."""
    docs = "".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md")))
    code = "".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "src/roadbed/gateway").glob("*.py")))
    return {
        "plain words": "The roof was replaced and the drains were cleaned; no further work is needed before autumn. ",
        "prose with figures": "Parcels on the slope were adjusted by 4 percent in 2024, as the manual of 2019 says in "
        "section 3.2; the report went to the owner on 12 May. The valuation follows the sales of the last two years. ",
        "German": "Übergabe der Schlüssel im Büro, größer als nötig, während der Geschäftszeiten am Vormittag. ",
        "Chinese": "这是一个普通的句子，没有秘密。我们明天去北京开会，然后再讨论这个问题。",
        "documentation": docs,
        "source code": code,
    }


def cost_us(guard: Guard, text: str) -> float:
    """The time of one chunk, the quietest of some rounds."""
    chunks = _CHUNK.findall(text[: CHUNKS * 8])
    chunks = (chunks * (CHUNKS // len(chunks) + 1))[:CHUNKS]
    best = 1e9
    for _ in range(ROUNDS):
        rules = RuledUnmasker(guard, Vault(), SYSTEM, PUBLIC)
        rules.feed(TextDelta("a "))
        feed = rules.feed_text
        assert feed is not None
        start = time.perf_counter()
        for chunk in chunks:
            feed(chunk)
        best = min(best, (time.perf_counter() - start) / len(chunks) * 1e6)
    return best


def held_characters(guard: Guard, text: str, rng: random.Random) -> tuple[int, list[int]]:
    """Of one random cut: whether it came out other than the masked whole, and what was held after each piece."""
    stream = guard.stream_without_secrets()
    out, held, place = [], [], 0
    while place < len(text):
        size = rng.randint(1, 16)
        out.append(stream.feed(text[place : place + size]))
        held.append(stream.held_count)
        place += size
    return int("".join(out) + stream.finish() != guard.without_secrets(text)), held


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cuts", type=int, default=2_000, help="random cuts of a passage of 600 characters")
    arguments = parser.parse_args()
    guard = Guard(Detector())
    guard.warm_up()
    print(f"{'microseconds a chunk':<24}")
    for name, text in texts().items():
        print(f"{name:<24} {cost_us(guard, text):6.2f}")
    rng = random.Random(7)
    differ, held = 0, []
    corpus = "\n".join(texts().values())
    for _ in range(arguments.cuts):
        start = rng.randrange(len(corpus) - 600)
        passage = corpus[start : start + 600]
        if rng.random() < 0.5:
            place = rng.randrange(600)
            passage = f"{passage[:place]} {rng.choice(SECRETS)} {passage[place:]}"
        wrong, characters = held_characters(guard, passage, rng)
        differ += wrong
        held += characters
    held.sort()
    print(
        f"{arguments.cuts} cuts: {differ} differ from the masked whole; characters held p50 {held[len(held) // 2]}, "
        f"p99 {held[int(len(held) * 0.99)]}, most {held[-1]}"
    )


if __name__ == "__main__":
    main()
