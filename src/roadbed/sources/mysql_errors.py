"""The errors of MySQL and MariaDB as this room's. Their own text is passed on where it cannot quote a value."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager

from roadbed.sources.errors import CredentialsRefused, QueryRefused, SourceBusy, SourceTimeout, SourceUnavailable

# Access denied (with and without password, to the database, by a plugin), no such database, the account is locked.
_CREDENTIALS = {1044, 1045, 1049, 1251, 1524, 1698, 3118, 4151}
# Time limits of MariaDB and MySQL, interrupted, lock waits.
_TIMEOUTS = {1969, 3024, 1317, 1205, 1907, 3572}
_BUSY = {1040, 1203, 1226}
# Shutdown, killed, packets out of order, gone away, lost.
_LOST = {1053, 1077, 1079, 1158, 1159, 1160, 1161, 1184, 1927, 2002, 2003, 2006, 2012, 2013, 2014, 2055}
# Syntax, unknown tables, columns and functions, missing rights, read-only: these quote the statement at most.
_PLAIN = {
    1046, 1051, 1052, 1054, 1055, 1056, 1064, 1066, 1109, 1140, 1142, 1143, 1146, 1149, 1222, 1227, 1235, 1241, 1242,
    1248, 1250, 1290, 1305, 1370, 1583, 1630, 1792, 3065, 4078,
}  # fmt: skip


@contextmanager
def translated(name: str, *, is_connecting: bool = False) -> Iterator[None]:
    """asyncmy's errors as this room's, for the source ``name``."""
    from asyncmy import errors

    try:
        yield
    except TimeoutError:
        if is_connecting:
            raise
        raise SourceTimeout(f"the deadline passed while {name} was asked") from None
    except ssl.SSLError as error:
        raise SourceUnavailable(
            f"no TLS with the source {name} ({type(error).__name__})",
            hint="name its authority with ca=PATH in the dsn, or say tls=off in a network that you trust",
        ) from None
    except OSError as error:
        raise SourceUnavailable(f"the source {name} cannot be reached ({type(error).__name__})") from None
    except errors.MySQLError as error:
        raise _as_ours(name, error, is_connecting) from None


def _as_ours(name: str, error: Exception, is_connecting: bool) -> Exception:
    number = error.args[0] if error.args and isinstance(error.args[0], int) else 0
    if isinstance(error.__cause__, ssl.SSLError):
        return SourceUnavailable(
            f"no TLS with the source {name}",
            hint="name its authority with ca=PATH in the dsn, or say tls=off in a network that you trust",
        )
    if is_connecting and number in _CREDENTIALS:
        return CredentialsRefused(f"the source {name} refuses the credentials (error {number})")
    if number in _TIMEOUTS:
        return SourceTimeout(f"{name} did not end a statement in time")
    if number in _BUSY:
        return SourceBusy(f"{name} accepts no more connections (error {number})")
    if is_connecting or number in _LOST or number == 0:
        return SourceUnavailable(f"the source {name} cannot be reached (error {number})")
    text = str(error.args[1]) if number in _PLAIN and len(error.args) > 1 else type(error).__name__
    return QueryRefused(f"{name} refused the statement: {text} (error {number})")
