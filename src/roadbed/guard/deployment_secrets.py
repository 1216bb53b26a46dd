"""Random secrets that all processes of a deployment share: the keys that sign sessions and cursors.

They live in the database, because it is what all processes share; whoever can read the whole database could also
write a key into it. Never shown, never logged.
"""

from __future__ import annotations

import secrets
from typing import Final

from roadbed.store.database import Database

SESSION_SIGNING: Final = "session_signing"
TOOL_SIGNING: Final = "tool_signing"
SECRET_BYTES: Final = 32


async def load_deployment_secret(database: Database, name: str) -> bytes:
    """The secret of that name, made by whoever asks first."""
    await database.execute(
        "INSERT INTO deployment_secret (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING",
        *(name, secrets.token_bytes(SECRET_BYTES)),
    )
    return bytes(await database.fetchval("SELECT value FROM deployment_secret WHERE name = $1", name))
