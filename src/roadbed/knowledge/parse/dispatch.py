"""Bytes to document, in this process: detect the format, import its parser, and turn every outcome into one of two.

The worker calls it inside its limits; tests and benches call it directly; the server never does (it uses ``pool``).
The invariant: `parse_bytes` returns a `ParsedDocument` or raises `ParseFailure`; only cancellation and exhausted
memory pass through.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable

from roadbed.knowledge.parse.detect import detect
from roadbed.knowledge.parse.document import SOURCE_BYTES_MAX, ParsedDocument, ParseFailure, one_line, too_large

NAME_CHARS_MAX = 200

_PARSERS = {
    "markdown": "markdown:parse_markdown",
    "html": "html:parse_html",
    "text": "plain:parse_plain",
    "pdf": "pdf:parse_pdf",
    "docx": "docx:parse_docx",
    "xlsx": "xlsx:parse_xlsx",
    "pptx": "pptx:parse_pptx",
    "odt": "opendocument:parse_opendocument",
    "ods": "opendocument:parse_opendocument",
    "odp": "opendocument:parse_opendocument",
    "epub": "epub:parse_epub",
    "csv": "delimited:parse_delimited",
    "json": "json_text:parse_json",
    "jsonl": "json_text:parse_json_lines",
    "mail": "mail:parse_mail",
    "mbox": "mail:parse_mbox",
    "xml": "xml_text:parse_xml",
    "rtf": "rtf:parse_rtf",
}


def parse_bytes(data: bytes, *, name: str, media_type: str | None = None) -> ParsedDocument:
    """Parse one file. ``name`` may be a path or just a file name; ``media_type`` may carry a charset parameter."""
    name = one_line(name)[-NAME_CHARS_MAX:] or "document"
    if len(data) > SOURCE_BYTES_MAX:
        raise too_large(name)
    kind = "known"
    try:
        kind = detect(data, name, media_type)
        module, _, function = _PARSERS[kind].partition(":")
        parser: Callable[..., ParsedDocument] = getattr(importlib.import_module(f"{__package__}.{module}"), function)
        return parser(data, name, _charset(media_type))
    except (ParseFailure, MemoryError):
        raise
    except RecursionError as error:
        raise ParseFailure("corrupt", f"{name} is nested too deeply for a {kind} file") from error
    except Exception as error:  # a true boundary: format libraries raise anything at all on a stranger's bytes
        raise ParseFailure("corrupt", f"{name} is not a valid {kind} file ({type(error).__name__})") from error


def _charset(media_type: str | None) -> str | None:
    for part in (media_type or "").split(";")[1:]:
        key, _, value = part.partition("=")
        if key.strip().lower() == "charset":
            return value.strip().strip("\"'")
    return None
