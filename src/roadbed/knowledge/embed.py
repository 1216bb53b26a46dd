"""Text to vectors: the ``Embedder`` seam, the default MiniLM on ONNX Runtime, and its front for the event loop.

``MiniLmEmbedder`` is synchronous and may be called from several threads; ``EmbeddingWorker`` keeps it off the event
loop, and lets what people wait for go before an ingest batch. Nothing here stores or caches a vector: that is the
index's, under :func:`vector_key`. The invariant: a vector is a function of (model digest, text) alone. int8 vectors
change with their batch mates (cosine .993), so every run holds one text, unpadded.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from roadbed.kernel.errors import RoadbedError, Unavailable
from roadbed.knowledge import embedding_model
from roadbed.knowledge.embedding_queue import EmbeddingQueue, Kind

Vectors = NDArray[np.float32]

TEXT_CHARS_MAX = 16_384  # far above 256 tokens of any prose; bounds the tokenizer's work on one endless line
SPECIAL_TOKENS = 2  # [CLS] and [SEP], which count towards the model's window
PIECE_TEXTS = 8  # how many texts of a call are embedded before others may take their turn
QUERIES_WAITING_MAX = 256
REPLACEMENT = "\ufffd"


class EmbeddingNotFinite(RoadbedError):
    """The model answered NaN or infinity. ``positions`` are the texts' places in the call; nothing of it is stored."""

    code = "knowledge.embedding_not_finite"

    def __init__(self, positions: Sequence[int]) -> None:
        super().__init__(
            f"the model gave no finite vector for the texts at positions {list(positions)}",
            hint="index these chunks without a vector, and report the model's digest",
        )
        self.positions = tuple(positions)


class EmbedderBusy(Unavailable):
    """More queries wait for a vector than the bound allows; the lexical leg can answer alone meanwhile."""

    code = "knowledge.embedder_busy"


class Embedder(Protocol):
    """A function from text to vectors, named by ``digest``. Vectors of two digests must never be compared."""

    @property
    def digest(self) -> str:
        """The name of the function, stable across processes and restarts."""

    @property
    def dimensions(self) -> int:
        """The length of each vector."""

    @property
    def tokens_max(self) -> int:
        """How many tokens of a text, special tokens not counted, the vector can reflect."""

    def embed(self, texts: Sequence[str]) -> Vectors:
        """float32 ``[len(texts), dimensions]``, each row of length 1, or all zero for a text without a single token.

        A zero row is not a vector: such a chunk is indexed by its words alone. Raises :class:`EmbeddingNotFinite`.
        """

    def token_count(self, text: str) -> int:
        """How many tokens the model sees in the whole text, special tokens and truncation left out."""


def vector_key(digest: str, text: str) -> bytes:
    """The 32-byte key under which a vector may be cached: it holds neither the text nor the model's name."""
    joined = digest.encode() + b"\0" + text.encode("utf-8", "surrogatepass")
    return hashlib.sha256(joined).digest()


def encodable(text: str) -> str:
    """The text as UTF-8 can carry it: lone surrogates become U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return "".join(REPLACEMENT if "\ud800" <= character <= "\udfff" else character for character in text)
    return text


class MiniLmEmbedder:
    """MiniLM-L6 int8 on one thread of ONNX Runtime. The files are loaded and checked on first use, or by ``warm``.

    One session serves all threads: ``run`` works on the calling thread and releases the interpreter.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder if folder is not None else embedding_model.locate()
        self._manifest = embedding_model.read_manifest(self._folder)
        self._loading = threading.Lock()
        self._loaded: tuple[Any, Any, Any] | None = None

    @property
    def digest(self) -> str:
        """The model's digest from its manifest."""
        return self._manifest.digest

    @property
    def dimensions(self) -> int:
        """384."""
        return self._manifest.dimensions

    @property
    def tokens_max(self) -> int:
        """The model's window of 256, less the two special tokens."""
        return self._manifest.tokens_max - SPECIAL_TOKENS

    def warm(self) -> None:
        """Load, verify and run the model once, so that the first query does not pay for it."""
        self.embed(["warm"])

    def embed(self, texts: Sequence[str]) -> Vectors:
        """See :meth:`Embedder.embed`; texts beyond the window count by their first 256 tokens."""
        session, encoder, _ = self._load()
        vectors = np.zeros((len(texts), self.dimensions), dtype=np.float32)
        for row, text in enumerate(texts):
            ids = encoder.encode(encodable(text[:TEXT_CHARS_MAX])).ids
            if len(ids) <= SPECIAL_TOKENS:
                continue
            tokens = np.array([ids], dtype=np.int64)
            answer = session.run(["embedding"], {"input_ids": tokens, "attention_mask": np.ones_like(tokens)})
            vectors[row] = answer[0][0]
        finite = np.isfinite(vectors).all(axis=1)
        if not finite.all():
            raise EmbeddingNotFinite(np.flatnonzero(~finite).tolist())
        return vectors

    def token_count(self, text: str) -> int:
        """See :meth:`Embedder.token_count`."""
        _, _, counter = self._load()
        return len(counter.encode(encodable(text), add_special_tokens=False).ids)

    def _load(self) -> tuple[Any, Any, Any]:
        """(session, tokenizer that truncates, tokenizer that does not); loaded once."""
        with self._loading:
            if self._loaded is None:
                self._loaded = _load_model(self._folder)
            return self._loaded


