"""What the apps' tests share: hits made by hand, a searcher that gives them, and a turn."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import pytest

from roadbed.apps.types import Turn
from roadbed.gateway.types import ChatRequest, Message
from roadbed.kernel.deadline import Deadline
from roadbed.kernel.errors import RoadbedError
from roadbed.kernel.label import PUBLIC
from roadbed.kernel.principal import Principal
from roadbed.kernel.release import Release
from roadbed.knowledge.search import Hit, SearchResult
from roadbed.ledger.trace import Trace
from roadbed.testing.embedder import ScriptedEmbedder
from roadbed.testing.scripted_model import ScriptedModel
from roadbed.wire.client import UpstreamClient

CALLER = Principal(id="key-1", team="support")

MakeHit = Callable[..., Hit]


@pytest.fixture
def make_hit() -> MakeHit:
    """Makes hits with running numbers; each later one has a lower score."""
    made: list[Hit] = []

    def make(text: str, **values: Any) -> Hit:
        number = len(made)
        fields: dict[str, Any] = {
            "chunk_id": f"chunk{number}",
            "document_id": f"document{number}",
            "version": "v1",
            "title": f"Title {number}",
            "uri": f"docs/{number}.md",
            "source": "files",
            "collection": "handbook",
            "start": 100,
            "end": 100 + len(text),
            "page": None,
            "location": "",
            "heading_path": (),
            "score": 0.9 - 0.05 * number,
            "vector_score": 0.6 - 0.05 * number,
            "lexical_score": 8.0 - number,
            "label": PUBLIC,
        }
        hit = Hit(text=text, **(fields | values))
        made.append(hit)
        return hit

    return make


class FakeSearcher:
    """Gives fixed hits, embeds by words, and remembers what it was asked."""

    def __init__(self, hits: Sequence[Hit] = (), *, missing: tuple[str, ...] = ()) -> None:
        self.hits = tuple(hits)
        self.missing = missing
        self.queries: list[str] = []
        self.embedder = ScriptedEmbedder()
        self.failure: RoadbedError | None = None
        self.embed_failure: RoadbedError | None = None
        self.before_embed: Callable[[], Awaitable[object]] | None = None

    async def search(
        self, collections: Sequence[str], query: str, principal: Principal, *, k: int, deadline: Deadline
    ) -> SearchResult:
        """The fixed hits."""
        self.queries.append(query)
        if self.failure is not None:
            raise self.failure
        return SearchResult(self.hits[:k], self.missing)

    async def embed(self, texts: Sequence[str]) -> Any:
        """Vectors of words."""
        if self.before_embed is not None:
            await self.before_embed()
        if self.embed_failure is not None:
            raise self.embed_failure
        return self.embedder.embed(texts)


@pytest.fixture
def searcher() -> FakeSearcher:
    """A searcher that finds nothing yet."""
    return FakeSearcher()


@pytest.fixture
async def client() -> AsyncIterator[UpstreamClient]:
    """The real upstream client."""
    made = UpstreamClient()
    yield made
    await made.close()


@pytest.fixture
async def model() -> AsyncIterator[ScriptedModel]:
    """A model server on loopback; without rules it quotes the passages of the prompt."""
    async with ScriptedModel() as made:
        yield made


@pytest.fixture
def make_turn() -> Callable[..., Turn]:
    """Makes a turn of user messages, oldest first."""

    def make(*questions: str, seconds: float = 20.0) -> Turn:
        messages = tuple(Message("user", question) for question in questions)
        release = Release("assistant", "d" * 64, b"{}", {})
        return Turn(
            "assistant", release, ChatRequest(messages), CALLER, Deadline.after(seconds), Trace("assistant", CALLER)
        )

    return make
