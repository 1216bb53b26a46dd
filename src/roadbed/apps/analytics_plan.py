"""What a model makes of a question: a typed plan with statements, a question back, or that it cannot be answered. Pure.

`read_reply` decodes the model's JSON, `check_plan` holds it to what the app declares, `compile_plan` writes the
statement where the declared metrics cover the plan. The invariant: nothing of a plan is run before it was checked, and
what runs passes the gate as well.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from roadbed.apps.analytics_manifest import PARTS_MAX, SQL_CHARACTERS_MAX, MetricConfig
from roadbed.apps.analytics_parameters import ParameterInvalid, quote
from roadbed.apps.manifest import AppConfig
from roadbed.kernel.config import nearest
from roadbed.kernel.errors import InvalidRequest
from roadbed.sources.catalogue import Catalogue, SqlDialect

OPTIONS_MAX = 6
Text = Annotated[str, Meta(max_length=500)]
Grain = Literal["", "day", "week", "month", "quarter", "year", "fiscal_year"]
_FENCED = re.compile(r"```(?:sql|json)?\s*(.*?)```", re.DOTALL | re.IGNORECASE)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")


class PlanInvalid(InvalidRequest):
    """A model's plan does not fit what the app declares, or is no plan at all."""

    code = "apps.plan_invalid"
    hint = "answer with one JSON object as described, over the listed sources, tables and metrics"


class Filter(msgspec.Struct, frozen=True):
    """One condition of a plan."""

    column: Text
    op: Literal["=", "!=", "<", "<=", ">", ">=", "in"] = "="
    value: str | int | float | bool | list[str | int | float] | None = None


class Period(msgspec.Struct, frozen=True):
    """From the day ``start`` to before the day ``end``."""

    start: date
    end: date
    column: Text = ""


class Query(msgspec.Struct, frozen=True):
    """One statement on one source; ``name`` is its table in a join."""

    source: Text
    sql: Annotated[str, Meta(min_length=1, max_length=SQL_CHARACTERS_MAX)]
    name: Text = "result"


class Plan(msgspec.Struct, frozen=True):
    """How a question is answered. Without ``queries`` the statement is compiled from the metrics."""

    metrics: Annotated[list[Text], Meta(max_length=4)] = []
    dimensions: Annotated[list[Text], Meta(max_length=4)] = []
    grain: Grain = ""
    filters: Annotated[list[Filter], Meta(max_length=12)] = []
    period: Period | None = None
    tables: Annotated[list[Text], Meta(max_length=20)] = []
    queries: Annotated[list[Query], Meta(max_length=PARTS_MAX)] = []
    join: Annotated[str, Meta(max_length=SQL_CHARACTERS_MAX)] = ""
    title: Text = ""


class Asks(msgspec.Struct, frozen=True):
    """A question back: the readings between which a person must choose."""

    question: Annotated[str, Meta(min_length=1, max_length=500)]
    options: Annotated[list[Text], Meta(min_length=2, max_length=OPTIONS_MAX)]


class _Reply(msgspec.Struct, frozen=True):
    plan: Plan | None = None
    ambiguous: Asks | None = None
    unanswerable: Annotated[str, Meta(max_length=500)] | None = None


Reply = Plan | Asks | str
"""A plan, a question back, or why the databases cannot answer."""


def read_reply(text: str, sources: Sequence[str]) -> Reply:
    """What a model's text says. A bare statement is taken as the plan to run it, with one source. `PlanInvalid`."""
    fenced = _FENCED.search(text)
    body = (fenced[1] if fenced else text).strip()
    start, end = body.find("{"), body.rfind("}")
    if re.match(r"(?:select|with)\b", body, re.IGNORECASE) and len(sources) == 1:
        return Plan(queries=[Query(sources[0], body.rstrip("; \n")[:SQL_CHARACTERS_MAX])])
    if start < 0 or end < start:
        raise PlanInvalid("the answer holds no JSON object")
    try:
        reply = msgspec.json.decode(body[start : end + 1].encode("utf-8", "replace"), type=_Reply)
    except msgspec.ValidationError as error:
        raise PlanInvalid(f"the plan is not valid: {str(error)[:300]}") from None
    except (msgspec.DecodeError, RecursionError):
        raise PlanInvalid("the plan is not valid JSON") from None
    given = [part for part in (reply.plan, reply.ambiguous, reply.unanswerable) if part is not None]
    if len(given) != 1:
        raise PlanInvalid("give exactly one of plan, ambiguous and unanswerable")
    return given[0]


