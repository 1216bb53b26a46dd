"""The manifest section ``sources``: systems that hold data. Read by ``sources/`` and by ``knowledge/``."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

CONNECTIONS_MAX = 4
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
    """Tables of a SQLite file, opened read-only."""

    path: Annotated[str, Meta(min_length=1, description="the SQLite file, relative to the workspace")]


class UploadsSource(_Source, frozen=True, tag="uploads"):
    """Documents sent through the API or the console; their bytes are kept in the object store."""


SourceConfig = FilesSource | PostgresSource | SqliteSource | UploadsSource
