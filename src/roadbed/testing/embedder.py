"""A deterministic embedder for tests: no model files, no threads, vectors from hashed words.

Texts that share words have similar vectors, so search tests can tell near from far. It counts what it was asked for
(``calls``, ``texts_embedded``), which lets a test hold that an operation embeds nothing.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_WORD = re.compile(r"\w+")


class ScriptedEmbedder:
    """Implements ``roadbed.knowledge.embed.Embedder``: each word adds +1 or -1 at four hashed places, then length 1.

    ``scripted`` fixes the vectors of chosen texts; they are normalised too.
    """

    def __init__(
        self,
        dimensions: int = 384,
        *,
        digest: str = "scripted-v1",
        tokens_max: int = 254,
        scripted: dict[str, Sequence[float]] | None = None,
    ) -> None:
        self.digest = digest
        self.dimensions = dimensions
        self.tokens_max = tokens_max
        self.scripted = dict(scripted or {})
        self.calls = 0
        self.texts_embedded = 0

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """One row per text; a text without a word gives a zero row."""
        self.calls += 1
        self.texts_embedded += len(texts)
        rows = [self._vector(text) for text in texts]
        return np.array(rows, dtype=np.float32).reshape(len(texts), self.dimensions)

    def token_count(self, text: str) -> int:
        """The number of words."""
        return len(_WORD.findall(text))

    def _vector(self, text: str) -> NDArray[np.float32]:
        vector = np.zeros(self.dimensions, dtype=np.float32)
        if text in self.scripted:
            vector[:] = self.scripted[text]
        else:
            for word in _WORD.findall(text.casefold()):
                places = np.frombuffer(hashlib.blake2b(word.encode(), digest_size=16).digest(), dtype="<u4")
                np.add.at(vector, places % self.dimensions, np.where(places >> 31, 1.0, -1.0))
        length = float(np.linalg.norm(vector))
        return vector / np.float32(length) if length else vector