def check_plan(plan: Plan, config: AppConfig, sources: Sequence[str]) -> None:
    """`PlanInvalid` when a plan does not fit the app."""
    for name in plan.metrics:
        if name not in config.metrics:
            raise PlanInvalid(f"there is no metric {name!r}", hint=_hint(name, list(config.metrics), "metrics"))
    if plan.period is not None and plan.period.end <= plan.period.start:
        raise PlanInvalid("the period ends before it starts", hint="end is the day after its last day")
    if not plan.queries and not plan.metrics:
        raise PlanInvalid("the plan has neither queries nor metrics", hint="write the SQL in queries")
    for query in plan.queries:
        if query.source not in sources:
            raise PlanInvalid(f"there is no source {query.source!r}", hint=_hint(query.source, sources, "sources"))
    names = [query.name for query in plan.queries]
    if len(plan.queries) > 1:
        if not plan.join:
            raise PlanInvalid("several queries need a join", hint="write one SELECT over their names in join")
        if len({name.casefold() for name in names}) < len(names) or not all(map(_NAME.fullmatch, names)):
            raise PlanInvalid("the names of the queries must differ and be plain identifiers")
    elif plan.join and not plan.queries:
        raise PlanInvalid("a join needs queries")


def _hint(name: str, known: Sequence[str], noun: str) -> str:
    return nearest(name, list(known)) or f"{noun}: {', '.join(known) or 'none'}"


def compile_plan(plan: Plan, config: AppConfig, catalogue: Catalogue) -> Plan:
    """The plan with the statement that its metrics and dimensions mean. `PlanInvalid` where they do not cover it."""
    if plan.queries:
        return plan
    metrics = [config.metrics[name] for name in plan.metrics]
    first = metrics[0]
    if any(
        (metric.source, metric.table, metric.filter) != (first.source, first.table, first.filter) for metric in metrics
    ):
        raise PlanInvalid("the metrics are of different tables or filters", hint="write the SQL in queries")
    compiler = _Compiler(first, config, catalogue)
    columns: list[str] = []
    groups: list[tuple[str, str]] = []
    if plan.grain:
        if not first.time:
            raise PlanInvalid("the metric has no time column for a grain", hint="write the SQL in queries")
        groups.append((compiler.bucket(plan.grain), plan.grain))
    for name in plan.dimensions:
        groups.append((compiler.column(config.dimensions.get(name, name)), name.rpartition(".")[2]))
    columns += [f"{expression} AS {_quoted(alias, catalogue.dialect)}" for expression, alias in groups]
    columns += [
        f"{metric.sql} AS {_quoted(name, catalogue.dialect)}"
        for name, metric in zip(plan.metrics, metrics, strict=True)
    ]
    conditions = [f"({first.filter})"] if first.filter else []
    conditions += [compiler.condition(filter_) for filter_ in plan.filters]
    if plan.period is not None:
        when = compiler.column(plan.period.column) if plan.period.column else compiler.time()
        conditions += [f"{when} >= {compiler.day(plan.period.start)}", f"{when} < {compiler.day(plan.period.end)}"]
    sql = f"SELECT {', '.join(columns)} FROM {first.table}"  # noqa: S608 (declared text and quoted literals; gated)
    sql += f" WHERE {' AND '.join(conditions)}" if conditions else ""
    if groups:
        places = ", ".join(str(n) for n in range(1, len(groups) + 1))
        sql += f" GROUP BY {places} ORDER BY {'1' if plan.grain else f'{len(groups) + 1} DESC'}"
    return msgspec.structs.replace(plan, queries=[Query(first.source, sql)])


