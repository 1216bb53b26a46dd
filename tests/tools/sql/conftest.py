"""A small schema with every kind of mask, shared by the tests of the gate."""

from __future__ import annotations

from typing import get_args

from roadbed.sources.catalogue import Catalogue, SqlDialect
from roadbed.tools.sql.gate import GatePolicy

DIALECTS: tuple[SqlDialect, ...] = get_args(SqlDialect)
TABLES = {
    "customers": {
        "id": "integer",
        "name": "text",
        "team": "text",
        "ssn": "text",
        "phone": "text",
        "email": "text",
        "band": "text",
    },
    "orders": {"id": "integer", "customer_id": "integer", "team": "text", "amount": "integer", "placed_on": "date"},
}
MASKED = GatePolicy(masks={"customers": {"ssn": "drop", "phone": "partial", "email": "token", "band": "group"}})


def catalogue(dialect: SqlDialect) -> Catalogue:
    """The schema as this dialect's catalogue."""
    return Catalogue(dialect, TABLES)
