"""A parent for the tests that kill one: starts the embedded PostgreSQL of a state folder and waits.

``python server_process.py STATE``; prints PostgreSQL's process id when it runs, or the code of the error.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from roadbed.kernel.errors import RoadbedError
from roadbed.store.embedded import EmbeddedPostgres


async def main(state: str) -> None:
    server = EmbeddedPostgres(Path(state))
    try:
        await server.start()
    except RoadbedError as error:
        sys.stdout.write(f"{error.code}\n")
        return
    sys.stdout.write(f"{server.pid}\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
