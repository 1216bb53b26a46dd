"""Writing in groups: what is ready while a transaction runs is written together in the next one.

`Ingest` gives it documents and the function that writes several in one transaction. The invariant: whoever waits learns
the outcome of their own document, and one that cannot be written takes none of the others with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Generic, Literal, Protocol, TypeVar

from roadbed.kernel.errors import Unavailable

GROUP_DOCUMENTS_MAX = 64
GROUP_CHUNKS_MAX = 512

Outcome = Literal["stored", "superseded", "incomplete"]


class Writable(Protocol):
    """What is needed of a prepared document."""

    @property
    def document_id(self) -> str:
        """Which one it is."""

    @property
    def chunk_count(self) -> int:
        """How many chunks will be written."""


Item = TypeVar("Item", bound=Writable)


class GroupWriter(Generic[Item]):
    """Collects what is ready while a transaction runs, and writes it together in the next one.

    When a group fails, each of its documents is tried alone, so that one cannot take the others with it.
    """

    def __init__(self, write_batch: Callable[[Sequence[Item]], Coroutine[Any, Any, list[Outcome]]]) -> None:
        self._write_batch = write_batch
        self._waiting: list[tuple[Item, asyncio.Future[Outcome]]] = []
        self._task: asyncio.Task[None] | None = None

    async def write(self, prepared: Item) -> Outcome:
        """Write one document; returns when its transaction has ended."""
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiting.append((prepared, future))
        if self._task is None:
            self._task = asyncio.create_task(self._drain(), name="knowledge-writer")
        return await future

    async def aclose(self) -> None:
        """Wait until nothing waits."""
        while self._task is not None:
            await asyncio.wait({self._task})

    async def _drain(self) -> None:
        try:
            while self._waiting:
                group = self._take()
                if not await self._attempt(group) and len(group) > 1:
                    for item in group:
                        await self._attempt([item])
        finally:
            self._task = None

    def _take(self) -> list[tuple[Item, asyncio.Future[Outcome]]]:
        """The next documents that fit in one transaction, each document once."""
        chunks, taken = 0, 0
        seen: set[str] = set()
        for prepared, _ in self._waiting:
            chunks += prepared.chunk_count
            if taken and (chunks > GROUP_CHUNKS_MAX or taken >= GROUP_DOCUMENTS_MAX or prepared.document_id in seen):
                break
            seen.add(prepared.document_id)
            taken += 1
        group, self._waiting = self._waiting[:taken], self._waiting[taken:]
        return group

    async def _attempt(self, group: Sequence[tuple[Item, asyncio.Future[Outcome]]]) -> bool:
        batch = [prepared for prepared, _ in group]
        result = (await asyncio.gather(self._write_batch(batch), return_exceptions=True))[0]
        if isinstance(result, BaseException) and len(group) > 1 and not isinstance(result, Unavailable):
            return False
        for i, (_, future) in enumerate(group):
            if future.done():
                continue  # its caller was cancelled
            if isinstance(result, BaseException):
                future.set_exception(result)
            else:
                future.set_result(result[i])
        return True
