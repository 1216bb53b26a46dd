"""After an upgrade: documents that an earlier build's parsers read are read again, a few at a time, in the background.

Which ones is told by what each document says of its parser (``parse/versions.py``); that is also what makes it
resumable, since a document that was dealt with is out of the set. What is served stays until the new reading is in
its place, equal chunks keep their vectors, and fresh documents go first. A raised chunker or analyzer is not its
matter: ``builder`` makes another generation from the stored texts. The facade requests it; the invariant: it holds up
no listing, no reading of a change and no answer.
"""

from __future__ import annotations

import logging
from typing import Any

from roadbed.knowledge.pacing import BATCH_DOCUMENTS, BUSY_PAUSE_S, has_fresh, paced
from roadbed.knowledge.parse.versions import READER, older_names
from roadbed.knowledge.reader import Reader
from roadbed.knowledge.states import OUTDATED

REREAD_JOB = "knowledge.reread"
REREAD_TIMEOUT_S = 3_600.0
LEFT_PAUSE_S = 3_600.0  # before those are tried again whose source was away

logger = logging.getLogger(__name__)


class Reread:
    """Brings documents to this build's parsers. One batch at a time, whatever the number of processes."""

    def __init__(self, database: Any, queue: Any, reader: Reader) -> None:
        self._database = database
        self._queue = queue
        self._reader = reader

    def register_jobs(self) -> None:
        """Let this process read documents again."""
        self._queue.register(REREAD_JOB, self._run, timeout_s=REREAD_TIMEOUT_S)

    async def request(self) -> None:
        """Queue a pass over all documents, unless one is under way."""
        await self._enqueue("", 0, 0.0)

    async def _run(self, job: Any) -> None:
        after, left = job.payload["after"], job.payload["left"]
        if job.payload["reader"] != READER:  # queued by another build: what it passed over may be outdated for this one
            after, left = "", 0
        if await has_fresh(self._database):
            await self._enqueue(after, left, BUSY_PAUSE_S)
            return
        ids = await self._outdated(after)
        if not after and ids:
            logger.info("documents that an earlier build read are read again, in the background")
        outcomes, rest_s = await paced(ids, self._reader.read_again)
        for outcome in outcomes:
            if isinstance(outcome, Exception):  # one must not keep all that come behind it from being read
                logger.error("a document was not read again: %s", type(outcome).__name__)
            elif isinstance(outcome, BaseException):
                raise outcome
        left += sum(outcome is not True for outcome in outcomes)
        if ids:
            await self._enqueue(ids[-1], left, rest_s)
        elif left:
            await self._enqueue("", 0, LEFT_PAUSE_S)
        elif after:
            logger.info("every document was read by this build's parsers")

    async def _outdated(self, after: str) -> list[str]:
        rows = await self._database.fetch(
            f"""
            SELECT d.id FROM document d JOIN source s ON s.name = d.source
            LEFT JOIN document_reader r ON r.document_id = d.id
            WHERE d.id > $3 AND s.is_declared AND {OUTDATED} ORDER BY d.id LIMIT $4
            """,  # noqa: S608 - constants only
            older_names(),
            READER,
            after,
            BATCH_DOCUMENTS,
        )
        return [row["id"] for row in rows]

    async def _enqueue(self, after: str, left: int, delay_s: float) -> None:
        payload = {"after": after, "left": left, "reader": READER}
        await self._queue.enqueue(None, REREAD_JOB, payload, "all", delay_s=delay_s)
