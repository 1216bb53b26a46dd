"""Writes the example workspace's documents and databases: `python examples/appraisals/generate.py [--check]
[--into DIR]`.

The work is done in `generator/`. Needs python-docx, fpdf2 and openpyxl. Running it again changes nothing:
everything comes from one
seed and from the texts in `generator/texts`. With `--check` nothing is written; it exits with 1 and names the
files that differ.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from generator.tree import build, differences, save

HERE = Path(__file__).resolve().parent


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(description="Write the example workspace's documents and databases.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail when the files are not up to date")
    parser.add_argument("--into", type=Path, default=HERE, help="folder to write to (default: this one)")
    options = parser.parse_args(arguments)
    files = build()
    if options.check:
        found = differences(options.into, files)
        print("\n".join(found) or f"{len(files)} files are up to date")
        return 1 if found else 0
    save(options.into, files)
    print(f"{len(files)} files in {options.into}, {sum(map(len, files.values())):,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
