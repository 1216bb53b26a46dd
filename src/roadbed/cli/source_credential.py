"""``roadbed source credential``: what you store here for sources that are asked with each caller's own credential.

The value is read from standard input, never from an argument, which other users of the machine could see; it is never
shown again.
"""

from __future__ import annotations

import argparse
import getpass
import sys
from urllib.parse import urlencode

from roadbed.cli.connection import Server, add_arguments, escape
from roadbed.cli.main import EXIT_FAILED, EXIT_OK
from roadbed.cli.output import print_json, print_table
from roadbed.kernel.errors import ConfigError

VALUE_CHARACTERS_MAX = 8_192
PATH = "/api/tools/credentials"


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments."""
    actions = parser.add_subparsers(dest="order", required=True, metavar="set|list|remove")
    store = actions.add_parser("set", help="store one; it is read from standard input")
    listed = actions.add_parser("list", help="the sources that take one, and which have yours")
    remove = actions.add_parser("remove", help="remove one; calls that need it are refused from then on")
    for action in (store, remove):
        action.add_argument("name", help="the source")
    for action in (store, listed, remove):
        action.add_argument("--for", dest="owner", metavar="PERSON", help="somebody else's, for admins: id or name")
        add_arguments(action)


def run(server: Server, arguments: argparse.Namespace) -> int:
    """Exit 0 when what was asked was done; 1 when there was nothing to remove."""
    query = f"?{urlencode({'for': arguments.owner})}" if arguments.owner else ""
    if arguments.order == "list":
        return _list(server, arguments, query)
    path = f"{PATH}/{escape(arguments.name)}{query}"
    if arguments.order == "remove":
        found = server.call("DELETE", path)
        said = "was removed" if found["removed"] else "was not stored"
    else:
        found = server.call("PUT", path, {"credential": _value(arguments.name)})
        said = "is stored"
    if arguments.json:
        print_json(found)
    else:
        print(f"the credential for {arguments.name} {said}")
    return EXIT_OK if found.get("removed", True) else EXIT_FAILED


def _value(source: str) -> str:
    """What stands on standard input; asked for without showing it where that is a terminal."""
    if sys.stdin.isatty():
        value = getpass.getpass(f"credential for {source}: ")
    else:
        value = sys.stdin.read(VALUE_CHARACTERS_MAX)
    if not value.strip():
        raise ConfigError(
            "there is no credential on standard input", hint=f"roadbed source credential set {source} < FILE"
        )
    return value.strip()


def _list(server: Server, arguments: argparse.Namespace, query: str) -> int:
    found = server.call("GET", f"{PATH}{query}")["credentials"]
    if arguments.json:
        print_json(found)
        return EXIT_OK
    by = {True: "the caller", False: "an admin", None: "-"}
    if not found:
        print("no source takes credentials of its callers (`caller_auth` of a source in the manifest asks for them)")
        return EXIT_OK
    rows = [[one["source"], one["stored"] or "-", by[one["by_owner"]]] for one in found]
    print_table(["source", "stored", "by"], rows)
    return EXIT_OK
