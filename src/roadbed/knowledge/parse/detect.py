"""Which format a file is in: by its content first, by its name second.

Pure: reads bytes and a name, opens nothing. Called by ``dispatch``. The invariant: a known signature always beats
the extension, so a PDF named ``.docx`` is a PDF; a format without a parser is named together with what to convert
it to.
"""

from __future__ import annotations

import io
import re
import zipfile
import zlib

from roadbed.knowledge.parse.document import ParseFailure
from roadbed.knowledge.parse.encoding import looks_like_text

MEDIA_TYPES = {
    "markdown": "text/markdown",
    "html": "text/html",
    "text": "text/plain",
    "pdf": "application/pdf",
    "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    "odt": "application/vnd.oasis.opendocument.text",
    "ods": "application/vnd.oasis.opendocument.spreadsheet",
    "odp": "application/vnd.oasis.opendocument.presentation",
    "epub": "application/epub+zip",
    "csv": "text/csv",
    "json": "application/json",
    "jsonl": "application/jsonl",
    "mail": "message/rfc822",
    "mbox": "application/mbox",
    "xml": "application/xml",
    "rtf": "application/rtf",
}
"""Every format with a parser, and the media type that its documents carry."""

_EXTENSIONS = {
    "md": "markdown", "markdown": "markdown", "mdown": "markdown", "mkd": "markdown", "mdx": "markdown",
    "html": "html", "htm": "html", "xhtml": "html", "shtml": "html", "asp": "html", "aspx": "html",
    "csv": "csv", "tsv": "csv", "tab": "csv", "json": "json", "geojson": "json",
    "ipynb": "json", "jsonl": "jsonl",
    "ndjson": "jsonl", "eml": "mail", "emlx": "mail", "mbox": "mbox", "xml": "xml", "rtf": "rtf", "pdf": "pdf",
    "docx": "docx", "docm": "docx", "dotx": "docx", "xlsx": "xlsx", "xlsm": "xlsx", "xltx": "xlsx",
    "pptx": "pptx", "pptm": "pptx", "ppsx": "pptx", "potx": "pptx",
    "odt": "odt", "ott": "odt", "ods": "ods", "odp": "odp",
    "epub": "epub",
}  # fmt: skip
_BY_MEDIA_TYPE = {media_type: name for name, media_type in MEDIA_TYPES.items()} | {
    "text/tab-separated-values": "csv", "application/xhtml+xml": "html", "text/xml": "xml", "text/rtf": "rtf",
    "application/x-ndjson": "jsonl", "text/x-markdown": "markdown",
}  # fmt: skip
_BINARY_FORMATS = {"pdf", "docx", "xlsx", "pptx", "odt", "ods", "odp", "epub"}
_CONVERT = {
    "doc": ("a Word 97-2003 document", "docx"),
    "xls": ("an Excel 97-2003 workbook", "xlsx"),
    "xlsb": ("a binary Excel workbook", "xlsx"),
    "ppt": ("a PowerPoint 97-2003 presentation", "pptx"),
    "msg": ("an Outlook message", "eml"),
    "hwp": ("a Hangul word processor document", "docx or pdf"),
    "hwpx": ("a Hangul word processor document", "docx or pdf"),
    "one": ("a OneNote section", "pdf or docx"),
    "pages": ("an Apple Pages document", "docx or pdf"),
    "numbers": ("an Apple Numbers spreadsheet", "xlsx"),
    "key": ("an Apple Keynote presentation", "pptx or pdf"),
    "iwork": ("an Apple iWork document", "docx, xlsx, pptx or pdf"),
    "ole": ("an old Microsoft compound file", "docx, xlsx, pptx or pdf"),
    "archive": ("an archive", "its single files"),
    "image": ("an image without text", "a pdf with a text layer (OCR)"),
    "media": ("audio or video", "a transcript as text"),
    "postscript": ("PostScript", "pdf"),
    "binary": ("binary data of no known kind", "a text or office format"),
    "xps": ("an XPS document", "pdf"),
}
_SIGNATURES = (
    (b"7z\xbc\xaf\x27\x1c", "archive"), (b"Rar!\x1a\x07", "archive"), (b"\x1f\x8b", "archive"), (b"BZh", "archive"),
    (b"\xfd7zXZ\x00", "archive"), (b"\x28\xb5\x2f\xfd", "archive"), (b"MSCF", "archive"), (b"!<arch>", "archive"),
    (b"\x89PNG\r\n", "image"), (b"\xff\xd8\xff", "image"), (b"GIF8", "image"), (b"II*\x00", "image"),
    (b"MM\x00*", "image"),
    (b"\x00\x00\x01\x00", "image"), (b"8BPS", "image"), (b"ID3", "media"), (b"OggS", "media"), (b"fLaC", "media"),
    (b"\x1aE\xdf\xa3", "media"), (b"%!PS", "postscript"), (b"\x7fELF", "binary"), (b"MZ", "binary"),
    (b"\xca\xfe\xba\xbe", "binary"), (b"SQLite format 3\x00", "binary"),
    (b"\xe4\x52\x5c\x7b\x8c\xd8\xa7\x4d", "one"), (b"HWP Document File", "hwp"),
)  # fmt: skip
_STREAMS = (
    ("WordDocument", "doc"), ("PowerPoint Document", "ppt"), ("Workbook", "xls"), ("__properties_version1.0", "msg"),
    ("HwpSummaryInformation", "hwp"), ("Book", "xls"),
)  # fmt: skip
_HTML_START = re.compile(
    rb"^\s*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)*(?:<!doctype\s+html|<html|<head\b|<body\b)", re.I | re.S
)
_MAIL_HEADER = re.compile(
    rb"^(?:received|from|to|subject|date|mime-version|message-id|return-path|delivered-to|content-type|x-[a-z-]+)\s*:",
    re.I | re.M,
)
_HEADER_LINE = re.compile(rb"^[!-9;-~]+:\s")


