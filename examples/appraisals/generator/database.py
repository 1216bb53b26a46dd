"""Writes the two databases: the SQL seed for PostgreSQL and the SQLite file of user profiles."""

from __future__ import annotations

import sqlite3
import tempfile
from dataclasses import astuple
from datetime import date
from pathlib import Path

from .casework import Appraisal
from .world import Parcel, Sale, User

ROWS_PER_INSERT = 200

SCHEMA = """-- The database of the appraisal office: parcels, sales and appraisals. Written by generate.py; do not edit.
-- All people, streets and prices are made up. Amounts are Norwegian kroner (NOK), areas are square metres.

CREATE TABLE parcels (
    id integer PRIMARY KEY,
    municipality text NOT NULL,
    district text NOT NULL,
    address text NOT NULL UNIQUE,
    cadastral_number text NOT NULL,
    property_type text NOT NULL
        CHECK (property_type IN ('apartment', 'row house', 'detached house', 'leisure home', 'commercial')),
    year_built smallint NOT NULL,
    living_area_m2 integer NOT NULL CHECK (living_area_m2 > 0),
    plot_m2 integer NOT NULL CHECK (plot_m2 >= 0),
    condition_grade smallint NOT NULL CHECK (condition_grade BETWEEN 1 AND 5),
    has_garage boolean NOT NULL,
    energy_rating text NOT NULL CHECK (energy_rating ~ '^[A-G]$'),
    east_km numeric(6, 2) NOT NULL,
    north_km numeric(6, 2) NOT NULL
);
COMMENT ON TABLE parcels IS 'Register of properties in the five municipalities, one row per parcel';
COMMENT ON COLUMN parcels.cadastral_number IS
    'Farm and holding number in the municipality, as in the national register';
COMMENT ON COLUMN parcels.living_area_m2 IS
    'Living area under the measuring rule AR-01; floor area for commercial buildings';
COMMENT ON COLUMN parcels.plot_m2 IS 'Plot area; 0 for apartments';
COMMENT ON COLUMN parcels.condition_grade IS 'Condition grade from 1 (as new) to 5 (unfit), handbook CG-01';
COMMENT ON COLUMN parcels.energy_rating IS 'Energy rating A (best) to G, from the national register';
COMMENT ON COLUMN parcels.east_km IS 'Kilometres east of the town hall of the municipality';
COMMENT ON COLUMN parcels.north_km IS 'Kilometres north of the town hall of the municipality';

CREATE TABLE sales (
    id integer PRIMARY KEY,
    parcel_id integer NOT NULL REFERENCES parcels (id),
    address text NOT NULL,
    municipality text NOT NULL,
    property_type text NOT NULL,
    sold_on date NOT NULL,
    registered_on date NOT NULL,
    sale_kind text NOT NULL CHECK (sale_kind IN ('open market', 'family transfer', 'forced sale')),
    price_nok integer NOT NULL CHECK (price_nok > 0),
    living_area_m2 integer NOT NULL,
    condition_grade smallint NOT NULL,
    days_on_market smallint NOT NULL,
    CHECK (registered_on >= sold_on)
);
COMMENT ON TABLE sales IS
    'Registered sales since 2023, one row per deed; area and condition are those of the day of the sale';
COMMENT ON COLUMN sales.sold_on IS 'Date of the accepted bid: the date that counts for the time window of CS-01';
COMMENT ON COLUMN sales.registered_on IS 'Date on which the deed was registered';
COMMENT ON COLUMN sales.sale_kind IS 'Only open market sales may be used as comparables';

CREATE TABLE appraisals (
    id text PRIMARY KEY CHECK (id ~ '^A-[0-9]{4}-[0-9]{4}$'),
    parcel_id integer NOT NULL REFERENCES parcels (id),
    address text NOT NULL,
    municipality text NOT NULL,
    property_type text NOT NULL,
    purpose text NOT NULL,
    client_kind text NOT NULL CHECK (client_kind IN ('private', 'bank')),
    status text NOT NULL CHECK (status IN ('ordered', 'in review', 'delivered', 'withdrawn')),
    ordered_on date NOT NULL,
    valuation_date date,
    delivered_on date,
    appraiser text NOT NULL,
    reviewer text NOT NULL,
    fee_nok integer NOT NULL,
    method text,
    value_nok bigint,
    range_low_nok bigint,
    range_high_nok bigint,
    CHECK ((status = 'delivered') = (value_nok IS NOT NULL))
);
COMMENT ON TABLE appraisals IS 'Assignments of the office; a value exists once the report is delivered';
COMMENT ON COLUMN appraisals.valuation_date IS
    'Day of the inspection, for which the value holds; null before the inspection';
COMMENT ON COLUMN appraisals.method IS 'Main method: comparable sales, cost or income';
COMMENT ON COLUMN appraisals.value_nok IS 'Market value in NOK, rounded as handbook MV-01 says';

CREATE TABLE comparables (
    appraisal_id text NOT NULL REFERENCES appraisals (id),
    sale_id integer NOT NULL REFERENCES sales (id),
    distance_km numeric(6, 2) NOT NULL,
    adjusted_price_nok bigint NOT NULL,
    weight_percent numeric(4, 1) NOT NULL,
    PRIMARY KEY (appraisal_id, sale_id)
);
COMMENT ON TABLE comparables IS 'The sales that each delivered appraisal was compared with, after adjustment (CS-02)';
"""

