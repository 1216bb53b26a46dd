"""Embeddings: the caller's ``/v1/embeddings`` read and answered, and the protocols of servers that make vectors.

Pure. OpenAI's shape towards callers; towards servers OpenAI's (most engines, Jina), Gemini's, Ollama's and Cohere's.
Texts that do not fit are refused by the server, never cut in silence. The invariant: an answer has one vector per
input, in the input's order, all of one length.
"""

from __future__ import annotations

import base64
import binascii
import struct
from collections.abc import Sequence
from typing import Annotated, Any, Literal
from urllib.parse import quote

import msgspec
from msgspec import Meta

from roadbed.gateway.dialects.base import EncodedRequest, malformed
from roadbed.gateway.dialects.whole import (
    WholeCodec,
    checked_texts,
    encoded,
    input_usage,
    read_caller,
    read_endpoint,
    under,
)
from roadbed.gateway.endpoints import Endpoint
from roadbed.gateway.errors import InvalidChatRequest, UnsupportedFeature
from roadbed.gateway.types import Usage
from roadbed.kernel.errors import TooLarge

INPUTS_MAX = 2048
TOKENS_MAX = 32_768
GEMINI_INPUTS_MAX = 100
COHERE_INPUTS_MAX = 96
FLOAT32_MAX = 3.4028234663852886e38

Encoding = Literal["float", "base64"]
InputType = Literal["search_document", "search_query", "classification", "clustering"]
Vector = Sequence[float]


class EmbeddingsRequest(msgspec.Struct, frozen=True):
    """Texts to turn into vectors: ``inputs``, or ``tokens`` that the caller made of them.

    ``input_type`` says what the vectors are for, where a model tells documents from queries.
    """

    model: str
    inputs: tuple[str, ...] = ()
    tokens: tuple[tuple[int, ...], ...] = ()
    encoding: Encoding = "float"
    dimensions: int | None = None
    user: str = ""
    input_type: InputType | None = None
    dropped: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """How many vectors are asked for."""
        return len(self.inputs) or len(self.tokens)


class Embeddings(msgspec.Struct, frozen=True):
    """The vectors, one per input."""

    vectors: tuple[Vector, ...]
    usage: Usage | None = None


# The caller's side.


class _Asked(msgspec.Struct):
    model: Annotated[str, Meta(min_length=1)]
    input: Any  # a text, texts, tokens or lists of tokens: told apart below
    encoding_format: Encoding | None = None
    dimensions: Annotated[int, Meta(ge=1, le=65_536)] | None = None
    user: str | None = None
    input_type: InputType | None = None


def decode_embeddings(body: bytes) -> EmbeddingsRequest:
    """The request in a caller's body. Raises `InvalidChatRequest` or `TooLarge`, with the field's path."""
    wire, dropped = read_caller(body, _Asked)
    texts, tokens = _inputs(wire.input)
    return EmbeddingsRequest(
        wire.model,
        texts,
        tokens,
        wire.encoding_format or "float",
        wire.dimensions,
        wire.user or "",
        wire.input_type,
        dropped,
    )


def _inputs(given: Any) -> tuple[tuple[str, ...], tuple[tuple[int, ...], ...]]:
    if isinstance(given, str):
        return checked_texts([given], "input"), ()
    if not isinstance(given, list) or not given:
        raise InvalidChatRequest("input: it must be a text, or a list that is not empty", param="input")
    if all(isinstance(item, int) and not isinstance(item, bool) for item in given):
        return (), (_tokens(given),)
    if len(given) > INPUTS_MAX:
        raise TooLarge(f"input: more than {INPUTS_MAX}", param="input")
    if all(isinstance(item, str) for item in given):
        return checked_texts(given, "input"), ()
    if all(isinstance(item, list) for item in given):
        return (), tuple(_tokens(item) for item in given)
    raise InvalidChatRequest("input: it must hold texts, or lists of token numbers", param="input")


def _tokens(given: list[Any]) -> tuple[int, ...]:
    if len(given) > TOKENS_MAX:
        raise TooLarge(f"input: more than {TOKENS_MAX} tokens", param="input")
    if not given or not all(type(item) is int and 0 <= item < 1 << 31 for item in given):
        raise InvalidChatRequest("input: a list of tokens holds whole numbers, and is not empty", param="input")
    return tuple(given)


