"""Run the MCP conformance suite, and the MCP Inspector, against our adapter.

    python bench/tools/conformance.py [--folder FOLDER] [--revision 2026-07-28]...

Needs npm and Node 22 (`--node PATH` names another). The packages are installed under ``--folder`` at the first run.
The server is `roadbed.testing.mcp_suite`: our adapter and wire with the suite's own tools. Fails when a scored scenario
of a revision fails that is not in `BY_DESIGN`, which is empty.
"""

from __future__ import annotations

import argparse
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

SUITE = "@modelcontextprotocol/conformance@0.2.0-alpha.12"
INSPECTOR = "@modelcontextprotocol/inspector"
ROOT = Path(__file__).resolve().parents[2]
START_S = 30.0
BY_DESIGN = {"2026-07-28": frozenset[str](), "2025-11-25": frozenset[str]()}


def install(folder: Path) -> None:
    """Install the packages, once."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "node_modules" / ".bin" / "conformance").exists():
        (folder / "package.json").write_text('{"private": true}')
        subprocess.run(["npm", "install", "--no-audit", "--no-fund", SUITE, INSPECTOR], cwd=folder, check=True)


def start_server() -> tuple[subprocess.Popen[bytes], str]:
    """The server on a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "roadbed.testing.mcp_suite", "--port", str(port)]
    process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT / "src")})
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.05)
    return process, f"http://127.0.0.1:{port}/mcp"


def scored(folder: Path, node: str, url: str, revision: str) -> dict[str, bool]:
    """Which scored scenarios of a revision pass."""
    command = [node, "node_modules/.bin/conformance", "server", "--url", url, "--requirements", revision]
    said = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600).stdout
    summary, _, rest = said.partition("=== SUMMARY ===")[2].partition("Not scored")
    found = {name: mark == "✓" for mark, name in re.findall(r"^([✓✗]) ([a-z0-9-]+):", summary, re.MULTILINE)}
    for name in re.findall(r"^\s+[✓✗] ([a-z0-9-]+) \(", rest, re.MULTILINE):
        found.pop(name, None)
    return found


def inspect(folder: Path, node: str, url: str) -> None:
    """Ask for all that the server offers with the Inspector's command line, in both eras, and call tools."""
    base = [node, "node_modules/.bin/mcp-inspector", "--cli", url, "--transport", "http"]
    # Versions before 2 know one era alone.
    said = subprocess.run([*base[:2], "--cli", "--help"], cwd=folder, capture_output=True, text=True, timeout=120)
    eras = (["--protocol-era", "legacy"], ["--protocol-era", "modern"]) if "--protocol-era" in said.stdout else ([],)
    call = ("--method", "tools/call", "--tool-name")
    for era in eras:
        for words, wanted in (
            (("--method", "tools/list"), "test_simple_text"),
            ((*call, "test_simple_text"), "simple text response"),
            ((*call, "test_error_handling"), "isError"),
            ((*call, "no_such_tool"), "no_such_tool"),
            (("--method", "resources/list"), "test://static-text"),
            (("--method", "resources/read", "--uri", "test://static-text"), "static text"),
            (("--method", "prompts/list"), "test_simple_prompt"),
            (("--method", "prompts/get", "--prompt-name", "test_simple_prompt"), "messages"),
        ):
            done = subprocess.run([*base, *era, *words], cwd=folder, capture_output=True, text=True, timeout=120)
            if wanted not in done.stdout + done.stderr:
                raise SystemExit(f"the Inspector's {words} gave something else: {done.stdout[:300]}{done.stderr[:300]}")
            print(f"inspector {' '.join(era)} {' '.join(words[1:])}: ok")


def main() -> int:
    """Run and print; 1 when something fails that should not."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--folder", type=Path, default=Path("/tmp/roadbed-mcp-conformance"))
    parser.add_argument("--revision", action="append", choices=sorted(BY_DESIGN))
    parser.add_argument("--node", default="node")
    arguments = parser.parse_args()
    install(arguments.folder)
    process, url = start_server()
    wrong = 0
    try:
        for revision in arguments.revision or sorted(BY_DESIGN, reverse=True):
            found = scored(arguments.folder, arguments.node, url, revision)
            failed = {name for name, passed in found.items() if not passed}
            print(f"{revision}: {len(found) - len(failed)} of {len(found)} scored scenarios pass")
            for name in sorted(failed):
                print(f"  {'by design' if name in BY_DESIGN[revision] else 'FAILED'}: {name}")
            wrong += len(failed - BY_DESIGN[revision]) or not found
        inspect(arguments.folder, arguments.node, url)
    finally:
        process.terminate()
        process.wait(20)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
