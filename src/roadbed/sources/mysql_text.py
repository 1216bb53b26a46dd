"""Texts for MySQL and MariaDB: where its ``?`` places are, its addresses, its quoted names. Pure.

The scanner knows one way of quoting, that of the ``sql_mode`` which `mysql.MODE_SQL` sets at every connection: strings
in ' and " with backslash escapes, names in backquotes. The invariant: a place inside a string, a name or a comment is
no place, and a comment that the server would execute (``/*!``, ``/*M!``) is refused wherever it stands.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from urllib.parse import parse_qs, unquote, urlsplit

from roadbed.kernel.errors import ConfigError
from roadbed.sources.errors import QueryRefused

PORT = 3306
SQL_BYTES_MAX = 1024 * 1024

_PARTS = re.compile(
    r"""
    (?P<string>'(?:[^'\\]|\\.|'')*+' | "(?:[^"\\]|\\.|"")*+")
  | (?P<name>`(?:[^`]|``)*+`)
  | (?P<comment>/\*.*?\*/ | --(?=[\s\x00-\x1f]|\Z)[^\n]*+ | \#[^\n]*+)
  | (?P<place>\?)
  | (?P<open>'|"|`|/\*)
    """,
    re.VERBOSE | re.DOTALL,
)
_EXECUTED = re.compile(r"/\*M?!")


def placed(sql: str, literals: Sequence[str]) -> str:
    """``sql`` with the literals at its ``?`` places. `QueryRefused` when their number differs or a quote is open."""
    if len(sql) > SQL_BYTES_MAX or "\x00" in sql:
        raise QueryRefused("the statement is too long or holds a NUL", hint="shorten it")
    pieces: list[str] = []
    end, used = 0, 0
    for start, stop in _places(sql):
        if used < len(literals):
            pieces += [sql[end:start], literals[used]]
        used += 1
        end = stop
    if used != len(literals):
        raise QueryRefused(
            f"the statement has {used} places and {len(literals)} arguments", hint="one argument for each `?`"
        )
    return "".join([*pieces, sql[end:]])


def _places(sql: str) -> Iterator[tuple[int, int]]:
    for match in _PARTS.finditer(sql):
        if match["comment"] is not None and _EXECUTED.match(match["comment"]):
            raise QueryRefused("a comment that the server would execute is not allowed", hint="leave comments out")
        if match["open"] is not None:
            raise QueryRefused("a string, a name or a comment in the statement is not closed", hint="close it")
        if match["place"] is not None:
            yield match.span()


def quoted_name(name: str) -> str:
    """A table or column name in backquotes; ``schema.table`` keeps its dot."""
    return ".".join("`" + part.replace("`", "``") + "`" for part in name.split("."))


@dataclass(frozen=True, slots=True)
class MysqlAddress:
    """Where a server is and as whom to speak to it. ``socket`` is a path, used instead of host and port."""

    host: str
    port: int
    user: str
    password: str = field(repr=False)
    database: str
    socket: str = ""
    is_tls: bool = True
    ca: str = ""


def parse_address(dsn: str, where: str) -> MysqlAddress:
    """``mysql://user:password@host:port/database?tls=on|off&ca=PATH&socket=PATH``; `ConfigError` shows none of it.

    Without ``tls`` it is on, except for a socket or an address of this machine.
    """
    try:
        parts = urlsplit(dsn)
        port = parts.port or PORT
        query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
    except ValueError:
        raise ConfigError(f"{where} is no address of a MySQL server", hint=_SHAPE) from None
    host, database = parts.hostname or "", unquote(parts.path.lstrip("/"))
    socket = query.pop("socket", "")
    ca = query.pop("ca", "")
    tls = query.pop("tls", "off" if socket or _is_here(host) else "on")
    is_whole = parts.scheme in ("mysql", "mariadb") and (host or socket) and database and parts.username
    if not is_whole or query or tls not in ("on", "off"):
        raise ConfigError(f"{where} is no address of a MySQL server", hint=_SHAPE)
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    return MysqlAddress(host, port, user, password, database, socket, tls == "on", ca)


_SHAPE = "mysql://USER:PASSWORD@HOST:3306/DATABASE, and after a ?: tls=on|off, ca=PATH, socket=PATH"


def _is_here(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
