"""The manifest section ``sources``: systems that hold data. Read by ``sources/`` and by ``knowledge/``."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from roadbed.kernel.config import DURATION_PATTERN
from roadbed.kernel.limits import RATE_PATTERN
from roadbed.sources.caller_manifest import CallerAuth

CONNECTIONS_MAX = 4
TOOL_BYTES_MAX = 16 * 1024 * 1024
TOOL_BYTES_BOUND = 128 * 1024 * 1024
COST_MAX = 5_000_000.0

Masking = Literal["drop", "partial", "token", "group"]

Labels = Annotated[list[str], Meta(description="classification of everything in it, for example [internal]")]
ConnectionsMax = Annotated[int, Meta(ge=1, le=32, description="most connections held to it at once")]
VisibleTo = Annotated[list[str] | None, Meta(description="teams that may see it; everyone with a key when left out")]


class TableConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a row of a table becomes a document: templates with ``{column}`` places."""

    title: Annotated[str, Meta(min_length=1, description="title of the row's document, e.g. `Parcel {id}`")]
    text: Annotated[str, Meta(min_length=1, description="text of the row's document")]
    key: Annotated[str, Meta(description="column that identifies a row")] = "id"
    updated: Annotated[
        str, Meta(description="column that changes when the row does; a hash of the row when left out")
    ] = ""
    rows_max: Annotated[int, Meta(ge=1, le=1_000_000, description="most rows read, in order of the key")] = 100_000


