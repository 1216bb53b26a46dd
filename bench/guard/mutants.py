"""Mutants of the guard's call sites: each is removed in turn in a server of its own, and the canary must see it.

``python bench/guard/mutants.py`` finds every place outside ``guard/`` that passes text through the guard (by the
syntax tree, so that a new one is in the list by itself), starts a server in which that one place passes the text on as
it is, and runs the control over HTTP. A mutant is killed when the control fails; survivors are printed, and the exit
code is 1. ``--list`` prints the places, ``--only TEXT`` takes those whose name holds a text.
"""

from __future__ import annotations

import argparse
import ast
import builtins
import contextlib
import functools
import importlib.machinery
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "roadbed"
KEY = "rb-mutants-4c9d1e7a2f60b835"
NAMES = frozenset(
    {
        "for_index", "for_index_with_map", "for_embedder", "for_model", "for_record", "for_record_of_clean", "for_log",
        "scan_bytes", "scan_sent", "stream_for_record", "stream_without_secrets", "guarded_words", "for_tool",
        "for_export",
        "without_secrets", "stream_of_answer", "answer_without_secrets", "for_name", "holds_secret",
    }
)  # fmt: skip
FUNCTIONS = frozenset({"guarded_words"})
OWN_NAMES = {"server/audit.py": frozenset({"guarded"})}  # names that mean the guard in one file alone
READY_S, RUN_S = 180.0, 300.0
# Places that are no sink of text -> why. Whatever is not listed here must be killed.
NO_SINK = {
    "apps/analytics.py:_label:for_index": "the text is thrown away, and its label alone is used",
    "server/vectors.py:_label_of:scan_bytes": "decides whether the label is read at all",
    "server/chat_hot.py:record:for_record_of_clean#2": "passes on what `answer_without_secrets` called clean; the same",
    "server/chat_hot.py:record:for_record_of_clean": "passes on what `scan_sent` called clean; that one is mutated",
}
# Places behind another one that sees the same text before -> those: all are removed, and the control must find more
# than where those alone are.
BEHIND = {"apps/analytics.py:_follow:for_index": ("gateway/answer_rules.py:_masker:stream_of_answer",)}
MANIFEST = """\
name: mutants
sources:
  notes: {type: files, path: notes}
collections:
  company: {sources: [notes]}
apps:
  helpdesk: {kind: copilot, knowledge: [company]}
"""


class Site(NamedTuple):
    """One place. ``name`` is ``file:function:method``, numbered from the second of a name on."""

    path: str
    line: int
    column: int
    name: str


def sites() -> list[Site]:
    """Every place outside ``guard/`` that uses the guard."""
    found: list[Site] = []
    for path in sorted(SOURCE.rglob("*.py")):
        relative = path.relative_to(SOURCE).as_posix()
        if relative.startswith(("guard/", "testing/")):
            continue
        seen: dict[str, int] = {}
        names = NAMES | OWN_NAMES.get(relative, frozenset())
        for function, node in _uses(ast.parse(path.read_text(encoding="utf-8")), "", names):
            attribute = node.attr if isinstance(node, ast.Attribute) else node.id
            base = f"{relative}:{function}:{attribute}"
            seen[base] = seen.get(base, 0) + 1
            name = base if seen[base] == 1 else f"{base}#{seen[base]}"
            found.append(Site(str(path), node.lineno, node.col_offset, name))
    return found


def _uses(node: ast.AST, function: str, names: frozenset[str]) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for child in ast.iter_child_nodes(node):
        inside = child.name if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) else function
        is_read = isinstance(getattr(child, "ctx", None), ast.Load)
        is_method = is_read and isinstance(child, ast.Attribute) and child.attr in names
        is_function = is_read and isinstance(child, ast.Name) and child.id in FUNCTIONS
        if is_method or is_function:
            found.append((function, child))
        found += _uses(child, inside, names)
    return found


class _Remove(ast.NodeTransformer):
    """Puts `__unguarded__` in the place of one use of the guard."""

    def __init__(self, sites: list[Site]) -> None:
        self._methods = {(one.line, one.column, one.name.rpartition(":")[2].partition("#")[0]) for one in sites}

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        self.generic_visit(node)
        if (node.lineno, node.col_offset, node.attr) in self._methods:
            call = ast.Call(ast.Name("__unguarded__", ast.Load()), [ast.Constant(node.attr), node.value], [])
            return ast.copy_location(call, node)
        return node

    def visit_Name(self, node: ast.Name) -> ast.AST:
        if (node.lineno, node.col_offset, node.id) in self._methods:
            return ast.copy_location(ast.Name("__unchanged__", ast.Load()), node)
        return node


