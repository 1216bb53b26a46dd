"""Documents: sources with their counts, failures and progress; a source's documents; one document and its chunks.

What is listed and read is what the caller may see; an admin also sees names of documents that others may read, never
their text. Uploading, listing again and reading failed documents again are for admins.
"""

from __future__ import annotations

from typing import cast

from starlette.datastructures import UploadFile
from starlette.responses import Response
from starlette.routing import Route

from roadbed.console.passages import segments, window_of
from roadbed.console.sources import done_share, is_busy, visible_states
from roadbed.console.visits import Console, Page, Visit, seen
from roadbed.kernel.errors import InvalidRequest, TooLarge
from roadbed.kernel.plain_name import plain_name
from roadbed.kernel.principal import ADMIN
from roadbed.knowledge.connectors.uploads import UPLOAD_BYTES_MAX, UPLOAD_FILES_MAX
from roadbed.knowledge.documents import DocumentState, DocumentSummary, document_facts
from roadbed.knowledge.states import SourceState

PAGE_DOCUMENTS = 50
CHUNKS_SHOWN = 100
STATES = ("indexed", "pending", "failed")
_OFFSET_MAX = 2**31


class NoFile(InvalidRequest):
    """The upload form was sent without a file."""

    code = "console.no_file"
    hint = "choose one or more files first"


class UploadTooLarge(TooLarge):
    """One of the uploaded files is over the limit of the console."""

    code = "console.upload_too_large"
    hint = "put large files into a folder and declare it as a source of type files"


def document_routes(console: Console) -> list[Route]:
    """The routes of the pages."""
    return [
        *console.page("/console/documents", documents),
        *console.page("/console/documents/{id}", document),
        *console.action(
            "/console/documents", upload, role=ADMIN, files_max=UPLOAD_FILES_MAX, file_bytes_max=UPLOAD_BYTES_MAX
        ),
        *console.action("/console/documents/sync", sync, role=ADMIN),
        *console.action("/console/documents/retry", retry, role=ADMIN),
        *console.action("/console/documents/{id}/delete", delete, role=ADMIN),
    ]


async def documents(visit: Visit) -> Page:
    """The sources, and the documents of one of them."""
    knowledge = visit.services.knowledge
    sources = visible_states(await knowledge.source_states(), visit.principal)
    chosen = _chosen(sources, visit.query("source"))
    state = visit.query("state")
    state = state if state in STATES else ""
    after, start_at = visit.query("after"), visit.query("from")
    rows = []
    if chosen is not None:
        rows = await knowledge.documents(
            chosen.name,
            visit.principal,
            state=cast("DocumentState", state) if state else None,
            after_key=after or start_at,
            limit=PAGE_DOCUMENTS + 1,
        )
    more = len(rows) > PAGE_DOCUMENTS
    rows = rows[:PAGE_DOCUMENTS]
    context = {
        "sources": sources,
        "shares": {source.name: done_share(source) for source in sources},
        "chosen": chosen,
        "is_unused": await _is_unused(visit, chosen, rows),
        "state": state,
        "start_at": start_at,
        "after": after,
        "rows": rows,
        "next_after": rows[-1].key if more else None,
        "is_busy": is_busy(sources) or any(source.outdated for source in sources),
        "connections": visit.services.connections() if visit.is_auditor else (),
        "added": _number(visit.query("added")),
        "upload_megabytes_max": UPLOAD_BYTES_MAX // (1024 * 1024),
    }
    return Page("documents.html", "Documents", context, {"sources": sources, "documents": rows})


def _chosen(sources: list[SourceState], name: str) -> SourceState | None:
    by_name = {source.name: source for source in sources}
    largest = max(sources, key=lambda source: source.listed, default=None)
    return by_name.get(name, largest)


async def _is_unused(visit: Visit, chosen: SourceState | None, rows: list[DocumentSummary]) -> bool:
    """Whether documents were read that no collection holds, so that nothing finds them."""
    if chosen is None or not chosen.indexed or any(row.chunk_count for row in rows):
        return False
    return all(chosen.name not in held.sources for held in await visit.services.knowledge.collection_stats())


async def document(visit: Visit) -> Page:
    """One document: its text with a highlighted passage, its chunks, and who may see it.

    A passage of another ``version`` than the one that is served is not marked: other words may stand there now.
    """
    knowledge = visit.services.knowledge
    document_id = visit.request.path_params["id"]
    start, end = _number(visit.query("start")), _number(visit.query("end"))
    highlight = (start, end) if end > start else None
    view = await knowledge.document(document_id, visit.principal, highlight=highlight)
    chunks = await knowledge.chunks_of(document_id, visit.principal)
    window = window_of(view.text, _number(visit.query("at")), view.highlight)
    has_changed = visit.query("version") not in ("", view.version)
    marked = None if has_changed else view.highlight
    context = {
        "document": view,
        "has_changed": has_changed,
        "is_marked": marked is not None,
        "segments": segments(view.text, view.blocks, window, marked),
        "window": window,
        "chunks": chunks if visit.query("chunks") == "all" else chunks[:CHUNKS_SHOWN],
        "chunk_count": len(chunks),
        "audience": [audience(group) for group in view.groups],
        "is_upload": await _is_upload(visit, view.source),
    }
    facts = {**document_facts(view), "text": view.text}
    return Page("document.html", view.title or view.key, context, {"document": facts, "chunks": chunks})


async def _is_upload(visit: Visit, source: str) -> bool:
    if not visit.principal.is_admin:
        return False
    states = await visit.services.knowledge.source_states()
    return any(state.name == source and state.kind == "uploads" for state in states)


def audience(group: str) -> str:
    """The name of a group as people say it."""
    kind, _, name = group.partition(":")
    return f"{kind} {name}" if name else kind


def _number(text: str) -> int:
    return min(int(text), _OFFSET_MAX) if text.isascii() and text.isdigit() and len(text) < 12 else 0


async def upload(visit: Visit) -> Response:
    """Keep the files of the form in an uploads source."""
    source = visit.text("source")
    files = [file for file in visit.form.getlist("files") if isinstance(file, UploadFile) and file.filename]
    if not files:
        raise NoFile("the form holds no file")
    for file in files:
        if (file.size or 0) > UPLOAD_BYTES_MAX:
            raise UploadTooLarge(
                f"{plain_name(file.filename or '')[:200]} is larger than {UPLOAD_BYTES_MAX // (1024 * 1024)} MB"
            )
    for file in files:
        await visit.services.knowledge.add_document(
            source, file.filename or "", await file.read(), visit.principal, media_type=file.content_type or ""
        )
    return seen("/console/documents", source=source, added=str(len(files)))


async def sync(visit: Visit) -> Response:
    """List a source again."""
    source = visit.text("source")
    await visit.services.knowledge.start_sync(source)
    return seen("/console/documents", source=source)


async def retry(visit: Visit) -> Response:
    """Read what failed again."""
    source = visit.text("source")
    await visit.services.knowledge.retry_failed(source, visit.text("document") or None)
    return seen("/console/documents", source=source)


async def delete(visit: Visit) -> Response:
    """Delete an uploaded document."""
    await visit.services.knowledge.delete_document(visit.request.path_params["id"], visit.principal)
    return seen("/console/documents", source=visit.text("source"))
