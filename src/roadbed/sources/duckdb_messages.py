"""The messages between a `duckdb` source and its worker: length-prefixed msgpack over two pipes. Pure.

Rows travel with every value as its column's type needs it: decimals, dates, times and identifiers as texts that lose
nothing, and come back as Python's own types. The invariant: nothing of a message is executed or imported; a reader
checks the announced length before it reads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Literal
from uuid import UUID

import msgspec

from roadbed.sources.result import Column, ColumnType, QueryResult

HEADER_BYTES = 4
MESSAGE_BYTES_MAX = 64 * 1024 * 1024


class Opening(msgspec.Struct, frozen=True):
    """What a worker opens before its first request: a file, or files as tables, or neither."""

    path: str = ""
    files: dict[str, list[str]] = {}
    memory_mib_max: int = 512
    threads_max: int = 2
    statement_ms_max: int = 600_000


class Frame(msgspec.Struct, frozen=True):
    """A table that a request brings along."""

    columns: list[tuple[str, ColumnType, str]]
    rows: list[list[Any]]


class Request(msgspec.Struct, frozen=True):
    """``query``: one bounded result; ``open`` and ``next``: pages of one; ``stop`` ends what runs."""

    kind: Literal["query", "open", "next", "stop"]
    sql: str = ""
    args: list[Any] = []
    rows_max: int = 0
    bytes_max: int = 0
    frames: dict[str, Frame] = {}


class Reply(msgspec.Struct, frozen=True):
    """Rows, or what went wrong: a ``trouble`` of `TROUBLES` with its message."""

    columns: list[tuple[str, ColumnType, str]] = []
    rows: list[list[Any]] = []
    is_truncated: bool = False
    size_bytes: int = 0
    trouble: str = ""
    message: str = ""


opening_decoder = msgspec.msgpack.Decoder(Opening)
request_decoder = msgspec.msgpack.Decoder(Request)
reply_decoder = msgspec.msgpack.Decoder(Reply)
encoder = msgspec.msgpack.Encoder(enc_hook=str)


def framed(message: Opening | Request | Reply) -> bytes:
    """A message behind its length. ValueError for one over `MESSAGE_BYTES_MAX`."""
    payload = encoder.encode(message)
    if len(payload) > MESSAGE_BYTES_MAX:
        raise ValueError("the message is too large")
    return len(payload).to_bytes(HEADER_BYTES, "big") + payload


def packed_rows(rows: Sequence[Sequence[Any]]) -> list[list[Any]]:
    """Rows as they travel."""
    return [[_packed(value) for value in row] for row in rows]


def _packed(value: Any) -> Any:
    match value:
        case None | bool() | float() | str() | bytes():
            return value
        case int():
            return value if -(2**63) <= value < 2**63 else str(value)
        case timedelta():
            return [value.days, value.seconds, value.microseconds]
        case datetime() | date() | time():
            return value.isoformat()
        case Mapping():
            return {str(key): _packed(inner) for key, inner in value.items()}
        case list() | tuple():
            return [_packed(inner) for inner in value]
        case bytearray() | memoryview():
            return bytes(value)
        case _:
            return str(value)


def unpacked_rows(columns: Sequence[Column], rows: Sequence[Sequence[Any]]) -> tuple[tuple[Any, ...], ...]:
    """Rows as they were, by their columns' types."""
    makers = [_MAKERS.get(column.type) for column in columns]
    return tuple(
        tuple(
            value if maker is None or value is None else _made(maker, value)
            for maker, value in zip(makers, row, strict=True)
        )
        for row in rows
    )


def _made(maker: Callable[[Any], Any], value: Any) -> Any:
    """The value in Python's type, or as DuckDB writes it where Python has none for it, such as the hour 24."""
    try:
        return maker(value)
    except (ValueError, TypeError, ArithmeticError):
        return value


_MAKERS: dict[str, Callable[[Any], Any]] = {
    "integer": int,
    "decimal": Decimal,
    "date": lambda text: date.fromisoformat(text) if _is_day(text) else text,
    "time": time.fromisoformat,
    "timestamp": lambda text: datetime.fromisoformat(text) if _is_day(text) else text,
    "interval": lambda parts: timedelta(*parts) if isinstance(parts, list) else parts,
    "uuid": UUID,
}


def _is_day(text: str) -> bool:
    """Whether a date fits Python's calendar; DuckDB also knows infinity and years far off."""
    return text[:4].isdigit() and text[4:5] == "-"


def columns_of(reply: Reply | Frame) -> tuple[Column, ...]:
    """The columns of a message."""
    return tuple(Column(*column) for column in reply.columns)


def frame_of(result: QueryResult) -> Frame:
    """A result as a table of a request."""
    columns = [(column.name, column.type, column.native) for column in result.columns]
    return Frame(columns, packed_rows(result.rows))