def embeddings_body(model: str, answer: Embeddings, encoding: Encoding, usage: Usage, roadbed: dict[str, Any]) -> bytes:
    """The answer in OpenAI's shape. ``usage`` is what was settled; ``roadbed`` what Roadbed says about the answer."""
    write = _base64 if encoding == "base64" else list
    tokens = usage.input_tokens
    body = {
        "object": "list",
        "model": model,
        "data": [
            {"object": "embedding", "index": index, "embedding": write(vector)}
            for index, vector in enumerate(answer.vectors)
        ],
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        "roadbed": roadbed,
    }
    return msgspec.json.encode(body)


def _base64(vector: Vector) -> str:
    """Little-endian 32-bit floats."""
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


# The servers' side.


def _checked(vectors: Sequence[Vector], asked: EmbeddingsRequest, usage: Usage | None) -> Embeddings:
    if len(vectors) != asked.count:
        raise malformed(f"it has {len(vectors)} vectors for {asked.count} inputs")
    sizes = {len(vector) for vector in vectors}
    if len(sizes) != 1 or 0 in sizes:
        raise malformed("its vectors are empty or differ in length")
    if any(not (min(vector) >= -FLOAT32_MAX and max(vector) <= FLOAT32_MAX) for vector in vectors):
        raise malformed("a vector holds a number that is no 32-bit float")
    return Embeddings(tuple(vectors), usage)


def _texts(asked: EmbeddingsRequest, dialect: str, inputs_max: int = INPUTS_MAX) -> list[str]:
    if asked.tokens:
        message = f"input: the {dialect} dialect takes no tokens"
        raise UnsupportedFeature(message, hint="send the texts themselves", param="input")
    if len(asked.inputs) > inputs_max:
        message = f"input: the {dialect} dialect takes {inputs_max} texts at a time"
        raise UnsupportedFeature(message, hint="send them in several requests", param="input")
    return list(asked.inputs)


def _left_out(asked: EmbeddingsRequest, *names: str) -> list[str]:
    return [name for name in names if getattr(asked, name)]


class _OpenAIVector(msgspec.Struct):
    embedding: list[float] | str
    index: int | None = None


class _OpenAIUsage(msgspec.Struct):
    prompt_tokens: int | None = None
    total_tokens: int | None = None


class _OpenAIAnswer(msgspec.Struct):
    data: list[_OpenAIVector]
    usage: _OpenAIUsage | None = None


class OpenAIEmbeddings:
    """OpenAI's ``POST /embeddings``. ``version`` is put before the path where the endpoint's address lacks it."""

    _decoder = msgspec.json.Decoder(_OpenAIAnswer)

    def __init__(self, version: str = "") -> None:
        self._version = version

    def encode(self, asked: EmbeddingsRequest, endpoint: Endpoint) -> EncodedRequest:
        """As `WholeCodec`."""
        body: dict[str, Any] = {"model": endpoint.model, "input": asked.tokens or asked.inputs}
        body["encoding_format"] = "float"
        if asked.dimensions is not None:
            body["dimensions"] = asked.dimensions
        if asked.user:
            body["user"] = asked.user
        return encoded(endpoint, under(endpoint, self._version, "/embeddings"), body, _left_out(asked, "input_type"))

    def decode(self, body: bytes, asked: EmbeddingsRequest) -> Embeddings:
        """As `WholeCodec`."""
        answer = read_endpoint(body, self._decoder)
        rows = answer.data
        places = [position if row.index is None else row.index for position, row in enumerate(rows)]
        if sorted(places) != list(range(len(rows))):
            raise malformed("its vectors are not numbered one by one")
        vectors: list[Vector] = [()] * len(rows)
        for place, row in zip(places, rows, strict=True):
            vectors[place] = _unpacked(row.embedding) if isinstance(row.embedding, str) else row.embedding
        tokens = None
        if answer.usage is not None:
            tokens = answer.usage.total_tokens if answer.usage.prompt_tokens is None else answer.usage.prompt_tokens
        return _checked(vectors, asked, input_usage(tokens))


def _unpacked(text: str) -> Vector:
    try:
        raw = base64.b64decode(text, validate=True)
        vector = struct.unpack(f"<{len(raw) // 4}f", raw)
    except (binascii.Error, ValueError, struct.error):
        raise malformed("a vector is no base64 of 32-bit floats") from None
    if any(number != number for number in vector):
        raise malformed("a vector holds what is no number")
    return vector


class _GeminiVector(msgspec.Struct):
    values: list[float]


class _GeminiUsage(msgspec.Struct, rename="camel"):
    prompt_token_count: int | None = None


class _GeminiAnswer(msgspec.Struct, rename="camel"):
    embeddings: list[_GeminiVector]
    usage_metadata: _GeminiUsage | None = None


