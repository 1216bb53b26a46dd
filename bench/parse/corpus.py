"""Parse every file below a folder through the pool and print a table by format: parsed, failed by reason, seconds.

    python bench/parse/corpus.py PATH [--workers N] [--failures] [--dump FOLDER] [--under SUBSTRING]

``--failures`` lists each failure, ``--dump`` writes each canonical text with its block marks for reading. Exits 1
when a file had an outcome other than a document or a `ParseFailure`, or when a document breaks the invariants of
its blocks.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path

from roadbed.knowledge.parse.document import ParsedDocument, ParseFailure
from roadbed.knowledge.parse.pool import ParserPool


def broken_invariant(document: ParsedDocument) -> str:
    """Which promise of a parsed document does not hold, or an empty string."""
    position = 0
    for block in document.blocks:
        if not (position <= block.start < block.end <= len(document.text)):
            return f"block {block} after {position}"
        position = block.end
    return "control characters" if any(char in document.text for char in "\x00\r") else ""


def dump(document: ParsedDocument, target: Path) -> None:
    """Write the text block by block, each behind a line that names its kind and place."""
    lines = [f"== {document.title} | {document.language} | {document.parser} | {'; '.join(document.warnings)}"]
    for block in document.blocks:
        mark = f"[{block.kind}{block.level or ''} {block.location}{' HIDDEN' if block.hidden else ''}]"
        lines += [mark, document.text[block.start : block.end]]
    target.write_text("\n".join(lines), encoding="utf-8")


async def run(options: argparse.Namespace) -> int:
    """Parse all, print, and give the exit status."""
    paths = sorted(path for path in options.path.rglob("*") if path.is_file() and options.under in str(path))
    outcomes: dict[str, Counter[str]] = defaultdict(Counter)
    seconds: dict[str, list[float]] = defaultdict(list)
    characters: Counter[str] = Counter()
    problems: list[str] = []
    failures: list[str] = []

    async def one(path: Path, gate: asyncio.Semaphore, pool: ParserPool) -> None:
        suffix = path.suffix.lower() or "(none)"
        async with gate:
            start = time.perf_counter()
            try:
                document = await pool.parse(path, name=path.name)
            except ParseFailure as failure:
                outcomes[suffix][failure.reason] += 1
                failures.append(
                    f"{failure.reason:12} {path.relative_to(options.path)}: {failure.message} -> {failure.hint}"
                )
            else:
                outcomes[suffix]["parsed"] += 1
                characters[suffix] += len(document.text)
                if fault := broken_invariant(document):
                    problems.append(f"{path}: {fault}")
                if options.dump:
                    dump(document, options.dump / (str(path.relative_to(options.path)).replace("/", "__") + ".txt"))
            seconds[suffix].append(time.perf_counter() - start)

    if options.dump:
        options.dump.mkdir(parents=True, exist_ok=True)
    gate = asyncio.Semaphore(options.workers)
    started = time.perf_counter()
    async with ParserPool(options.workers) as pool:
        results = await asyncio.gather(*(one(path, gate, pool) for path in paths), return_exceptions=True)
    problems += [repr(result) for result in results if isinstance(result, BaseException)]
    print(f"{'format':10}{'files':>6}{'parsed':>8}{'chars':>12}{'total s':>9}{'worst s':>9}  failed")
    for suffix in sorted(outcomes):
        count = outcomes[suffix]
        failed = ", ".join(f"{reason} {number}" for reason, number in sorted(count.items()) if reason != "parsed")
        times = seconds[suffix]
        print(
            f"{suffix:10}{count.total():6}{count['parsed']:8}{characters[suffix]:12}"
            f"{sum(times):9.2f}{max(times):9.2f}  {failed}"
        )
    print(f"{len(paths)} files in {time.perf_counter() - started:.1f} s with {options.workers} workers")
    for line in sorted(failures) if options.failures else []:
        print(line)
    for line in problems:
        print("PROBLEM", line)
    return 1 if problems else 0


def main() -> None:
    """Command line entry."""
    reader = argparse.ArgumentParser(description=__doc__)
    reader.add_argument("path", type=Path)
    reader.add_argument("--workers", type=int, default=1)
    reader.add_argument("--failures", action="store_true")
    reader.add_argument("--dump", type=Path)
    reader.add_argument("--under", default="")
    sys.exit(asyncio.run(run(reader.parse_args())))


if __name__ == "__main__":
    main()
