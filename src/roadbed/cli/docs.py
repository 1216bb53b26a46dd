"""``roadbed docs generate``: the reference pages, made from the types, errors, parsers and routes that the code has.

Hidden: it serves the repository's own `make docs`. ``tests/docs`` fails when a page in ``docs/reference`` is not what
this makes. The invariant: the pages depend on the code alone, never on the machine, the clock or the Python version.
"""

from __future__ import annotations

import argparse
import importlib
import pkgutil
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import msgspec

import roadbed
from roadbed.cli import main as commands
from roadbed.cli.main import EXIT_FAILED, EXIT_OK
from roadbed.kernel.errors import RoadbedError

SUMMARY = "Generate the reference pages from the code."
EXAMPLE = "  roadbed docs generate docs/reference\n  roadbed docs generate docs/reference --check"
CONTROL_MAP = "../security/control-map.md"
NOTICE = "<!-- Made by `make docs` from the code. Edit the code, not this page. -->\n"


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments."""
    parser.add_argument("action", choices=["generate"], help="make the pages")
    parser.add_argument("folder", type=Path, help="where the pages stand")
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a page is not up to date")


def run(arguments: argparse.Namespace) -> int:
    """Exit 0 when the pages were written, or are up to date; 1 when --check finds one that is not."""
    stale = []
    for name, text in {**pages(), **beside()}.items():
        path = arguments.folder / name
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(name)
        if not arguments.check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8", newline="\n")
    verb = "out of date" if arguments.check else "written"
    print(f"{verb}: {', '.join(stale)}" if stale else "every page is up to date")
    return EXIT_FAILED if stale and arguments.check else EXIT_OK


def beside() -> dict[str, str]:
    """Generated pages that stand in other folders of ``docs``, relative to the reference."""
    from roadbed.controls.control_map_page import control_map_page
    from roadbed.controls.frameworks import control_map

    return {CONTROL_MAP: control_map_page(control_map())}


def pages() -> dict[str, str]:
    """Every generated page by its file name."""
    from roadbed.releases.reference import manifest_schema

    schema = msgspec.json.format(msgspec.json.encode(manifest_schema(), order="deterministic"), indent=2)
    return {
        "manifest.md": manifest_page(),
        "manifest.schema.json": schema.decode() + "\n",
        "errors.md": errors_page(),
        "cli.md": cli_page(),
        "http-api.md": http_page(),
    }


def manifest_page() -> str:
    """Every key of ``roadbed.yaml``."""
    from roadbed.releases.reference import manifest_sections

    lines = [
        NOTICE,
        "# Manifest reference: every key of roadbed.yaml\n",
        "The manifest is one YAML file, `roadbed.yaml`, in the workspace folder. An unknown key is refused with the",
        "nearest known one; `roadbed check` shows every error with its line. A folder without the file works too:",
        "`roadbed init --print FOLDER` prints what then applies. Editors can use",
        "[manifest.schema.json](manifest.schema.json). `NAME` is a name of your own: a letter, then letters, digits,",
        "`_` or `-`. A duration is written `800ms`, `20s`, `5m`, `2h` or `7d`.\n",
    ]
    for section in manifest_sections():
        lines += [f"## {section.title}\n", section.summary.replace("``", "`") + "\n"]
        lines += ["| key | type | default | what it is |", "|---|---|---|---|"]
        for setting in section.settings:
            default = "**required**" if setting.is_required else f"`{setting.default}`"
            if setting.default in ("left out", "its own defaults"):
                default = setting.default
            bounds = f" ({setting.bounds})" if setting.bounds else ""
            lines.append(
                f"| `{setting.name}` | {cell(setting.type)}{bounds} | {cell(default)} | {setting.description} |"
            )
        lines.append("")
    return "\n".join(lines)


def all_modules() -> list[str]:
    """Import every module of the product but the shipped fakes, so that all classes are known; returns the names."""
    names = []
    for found in pkgutil.walk_packages(roadbed.__path__, "roadbed."):
        if not found.name.endswith("__main__") and not found.name.startswith("roadbed.testing"):
            importlib.import_module(found.name)
            names.append(found.name)
    return names


def error_classes() -> list[type[RoadbedError]]:
    """Every error of the product that has a code of its own, by code."""
    modules = set(all_modules())
    found: list[type[RoadbedError]] = []
    stack: list[type[RoadbedError]] = [RoadbedError]
    while stack:
        error = stack.pop()
        stack += error.__subclasses__()
        if "code" in error.__dict__ and error.__module__ in modules:
            found.append(error)
    return sorted(set(found), key=lambda error: (error.code, error.__qualname__))


def errors_page() -> str:
    """Every error code."""
    lines = [
        NOTICE,
        "# Errors: every code, what it means and what to do\n",
        "An error of `/api` is RFC 9457 problem details with `code`, `detail`, `retryable` and, where",
        "there is one, `hint`. On `/v1` it has OpenAI's error object, with the same `code`. The command line prints",
        "`message (hint)` on one line. The `type` of a problem points to `/docs/errors`, where the server itself shows",
        "this list. A code stays the same from release to release; messages do not.\n",
        "`again` says whether the same request may succeed later without a change.\n",
    ]
    for room, errors in groupby(error_classes(), key=lambda error: error.code.partition(".")[0]):
        lines.append(f"## {room}\n")
        for error in errors:
            lines.append(f"### {error.code}\n")
            lines.append(error.meaning() + "\n")
            again = "yes" if error.retryable else "no"
            lines.append(f"HTTP {error.http_status} · again: {again}\n")
            if error.hint:
                lines.append(f"What to do: {error.hint}\n")
    return "\n".join(lines)


def cli_page() -> str:
    """Every command with its options, examples and the exit codes."""
    lines = [
        NOTICE,
        "# Command line reference\n",
        "`roadbed --help` lists the commands and `roadbed COMMAND --help` explains one. In a clone the program is",
        "`.venv/bin/roadbed`. Commands with `--url` talk to a running server: they find its address and key in the",
        "state folder of `--workspace`, or take `--url` and the key in `ROADBED_API_KEY`.\n",
        "## Exit codes\n",
        "| code | meaning |",
        "|---|---|",
        *(f"| {code} | {meaning} |" for code, meaning in EXIT_CODES.items()),
        "",
    ]
    for name in commands.COMMANDS:
        if name in commands.HIDDEN:
            continue
        module = importlib.import_module(f"roadbed.cli.{commands.FILES.get(name, name)}")
        lines += [f"## roadbed {name}\n", f"{module.SUMMARY}\n"]
        lines += _options(commands.command_parser(name))
        lines += ["Example:\n", "```sh", *map(_example, module.EXAMPLE.rstrip().split("\n")), "```\n"]
    return "\n".join(lines)


def _example(line: str) -> str:
    """A line of a command's example; what stands beside the command becomes a comment."""
    command, gap, note = line.strip().partition("   ")
    return f"{command}  # {note.strip()}" if gap else command