class _Source(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", kw_only=True):
    labels: Labels = []
    visible_to: VisibleTo = None


class DatabaseSource(_Source, frozen=True, kw_only=True):
    """What every database has: tables as documents, and how tools may ask it."""

    tables: Annotated[dict[str, TableConfig], Meta(description="tables whose rows become documents")] = {}
    connections_max: ConnectionsMax = CONNECTIONS_MAX
    explore: Annotated[
        bool, Meta(description="give tools that list its tables, describe one, and run checked reading SQL")
    ] = False
    mask: Annotated[
        dict[str, Masking],
        Meta(description="`table.column`, and how free SQL sees it: drop, partial, token, or only in groups"),
    ] = {}
    rows: Annotated[
        dict[str, str],
        Meta(description="a table, and which of its rows free SQL sees, such as `team = {principal.team}`"),
    ] = {}


class FilesSource(_Source, frozen=True, tag="files"):
    """A folder of documents, watched for changes."""

    path: Annotated[str, Meta(min_length=1, description="folder, relative to the workspace")]
    include: Annotated[tuple[str, ...], Meta(description="patterns of files to take, relative to the folder")] = (
        "**/*",
    )
    exclude: Annotated[list[str], Meta(description="patterns of files to leave out")] = []
    bytes_max: Annotated[int, Meta(ge=1, description="largest file to read, bytes")] = 100 * 1024 * 1024
    explore: Annotated[bool, Meta(description="offer models tools that list, read and search its files")] = False
    tool_bytes_max: Annotated[
        int, Meta(ge=1, le=TOOL_BYTES_BOUND, description="largest file that a tool opens, bytes")
    ] = TOOL_BYTES_MAX


class PostgresSource(DatabaseSource, frozen=True, tag="postgres", kw_only=True):
    """Tables of a PostgreSQL database. ``dsn`` is env:NAME, file:PATH or embedded:NAME (in our own server)."""

    dsn: Annotated[str, Meta(min_length=1, description="reference to its address: env:NAME, file:PATH, embedded:NAME")]
    seed: Annotated[str, Meta(description="SQL file run once when an embedded database is new")] = ""
    cost_max: Annotated[
        float, Meta(gt=0, description="most that the planner may expect free SQL to cost, in its own units")
    ] = COST_MAX
    write_dsn: Annotated[
        str, Meta(description="reference to a second credential, for tools that write and nothing else")
    ] = ""


class SqliteSource(DatabaseSource, frozen=True, tag="sqlite", kw_only=True):
    """Tables of a SQLite file, opened read-only; for a declared change alone it is opened for writing."""

    path: Annotated[str, Meta(min_length=1, description="the SQLite file, relative to the workspace")]
    write: Annotated[bool, Meta(description="whether declared tools may change it, each with an approval")] = False


class MysqlSource(DatabaseSource, frozen=True, tag="mysql", kw_only=True):
    """Tables of a MySQL or MariaDB database. ``dsn`` is env:NAME or file:PATH."""

    dsn: Annotated[str, Meta(min_length=1, description="reference to its address: env:NAME or file:PATH")]
    write_dsn: Annotated[
        str, Meta(description="reference to a second credential, for tools that write and nothing else")
    ] = ""


class DuckdbSource(DatabaseSource, frozen=True, tag="duckdb", kw_only=True):
    """Tables of a DuckDB file, or CSV and Parquet files as tables; read in a worker process. One of path and files."""

    path: Annotated[str, Meta(description="the DuckDB file, relative to the workspace")] = ""
    files: Annotated[
        dict[str, str],
        Meta(
            max_length=100, description="table name to a CSV or Parquet file, or a pattern, relative to the workspace"
        ),
    ] = {}
    connections_max: Annotated[int, Meta(ge=1, le=32, description="most worker processes at once")] = 2
    memory_mib_max: Annotated[int, Meta(ge=64, le=65_536, description="most memory of its worker, MiB")] = 512
    threads_max: Annotated[int, Meta(ge=1, le=64, description="most threads of its worker")] = 2


class McpSource(_Source, frozen=True, tag="mcp"):
    """Tools of another MCP server, as `tools.lock` pins them. Either ``url`` or ``command``."""

    url: Annotated[str, Meta(description="address of its streamable HTTP endpoint")] = ""
    command: Annotated[list[str], Meta(max_length=64, description="program and arguments of a stdio server")] = []
    key: Annotated[str, Meta(description="reference to a bearer token for ``url``: env:NAME or file:PATH")] = ""
    caller_auth: Annotated[
        CallerAuth | None, Meta(description="how calls show who calls; ``key`` then lists the tools alone")
    ] = None
    environment: Annotated[
        dict[str, str], Meta(max_length=64, description="all of its environment: a name to env:NAME or file:PATH")
    ] = {}
    network: Annotated[bool, Meta(description="whether a stdio server may reach the network")] = False
    memory_mib_max: Annotated[int, Meta(ge=64, le=65_536, description="most memory of a stdio server, MiB")] = 1_024
    timeout: Annotated[str, Meta(pattern=DURATION_PATTERN, description="longest time for one call")] = "15s"


class UploadsSource(_Source, frozen=True, tag="uploads"):
    """Documents sent through the API or the console; their bytes are kept in the object store."""


class HttpAuth(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How requests show who we are: one of the four ways. Values are references (env:NAME, file:PATH)."""

    bearer: Annotated[str, Meta(description="reference to a token, sent as `authorization: Bearer`")] = ""
    basic: Annotated[str, Meta(description="reference to `user:password`")] = ""
    header: Annotated[str, Meta(pattern=r"^[A-Za-z0-9-]{0,64}$", description="header that holds `secret`")] = ""
    query: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.-]{0,64}$", description="query parameter for `secret`")] = ""
    secret: Annotated[str, Meta(description="reference to the value of `header` or `query`")] = ""


class HttpSource(_Source, frozen=True, tag="http"):
    """An HTTP API with an OpenAPI document; the listed operations become tools."""

    url: Annotated[str, Meta(pattern=r"^https?://[^\s@?#]+$", description="base address of the API")]
    openapi: Annotated[str, Meta(min_length=1, description="its OpenAPI 3.0 or 3.1 document, a file of the workspace")]
    operations: Annotated[
        list[str], Meta(max_length=200, description="operationIds that become tools; none when left out")
    ] = []
    reads: Annotated[
        list[str], Meta(max_length=200, description="operationIds that change nothing though they are no GET")
    ] = []
    auth: Annotated[HttpAuth | None, Meta(description="how requests show who we are")] = None
    caller_auth: Annotated[CallerAuth | None, Meta(description="how requests show who calls, in place of auth")] = None
    private: Annotated[bool, Meta(description="whether its host may have addresses of private networks")] = False
    connections_max: ConnectionsMax = CONNECTIONS_MAX
    rate: Annotated[
        str, Meta(pattern=rf"^$|{RATE_PATTERN}", description="most requests to it, such as `60/min`; any when empty")
    ] = ""
    timeout: Annotated[str, Meta(pattern=DURATION_PATTERN, description="longest time for one request")] = "10s"


class ObjectsSource(_Source, frozen=True, tag="objects"):
    """A folder of an S3-compatible object store, listed and read by tools."""

    url: Annotated[
        str, Meta(pattern=r"^(s3|file)://\S+/$", description="s3://bucket/prefix/ or file:///folder/, with its slash")
    ]
    endpoint: Annotated[str, Meta(description="address of an S3-compatible server; Amazon's when left out")] = ""
    region: Annotated[str, Meta(description="region of the bucket")] = "us-east-1"
    key: Annotated[str, Meta(description="reference to the access key's id; unsigned requests when left out")] = ""
    secret: Annotated[str, Meta(description="reference to the access key's secret")] = ""
    token: Annotated[str, Meta(description="reference to the session token of a short-lived key")] = ""
    connections_max: ConnectionsMax = CONNECTIONS_MAX
    tool_bytes_max: Annotated[
        int, Meta(ge=1, le=TOOL_BYTES_BOUND, description="largest object whose text a tool extracts, bytes")
    ] = TOOL_BYTES_MAX


SourceConfig = (
    FilesSource
    | PostgresSource
    | SqliteSource
    | MysqlSource
    | DuckdbSource
    | McpSource
    | UploadsSource
    | HttpSource
    | ObjectsSource
)
