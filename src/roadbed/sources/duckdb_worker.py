"""The worker process of a ``duckdb`` source: opens DuckDB locked down, then runs one SELECT at a time.

Started by `duckdb.DuckdbDriver` as ``python -m roadbed.sources.duckdb_worker PARENT``; the first message says what to
open. The main thread reads messages, so that ``stop`` interrupts a statement that runs in the other one; the end of
the pipe is the end of the process. The invariant: no statement reaches DuckDB before its configuration is locked, and
what is not one SELECT is refused before it is run.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, BinaryIO

import duckdb

from roadbed.sources import duckdb_limits
from roadbed.sources.duckdb_messages import (
    HEADER_BYTES,
    MESSAGE_BYTES_MAX,
    Frame,
    Opening,
    Reply,
    Request,
    columns_of,
    framed,
    opening_decoder,
    packed_rows,
    request_decoder,
)
from roadbed.sources.errors import ResultTooLarge
from roadbed.sources.result import ColumnType, ResultBounds, ResultBuilder, check_columns

ROWS_PER_STEP = 200
# What Python, DuckDB's code and its threads' stacks take beside the memory that DuckDB counts.
OWN_BYTES = 3 * 1024 * 1024 * 1024
WAITING_MAX = 4

_TYPES: dict[str, ColumnType] = {
    "BOOLEAN": "boolean", "TINYINT": "integer", "SMALLINT": "integer", "INTEGER": "integer", "BIGINT": "integer",
    "HUGEINT": "integer", "UTINYINT": "integer", "USMALLINT": "integer", "UINTEGER": "integer", "UBIGINT": "integer",
    "UHUGEINT": "integer", "FLOAT": "number", "DOUBLE": "number", "VARCHAR": "text", "BLOB": "bytes", "DATE": "date",
    "TIME": "time", "TIMESTAMP": "timestamp", "TIMESTAMP_S": "timestamp", "TIMESTAMP_MS": "timestamp",
    "TIMESTAMP_NS": "timestamp", "TIMESTAMP WITH TIME ZONE": "timestamp", "INTERVAL": "interval", "UUID": "uuid",
    "JSON": "json",
}  # fmt: skip
# What a column of a brought table is made of: its values travel as JSON texts and are cast to these.
_MADE: dict[str, str] = {
    "boolean": "BOOLEAN", "integer": "HUGEINT", "number": "DOUBLE", "date": "DATE", "time": "TIME",
    "timestamp": "TIMESTAMP", "interval": "INTERVAL", "uuid": "UUID",
}  # fmt: skip
DECIMAL_DIGITS_MAX = 38


def locked(opening: Opening) -> duckdb.DuckDBPyConnection:
    """A connection to what ``opening`` names, that reads that and nothing else."""
    config: dict[str, Any] = {
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
        "allow_community_extensions": "false",
        "allow_persistent_secrets": "false",
        "python_enable_replacements": "false",
        "threads": str(opening.threads_max),
        "memory_limit": f"{opening.memory_mib_max}MiB",
        "max_temp_directory_size": "0B",
        "temp_directory": "",
        "max_execution_time": str(opening.statement_ms_max),
    }
    if opening.path:
        config |= {"enable_external_access": "false", "lock_configuration": "true"}
        return duckdb.connect(opening.path, read_only=True, config=config)
    connection = duckdb.connect(":memory:", config=config)
    if opening.files:
        paths = [path for files in opening.files.values() for path in files]
        connection.execute(f"SET allowed_paths = [{', '.join(map(_text, paths))}]")
        for name, files in opening.files.items():
            connection.execute(f"CREATE VIEW {_name(name)} AS SELECT * FROM {_reader(files)}")  # noqa: S608
    connection.execute("SET enable_external_access = false")
    return connection


def lock(connection: duckdb.DuckDBPyConnection, opening: Opening) -> None:
    """Lock the configuration of a connection to no file; a file's is locked when it is opened."""
    if not opening.path:
        connection.execute("SET lock_configuration = true")


