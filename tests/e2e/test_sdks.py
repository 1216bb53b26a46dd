"""LangChain and Vercel's AI SDK through a real server with a scripted model, in each dialect that they speak.

Both are programs of their own in environments of their own (`tests/services/install_*.sh`), as a user's would be: what
they print is what their user would have got.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from roadbed.testing.scripted_model import Rule
from roadbed.testing.scripted_reply import Prompt, Reply, ScriptedCall, quote_passages

from .serving import ADMIN_KEY, ROOT, ModelThread, Server, eventually, serving, temporary_folder, write_files

pytestmark = pytest.mark.services

SERVICES = ROOT / ".venv" / "services"
SCRIPTS = ROOT / "tests" / "services"
LANGCHAIN = SERVICES / "llama" / "bin" / "python"
VERCEL = SERVICES / "vercel"
RUN_S = 90
MANIFEST = """
name: sdks
endpoints:
  lab: {type: openai, url: "%s", model: m}
models:
  smart: {ladder: [lab]}
sources:
  open: {type: files, path: open}
collections:
  company: {sources: [open]}
apps:
  helpdesk: {kind: copilot, knowledge: [company], model: smart}
"""
EXPECTED = {
    "streamed": "one two three",
    "whole": "one two three",
    "calls": [["fee_of", {"order": "A-1"}]],
    "streamed_calls": [["fee_of", {"order": "A-1"}]],
    "after_tool": "It is 40 EUR.",
}


def use_the_tool(prompt: Prompt) -> Reply:
    """A call of the tool, and once its result is there an answer."""
    if "40 EUR for A-1" in prompt.everything:
        return Reply(text="It is 40 EUR.")
    return Reply(calls=(ScriptedCall("fee_of", '{"order": "A-1"}', "call_1"),))


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    model = ModelThread()
    model.script(
        Rule("Use the tool", use_the_tool),
        Rule("As JSON", Reply(text='{"amount": 40, "currency": "EUR"}')),
        Rule("<passage", quote_passages),
        Rule("", Reply(text="one two three")),
    )
    try:
        with temporary_folder() as folder:
            fees = "# Fees\n\nA rush order costs 35 % extra since January 2026.\n"
            workspace = write_files(folder / "sdks", {"roadbed.yaml": MANIFEST % model.url, "open/fees.md": fees})
            with serving(workspace, folder / "state") as running:
                eventually(
                    lambda: "35 %" in str(running.ask("What does a rush order cost?")), within_s=60, what="an index"
                )
                yield running
    finally:
        model.stop()


def run(server: Server, *command: str | Path, cwd: Path) -> dict[str, Any]:
    words = [*map(str, command), server.url, ADMIN_KEY]
    done = subprocess.run(words, capture_output=True, text=True, cwd=cwd, timeout=RUN_S, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(json.loads(done.stdout.splitlines()[-1]))


def check(found: dict[str, Any]) -> None:
    assert found["structured"] == {"amount": 40, "currency": "EUR"}
    for dialect in ("chat", "responses", "anthropic"):
        got = found[dialect]
        assert {name: got[name] for name in EXPECTED} == EXPECTED, dialect
        assert got["tokens"] > 0, dialect


def test_langchain(server: Server) -> None:
    check(run(server, LANGCHAIN, SCRIPTS / "langchain_calls.py", cwd=ROOT))


def test_vercel_s_ai_sdk(server: Server) -> None:
    if not (VERCEL / ".installed").exists():
        pytest.skip("Vercel's AI SDK is not installed: npm reached no registry (tests/services/install_vercel.sh)")
    shutil.copy(SCRIPTS / "vercel" / "calls.mjs", VERCEL)  # where its packages are found
    found = run(server, "node", VERCEL / "calls.mjs", cwd=VERCEL)
    check(found)
    assert {found[name]["streamed_after_tool"] for name in ("chat", "responses", "anthropic")} == {"It is 40 EUR."}


def check_cited(found: dict[str, Any], *, unread: str = "") -> None:
    """``unread`` is the dialect of which this SDK passes no citations of documents on."""
    for dialect in ("chat", "responses", "anthropic"):
        got = found[dialect]
        assert not got.get("error"), (dialect, got)
        assert got["text"] == got["streamed"], dialect
        assert "35 %" in got["text"], dialect
        assert got["cited"] == got["streamed_cited"] == ([] if dialect == unread else ["Fees"]), dialect


def test_langchain_is_given_an_app_s_citations(server: Server) -> None:
    found = run(server, LANGCHAIN, SCRIPTS / "langchain_cites.py", cwd=ROOT)
    check_cited(found, unread="chat")


def test_vercel_s_ai_sdk_is_given_an_app_s_citations(server: Server) -> None:
    if not (VERCEL / ".installed").exists():
        pytest.skip("Vercel's AI SDK is not installed: npm reached no registry (tests/services/install_vercel.sh)")
    shutil.copy(SCRIPTS / "vercel" / "cites.mjs", VERCEL)
    found = run(server, "node", VERCEL / "cites.mjs", cwd=VERCEL)
    check_cited(found)
