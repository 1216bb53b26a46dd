"""The tasks whose answers come whole, as the gateway does them: which codec asks for them, and how the guard sees their
texts.

An embedder elsewhere gets placeholders, so that no stored vector holds personal data; a reranker elsewhere gets the
request's tokens, one per value, so that a query still meets its documents. The invariant: no text of a caller reaches
a codec unguarded, and tokens that nobody can read carry the label ``unscanned``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

import msgspec

from roadbed.gateway.dialects.embeddings import EMBEDDERS, Embeddings, EmbeddingsRequest
from roadbed.gateway.dialects.rerank import RERANKERS, Ranking, RerankRequest
from roadbed.gateway.dialects.whole import Measured, WholeCodec
from roadbed.gateway.manifest import Task
from roadbed.guard.gate import Guard
from roadbed.guard.vault import Vault
from roadbed.kernel.guarded import Guarded
from roadbed.kernel.label import UNSCANNED, Label

Asked = TypeVar("Asked")
Given = TypeVar("Given", bound=Measured)


class GuardedText(msgspec.Struct):
    """Guards text after text of one request, and counts what was masked."""

    guard: Guard
    label: Label
    is_local: bool
    vault: Vault
    masked_count: int = 0
    team: str = ""

    def for_embedder(self, text: str) -> str:
        """A text to be turned into a vector."""
        return self._counted(self.guard.for_embedder(text, self.label, is_local=self.is_local))

    def for_model(self, text: str) -> str:
        """A text that a model reads."""
        return self._counted(
            self.guard.for_model(text, self.label, is_local=self.is_local, vault=self.vault, team=self.team)
        )

    def _counted(self, guarded: Guarded) -> str:
        self.masked_count += guarded.masked_count
        return guarded.text


@dataclass(frozen=True, slots=True)
class WholeTask(Generic[Asked, Given]):
    """One task: its codecs by the endpoint's type, and what the guard does with a request."""

    name: Task
    codecs: Mapping[str, WholeCodec[Asked, Given]]
    guarded: Callable[[Asked, GuardedText], Asked]
    characters: Callable[[Asked], int]
    label_of: Callable[[Asked, Label], Label]
    dropped: Callable[[Asked], tuple[str, ...]]
    repeated_bytes: Callable[[Asked], int] = lambda asked: 0
    """What endpoints read of a request beyond its own length."""


def _guard_embeddings(asked: EmbeddingsRequest, guard: GuardedText) -> EmbeddingsRequest:
    inputs = tuple(guard.for_embedder(text) for text in asked.inputs)
    return msgspec.structs.replace(asked, inputs=inputs, user=guard.for_embedder(asked.user) if asked.user else "")


def _guard_rerank(asked: RerankRequest, guard: GuardedText) -> RerankRequest:
    documents = tuple(guard.for_model(text) for text in asked.documents)
    return msgspec.structs.replace(asked, query=guard.for_model(asked.query), documents=documents)


EMBEDDINGS: WholeTask[EmbeddingsRequest, Embeddings] = WholeTask(
    "embeddings",
    EMBEDDERS,
    _guard_embeddings,
    lambda asked: sum(map(len, asked.inputs)),
    lambda asked, label: label.with_category(UNSCANNED) if asked.tokens else label,
    lambda asked: asked.dropped,
)
RERANK: WholeTask[RerankRequest, Ranking] = WholeTask(
    "rerank",
    RERANKERS,
    _guard_rerank,
    lambda asked: len(asked.query) + sum(map(len, asked.documents)),
    lambda asked, label: label,
    lambda asked: asked.dropped,
    lambda asked: len(asked.query.encode("utf-8", "replace")) * len(asked.documents),
)