def _reader(files: Sequence[str]) -> str:
    listed = ", ".join(map(_text, files))
    if files[0].lower().endswith((".parquet", ".pq")):
        return f"read_parquet([{listed}])"
    return f"read_csv([{listed}])"


class Session:
    """What one worker does: requests in, replies out, one at a time."""

    def __init__(self, opening: Opening) -> None:
        self._opening = opening
        self._main: duckdb.DuckDBPyConnection | None = None
        self._cursor: duckdb.DuckDBPyConnection | None = None
        self._running: duckdb.DuckDBPyConnection | None = None
        self._columns: list[tuple[str, ColumnType, str]] = []

    def stop(self) -> None:
        """Interrupt what runs, from any thread."""
        running = self._running
        if running is not None:
            running.interrupt()

    def answer(self, request: Request) -> Reply:
        """The reply to one request; whatever goes wrong in DuckDB is one."""
        try:
            return self._answer(request)
        except duckdb.InterruptException:
            return Reply(trouble="timeout")
        except (duckdb.OutOfMemoryException, MemoryError):
            return Reply(trouble="memory")
        except ResultTooLarge as error:
            return Reply(trouble="too_large", message=error.message)
        except (duckdb.ConversionException, duckdb.OutOfRangeException, duckdb.ConstraintException) as error:
            return Reply(trouble="refused", message=type(error).__name__)  # their texts quote values
        except (duckdb.IOException, duckdb.SerializationException, duckdb.InternalException, duckdb.FatalException):
            return Reply(trouble="unavailable")
        except duckdb.Error as error:
            return Reply(trouble="refused", message=str(error).partition("\n")[0][:500])
        except (TypeError, ValueError, OverflowError) as error:
            return Reply(trouble="refused", message=type(error).__name__)
        finally:
            self._running = None

    def _answer(self, request: Request) -> Reply:
        if request.kind == "next":
            return self._page(request.rows_max)
        if request.frames:
            return self._joined(request)
        if self._main is None:
            self._main = locked(self._opening)
            lock(self._main, self._opening)
        self._cursor = self._main.cursor()
        self._run(self._cursor, request)
        return self._bounded(self._cursor, request) if request.kind == "query" else self._page(0)

    def _joined(self, request: Request) -> Reply:
        """Run over the tables that the request brings, in a database of its own that ends with it."""
        opening = Opening(memory_mib_max=self._opening.memory_mib_max, threads_max=self._opening.threads_max)
        with locked(opening) as connection:
            self._running = connection
            for name, frame in request.frames.items():
                _make_table(connection, name, frame)
            lock(connection, opening)
            self._run(connection, request)
            return self._bounded(connection, request)

    def _run(self, connection: duckdb.DuckDBPyConnection, request: Request) -> None:
        statements = connection.extract_statements(request.sql)
        if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
            raise duckdb.ParserException("only one SELECT statement is run")
        self._running = connection
        connection.execute(statements[0], request.args or None)
        described = connection.description or []
        check_columns(len(described))
        self._columns = [(str(entry[0]), _kind(str(entry[1])), str(entry[1])) for entry in described]

    def _bounded(self, connection: duckdb.DuckDBPyConnection, request: Request) -> Reply:
        builder = ResultBuilder(ResultBounds(request.rows_max, request.bytes_max))
        is_wanted = True
        while is_wanted:
            page = connection.fetchmany(min(ROWS_PER_STEP, builder.rows_wanted))
            is_wanted = bool(page) and all(builder.take(row) for row in page)
        result = builder.result(())
        return Reply(self._columns, packed_rows(result.rows), result.is_truncated, result.size_bytes)

    def _page(self, rows: int) -> Reply:
        if self._cursor is None:
            raise duckdb.InvalidInputException("no statement is open")
        self._running = self._cursor
        return Reply(self._columns, packed_rows(self._cursor.fetchmany(rows)) if rows else [])