def _load_model(folder: Path) -> tuple[Any, Any, Any]:
    """Read a model folder whose hashes are as its manifest says."""
    import onnxruntime
    from tokenizers import Tokenizer

    manifest = embedding_model.verify(folder)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    model_path, tokenizer_path = (
        str(folder / name) for name in (embedding_model.MODEL_FILE, embedding_model.TOKENIZER_FILE)
    )
    session = onnxruntime.InferenceSession(model_path, options, providers=["CPUExecutionProvider"])
    # The published tokenizer file pads to 128 and truncates at 128; both are replaced.
    encoder, counter = (Tokenizer.from_file(tokenizer_path) for _ in range(2))
    encoder.no_padding()
    encoder.enable_truncation(manifest.tokens_max)
    counter.no_padding()
    counter.no_truncation()
    return session, encoder, counter


class EmbeddingWorker:
    """The asynchronous front of one embedder: what people wait for comes before documents (`embedding_queue`)."""

    def __init__(self, embedder: Embedder) -> None:
        self.embedder = embedder
        self.queue = EmbeddingQueue()
        self._people_waiting = 0
        self.heard: list[str] | None = None  # every text while a control listens

    @property
    def digest(self) -> str:
        """The embedder's digest."""
        return self.embedder.digest

    @property
    def dimensions(self) -> int:
        """The embedder's dimensions."""
        return self.embedder.dimensions

    async def warm(self) -> None:
        """Load the model and start the threads; call it before the process says that it is ready."""
        await self.embed_query("warm")
        await self.embed_documents(["warm"])

    async def embed_query(self, text: str) -> Vectors:
        """The vector ``[dimensions]`` of one query. Raises :class:`EmbedderBusy` when too many wait already."""
        return cast(Vectors, (await self._for_people("query", [text]))[0])

    async def embed_sentences(self, texts: Sequence[str]) -> Vectors:
        """Vectors ``[len(texts), dimensions]`` to rank an answer's sentences by. Raises as `embed_query`."""
        return await self._for_people("sentences", texts)

    async def embed_documents(self, texts: Sequence[str]) -> Vectors:
        """Vectors ``[len(texts), dimensions]``, made in pieces: callers take turns, a cancelled call stops soon.

        Raises :class:`EmbeddingNotFinite` with positions in ``texts``; no vector of the call is then usable.
        """
        return await self._embed("document", texts)

    async def _for_people(self, kind: Kind, texts: Sequence[str]) -> Vectors:
        if self._people_waiting >= QUERIES_WAITING_MAX:
            raise EmbedderBusy(f"{self._people_waiting} queries wait for the embedding model", retry_after_s=1.0)
        self._people_waiting += 1
        try:
            return await self._embed(kind, texts)
        finally:
            self._people_waiting -= 1

    async def _embed(self, kind: Kind, texts: Sequence[str]) -> Vectors:
        if self.heard is not None:
            self.heard.extend(texts)
        none = np.zeros((0, self.dimensions), dtype=np.float32)
        starts = range(0, len(texts), PIECE_TEXTS)
        pieces = [partial(self._embed_piece, start, list(texts[start : start + PIECE_TEXTS])) for start in starts]
        return np.concatenate([none, *await self.queue.run(kind, pieces)])

    def _embed_piece(self, start: int, texts: list[str]) -> Vectors:
        try:
            return self.embedder.embed(texts)
        except EmbeddingNotFinite as error:
            raise EmbeddingNotFinite([start + position for position in error.positions]) from error

    async def aclose(self) -> None:
        """End the threads; texts already with the model are finished first, waiting ones are dropped."""
        await self.queue.aclose()