class _Compiler:
    """Writes parts of a statement over one metric's table, in its source's dialect."""

    def __init__(self, metric: MetricConfig, config: AppConfig, catalogue: Catalogue) -> None:
        self._metric = metric
        self._config = config
        self._dialect: SqlDialect = catalogue.dialect
        self._columns: Mapping[str, str] = catalogue.tables.get(metric.table, {})

    def column(self, place: str) -> str:
        """A column of the table, by ``column`` or ``table.column``."""
        table, _, column = place.rpartition(".")
        if (table and table != self._metric.table) or column not in self._columns:
            raise PlanInvalid(
                f"{self._metric.table} has no column {place!r} for the metric",
                hint="name a column of the metric's table, or write the SQL in queries",
            )
        return _quoted(column, self._dialect)

    def time(self) -> str:
        """The metric's time column, at the app's clock where it is a point in time."""
        if not self._metric.time:
            raise PlanInvalid("the metric has no time column for a period", hint="name the period's column")
        column = self.column(self._metric.time)
        kind = self._columns.get(self._metric.time.rpartition(".")[2], "").casefold()
        if self._dialect == "postgres" and kind in ("timestamp with time zone", "timestamptz"):
            return f"({column} AT TIME ZONE {quote('time_zone', self._config.time_zone)})"
        return column

    def bucket(self, grain: str) -> str:
        """The first day of the span that a row belongs to; of a fiscal year the calendar year in which it ends."""
        column = self.time()
        if grain == "fiscal_year":
            months = (13 - self._config.fiscal_year_start) % 12
            return _FISCAL[self._dialect].format(column=column, months=months)
        if self._dialect in ("postgres", "duckdb"):
            return f"CAST(date_trunc('{grain}', {column}) AS date)"
        found = _BUCKETS[self._dialect].get(grain)
        if found is None:
            raise PlanInvalid(f"the grain {grain} cannot be compiled here", hint="write the SQL in queries")
        return found.format(column=column)

    def day(self, day: date) -> str:
        """A day as a literal."""
        return f"'{day.isoformat()}'" if self._dialect == "sqlite" else f"DATE '{day.isoformat()}'"

    def condition(self, filter_: Filter) -> str:
        """A filter of the plan."""
        column = self.column(self._config.dimensions.get(filter_.column, filter_.column))
        if filter_.value is None:
            if filter_.op not in ("=", "!="):
                raise PlanInvalid("null is only compared with = and !=")
            return f"{column} IS {'NOT ' if filter_.op == '!=' else ''}NULL"
        if filter_.op == "in" or isinstance(filter_.value, list):
            values = filter_.value if isinstance(filter_.value, list) else [filter_.value]
            if not values or filter_.op not in ("in", "="):
                raise PlanInvalid("a list of values is only compared with in")
            return f"{column} IN ({', '.join(map(self._literal, values))})"
        return f"{column} {'<>' if filter_.op == '!=' else filter_.op} {self._literal(filter_.value)}"

    def _literal(self, value: Any) -> str:
        if isinstance(value, bool):
            return str(int(value)) if self._dialect == "sqlite" else str(value).upper()
        if isinstance(value, int | float):
            return repr(value)
        try:
            return quote("a filter", str(value))
        except ParameterInvalid as error:
            raise PlanInvalid(error.message) from None


_FISCAL = {
    "postgres": "CAST(extract(year FROM {column} + interval '{months} months') AS integer)",
    "duckdb": "CAST(extract(year FROM {column} + interval '{months} months') AS integer)",
    "mysql": "YEAR(DATE_ADD({column}, INTERVAL {months} MONTH))",
    "sqlite": "CAST(strftime('%Y', {column}, '+{months} months') AS integer)",
}
_BUCKETS: dict[str, dict[str, str]] = {
    "sqlite": {
        "day": "date({column})",
        "month": "strftime('%Y-%m-01', {column})",
        "year": "strftime('%Y-01-01', {column})",
    },
    "mysql": {
        "day": "DATE({column})",
        "month": "CAST(DATE_FORMAT({column}, '%Y-%m-01') AS DATE)",
        "year": "CAST(DATE_FORMAT({column}, '%Y-01-01') AS DATE)",
    },
}


def _quoted(name: str, dialect: SqlDialect) -> str:
    mark = "`" if dialect == "mysql" else '"'
    return f"{mark}{name.replace(mark, mark * 2)}{mark}"
