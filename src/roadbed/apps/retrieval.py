"""What apps need of ``knowledge/``, and the one way in which they search.

Under a share of the deadline, recorded in the trace, and with the label of all that was found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from roadbed.apps.types import Turn
from roadbed.kernel.deadline import Deadline
from roadbed.kernel.errors import DeadlineExceeded, Unavailable
from roadbed.kernel.label import PUBLIC, Label, join_labels
from roadbed.kernel.principal import Principal
from roadbed.knowledge.search import SearchResult

SEARCH_SHARE = 0.4
SEARCH_S_MAX = 5.0


class KnowledgeUnavailable(Unavailable):
    """The documents cannot be searched just now, and an answer without them would be made up."""

    code = "apps.knowledge_unavailable"
    hint = "try again in a moment; /readyz says which part is away"


class Searcher(Protocol):
    """What apps need of `knowledge.service.Knowledge`."""

    async def search(
        self, collections: Sequence[str], query: str, principal: Principal, *, k: int, deadline: Deadline
    ) -> SearchResult:
        """The best ``k`` chunks that the principal may see."""
        ...

    async def embed(self, texts: Sequence[str]) -> Any:
        """Unit vectors of texts, one row each."""
        ...


@dataclass(frozen=True, slots=True)
class Retrieved:
    """What a search found, and the label of all of it together."""

    result: SearchResult
    label: Label
    missing: tuple[str, ...]


async def retrieve(searcher: Searcher, turn: Turn, collections: Sequence[str], query: str, k: int) -> Retrieved:
    """Search for a turn. Raises `KnowledgeUnavailable` when not even one leg answered."""
    deadline = turn.deadline.share(SEARCH_SHARE, at_most_s=SEARCH_S_MAX)
    with turn.trace.span("search", "search", collections=", ".join(collections), k=k) as span:
        try:
            result = await searcher.search(collections, query, turn.principal, k=k, deadline=deadline)
        except DeadlineExceeded:
            if turn.deadline.has_passed():
                raise
            raise KnowledgeUnavailable("the search did not answer within its share of the deadline") from None
        except Unavailable as error:
            raise KnowledgeUnavailable(f"the documents cannot be searched: {error.message}") from None
        best = result.hits[0].score if result.hits else 0.0
        searched = result.generations
        watermark = ", ".join(f"{name}:{searched.get(name)}@{at}" for name, at in sorted(result.watermark.items()))
        span.set(hits=len(result.hits), best=round(best, 4), missing=", ".join(result.missing), watermark=watermark)
    label = join_labels(hit.label for hit in result.hits) if result.hits else PUBLIC
    turn.trace.label = turn.trace.label.join(label)
    return Retrieved(result, label, result.missing)