EXIT_CODES = {
    commands.EXIT_OK: "done",
    commands.EXIT_FAILED: "it failed; one line on standard error says why and what to do",
    commands.EXIT_USAGE: "wrong usage",
    commands.EXIT_CONFIG: "the workspace or a setting is not valid",
    commands.EXIT_NO_SERVER: "no server runs",
    commands.EXIT_NOT_ALLOWED: "the key may not do this",
    commands.EXIT_NOTHING_FOUND: "`ask`: the answer is not in the documents; `search`: nothing was found",
    commands.EXIT_PARTLY: "`import`: not all was carried over; it lists what was not",
    commands.EXIT_INTERRUPTED: "stopped by Ctrl-C",
}


def _options(parser: argparse.ArgumentParser, before: str = "") -> list[str]:
    rows = []
    nested: list[str] = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            helps = {choice.dest: choice.help or "" for choice in action._choices_actions}
            for name, sub in action.choices.items():
                nested += [f"`{name}`: {helps.get(name, '')}\n", *_options(sub, f"{name} ")]
        elif action.dest != "help":
            rows.append(f"| `{_usage(action)}` | {cell(_meaning(action))} |")
    return (["| argument | meaning |", "|---|---|", *rows, ""] if rows else []) + nested


def _usage(action: argparse.Action) -> str:
    if not action.option_strings:
        name = str(action.metavar or action.dest).upper()
        return f"[{name}]" if action.nargs in ("?", "*") else name
    value = "" if action.nargs == 0 else f" {str(action.metavar or action.dest).upper()}"
    return ", ".join(action.option_strings) + value


def _meaning(action: argparse.Action) -> str:
    text = action.help or ""
    if action.choices:
        text = f"{text} ({', '.join(map(str, action.choices))})".strip()
    return text


def http_page() -> str:
    """Every address."""
    from roadbed.server.openapi import OPERATIONS

    lines = [
        NOTICE,
        "# HTTP API reference\n",
        "One port (8400 unless `--port` says otherwise). `/v1` speaks OpenAI's dialect; `/api` is Roadbed's own. The",
        "typed form of this page is served at `GET /openapi.json`. Send the key as `Authorization: Bearer rbk_...` or",
        "as `x-api-key`. `x-roadbed-deadline-ms` bounds the time of one request. Errors are listed in",
        "[errors.md](errors.md).\n",
        "Roles: `member` calls apps, searches and reads documents that it may see; `auditor` also reads traces,",
        "releases and models; `admin` may do everything. `anyone` needs no key.\n",
        "Answers of apps and routes carry the headers `x-roadbed-rung`, `x-roadbed-release` and `x-roadbed-trace`.\n",
    ]
    tags = dict.fromkeys(operation.tag for operation in OPERATIONS)
    for tag in tags:
        lines.append(f"## {tag}\n")
        for operation in (operation for operation in OPERATIONS if operation.tag == tag):
            lines += [f"### {operation.method} {operation.path}\n", f"{operation.summary} Role: {operation.role}.\n"]
            rows = [(q.name, "query, required" if q.is_required else "query", q.description) for q in operation.query]
            rows += list(_body_rows(operation.request))
            if rows:
                lines += ["| field | where and type | meaning |", "|---|---|---|"]
                lines += [f"| `{name}` | {cell(kind)} | {cell(text)} |" for name, kind, text in rows] + [""]
            lines.append(f"Answers {operation.status}: {operation.answer}.\n")
    return "\n".join(lines)


def _body_rows(request: object) -> Iterator[tuple[str, str, str]]:
    if isinstance(request, dict):
        required = request["required"]
        for name, schema in request["properties"].items():
            kind = f"body, {schema.get('type', 'any')}" + (", required" if name in required else "")
            yield name, kind, schema.get("description", "")
    elif isinstance(request, type):
        from roadbed.releases.reference import bounds_text, type_text

        info = msgspec.inspect.type_info(request)
        assert isinstance(info, msgspec.inspect.StructType)
        for field in info.fields:
            kind = f"body, {type_text(field.type)}" + (", required" if field.required else "")
            yield field.encode_name, kind, bounds_text(field.type)


def cell(text: str) -> str:
    """Text that can stand in a table cell."""
    return " ".join(text.split()).replace("|", "\\|")
