"""`EmbeddedGuest`: the databases of an embedded server for processes that serve beside the one which runs it.

It reads what the owner wrote into the state folder and makes nothing. The invariant: a database is known to a guest
once its owner has made it, and not before.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import asyncpg
import msgspec

from roadbed.store import embedded_roles as roles
from roadbed.store.embedded import EmbeddedDatabase
from roadbed.store.errors import StoreUnavailable

CONNECT_S = 5.0


class EmbeddedGuest:
    """A way into the databases of the embedded server of ``state``, whose application has the address ``dsn``."""

    def __init__(self, state: Path, dsn: str) -> None:
        self._passwords = state.absolute() / "postgres" / "passwords.json"
        self._query = dsn.partition("?")[2]

    async def create_database(self, name: str) -> EmbeddedDatabase:
        """The database of this name, which its owner has made. `StoreUnavailable`."""
        try:
            known = msgspec.json.decode(self._passwords.read_bytes(), type=roles.Passwords).databases[name]
        except (OSError, msgspec.MsgspecError, KeyError):
            raise StoreUnavailable(f"the embedded database {name} was not made yet", hint="ask again") from None
        owner = self._dsn(roles.owner_role(name), known.owner, name)
        found = EmbeddedDatabase(name, owner, self._dsn(roles.reader_role(name), known.reader, name))
        try:
            connection = await asyncpg.connect(found.reader_dsn, timeout=CONNECT_S)
            await connection.close(timeout=CONNECT_S)
        except (OSError, TimeoutError, asyncpg.PostgresError) as error:
            raise StoreUnavailable(f"the embedded database {name} does not answer ({type(error).__name__})") from None
        return found

    def _dsn(self, role: str, password: str, name: str) -> str:
        return f"postgresql://{quote(role)}:{quote(password)}@/{quote(name)}?{self._query}"