def _unguarded(name: str, guard: Any) -> Any:
    from roadbed.guard.gate import AnswerPasser
    from roadbed.guard.mask import mask_text_with_map
    from roadbed.kernel.guarded import Guarded, make_guarded

    def act(text: Any, *arguments: Any, **more: Any) -> Any:
        if name in ("scan_bytes", "scan_sent"):
            return frozenset()
        if name == "holds_secret":
            return False
        if name in ("for_name", "guarded"):
            return text
        if name == "answer_without_secrets":
            return text, True
        if name == "stream_of_answer":
            return AnswerPasser(None, None)
        guarded = getattr(guard, name)(text, *arguments, **more)
        if name == "for_index_with_map":
            return make_guarded(text, guarded[0].label, sink="mutant"), mask_text_with_map(text, [])[1]
        return make_guarded(text, guarded.label, sink="mutant") if isinstance(guarded, Guarded) else text

    return act


def serve(removed: list[Site], arguments: list[str]) -> int:
    """Run ``roadbed`` with these places removed."""
    plain = importlib.machinery.SourceFileLoader.get_code

    @functools.wraps(plain)
    def get_code(self: Any, fullname: str) -> Any:
        here = [site for site in removed if site.path == self.path]
        if not here:
            return plain(self, fullname)
        tree = _Remove(here).visit(ast.parse(Path(self.path).read_text(encoding="utf-8")))
        return compile(ast.fix_missing_locations(tree), self.path, "exec", dont_inherit=True)

    importlib.machinery.SourceFileLoader.get_code = get_code  # type: ignore[method-assign,assignment]
    builtins.__unguarded__ = _unguarded  # type: ignore[attr-defined]
    builtins.__unchanged__ = lambda outcome, *_: outcome  # type: ignore[attr-defined]
    from roadbed.cli.main import main

    return main(arguments)


def judge(removed: tuple[str, ...], folder: Path) -> dict[str, Any]:
    """What the canary control says of a server with these places removed, or with none."""
    ready = folder / "ready.json"
    ready.unlink(missing_ok=True)
    inner = [
        "up",
        str(folder / "workspace"),
        "--port",
        "0",
        "--state",
        str(folder / "state"),
        "--ready-file",
        str(ready),
    ]
    command = [sys.executable, str(Path(__file__)), "--serve", " ".join(removed), "--", *inner]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "ROADBED_ADMIN_KEY": KEY}
    with (folder / "log").open("wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment, start_new_session=True
        )
        try:
            deadline = time.monotonic() + READY_S
            while not ready.exists():
                if process.poll() is not None or time.monotonic() > deadline:
                    return {"outcome": "no server", "problems": [(folder / "log").read_text()[-500:]]}
                time.sleep(0.05)
            url = json.loads(ready.read_text())["url"]
            request = urllib.request.Request(
                f"{url}/api/controls/canary/run", b"{}", {"authorization": f"Bearer {KEY}"}, method="POST"
            )
            with urllib.request.urlopen(request, timeout=RUN_S) as response:
                answer: dict[str, Any] = json.load(response)
                return answer
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGINT)
            process.wait(30)


def main() -> int:
    """Run the mutants."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--only", action="append", default=[])
    parser.add_argument("--serve")
    parser.add_argument("rest", nargs="*")
    arguments = parser.parse_args()
    known = sites()
    if arguments.serve is not None:
        return serve([site for site in known if site.name in arguments.serve.split()], arguments.rest)
    stale = {*NO_SINK, *BEHIND, *(name for names in BEHIND.values() for name in names)} - {site.name for site in known}
    if stale:
        print(f"listed as no sink, and not there: {sorted(stale)}")
        return 1
    mutants = [site for site in known if site.name not in NO_SINK]
    mutants = [site for site in mutants if not arguments.only or any(text in site.name for text in arguments.only)]
    if arguments.list:
        for site in known:
            print(f"{site.name}:{site.line}  {NO_SINK.get(site.name, '')}".rstrip())
        return 0
    survivors: list[str] = []
    with tempfile.TemporaryDirectory(prefix="rb-mutants-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "workspace" / "notes").mkdir(parents=True)
        (folder / "workspace" / "roadbed.yaml").write_text(MANIFEST)
        (folder / "workspace" / "notes" / "fees.md").write_text("# Fees\n\nThe rush fee is 35 %.\n")
        whole = judge((), folder)
        print(f"whole     {whole['outcome']}  {whole.get('problems')}", flush=True)
        if whole["outcome"] != "pass":
            return 1
        for site in mutants:
            before = BEHIND.get(site.name, ())
            known_problems = set(judge(before, folder)["problems"]) if before else set()
            found = judge((site.name, *before), folder)
            if found["outcome"] == "no server":  # on a busy machine; says nothing of the mutant
                print(f"again     {site.name}:{site.line}  no server within {READY_S:.0f} s", flush=True)
                found = judge((site.name, *before), folder)
            more = [problem for problem in found["problems"] if problem not in known_problems]
            is_killed = found["outcome"] == "fail" and bool(more)
            first = more[0] if more else found.get("summary", found["outcome"])
            print(f"{'killed' if is_killed else 'SURVIVED':<9} {site.name}:{site.line}  {first}", flush=True)
            if not is_killed:
                survivors.append(site.name)
    print(f"{len(mutants) - len(survivors)} of {len(mutants)} mutants killed")
    for survivor in survivors:
        print(f"survivor: {survivor}")
    return 1 if survivors else 0


if __name__ == "__main__":
    raise SystemExit(main())
