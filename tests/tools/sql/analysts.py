"""Ordinary questions about the appraisal office's database, as analysts write them: all of them must pass the gate.

``{month:x}``, ``{year:x}``, ``{days:a,b}`` and ``{back:x}`` are written as each dialect writes them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from roadbed.sources.catalogue import SqlDialect

DATA = Path(__file__).parent / "data"
TABLES: dict[str, dict[str, str]] = {
    "parcels": {
        "id": "integer",
        "municipality": "text",
        "district": "text",
        "address": "text",
        "cadastral_number": "text",
        "property_type": "text",
        "year_built": "integer",
        "living_area_m2": "integer",
        "plot_m2": "integer",
        "condition_grade": "integer",
        "has_garage": "boolean",
        "energy_rating": "text",
    },
    "sales": {
        "id": "integer",
        "parcel_id": "integer",
        "address": "text",
        "municipality": "text",
        "property_type": "text",
        "sold_on": "date",
        "registered_on": "date",
        "sale_kind": "text",
        "price_nok": "integer",
        "living_area_m2": "integer",
        "condition_grade": "integer",
        "days_on_market": "integer",
    },
    "appraisals": {
        "id": "text",
        "parcel_id": "integer",
        "municipality": "text",
        "property_type": "text",
        "purpose": "text",
        "client_kind": "text",
        "status": "text",
        "ordered_on": "date",
        "delivered_on": "date",
        "appraiser": "text",
        "reviewer": "text",
        "fee_nok": "integer",
        "value_nok": "integer",
    },
    "comparables": {
        "appraisal_id": "text",
        "sale_id": "integer",
        "distance_km": "double precision",
        "adjusted_price_nok": "integer",
        "weight_percent": "double precision",
    },
}

_FORMS: dict[SqlDialect, dict[str, str]] = {
    "postgres": {
        "month": "to_char({}, 'YYYY-MM')",
        "year": "extract(year from {})",
        "days": "({} - {})",
        "back": "CURRENT_DATE - interval '{} days'",
    },
    "mysql": {
        "month": "DATE_FORMAT({}, '%Y-%m')",
        "year": "YEAR({})",
        "days": "DATEDIFF({}, {})",
        "back": "CURDATE() - INTERVAL {} DAY",
    },
    "sqlite": {
        "month": "strftime('%Y-%m', {})",
        "year": "strftime('%Y', {})",
        "days": "(julianday({}) - julianday({}))",
        "back": "date('now', '-{} days')",
    },
    "duckdb": {
        "month": "strftime({}, '%Y-%m')",
        "year": "year({})",
        "days": "({} - {})",
        "back": "current_date - interval {} day",
    },
}


def questions(dialect: SqlDialect) -> Iterator[str]:
    """The dialect's queries."""
    forms = _FORMS[dialect]
    lines = [line for name in ("every", dialect) for line in (DATA / f"questions.{name}.txt").read_text().splitlines()]
    for text in lines:
        text = re.sub(r"\{(\w+):([^}]*)\}", lambda match: forms[match[1]].format(*match[2].split(",")), text)
        if dialect == "mysql":
            text = re.sub(r"(\w+) \|\| ', ' \|\| (\w+)", r"CONCAT(\1, ', ', \2)", text)
        yield text


def script() -> Iterator[str]:
    """Statements that make and fill the tables, in a form that every engine here takes."""
    for table, columns in TABLES.items():
        yield f"CREATE TABLE {table} ({', '.join(f'{name} {kind}' for name, kind in columns.items())})"
    places, kinds = ("Fjordby", "Skogvik", "Nes"), ("apartment", "row house", "detached house")
    for n in range(1, 25):
        shape = (50 + n, n * 40, 1 + n % 5, n % 2 == 1, "ABCDEFG"[n % 7])
        yield _insert(
            "parcels", n, places[n % 3], f"D{n % 4}", f"Street {n}", f"{n}/{n}", kinds[n % 2], 1930 + n * 3, *shape
        )
    for n in range(1, 41):
        size = (1_000_000 + n * 150_000, 40 + n, 1 + n % 5, n % 60)
        parcel, month = 1 + n * 7 % 20, f"202{n % 5}-{1 + n % 12:02}"
        days = (f"{month}-{1 + n % 28:02}", f"{month}-28", "forced sale" if n % 5 == 0 else "open market")
        yield _insert("sales", n, parcel, f"Street {parcel}", places[n % 3], kinds[n % 2], *days, *size)
    for n in range(1, 21):
        name, month = f"A-2024-{n:04}", f"2024-{1 + n % 12:02}"
        what = ("loan", ("bank", "private")[n % 2], "delivered" if n % 4 else "ordered")
        delivered = f"{month}-25" if n % 4 else None
        who = (f"P{n % 3}", f"R{n % 2}", 3000 + n * 100, n * 100_000)
        yield _insert("appraisals", name, n, places[n % 3], kinds[n % 2], *what, f"{month}-05", delivered, *who)
        yield _insert("comparables", name, n, n % 7 / 2, n * 90_000, 10.0 + n)


def _insert(table: str, *cells: object) -> str:
    written = (
        "NULL" if cell is None else str(cell).lower() if isinstance(cell, bool) else repr(cell) for cell in cells
    )
    return f"INSERT INTO {table} VALUES ({', '.join(written)})"