_GEMINI_TASKS: dict[InputType, str] = {
    "search_document": "RETRIEVAL_DOCUMENT",
    "search_query": "RETRIEVAL_QUERY",
    "classification": "CLASSIFICATION",
    "clustering": "CLUSTERING",
}


class GeminiEmbeddings:
    """Gemini's ``POST /models/MODEL:batchEmbedContents``."""

    _decoder = msgspec.json.Decoder(_GeminiAnswer)

    def encode(self, asked: EmbeddingsRequest, endpoint: Endpoint) -> EncodedRequest:
        """As `WholeCodec`."""
        name = f"models/{endpoint.model.removeprefix('models/')}"
        each: dict[str, Any] = {"model": name}
        if asked.dimensions is not None:
            each["outputDimensionality"] = asked.dimensions
        if asked.input_type is not None:
            each["taskType"] = _GEMINI_TASKS[asked.input_type]
        texts = _texts(asked, "gemini", GEMINI_INPUTS_MAX)
        body = {"requests": [{**each, "content": {"parts": [{"text": text}]}} for text in texts]}
        path = under(endpoint, "/v1beta", f"/{quote(name)}:batchEmbedContents")
        return encoded(endpoint, path, body, _left_out(asked, "user"), key_header=b"x-goog-api-key")

    def decode(self, body: bytes, asked: EmbeddingsRequest) -> Embeddings:
        """As `WholeCodec`."""
        answer = read_endpoint(body, self._decoder)
        tokens = answer.usage_metadata.prompt_token_count if answer.usage_metadata is not None else None
        return _checked([row.values for row in answer.embeddings], asked, input_usage(tokens))


class _OllamaAnswer(msgspec.Struct):
    embeddings: list[list[float]]
    prompt_eval_count: int | None = None


class OllamaEmbeddings:
    """Ollama's ``POST /api/embed``, told not to cut long texts."""

    _decoder = msgspec.json.Decoder(_OllamaAnswer)

    def encode(self, asked: EmbeddingsRequest, endpoint: Endpoint) -> EncodedRequest:
        """As `WholeCodec`."""
        body: dict[str, Any] = {"model": endpoint.model, "input": _texts(asked, "ollama"), "truncate": False}
        if asked.dimensions is not None:
            body["dimensions"] = asked.dimensions
        return encoded(endpoint, under(endpoint, "/api", "/embed"), body, _left_out(asked, "user", "input_type"))

    def decode(self, body: bytes, asked: EmbeddingsRequest) -> Embeddings:
        """As `WholeCodec`."""
        answer = read_endpoint(body, self._decoder)
        return _checked(answer.embeddings, asked, input_usage(answer.prompt_eval_count))


class _CohereVectors(msgspec.Struct):
    values: list[list[float]] = msgspec.field(name="float")


class _CohereUnits(msgspec.Struct):
    input_tokens: int | None = None


class _CohereMeta(msgspec.Struct):
    billed_units: _CohereUnits | None = None


class _CohereAnswer(msgspec.Struct):
    embeddings: _CohereVectors
    meta: _CohereMeta | None = None


class CohereEmbeddings:
    """Cohere's ``POST /v2/embed``, told not to cut long texts."""

    _decoder = msgspec.json.Decoder(_CohereAnswer)

    def encode(self, asked: EmbeddingsRequest, endpoint: Endpoint) -> EncodedRequest:
        """As `WholeCodec`."""
        body: dict[str, Any] = {
            "model": endpoint.model,
            "texts": _texts(asked, "cohere", COHERE_INPUTS_MAX),
            "input_type": asked.input_type or "search_document",
            "embedding_types": ["float"],
            "truncate": "NONE",
        }
        if asked.dimensions is not None:
            body["output_dimension"] = asked.dimensions
        return encoded(endpoint, under(endpoint, "/v2", "/embed"), body, _left_out(asked, "user"))

    def decode(self, body: bytes, asked: EmbeddingsRequest) -> Embeddings:
        """As `WholeCodec`."""
        answer = read_endpoint(body, self._decoder)
        units = answer.meta.billed_units if answer.meta is not None else None
        return _checked(answer.embeddings.values, asked, input_usage(units.input_tokens if units else None))


EMBEDDERS: dict[str, WholeCodec[EmbeddingsRequest, Embeddings]] = {
    "openai": OpenAIEmbeddings(),
    "tei": OpenAIEmbeddings("/v1"),
    "gemini": GeminiEmbeddings(),
    "ollama": OllamaEmbeddings(),
    "cohere": CohereEmbeddings(),
}
"""By the endpoint's type."""