INDEXES = """
CREATE INDEX sales_parcel_id ON sales (parcel_id);
CREATE INDEX sales_municipality_sold_on ON sales (municipality, sold_on);
CREATE INDEX appraisals_parcel_id ON appraisals (parcel_id);
"""


def _literal(value: object) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    return "'" + str(value).replace("'", "''") + "'"


def _insert(table: str, rows: list[tuple[object, ...]]) -> str:
    statements = []
    for start in range(0, len(rows), ROWS_PER_INSERT):
        lines = ["(" + ",".join(map(_literal, row)) + ")" for row in rows[start : start + ROWS_PER_INSERT]]
        statements.append(f"\nINSERT INTO {table} VALUES\n" + ",\n".join(lines) + ";\n")
    return "".join(statements)


def _appraisal_row(appraisal: Appraisal) -> tuple[object, ...]:
    parcel, result = appraisal.parcel, appraisal.result
    outcome: tuple[object, ...] = (None, None, None, None)
    if result is not None:
        low, high = value_range(result.value_nok, result.range_share)
        outcome = (result.method, result.value_nok, low, high)
    return (
        appraisal.id,
        parcel.id,
        parcel.address,
        parcel.municipality,
        parcel.property_type,
        appraisal.purpose,
        appraisal.client_kind,
        appraisal.status,
        appraisal.ordered_on,
        appraisal.inspected_on,
        appraisal.delivered_on,
        appraisal.appraiser,
        appraisal.reviewer,
        appraisal.fee_nok,
        *outcome,
    )


def value_range(value_nok: int, share: float) -> tuple[int, int]:
    """The lower and upper end of a value's range, rounded to NOK 50,000."""
    return round(value_nok * (1 - share) / 50_000) * 50_000, round(value_nok * (1 + share) / 50_000) * 50_000


def sql_seed(parcels: list[Parcel], sales: list[Sale], appraisals: list[Appraisal]) -> bytes:
    """One script that creates and fills the database; it runs once, on an empty one."""
    compared: list[tuple[object, ...]] = [
        (appraisal.id, item.sale.id, item.distance_km, item.adjusted_nok, round(item.weight * 100, 1))
        for appraisal in appraisals
        if appraisal.result is not None
        for item in appraisal.result.comparables
    ]
    parts = [
        SCHEMA,
        _insert("parcels", [astuple(parcel) for parcel in parcels]),
        _insert("sales", [astuple(sale) for sale in sales]),
        _insert("appraisals", [_appraisal_row(appraisal) for appraisal in appraisals]),
        _insert("comparables", compared),
        INDEXES,
    ]
    return "".join(parts).encode()


def profiles(users: list[User]) -> bytes:
    """The SQLite file of user profiles."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "profiles.sqlite"
        connection = sqlite3.connect(path)
        try:
            connection.execute(
                """CREATE TABLE users (
                    id INTEGER PRIMARY KEY, full_name TEXT NOT NULL, email TEXT NOT NULL UNIQUE, phone TEXT NOT NULL,
                    role TEXT NOT NULL, team TEXT NOT NULL, municipality TEXT NOT NULL, national_id TEXT NOT NULL,
                    created_on TEXT NOT NULL, last_login_on TEXT NOT NULL, newsletter INTEGER NOT NULL)"""
            )
            rows = [
                tuple(value.isoformat() if isinstance(value, date) else value for value in astuple(user))
                for user in users
            ]
            connection.executemany("INSERT INTO users VALUES (?,?,?,?,?,?,?,?,?,?,?)", rows)
            connection.commit()
        finally:
            connection.close()
        return path.read_bytes()


def dump(data: bytes) -> str:
    """The content of a SQLite file as SQL: what two files are compared by, since the header counts writes."""
    connection = sqlite3.connect(":memory:")
    try:
        connection.deserialize(data)
        return "\n".join(connection.iterdump())
    finally:
        connection.close()
