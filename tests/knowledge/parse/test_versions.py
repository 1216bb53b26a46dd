"""No parser, chunker or analyzer changes without somebody saying whether documents must be read again for it.

``versions.json`` holds, for each, its version and a digest of its code (without comments and docstrings) and of the
libraries under it. When this fails: raise the version that the message names if text, blocks, chunks or terms of any
document can come out otherwise; else leave it. Then, in both cases, ``ROADBED_RECORD=1 pytest`` of this file.
"""

from __future__ import annotations

import ast
import hashlib
import io
import json
import os
import re
import tokenize
from functools import cache
from pathlib import Path

import pytest

from roadbed.knowledge.analysis import ANALYZER
from roadbed.knowledge.chunk import CHUNKER
from roadbed.knowledge.parse import versions
from roadbed.knowledge.parse.dispatch import _PARSERS

ROOM = Path(versions.__file__).parent.parent
LOCK = Path(__file__).parents[3] / "requirements.lock"
RECORDED = Path(__file__).with_name("versions.json")
COMMON_FILES = frozenset({"parse.detect", "parse.dispatch", "parse.document", "parse.encoding", "parse.archive"})
LIBRARIES = {
    "pypdfium2": "pypdfium2",
    "lxml": "lxml",
    "selectolax": "selectolax",
    "markdown_it": "markdown-it-py",
    "Stemmer": "pystemmer",
}
NOT_READING = frozenset({"parse.versions"})


@cache
def tree_of(module: str) -> ast.Module:
    """A file of the room, parsed."""
    return ast.parse(source_of(module))


@cache
def source_of(module: str) -> str:
    """A file of the room as it stands."""
    return (ROOM / f"{module.replace('.', '/')}.py").read_text("utf-8")


@cache
def code_of(module: str) -> str:
    """A file of the room without comments, docstrings and blanks: the same on every version of Python."""
    lines = source_of(module).splitlines()
    for token in tokenize.generate_tokens(io.StringIO(source_of(module)).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column]
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            for row in range(node.lineno, (node.end_lineno or node.lineno) + 1):
                lines[row - 1] = ""
    return "".join("".join(lines).split())


def imports_of(module: str) -> tuple[set[str], set[str]]:
    """The files of this room and the libraries that a file imports, wherever in it."""
    own, libraries = set(), set()
    for node in ast.walk(tree_of(module)):
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        own |= {name.removeprefix("roadbed.knowledge.") for name in names if name.startswith("roadbed.knowledge.")}
        libraries |= {LIBRARIES[name.split(".")[0]] for name in names if name.split(".")[0] in LIBRARIES}
    return own - NOT_READING, libraries


def digest_of(files: set[str], without: frozenset[str] = frozenset()) -> str:
    """A digest of these files, of those of this room that they import, and of the libraries' pinned versions."""
    waiting, seen, libraries = sorted(files), set[str](), set[str]()
    while waiting:
        module = waiting.pop()
        if module in seen or module in without:
            continue
        seen.add(module)
        own, used = imports_of(module)
        waiting += own
        libraries |= used
    pinned = {name: re.findall(rf"^{name}==(\S+)", LOCK.read_text(), re.MULTILINE) for name in sorted(libraries)}
    assert all(pinned.values()), pinned
    code = "".join(code_of(module) for module in sorted(seen))
    return hashlib.sha256(f"{code}{json.dumps(pinned)}".encode()).hexdigest()[:16]


def present() -> dict[str, dict[str, str]]:
    """What this build has, by the name of what is to be raised."""
    files: dict[str, set[str]] = {}
    for target in _PARSERS.values():
        module = f"parse.{target.partition(':')[0]}"
        (name,) = [node.value.args[0].value for node in tree_of(module).body  # type: ignore[attr-defined]
                   if isinstance(node, ast.Assign) and node.targets[0].id == "PARSER"]  # type: ignore[attr-defined]  # fmt: skip
        files.setdefault(name, set()).add(module)
    found = {
        f"versions._PARSERS[{name!r}]": {"version": versions.parser_name(name), "code": digest_of(own, COMMON_FILES)}
        for name, own in files.items()
    }
    found["versions.COMMON"] = {"version": f":v{versions.COMMON}", "code": digest_of(set(COMMON_FILES))}
    found["chunk.CHUNKER"] = {"version": CHUNKER, "code": digest_of({"chunk"})}
    found["analysis.ANALYZER"] = {"version": ANALYZER, "code": digest_of({"analysis"})}
    return found


def number_of(version: str) -> int:
    """The number in a version."""
    match = re.search(r"[:=]v(\d+)", version)
    assert match is not None
    return int(match[1])


def test_code_that_reads_documents_changes_only_with_a_word_on_its_version() -> None:
    now = present()
    recorded = json.loads(RECORDED.read_text()) if RECORDED.is_file() else {}
    lowered = [
        name for name in now if number_of(now[name]["version"]) < number_of(recorded.get(name, now[name])["version"])
    ]
    assert not lowered, f"versions only rise: {lowered}"
    if os.environ.get("ROADBED_RECORD"):
        RECORDED.write_text(json.dumps(now, indent=1, sort_keys=True) + "\n")
        return
    changed = sorted(name for name in {*now, *recorded} if now.get(name) != recorded.get(name))
    assert not changed, (
        f"changed: {', '.join(changed)}. Raise what can make documents come out otherwise, so that an upgrade reads "
        "them again; then record it: ROADBED_RECORD=1 pytest tests/knowledge/parse/test_versions.py"
    )


def test_an_upgrade_reads_again_what_lower_numbers_signed_and_nothing_else() -> None:
    older = versions.older_names()
    assert "pdf/pypdfium2-5.15.2:v1" in older
    assert "pdf/pypdfium2:v1" in older
    assert not {versions.parser_name(name) for name in versions._PARSERS} & set(older)
    assert "row" not in older


@pytest.mark.parametrize("name", sorted(versions._PARSERS))
def test_every_parser_signs_with_a_number(name: str) -> None:
    assert number_of(versions.parser_name(name)) >= 1