def detect(data: bytes, name: str, media_type: str | None = None) -> str:
    """The format of ``data``, a key of `MEDIA_TYPES`; raises `ParseFailure` (``unsupported``, ``encrypted``,
    ``corrupt``, ``empty``).

    ``media_type`` is what the source claims; it counts only where content and extension say nothing.
    """
    if not data.strip(b"\x00\t\n\r \xef\xbb\xbf"):
        raise ParseFailure("empty", f"{name} is empty")
    extension = name.rsplit(".", 1)[-1].lower() if "." in name else ""
    found = _by_signature(data, name)
    if found:
        return found
    claimed = _EXTENSIONS.get(extension) or _BY_MEDIA_TYPE.get((media_type or "").split(";")[0].strip().lower())
    if not looks_like_text(data):
        if claimed in _BINARY_FORMATS:
            raise ParseFailure("corrupt", f"{name} is named {claimed} but its content is not")
        if extension in _CONVERT:
            raise unsupported(extension, name)
        if claimed is None:
            raise unsupported("binary", name)
    if claimed in _BINARY_FORMATS:
        claimed = None
    return _by_text(data, claimed, extension)


def unsupported(kind: str, name: str) -> ParseFailure:
    """The failure for a format without a parser, naming what to convert to."""
    what, target = _CONVERT[kind]
    return ParseFailure("unsupported", f"{name} is {what}, which is not read", hint=f"convert it to {target}")