def _make_table(connection: duckdb.DuckDBPyConnection, name: str, frame: Frame) -> None:
    columns = columns_of(frame)
    places = [f"c{place}" for place in range(len(columns))]
    cells = [{place: _cell(value) for place, value in zip(places, row, strict=True)} for row in frame.rows]
    made = []
    for index, (place, column) in enumerate(zip(places, columns, strict=True)):
        kind = _decimal([row[index] for row in frame.rows]) if column.type == "decimal" else _MADE.get(column.type)
        if column.type == "timestamp" and any(_has_zone(row[index]) for row in frame.rows):
            kind = "TIMESTAMPTZ"
        value = f"from_hex(r.{place})" if column.type == "bytes" else f"r.{place}"
        made.append(f"{f'CAST({value} AS {kind})' if kind else value} AS {_name(column.name)}")
    shape = json.dumps([dict.fromkeys(places, "VARCHAR")])
    connection.execute(
        f"CREATE TABLE {_name(name)} AS SELECT {', '.join(made)} FROM "  # noqa: S608
        f"(SELECT unnest(from_json(CAST(? AS JSON), {_text(shape)})) AS r)",
        [json.dumps(cells)],
    )


def _cell(value: Any) -> str | None:
    """A value as a text that its column's type is cast from."""
    match value:
        case None:
            return None
        case bool():
            return "true" if value else "false"
        case bytes():
            return value.hex()
        case [int(days), int(seconds), int(microseconds)]:
            return f"{days} days {seconds} seconds {microseconds} microseconds"
        case list() | dict():
            return json.dumps(value, default=str)
        case _:
            return str(value)


def _decimal(values: Sequence[Any]) -> str:
    """The narrowest DECIMAL that loses nothing of the values; DOUBLE where there is none."""
    scale, digits = 0, 0
    for value in values:
        if value is None:
            continue
        number = Decimal(str(value))
        if not number.is_finite():
            return "DOUBLE"
        exponent = int(number.as_tuple().exponent)
        scale = max(scale, -exponent)
        digits = max(digits, number.adjusted() + 1)
    return f"DECIMAL({DECIMAL_DIGITS_MAX}, {scale})" if scale + max(digits, 1) <= DECIMAL_DIGITS_MAX else "DOUBLE"


def _has_zone(value: Any) -> bool:
    return isinstance(value, str) and (value.endswith("Z") or "+" in value[10:] or "-" in value[10:])


def _kind(native: str) -> ColumnType:
    if native.startswith("DECIMAL"):
        return "decimal"
    if native.endswith("]"):
        return "list"
    if native.startswith("ENUM"):
        return "text"
    return _TYPES.get(native, "other")


def _name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _read(stream: BinaryIO) -> bytes | None:
    header = stream.read(HEADER_BYTES)
    length = int.from_bytes(header, "big")
    if len(header) < HEADER_BYTES or length > MESSAGE_BYTES_MAX:
        return None
    payload = stream.read(length)
    return payload if len(payload) == length else None


def _serve(session: Session, requests: queue.Queue[Request], output: BinaryIO) -> None:
    while True:
        reply = session.answer(requests.get())
        try:
            message = framed(reply)
        except ValueError:
            message = framed(Reply(trouble="too_large", message="the rows do not fit one message"))
        output.write(message)
        output.flush()


def main() -> None:
    """Limit this process, open what the first message says, answer until the pipe ends."""
    source, output = sys.stdin.buffer, sys.stdout.buffer
    first = _read(source)
    if first is None:
        return
    opening = opening_decoder.decode(first)
    memory_bytes_max = opening.memory_mib_max * 1024 * 1024 + OWN_BYTES
    missing = duckdb_limits.enter(memory_bytes_max=memory_bytes_max, parent=int(sys.argv[1]))
    output.write(framed(Reply(message=",".join(missing))))
    output.flush()
    session = Session(opening)
    requests: queue.Queue[Request] = queue.Queue(WAITING_MAX)
    threading.Thread(target=_serve, args=(session, requests, output), daemon=True).start()
    while (payload := _read(source)) is not None:
        request = request_decoder.decode(payload)
        if request.kind == "stop":
            session.stop()
        else:
            requests.put(request)
    os._exit(0)  # a statement may still run; nobody waits for it


if __name__ == "__main__":
    main()
