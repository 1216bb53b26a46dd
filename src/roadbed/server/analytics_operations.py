"""The descriptions of ``/api/analytics``, for ``openapi.py``."""

from __future__ import annotations

from typing import Final

from roadbed.kernel.principal import MEMBER
from roadbed.server.analytics_routes import AnalyticsExport, AnalyticsQuestion, AnalyticsRun, AnalyticsSave
from roadbed.server.operations import Operation, Query

_ANSWER = (
    "{text, roadbed: {rung, degraded, …, analytics: {title, sentence, question, parameters, statements, join, "
    "prepared, seal, columns, rows, row_count, is_truncated, chart_kind, chart, notes, cites, missing, age_s, plan, "
    "asks, failure, offers}}}"
)
_FORMAT = Query("format", "csv or xlsx (default csv)")

ANALYTICS_OPERATIONS: Final[tuple[Operation, ...]] = (
    Operation(
        "POST",
        "/api/analytics/{app}/ask",
        MEMBER,
        "Analytics",
        "Ask an analytics app: table, chart, sentence, statements and where the rows came from.",
        _ANSWER,
        AnalyticsQuestion,
    ),
    Operation(
        "GET",
        "/api/analytics/{app}/questions",
        MEMBER,
        "Analytics",
        "The declared questions, and those that the caller's team saved.",
        "{app, declared: [{name, title, parameters}], saved: [{name, title, sources, creator, every, created, kept, "
        "trouble}]}",
    ),
    Operation(
        "POST",
        "/api/analytics/{app}/questions",
        MEMBER,
        "Analytics",
        "Save what the app answered, for the caller's team; with `every`, such as `1d at 07:00`, it runs by itself.",
        "{app, name, every}",
        AnalyticsSave,
        status=201,
    ),
    Operation(
        "DELETE",
        "/api/analytics/{app}/questions/{question}",
        MEMBER,
        "Analytics",
        "Forget a saved question of the caller's team.",
        "nothing",
        status=204,
    ),
    Operation(
        "POST",
        "/api/analytics/{app}/run/{question}",
        MEMBER,
        "Analytics",
        "Run a declared or saved question by its name, without a model.",
        _ANSWER,
        AnalyticsRun,
    ),
    Operation(
        "POST",
        "/api/analytics/{app}/export",
        MEMBER,
        "Analytics",
        "What was answered, run again, as a file.",
        "the table as CSV or XLSX",
        AnalyticsExport,
        query=(_FORMAT,),
    ),
    Operation(
        "GET",
        "/api/analytics/{app}/export/{question}",
        MEMBER,
        "Analytics",
        "A question's result as a file; other fields of the query are its parameters.",
        "the table as CSV or XLSX",
        query=(_FORMAT,),
    ),
)