def _by_signature(data: bytes, name: str) -> str | None:
    if b"%PDF-" in data[:1024]:
        return "pdf"
    if data.startswith((b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")):
        return _inside_zip(data, name)
    if data.startswith(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"):
        raise _inside_compound(data, name)
    if data.lstrip()[:5] == b"{\\rtf":
        return "rtf"
    for signature, kind in _SIGNATURES:
        if data.startswith(signature):
            # Two letters are weak evidence: "MZ" or "BZh" may open a text.
            if len(signature) > 3 or not looks_like_text(data):
                raise unsupported(kind, name)
            break
    if data[257:262] == b"ustar":
        raise unsupported("archive", name)
    if data[4:8] == b"ftyp" or (data[:4] == b"RIFF" and data[8:12] in (b"WAVE", b"AVI ", b"WEBP")):
        raise unsupported("media", name)
    return None


def _inside_zip(data: bytes, name: str) -> str:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = set(archive.namelist())
            media = _small_part(archive, "mimetype")[:100].decode("ascii", "replace").strip()
            types = _small_part(archive, "[Content_Types].xml")
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, EOFError, zlib.error) as error:
        hint = "it may be cut short; fetch it again"
        raise ParseFailure("corrupt", f"{name} is a damaged zip container", hint=hint) from error
    for key, prefix in (("epub", "application/epub"), ("odt", "application/vnd.oasis.opendocument.text"),
                        ("ods", "application/vnd.oasis.opendocument.spreadsheet"),
                        ("odp", "application/vnd.oasis.opendocument.presentation")):  # fmt: skip
        if media.startswith(prefix):
            return key
    if "hwp" in media:
        raise unsupported("hwpx", name)
    for key, mark in (("docx", b"wordprocessingml"), ("pptx", b"presentationml"), ("xlsx", b"spreadsheetml")):
        if mark + b".document.main" in types or mark + b".template.main" in types or mark + b".sheet.main" in types:
            return key
        if mark + b".presentation.main" in types or mark + b".slideshow.main" in types:
            return key
    if b"ms-excel.sheet.binary" in types or "xl/workbook.bin" in names:
        raise unsupported("xlsb", name)
    for key, part in (("docx", "word/document.xml"), ("xlsx", "xl/workbook.xml"), ("pptx", "ppt/presentation.xml"),
                      ("epub", "META-INF/container.xml"), ("odt", "content.xml")):  # fmt: skip
        if part in names:
            return key
    if b"ms-word.document.macroEnabled" in types:
        return "docx"
    if any(entry.startswith("Index/") and entry.endswith(".iwa") for entry in names) or "Index.zip" in names:
        extension = name.rsplit(".", 1)[-1].lower()
        raise unsupported(extension if extension in ("pages", "numbers", "key") else "iwork", name)
    if "index.apxl" in names or "index.xml" in names:
        raise unsupported("iwork", name)
    if "FixedDocSeq.fdseq" in names or "FixedDocumentSequence.fdseq" in names:
        raise unsupported("xps", name)
    raise unsupported("archive", name)


def _small_part(archive: zipfile.ZipFile, part: str) -> bytes:
    """A part of at most 1 MiB, else nothing: enough to name the format, too little to hurt."""
    try:
        entry = archive.getinfo(part)
    except KeyError:
        return b""
    if entry.flag_bits & 1:
        return b""  # protected; its parser says so
    with archive.open(entry) as file:
        return file.read(1 << 20)


def _inside_compound(data: bytes, name: str) -> ParseFailure:
    """What an OLE compound file holds, by the UTF-16 names in its directory."""

    def holds(stream: str) -> bool:
        return stream.encode("utf-16-le") in data

    if holds("EncryptedPackage") or holds("EncryptionInfo"):
        return ParseFailure(
            "encrypted", f"{name} is protected with a password", hint="save a copy without the password"
        )
    for stream, kind in _STREAMS:
        if holds(stream):
            return unsupported(kind, name)
    return unsupported("ole", name)


def _by_text(data: bytes, claimed: str | None, extension: str) -> str:
    head = data[:4096].lstrip(b"\xef\xbb\xbf")
    if claimed in ("csv", "json", "jsonl"):
        return claimed
    if _HTML_START.match(head) and claimed != "mail":
        return "html"
    if head.lstrip().startswith(b"<?xml"):
        return "html" if b"<html" in head.lower() else "xml"
    if claimed == "html":
        return "html"
    if claimed in ("mail", "mbox") or (claimed is None and extension == ""):
        if head.startswith(b"From ") and _MAIL_HEADER.search(head):
            return "mbox"
        if claimed or (_HEADER_LINE.match(head) and len(_MAIL_HEADER.findall(head[:2048])) >= 3):
            return "mail"
    if claimed in ("markdown", "rtf", None):
        return "markdown" if claimed == "markdown" else _unnamed(head, extension)
    return claimed


def _unnamed(head: bytes, extension: str) -> str:
    """Text under an unknown or wrong extension: mail and XML are recognised, everything else is plain text."""
    if head.startswith(b"From ") and len(_MAIL_HEADER.findall(head[:2048])) >= 3:
        return "mbox"
    is_plain = extension in ("txt", "log", "rst", "org")
    if not is_plain and _HEADER_LINE.match(head) and len(_MAIL_HEADER.findall(head[:2048])) >= 4:
        return "mail"
    return "text"
