"""``roadbed ask``: a question to an app; the answer streams, its citations follow."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from roadbed.cli.connection import Server, add_arguments, connect
from roadbed.cli.main import EXIT_FAILED, EXIT_NOTHING_FOUND, EXIT_OK
from roadbed.cli.output import print_json
from roadbed.kernel.errors import InvalidRequest

SUMMARY = "Ask an app a question. The answer streams; the passages that it rests on are listed below it."
STILL_READ = ": not read to its end yet"
EXAMPLE = '  roadbed ask "How is a comparable sale chosen?"\n  roadbed ask --app docs "What is a release?" --json'


class NoApp(InvalidRequest):
    """The workspace has no app of the kind that answers questions, or none of this name."""

    code = "cli.no_app"


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments."""
    parser.add_argument("question", nargs="+", help="the question, in quotes or not")
    parser.add_argument("--app", help="which app or route (default: the first copilot)")
    add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Exit 0 with an answer, 6 when it is not in the documents."""
    server = connect(arguments)
    app = arguments.app or default_app(server)
    request = {"model": app, "messages": [{"role": "user", "content": " ".join(arguments.question)}]}
    if arguments.json:
        answer = server.call("POST", "/v1/chat/completions", request)
        print_json(answer)
        return EXIT_NOTHING_FOUND if (answer.get("roadbed") or {}).get("abstained") else EXIT_OK
    facts: dict[str, Any] | None = None
    for event in server.events("/v1/chat/completions", {**request, "stream": True}):
        for choice in event.get("choices", ()):
            sys.stdout.write(choice.get("delta", {}).get("content") or "")
            sys.stdout.flush()
        facts = event.get("roadbed", facts)
    print()
    if facts is None:
        return EXIT_OK
    print_facts(facts)
    if facts.get("rung") == "refused":
        return EXIT_FAILED
    return EXIT_NOTHING_FOUND if facts.get("abstained") else EXIT_OK


def print_facts(facts: dict[str, Any]) -> None:
    """Citations, then one line that says what kind of answer it was."""
    if facts.get("citations"):
        print()
    for citation in facts.get("citations", ()):
        place = f" · {citation['location']}" if citation.get("location") else ""
        quote = " ".join(citation["quote"].split())
        origin = citation["uri"] or f"tool {citation.get('tool', '')}"
        print(f"[{citation['number']}] {citation['title']}{place}  ({origin})")
        print(f"    “{quote[:200]}{'…' if len(quote) > 200 else ''}”")
    for approval in facts.get("approvals", ()):
        print(f"waits for a person: {approval['tool']}, approval {approval['id']}")
    for line in shortfalls(facts.get("degraded", ())):
        print(f"\n{line}", file=sys.stderr)
    print(f"\nrung {facts['rung']} · release {facts['release'][:12]} · trace {facts['trace']}", file=sys.stderr)


def shortfalls(degraded: Sequence[str]) -> list[str]:
    """What an answer did without, in at most two lines: sources that are still being read, and all else."""
    reading = [text.removesuffix(STILL_READ) for text in degraded if text.endswith(STILL_READ)]
    lost = [text for text in degraded if not text.endswith(STILL_READ)]
    lines = [f"still being read, ask again when it is done: {', '.join(reading)}"] if reading else []
    return [*lines, f"missing: {', '.join(lost)}"] if lost else lines


def default_app(server: Server) -> str:
    """The first copilot of the workspace. Raises `NoApp`."""
    apps = server.call("GET", "/api/status")["apps"]
    for app in apps:
        if app["kind"] == "copilot":
            return str(app["name"])
    raise NoApp("the workspace has no copilot to ask", hint="declare one under `apps`, or name an app with --app")
