"""PDF: text by page in reading order, through PDFium.

Owns the order of work (open, read pages, drop repeated margins, build paragraphs); ``pdf_page`` reads one page's
pieces and ``pdf_layout`` orders them. PDFium is not thread-safe, so this only ever runs in a worker of its own. The
invariant: text that a reader cannot see is kept, and every block of it is marked ``hidden``.
"""

from __future__ import annotations

import re
from collections import Counter

from roadbed.knowledge.parse.document import DocumentBuilder, ParsedDocument, ParseFailure, one_line
from roadbed.knowledge.parse.pdf_layout import Line, order_lines
from roadbed.knowledge.parse.pdf_page import form_values, read_page
from roadbed.knowledge.parse.pdf_text import Prose
from roadbed.knowledge.parse.versions import parser_name

PARSER = parser_name("pdf")
PAGES_MAX = 5_000
MARGIN_LINES = 3
"""So many lines at the top and at the bottom of a page can be a running header or footer."""
MARGIN_SHARE = 0.15
"""...when they also lie within this share of the page height."""
_DIGITS = re.compile(r"\d+|\b[ivxl]+\b")
_LEADER = re.compile(r"(?:\.{4,}|(?:\. ){4,}|\u2026{2,})[\s|.]*(?:\d{1,4}|[ivxl]{1,6})\s*$", re.IGNORECASE)
_ENTRY = re.compile(r"(.*\S)\s*\|\s*(\d{1,4})$")
_PAGE_NUMBER = re.compile(
    r"^\W*(?:page|seite|p\.|pg\.?)?\W*(?:\d{1,4}|[ivxl]{1,6})\W*(?:(?:of|von|/)\W*\d{1,4})?\W*$", re.IGNORECASE
)


def parse_pdf(data: bytes, name: str, declared: str | None = None) -> ParsedDocument:
    """Read a PDF whose user password is empty; raises `ParseFailure` (``encrypted``, ``corrupt``, ``no_text``)."""
    import pypdfium2

    try:
        document = pypdfium2.PdfDocument(data)
    except pypdfium2.PdfiumError as error:
        if "assword" in str(error) or "ecurity" in str(error):
            hint = "save a copy without the password"
            raise ParseFailure("encrypted", f"{name} is protected with a password", hint=hint) from error
        raise ParseFailure("corrupt", f"{name} is not a readable PDF") from error
    try:
        return _read(document, name)
    finally:
        document.close()


def _read(document: object, name: str) -> ParsedDocument:
    import pypdfium2

    if not isinstance(document, pypdfium2.PdfDocument):
        raise TypeError("not a PDF document")
    builder = DocumentBuilder()
    count = len(document)
    if count > PAGES_MAX:
        builder.warn(f"only the first {PAGES_MAX} of {count} pages were read")
    pages: list[list[Line]] = []
    forms: dict[int, list[str]] = {}
    heights: list[float] = []
    broken = 0
    for index in range(min(count, PAGES_MAX)):
        try:
            page = document[index]
        except pypdfium2.PdfiumError:
            broken += 1
            pages.append([])
            heights.append(0.0)
            continue
        try:
            pieces, height = read_page(page)
            pages.append(order_lines(pieces))
            heights.append(height)
            if values := form_values(page):
                forms[index] = values
        except pypdfium2.PdfiumError:
            broken += 1
            pages.append([])
            heights.append(0.0)
        finally:
            page.close()
    if broken:
        builder.warn(f"{broken} pages are damaged and were left out")
    if not any(pages) and not forms:
        reason = "corrupt" if broken and broken == count else "no_text"
        hint = "the pages are pictures: run OCR and save as PDF with a text layer" if reason == "no_text" else ""
        raise ParseFailure(reason, f"{name} has {count} pages without readable text", hint=hint)
    silent = [index + 1 for index, lines in enumerate(pages) if not lines]
    if silent and len(silent) < len(pages):
        builder.warn(f"{len(silent)} pages hold no text (pictures or blank), first: page {silent[0]}")
    metadata = document.get_metadata_dict(skip_empty=True)
    _write(builder, drop_margins(pages, heights), forms)
    _check_letters(builder, name)
    builder.title = _title(metadata.get("Title", ""))
    return builder.finish(name=name, parser=PARSER, media_type="application/pdf")


