"""Writes the two tables among the documents: the price list for 2026 (XLSX) and the municipal price index (CSV)."""

from __future__ import annotations

import io
import re
from datetime import datetime

from .writers import fixed_zip

PRICES_2026 = (
    ("Apartment", 5_900, "5 working days", "yes"),
    ("Row house", 6_400, "5 working days", "yes"),
    ("Detached house", 6_900, "5 working days", "yes"),
    ("Leisure home", 8_400, "8 working days", "no"),
    ("Plot", 5_500, "5 working days", "yes"),
    ("Small commercial property", 18_500, "15 working days", "no"),
    ("Desk update of a report not older than six months", 2_900, "3 working days", "no"),
    ("Copy of a delivered report for a new reader", 750, "1 working day", "no"),
)
SUPPLEMENTS_2026 = (
    ("Approved rental unit", "NOK 900"),
    ("Living area above 250 m²", "NOK 1,200"),
    ("Rush order", "35 % of the standard fee"),
    ("Travel beyond 40 km from the office in Bruvang", "NOK 14 per kilometre"),
    ("Cancellation later than 24 hours before the inspection", "NOK 1,500"),
    ("Reminder", "NOK 35"),
)


def price_list() -> bytes:
    """The price list for 2026 as a workbook of two sheets."""
    import openpyxl
    from openpyxl.styles import Font

    book = openpyxl.Workbook()
    fees = book.active
    fees.title = "Fees 2026"
    fees.append(["Assignment", "Fee in NOK including VAT", "Delivery after the inspection", "Rush order possible"])
    for row in PRICES_2026:
        fees.append(list(row))
    supplements = book.create_sheet("Supplements 2026")
    supplements.append(["Supplement", "Amount"])
    for pair in SUPPLEMENTS_2026:
        supplements.append(list(pair))
    for sheet in (fees, supplements):
        sheet.column_dimensions["A"].width = 52
        sheet.column_dimensions["B"].width = 28
        for cell in sheet[1]:
            cell.font = Font(bold=True)
    book.properties.title, book.properties.creator = "Price list 2026", "Bruvang Appraisal Office"
    book.properties.created = datetime(2026, 1, 1)
    stream = io.BytesIO()
    book.save(stream)
    plain = fixed_zip(stream.getvalue())
    return fixed_zip(plain, {"docProps/core.xml": _without_clock(plain)})


def _without_clock(data: bytes) -> bytes:
    """The core properties with a fixed time of change: openpyxl always writes the time of saving."""
    import zipfile

    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        core = archive.read("docProps/core.xml").decode()
    return re.sub(r"(<dcterms:modified[^>]*>)[^<]*", r"\g<1>2026-01-01T00:00:00Z", core).encode()


def index_table(indexes: dict[tuple[str, str, str], float]) -> bytes:
    """The municipal price index, one line per municipality, group and quarter; an s marks a smoothed quarter."""
    lines = ["municipality,group,quarter,index,mark"]
    for (municipality, group, quarter), value in sorted(indexes.items()):
        mark = "s" if group == "leisure homes" and municipality in ("Bruvang", "Storsund") else ""
        lines.append(f"{municipality},{group},{quarter},{value},{mark}")
    return ("\n".join(lines) + "\n").encode()
