"""``roadbed models``: which models a server uses, and adding a provider's model to the manifest."""

from __future__ import annotations

import argparse
import difflib
import os
from pathlib import Path
from typing import Any

from roadbed.cli.approvals import say_waiting
from roadbed.cli.connection import HERE, add_arguments, connect, escape, folder_of
from roadbed.cli.main import EXIT_OK
from roadbed.cli.output import print_json, print_table
from roadbed.kernel.config import nearest
from roadbed.kernel.errors import ConfigError

SUMMARY = "List models with their health, or add a provider's model to roadbed.yaml."
EXAMPLE = (
    "  roadbed models list\n  roadbed models add openai\n  roadbed models approve openai --by 'Ada, CISO'\n"
    "  roadbed models add anthropic --model claude-haiku-4-5 --app helpdesk --print"
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="list|add|approve")
    add_arguments(actions.add_parser("list", help="routes, their endpoints, local engines, keys that are not used"))
    add = actions.add_parser("add", help="write a provider's model into the manifest, and show the change")
    add.add_argument("provider", help="openai, anthropic, google, mistral, groq, together, deepseek or openrouter")
    add.add_argument("--model", help="the provider's name of the model (default: one that is usual)")
    add.add_argument("--name", help="what it is called here (default: the provider's name)")
    add.add_argument("--app", default="", help="an app that shall use it (default: those that name no model)")
    add.add_argument("--workspace", default=HERE, type=Path, help="the folder of roadbed.yaml (default: this one)")
    add.add_argument("--print", action="store_true", dest="only_print", help="show the change, write nothing")
    add.add_argument("--json", action="store_true", help="print JSON")
    approve = actions.add_parser("approve", help="approve a model as it is: its endpoints and where they are")
    approve.add_argument("name", help="the model, as the manifest calls it")
    approve.add_argument("--by", required=True, help="who approves it")
    approve.add_argument("--note", default="", help="why, in a line")
    add_arguments(approve)


def run(arguments: argparse.Namespace) -> int:
    """``list`` and ``approve`` ask the server; ``add`` changes the file, which a running server follows."""
    if arguments.action == "approve":
        return _approve(arguments)
    return _add(arguments) if arguments.action == "add" else _list(arguments)


def _approve(arguments: argparse.Namespace) -> int:
    order = {"by": arguments.by, "note": arguments.note}
    done = connect(arguments).call("POST", f"/api/governance/models/{escape(arguments.name)}/approve", order)
    if arguments.json:
        print_json(done)
    elif "asker" in done:
        say_waiting(done)
    else:
        print(f"{done['model']} is approved as it is ({done['digest'][:12]})")
    return EXIT_OK


def _list(arguments: argparse.Namespace) -> int:
    found = connect(arguments).call("GET", "/api/models")
    if arguments.json:
        print_json(found)
        return EXIT_OK
    rows = [[name, *_row(endpoint)] for name, ladder in found["routes"].items() for endpoint in ladder]
    if rows:
        print_table(["model", "endpoint", "asks for", "where", "rung", "state"], rows)
        print()
        header = ["endpoint", "breaker", "first token", "in flight", "asked", "failed", "spent today", "last failure"]
        print_table(header, [_health(endpoint) for endpoint in found["endpoints"]])
    else:
        print("no model: answers are verbatim cited sentences (`roadbed models add openai` names one)")
    for engine in found["engines"]:
        print(f"engine {engine['kind']} at {engine['address']}: {', '.join(engine['models'])}")
    for key in found["unused_provider_keys"]:
        print(key["hint"])
    return EXIT_OK


def _row(endpoint: dict[str, Any]) -> list[str]:
    where = "local" if endpoint["is_local"] else endpoint["address"]
    return [endpoint["endpoint"], endpoint["model"], where, endpoint["rung"], _state(endpoint)]


def _state(endpoint: dict[str, Any]) -> str:
    return str(endpoint["unavailable"]) or ("ready, but failed last" if endpoint["failed_last"] else "ready")


def _health(endpoint: dict[str, Any]) -> list[str]:
    """One endpoint as the process that answered knows it."""
    first_ms, spent = endpoint["first_token_ms"], endpoint["spent_today_microusd"]
    last = next(iter(endpoint["recent_failures"]), None)
    state = "drained" if endpoint["is_drained"] else endpoint["breaker"].replace("_", " ")
    return [
        endpoint["endpoint"],
        state,
        "-" if first_ms is None else f"{first_ms:.0f} ms",
        f"{endpoint['in_flight']}/{endpoint['connections_max']}",
        str(endpoint["requests"]),
        str(endpoint["failures"]),
        "-" if spent is None else f"{spent / 1_000_000:.4f} USD",
        f"{last['failure']}: {last['reason']} ({last['age_s']:.0f} s ago)" if last is not None else "",
    ]


def _add(arguments: argparse.Namespace) -> int:
    from roadbed.gateway.providers import PROVIDERS
    from roadbed.releases.edit import add_model
    from roadbed.releases.workspace import MANIFEST_NAME, infer_manifest, load_workspace

    provider = PROVIDERS.get(arguments.provider)
    if provider is None:
        hint = nearest(arguments.provider, PROVIDERS) or f"known: {', '.join(PROVIDERS)}"
        raise ConfigError(f"there is no provider named {arguments.provider!r}", hint=hint)
    model = arguments.model or provider.example_model
    if not model:
        raise ConfigError(f"{provider.title} has no usual model", hint="name one with --model")
    folder = folder_of(arguments.workspace).expanduser().resolve()
    before = load_workspace(folder)
    path = folder / MANIFEST_NAME
    old = infer_manifest(folder) if before.is_inferred else path.read_text(encoding="utf-8")
    name = arguments.name or provider.name
    comment = f"Added by `roadbed models add {provider.name}`; the key is read from {provider.key_name}."
    new = add_model(old, name, [f"{provider.name}/{model}"], comment=comment, app=arguments.app)
    load_workspace(folder, new)
    shown = "" if before.is_inferred else old
    diff = "".join(
        difflib.unified_diff(shown.splitlines(True), new.splitlines(True), str(path), str(path), n=2)
    ).rstrip()
    if not arguments.only_print:
        replace_file(path, new)
    is_set = bool(os.environ.get(provider.key_name))
    if arguments.json:
        facts = {"path": str(path), "model": name, "ladder": [f"{provider.name}/{model}"], "diff": diff}
        print_json({**facts, "is_written": not arguments.only_print, "key": provider.key_name, "key_is_set": is_set})
        return EXIT_OK
    print(diff)
    if not is_set:
        print(f"\nset {provider.key_name} where `roadbed up` runs, and start it again: it is not set here")
    return EXIT_OK


def replace_file(path: Path, text: str) -> None:
    """Replace the file as a whole, with the mode that it had."""
    temporary = path.with_name(f".{path.name}.new")
    try:
        temporary.write_text(text, encoding="utf-8", newline="")
        if path.exists():
            temporary.chmod(path.stat().st_mode & 0o777)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from None