def drop_margins(pages: list[list[Line]], heights: list[float]) -> list[list[Line]]:
    """The pages without running headers, footers and page numbers: lines that recur at one place, whatever their
    digits.
    """
    candidates: list[dict[int, str]] = []
    seen: Counter[str] = Counter()
    for lines, height in zip(pages, heights, strict=True):
        by_height = [index for _, index in sorted((-line.top, index) for index, line in enumerate(lines))]
        edge: dict[int, str] = {}
        for where, chosen in (("top", by_height[:MARGIN_LINES]), ("bottom", by_height[-MARGIN_LINES:])):
            for index in chosen:
                line = lines[index]
                distance = height - line.top if where == "top" else line.bottom
                if distance <= height * MARGIN_SHARE:
                    edge[index] = f"{where}:{_DIGITS.sub('#', one_line(line.text).lower())}"
        candidates.append(edge)
        seen.update(set(edge.values()))
    known = Counter(one_line(line.text).casefold() for lines in pages for line in lines)
    needed = max(3, round(len([lines for lines in pages if lines]) * 0.3))
    kept: list[list[Line]] = []
    for lines, edge in zip(pages, candidates, strict=True):
        dropped = _contents(lines, known) | {
            index for index, key in edge.items() if seen[key] >= needed or _PAGE_NUMBER.match(lines[index].text)
        }
        rest = [line for index, line in enumerate(lines) if index not in dropped]
        # A page of nothing but a number may be a form of one field: keep what little there is.
        kept.append(rest if rest or len(pages) > 1 else lines)
    return kept


def _contents(lines: list[Line], known: Counter[str]) -> set[int]:
    """The lines of a table of contents, five or more: they repeat the headings.

    They lead with dots to a page number, or give lines of the document (``known``) with page numbers that do not fall.
    """
    dotted = {index for index, line in enumerate(lines) if _LEADER.search(line.text)}
    matches = {index: match for index, line in enumerate(lines) if (match := _ENTRY.match(one_line(line.text)))}
    entries = {index: int(match[2]) for index, match in matches.items() if known[match[1].casefold()]}
    numbers = list(entries.values())
    found = dotted | (set(entries) if numbers == sorted(numbers) else set())
    return found if len(found) >= 5 else set()


def _write(builder: DocumentBuilder, pages: list[list[Line]], forms: dict[int, list[str]]) -> None:
    for index, paragraphs in enumerate(Prose(pages).joined_over_pages(pages)):
        number = index + 1
        location = f"page {number}"
        for paragraph in paragraphs:
            builder.add(
                paragraph.kind,
                paragraph.text,
                level=paragraph.level,
                page=number,
                location=location,
                hidden=paragraph.hidden,
            )
        for value in forms.get(index, []):
            builder.add("row", value, page=number, location=location)


def _check_letters(builder: DocumentBuilder, name: str) -> None:
    """Fonts without a map to Unicode give signs instead of words; such text only pollutes an index."""
    sample = builder.sample(20_000)
    visible = [char for char in sample if not char.isspace()]
    if len(visible) < 50:
        return
    readable = sum(1 for char in visible if char.isalnum() and not "\ue000" <= char <= "\uf8ff")
    if readable < len(visible) * 0.3:
        raise ParseFailure(
            "no_text", f"{name} uses fonts that do not say which letters they draw", hint="run OCR on it"
        )
    if readable < len(visible) * 0.6:
        builder.warn("the text may be garbled: few of its characters are letters or digits")


def _title(metadata: str) -> str:
    """The metadata title, unless it is a file name or a default that a program left there."""
    title = one_line(metadata)
    lowered = title.lower()
    if len(title) < 4 or lowered.startswith(
        ("microsoft word", "microsoft powerpoint", "untitled", "powerpoint present", "slide 1")
    ):
        return ""
    return "" if re.search(r"\.(docx?|pptx?|xlsx?|indd|qxd|pdf|tex|dvi|fm|ai)$", lowered) else title
