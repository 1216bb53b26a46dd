"""``/api/documents`` and uploads: reading documents that the caller may see, adding and deleting uploaded ones."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import msgspec
from msgspec import Meta
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from roadbed.kernel.errors import InvalidRequest, TooLarge
from roadbed.kernel.plain_name import plain_name
from roadbed.kernel.principal import ADMIN
from roadbed.knowledge.citations import CONTEXT_CHARS, QUOTE_CHARS_MAX, Anchor
from roadbed.knowledge.connectors.uploads import UPLOAD_BYTES_MAX, UPLOAD_FILES_MAX, upload_key
from roadbed.knowledge.documents import document_facts
from roadbed.server.admission import Admission
from roadbed.server.http import Json, endpoint, integer_of, json_of
from roadbed.server.services import Services

STATES = ("indexed", "failed", "pending")


class TextDocument(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A document sent as JSON text."""

    name: Annotated[str, Meta(min_length=1, max_length=500)]
    text: Annotated[str, Meta(max_length=4_000_000)]
    media_type: str = "text/markdown"


class CitedPassage(msgspec.Struct, frozen=True):
    """A citation as it was given; fields beside these are let pass. ``before`` and ``after``: what stood around it."""

    version: Annotated[str, Meta(max_length=200)]
    start: Annotated[int, Meta(ge=0)]
    end: Annotated[int, Meta(ge=0)]
    quote: Annotated[str, Meta(min_length=1, max_length=QUOTE_CHARS_MAX)]
    before: Annotated[str, Meta(max_length=1_000)] = ""
    after: Annotated[str, Meta(max_length=1_000)] = ""


def document_routes(services: Services) -> list[Route]:
    """Routes of documents."""
    knowledge = services.knowledge

    async def documents(request: Request, admission: Admission) -> Any:
        source = request.query_params.get("source")
        if not source:
            raise InvalidRequest("name a source", param="source", hint="GET /api/sources lists them")
        state = request.query_params.get("state")
        if state is not None and state not in STATES:
            raise InvalidRequest(f"state is one of {', '.join(STATES)}", param="state")
        rows = await knowledge.documents(
            source,
            admission.principal,
            state=state,  # type: ignore[arg-type]
            after_key=request.query_params.get("after", ""),
            limit=integer_of(request, "limit", 100, 500),
        )
        return {"documents": rows, "next": rows[-1].key if rows else None}

    async def document(request: Request, admission: Admission) -> Any:
        view = await knowledge.document(request.path_params["id"], admission.principal)
        return {**document_facts(view), "characters": len(view.text)}

    async def text(request: Request, admission: Admission) -> Any:
        view = await knowledge.document(request.path_params["id"], admission.principal)
        return Response(view.text, media_type="text/plain; charset=utf-8")

    async def chunks(request: Request, admission: Admission) -> Any:
        return await knowledge.chunks_of(request.path_params["id"], admission.principal)

    async def passage(request: Request, admission: Admission) -> Any:
        cited, document_id = await json_of(request, CitedPassage), request.path_params["id"]
        anchor = Anchor(
            document_id,
            cited.version,
            cited.start,
            cited.end,
            cited.quote,
            cited.before[-CONTEXT_CHARS:],
            cited.after[:CONTEXT_CHARS],
        )
        view, found = await knowledge.passage(anchor, admission.principal)
        place = None if found is None else {**asdict(found), "quote": view.text[found.start : found.end]}
        return {"document_id": document_id, "version": view.version, "passage": place}

    async def delete(request: Request, admission: Admission) -> Any:
        await knowledge.delete_document(request.path_params["id"], admission.principal)
        return Response(status_code=204)

    async def add(request: Request, admission: Admission) -> Any:
        collection = request.path_params["name"]
        files = await _files_of(request)
        added = []
        for name, data, media_type in files:
            document_id = await knowledge.add_document(
                collection, name, data, admission.principal, media_type=media_type
            )
            added.append({"id": document_id, "name": upload_key(name), "state": "pending"})
        return Json({"documents": added}, status_code=202)

    return [
        Route("/api/documents", endpoint(services, documents)),
        Route("/api/documents/{id}", endpoint(services, document)),
        Route("/api/documents/{id}", endpoint(services, delete, role=ADMIN), methods=["DELETE"]),
        Route("/api/documents/{id}/text", endpoint(services, text)),
        Route("/api/documents/{id}/chunks", endpoint(services, chunks)),
        Route("/api/documents/{id}/passage", endpoint(services, passage), methods=["POST"]),
        Route("/api/collections/{name}/documents", endpoint(services, add, role=ADMIN), methods=["POST"]),
    ]


async def _files_of(request: Request) -> list[tuple[str, bytes, str]]:
    """(name, bytes, media type) of each file of a form, or of the one document of a JSON body."""
    if not request.headers.get("content-type", "").startswith("multipart/"):
        sent = await json_of(request, TextDocument)
        return [(sent.name, sent.text.encode(), sent.media_type)]
    found: list[tuple[str, bytes, str]] = []
    async with request.form(max_files=UPLOAD_FILES_MAX, max_part_size=UPLOAD_BYTES_MAX) as form:
        for _, value in form.multi_items():
            if isinstance(value, UploadFile):
                data = await value.read(UPLOAD_BYTES_MAX + 1)
                if len(data) > UPLOAD_BYTES_MAX:
                    raise TooLarge(f"{plain_name(value.filename or '')[:200]} is larger than {UPLOAD_BYTES_MAX} bytes")
                found.append((value.filename or "", data, value.content_type or ""))
    if not found:
        raise InvalidRequest("the form holds no file", hint="send multipart/form-data with one or more files")
    return found
