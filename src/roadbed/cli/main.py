"""The command line: a table of commands, each in a file of its own that is imported only when it is called.

A command file has ``SUMMARY`` (one line), ``EXAMPLE``, ``configure(parser)`` and ``run(arguments) -> int``. Commands
parse, call and print; they hold no logic. Errors become one line on standard error with what to do, and one of these
exit codes:

    0 done · 1 it failed · 2 wrong usage · 3 the workspace or a setting is not valid · 4 no server runs · 5 not allowed
    6 the answer is `not in these documents` (ask) or nothing was found (search) · 7 not all carried over (import)
    130 stopped by Ctrl-C
"""

from __future__ import annotations

import argparse
import errno
import importlib
import sys
from collections.abc import Sequence

from roadbed import __version__
from roadbed.cli.screen import guard_terminals
from roadbed.kernel.errors import ConfigError, Forbidden, RoadbedError, Unauthorized

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_CONFIG = 3
EXIT_NO_SERVER = 4
EXIT_NOT_ALLOWED = 5
EXIT_NOTHING_FOUND = 6
EXIT_PARTLY = 7
EXIT_INTERRUPTED = 130

# command -> what it does. The file is roadbed/cli/<command>.py, but for those in FILES.
COMMANDS = {
    "up": "run everything: database, ingest, API, console",
    "init": "write a commented roadbed.yaml for a folder",
    "import": "make a manifest of another gateway's configuration",
    "check": "validate a workspace, with line numbers",
    "ask": "ask an app a question",
    "analytics": "ask databases in words, or run declared questions",
    "search": "search the documents",
    "ingest": "read changed documents now, with progress",
    "models": "list models, or add a provider to the manifest",
    "tools": "list the tools on your sources, call or test one",
    "source": "add a database to the manifest, with its grants",
    "routes": "say which endpoint a route would ask, and why",
    "keys": "create, list and revoke API keys",
    "access": "say who may do what, and why; break the glass",
    "approvals": "list and decide what waits for a second person",
    "policy": "test the workspace's access policies",
    "releases": "list releases and their history",
    "promote": "make a release live",
    "rollback": "go back to the release before",
    "traces": "list requests and show how one was answered",
    "usage": "show what was used and what it cost",
    "audit": "verify, export and query the tamper-evident record",
    "erase": "remove what is stored of a person, with a signed receipt",
    "ready": "say what stands between an app and production",
    "controls": "run the checks that run all the time, show their evidence",
    "cards": "write cards of models, apps and data from what runs",
    "mcp": "bring desktop clients and editors to this server's tools",
    "data": "make trial data like a source's, without a real value",
    "guard": "find personal data and secrets in a text",
    "doctor": "check this machine and say how to fix what is wrong",
    "config": "explain a setting, print the manifest's JSON Schema",
    "docs": "generate the reference pages",
    "explain-route": "the same as `routes explain`",
}
HIDDEN = {"docs", "explain-route"}
# What people set out to do -> the commands for it, in the order of work. `roadbed --help` is printed by it.
GROUPS = {
    "start": ("up", "init", "check", "ingest", "doctor", "import"),
    "ask": ("ask", "search", "analytics"),
    "build": ("models", "routes", "tools", "source", "data", "mcp", "config"),
    "ship": ("releases", "promote", "rollback", "ready"),
    "watch": ("traces", "usage", "controls", "audit", "cards"),
    "protect": ("keys", "access", "approvals", "policy", "guard", "erase"),
}
FILES = {"import": "import_config", "explain-route": "explain_route"}


def build_parser() -> argparse.ArgumentParser:
    """The top parser: names and one line each, so that ``--help`` imports no command."""
    width = max(len(name) for name in COMMANDS if name not in HIDDEN)
    groups = [
        "\n".join([f"{title}:", *(f"  {name:<{width}}  {COMMANDS[name]}" for name in names)])
        for title, names in GROUPS.items()
    ]
    parser = argparse.ArgumentParser(
        prog="roadbed",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="The paved road for production AI: one manifest, one server, one database, one command line.",
        usage="roadbed COMMAND [OPTIONS]",
        epilog="\n\n".join(groups)
        + "\n\nexample:\n  roadbed up ~/documents          then open the address that it prints"
        + '\n  roadbed ask "How is a comparable sale chosen?"\n\n`roadbed COMMAND --help` explains one command.',
    )
    parser.add_argument("--version", action="version", version=f"roadbed {__version__}")
    parser.add_argument("command", nargs="?", metavar="COMMAND", help=argparse.SUPPRESS)
    parser.add_argument("rest", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    return parser


def command_parser(name: str) -> argparse.ArgumentParser:
    """The parser of one command, with its example; its actions have theirs."""
    from roadbed.cli.parsing import CommandParser, explain_actions

    module = importlib.import_module(f"roadbed.cli.{FILES.get(name, name)}")
    parser = CommandParser(
        prog=f"roadbed {name}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description=module.SUMMARY,
        epilog=f"example:\n{module.EXAMPLE.rstrip()}",
    )
    module.configure(parser)
    explain_actions(parser, module.EXAMPLE)
    parser.set_defaults(run=module.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    parser = build_parser()
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help", "help"):
        parser.print_help()
        return EXIT_OK
    if words[0] == "--version":
        print(f"roadbed {__version__}")
        return EXIT_OK
    guard_terminals()
    name = words[0]
    if name.startswith("-"):
        print(f"roadbed: {name} comes after a command, as in `roadbed COMMAND {name}`", file=sys.stderr)
        return EXIT_USAGE
    if name not in COMMANDS:
        import difflib

        near = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"did you mean `roadbed {near[0]}`?" if near else "`roadbed --help` lists the commands"
        print(f"roadbed: there is no command {name!r}; {hint}", file=sys.stderr)
        return EXIT_USAGE
    try:
        arguments = command_parser(name).parse_args(words[1:])
        return int(arguments.run(arguments))
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()
        return EXIT_OK
    except RoadbedError as error:
        report(error)
        return exit_code(error)
    except OSError as error:
        if error.filename is None and error.errno != errno.ENOSPC:
            raise
        print(f"roadbed: {error.filename or 'the output'}: {error.strerror}", file=sys.stderr)
        return EXIT_FAILED


def report(error: RoadbedError) -> None:
    """Print an error as one line on standard error; a `ConfigError` prints its companions too."""
    print(f"roadbed: {error}" if isinstance(error, ConfigError) else f"roadbed: {one_line(error)}", file=sys.stderr)
    for other in getattr(error, "others", ()):
        print(f"roadbed: {other}", file=sys.stderr)


def one_line(error: RoadbedError) -> str:
    """``message (hint)``."""
    return f"{error.message} ({error.hint})" if error.hint else error.message


def exit_code(error: RoadbedError) -> int:
    """The documented exit code of an error."""
    declared = getattr(error, "exit_code", None)
    if isinstance(declared, int):
        return declared
    if isinstance(error, ConfigError):
        return EXIT_CONFIG
    if isinstance(error, Unauthorized | Forbidden):
        return EXIT_NOT_ALLOWED
    return EXIT_FAILED


if __name__ == "__main__":
    sys.exit(main())
