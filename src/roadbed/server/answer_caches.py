"""What the gateway's caches stand on in a server: the table that all processes share, and the built-in embedder.

`server/services.py` opens it after both exist. Nothing here decides what may be given again: that is the gateway's.
"""

from __future__ import annotations

from contextlib import AsyncExitStack

from roadbed.gateway.gateway import Gateway
from roadbed.gateway.semantic import Vector
from roadbed.gateway.shared_answers import SharedAnswers
from roadbed.kernel.clock import SYSTEM_CLOCK
from roadbed.knowledge.embed import EmbeddingWorker
from roadbed.releases.manifest import Manifest
from roadbed.server.teams import Teams
from roadbed.store.database import Database


class QuestionEmbedder:
    """The built-in embedder, as `gateway.semantic.TextEmbedder` wants it."""

    def __init__(self, worker: EmbeddingWorker) -> None:
        self._worker = worker

    @property
    def digest(self) -> str:
        """The model's digest."""
        return self._worker.digest

    async def embed_query(self, text: str) -> Vector:
        """The vector of a question."""
        return await self._worker.embed_query(text)

    def fits(self, text: str) -> bool:
        """Whether the model sees all of the text."""
        embedder = self._worker.embedder
        return embedder.token_count(text) <= embedder.tokens_max


def open_answer_caches(
    stack: AsyncExitStack,
    gateway: Gateway,
    database: Database,
    teams: Teams,
    embedder: EmbeddingWorker,
    *,
    is_owner: bool,
) -> None:
    """Give the gateway's cache its table and its embedder, until the stack is unwound."""
    table = SharedAnswers(database, lambda: teams.guard, SYSTEM_CLOCK.monotonic_s, is_owner=is_owner)
    table.start()
    stack.push_async_callback(table.close)
    gateway.cache.table = table
    gateway.cache.embedder = QuestionEmbedder(embedder)


def configure_answer_caches(gateway: Gateway, manifest: Manifest) -> None:
    """A workspace that keeps no texts keeps no answers for other processes, either."""
    if gateway.cache.table is not None:
        gateway.cache.table.keeps_content = manifest.traces.content != "off"
