"""``/api/audit``: the record for auditors: pages, its state, exports, and this deployment as another's witness."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from roadbed.apps.analytics_export import MEDIA, xlsx_of
from roadbed.apps.analytics_table import Table, TableColumn
from roadbed.kernel.principal import ADMIN, AUDITOR
from roadbed.ledger.audit_export import CSV_COLUMNS, PAGE_RECORDS_MAX, AuditQueryInvalid
from roadbed.ledger.audit_witness import Witness, WitnessFork
from roadbed.server.admission import Admission
from roadbed.server.http import Json, endpoint, integer_of, json_of
from roadbed.server.services import Services

FORMATS = ("json", "csv", "jsonl", "xlsx")
DOWNLOAD_RECORDS_MAX = 100_000
SHEET_RECORDS_MAX = 20_000
"""A sheet is made as a whole, in memory."""


class WitnessOrder(msgspec.Struct, frozen=True):
    """``POST /api/audit/witness``: the next checkpoint of another log."""

    key: Annotated[str, Meta(max_length=400)]
    note: Annotated[str, Meta(max_length=20_000)]
    proof: Annotated[list[str], Meta(max_length=130)] = []
    rotation: Annotated[dict[str, Annotated[str, Meta(max_length=400)]], Meta(max_length=4)] = {}


def audit_routes(services: Services) -> list[Route]:
    """The addresses."""
    trail, witness = services.trail, Witness(services.database)

    async def records(request: Request, admission: Admission) -> Any:
        given = request.query_params
        form = given.get("format") or "json"
        if form not in FORMATS:
            raise AuditQueryInvalid("format is json, csv, jsonl or xlsx", param="format")
        actor = given.get("actor") or ""
        filters: dict[str, Any] = {
            "actor": trail.pseudonym(actor) if actor else "",
            "action": given.get("action") or "",
            "acts_only": given.get("acts") == "true",
            "start": time_of(given.get("from"), "from"),
            "end": time_of(given.get("to"), "to"),
            "break_glass": given.get("break_glass") or "",
        }
        if form == "json":
            rows, place = await trail.page(
                **filters, before=given.get("before") or "", limit=integer_of(request, "limit", 50, PAGE_RECORDS_MAX)
            )
            return {"records": rows, "next": place}
        await trail.act("audit.download", admission.principal.id, form)
        headers = {"content-disposition": f'attachment; filename="audit.{form}"'}
        if form == "xlsx":
            body = await sheet(services, filters)
            return Response(body, media_type=MEDIA["xlsx"], headers=headers)
        media = "text/csv" if form == "csv" else "application/x-ndjson"
        return StreamingResponse(download(services, form, filters), media_type=media, headers=headers)

    async def head(request: Request, admission: Admission) -> Any:
        return await trail.head()

    async def export(request: Request, admission: Admission) -> Any:
        start, end = (time_of(request.query_params.get(name), name) for name in ("from", "to"))
        await trail.act("audit.export", admission.principal.id)

        async def pieces() -> AsyncIterator[bytes]:
            async for name, piece in trail.reader.files(trail.origin, start, end):
                yield json.dumps({"file": name, "text": piece.decode()}, ensure_ascii=False).encode() + b"\n"
            yield b'{"end":true}\n'

        return StreamingResponse(pieces(), media_type="application/x-ndjson")

    async def checkpoint(request: Request, admission: Admission) -> Any:
        made = await trail.checkpoint()
        return {"made": made, **await trail.reader.head()}

    async def rotate(request: Request, admission: Admission) -> Any:
        return await trail.rotate_key(admission.principal.id)

    async def take(request: Request, admission: Admission) -> Any:
        order = await json_of(request, WitnessOrder)
        try:
            found = await witness.take(order.key, order.note, order.proof, order.rotation)
        except WitnessFork as error:
            await trail.shipping.alarm("audit_fork", error.message)
            raise
        return Json({"origin": found.origin, "size": found.size})

    return [
        Route("/api/audit", endpoint(services, records, role=AUDITOR)),
        Route("/api/audit/head", endpoint(services, head, role=AUDITOR)),
        Route("/api/audit/export", endpoint(services, export, role=AUDITOR)),
        Route("/api/audit/checkpoint", endpoint(services, checkpoint, role=ADMIN), methods=["POST"]),
        Route("/api/audit/rotate-key", endpoint(services, rotate, role=ADMIN), methods=["POST"]),
        Route("/api/audit/witness", endpoint(services, take, role=AUDITOR), methods=["POST"]),
    ]


async def download(services: Services, form: str, filters: dict[str, Any]) -> AsyncIterator[bytes]:
    """Records as CSV or JSON lines, newest first, what people wrote into names masked as in every export."""
    if form == "csv":
        yield (",".join(CSV_COLUMNS) + "\r\n").encode()
    async for rows in masked_pages(services, filters, DOWNLOAD_RECORDS_MAX):
        yield b"".join(csv_line(row) if form == "csv" else msgspec.json.encode(row) + b"\n" for row in rows)


async def sheet(services: Services, filters: dict[str, Any]) -> bytes:
    """The newest records as one sheet, masked as in `download`; texts are never run as formulas."""
    found = [row async for rows in masked_pages(services, filters, SHEET_RECORDS_MAX) for row in rows]
    columns = tuple(TableColumn(name, "integer" if name == "seq" else "text") for name in CSV_COLUMNS)
    table = Table(columns, tuple(tuple(cells_of(row).values()) for row in found))
    return await asyncio.to_thread(xlsx_of, table)


async def masked_pages(
    services: Services, filters: dict[str, Any], records_max: int
) -> AsyncIterator[list[dict[str, Any]]]:
    """Records, newest first, what people wrote into names masked as in every export."""
    reader, place, left = services.trail.reader, "", records_max
    while left > 0:
        rows, following = await reader.page(**filters, before=place, limit=min(left, PAGE_RECORDS_MAX))
        for row in rows:
            row["resource"] = services.teams.guard.for_export(row["resource"]).text
            row["detail"] = {
                name: services.teams.guard.for_export(value).text if isinstance(value, str) else value
                for name, value in row["detail"].items()
            }
        yield rows
        left -= len(rows)
        if following is None:
            return
        place = following


def csv_line(row: dict[str, Any]) -> bytes:
    """One record; a cell that a spreadsheet would take for a formula gets a quote before it."""
    text = io.StringIO()
    plain = [str(cell) for cell in cells_of(row).values()]
    csv.writer(text).writerow(["'" + cell if cell[:1] in ("=", "+", "-", "@", "\t") else cell for cell in plain])
    return text.getvalue().encode()


def cells_of(row: dict[str, Any]) -> dict[str, Any]:
    """A record's columns, its time and its details in words."""
    cells = {**row, "detail": msgspec.json.encode(row["detail"]).decode()}
    cells["at"] = datetime.fromtimestamp(row["at"] / 1e6, UTC).isoformat()
    return {name: cells[name] for name in CSV_COLUMNS}


def time_of(text: str | None, name: str) -> datetime | None:
    """A time of the query; a day is its beginning in UTC. Raises `AuditQueryInvalid`."""
    if not text:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise AuditQueryInvalid(f"{name}: {text[:40]!r} is no time", param=name) from None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
