"""What an app of the kind ``analytics`` declares: metrics with their SQL, and questions with theirs."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from roadbed.tools.manifest import ParameterConfig

SQL_CHARACTERS_MAX = 16 * 1024
PARTS_MAX = 4

ChartChoice = Literal["auto", "bar", "line", "scatter", "none"]
SqlText = Annotated[str, Meta(min_length=1, max_length=SQL_CHARACTERS_MAX)]


class MetricConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A measure with one meaning: an aggregate over the rows of one table."""

    source: Annotated[str, Meta(min_length=1, description="source that holds the table")]
    table: Annotated[str, Meta(min_length=1, description="table whose rows it counts or sums")]
    sql: Annotated[SqlText, Meta(description="aggregate over the table's columns, such as `sum(price)`")]
    description: Annotated[str, Meta(max_length=1_000, description="what it means, for people and models")] = ""
    unit: Annotated[str, Meta(max_length=40, description="unit of its values, such as NOK or days")] = ""
    filter: Annotated[str, Meta(description="condition that always holds, such as `status = 'paid'`")] = ""
    time: Annotated[str, Meta(description="column of the table by which periods are meant")] = ""


class PartConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One statement on one source, when a question needs several."""

    source: Annotated[str, Meta(min_length=1, description="source that it asks")]
    sql: Annotated[SqlText, Meta(description="one SELECT")]


class QuestionConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A question with its SQL: of one source (``source``, ``sql``), or of several (``parts`` and ``join``)."""

    title: Annotated[str, Meta(min_length=1, max_length=300, description="the question as a person asks it")]
    source: Annotated[str, Meta(description="source that it asks")] = ""
    sql: Annotated[str, Meta(max_length=SQL_CHARACTERS_MAX, description="one SELECT with `:name` places")] = ""
    parts: Annotated[
        dict[str, PartConfig], Meta(max_length=PARTS_MAX, description="table name to a statement, for several sources")
    ] = {}
    join: Annotated[
        str, Meta(max_length=SQL_CHARACTERS_MAX, description="one SELECT in DuckDB's SQL over the parts' tables")
    ] = ""
    parameters: Annotated[dict[str, ParameterConfig], Meta(description="what is asked for before it runs")] = {}
    chart: Annotated[ChartChoice, Meta(description="chart to draw; by rule when left out")] = "auto"
    unit: Annotated[str, Meta(max_length=40, description="unit of its last column")] = ""
    also: Annotated[list[str], Meta(max_length=20, description="other wordings of the question")] = []
