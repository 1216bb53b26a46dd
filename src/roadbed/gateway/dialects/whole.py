"""What the codecs of answers that come whole share: embeddings and rankings, asked for in one body and given in one.

Pure. A codec turns a request into an endpoint's bytes and a body into the answer; a caller's body is read by
`read_caller`. The invariant: nothing but `UpstreamError` comes out of reading an endpoint's body, and nothing but a
typed error with the field's path out of reading a caller's.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol, TypeVar

import msgspec

from roadbed.gateway.dialects.base import EncodedRequest, malformed
from roadbed.gateway.dialects.reading import invalid
from roadbed.gateway.endpoints import Endpoint
from roadbed.gateway.errors import InvalidChatRequest
from roadbed.gateway.types import Usage
from roadbed.kernel.errors import TooLarge

BODY_BYTES_MAX = 16 * 1024 * 1024
TEXT_CHARACTERS_MAX = 200_000

T = TypeVar("T")
Asked = TypeVar("Asked", contravariant=True)
Given = TypeVar("Given", covariant=True)


class Measured(Protocol):
    """An answer that says what it used; None where its endpoint did not."""

    @property
    def usage(self) -> Usage | None:
        """Tokens as the endpoint reported them."""


class WholeCodec(Protocol[Asked, Given]):
    """One protocol of model servers, for one task."""

    def encode(self, asked: Asked, endpoint: Endpoint) -> EncodedRequest:
        """The request's bytes. Raises `UnsupportedFeature` naming the field that cannot be carried."""
        ...

    def decode(self, body: bytes, asked: Asked) -> Given:
        """The answer in a body. Raises `UpstreamError`, also for one that does not answer all that was asked."""
        ...


def read_caller(body: bytes, kind: type[T]) -> tuple[T, tuple[str, ...]]:
    """A caller's body, and the names of its fields that ``kind`` does not have.

    Raises `InvalidChatRequest` or `TooLarge`.
    """
    if len(body) > BODY_BYTES_MAX:
        raise TooLarge(f"the body is larger than {BODY_BYTES_MAX} bytes")
    try:
        raw = msgspec.json.decode(body)
        read = msgspec.convert(raw, kind)
    except RecursionError:
        raise InvalidChatRequest("the body is nested too deeply") from None
    except msgspec.ValidationError as error:
        raise invalid(error) from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise InvalidChatRequest("the body is not valid JSON") from None
    known = {field.encode_name for field in msgspec.structs.fields(kind)}  # type: ignore[arg-type]
    return read, tuple(sorted(name for name, value in raw.items() if name not in known and value is not None))


def checked_texts(texts: Iterable[str], where: str) -> tuple[str, ...]:
    """The texts, none of them empty or over the limit."""
    found = tuple(texts)
    for number, text in enumerate(found):
        if not text:
            raise InvalidChatRequest(f"{where}[{number}]: it is empty", param=where)
        if len(text) > TEXT_CHARACTERS_MAX:
            raise TooLarge(f"{where}[{number}]: more than {TEXT_CHARACTERS_MAX} characters", param=where)
    return found


def read_endpoint(body: bytes, decoder: msgspec.json.Decoder[T]) -> T:
    """An endpoint's body. Raises `UpstreamError`."""
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise malformed("it is not JSON of the dialect") from None


def encoded(
    endpoint: Endpoint, path: str, body: dict[str, Any], dropped: Iterable[str] = (), *, key_header: bytes = b""
) -> EncodedRequest:
    """The request with its key: a bearer token, or the value of ``key_header``."""
    headers: list[tuple[bytes, bytes]] = [(b"content-type", b"application/json")]
    if endpoint.key is not None:
        key = endpoint.key.reveal().encode()
        headers.append((key_header, key) if key_header else (b"authorization", b"Bearer " + key))
    return EncodedRequest(path, tuple(headers), msgspec.json.encode(body), tuple(dropped))


def under(endpoint: Endpoint, version: str, path: str) -> str:
    """The path below an endpoint's address, which may end with the protocol's version already."""
    return path if endpoint.url.endswith(version) else version + path


def input_usage(tokens: int | None) -> Usage | None:
    """The usage of an answer whose tokens are all input; None when none were reported."""
    return Usage(input_uncached=tokens) if tokens is not None and tokens >= 0 else None
