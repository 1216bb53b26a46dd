"""Any bytes under any name: a document whose blocks hold their promises, or a failure with a known reason."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from roadbed.knowledge.parse.archive import Archive
from roadbed.knowledge.parse.detect import MEDIA_TYPES
from roadbed.knowledge.parse.dispatch import parse_bytes
from roadbed.knowledge.parse.document import ParsedDocument, ParseFailure, canonical

REASONS = {"encrypted", "corrupt", "empty", "no_text", "too_large", "unsupported", "archive_bomb", "unsafe"}
EXTENSIONS = [
    "md",
    "html",
    "txt",
    "pdf",
    "docx",
    "xlsx",
    "pptx",
    "odt",
    "ods",
    "odp",
    "epub",
    "csv",
    "tsv",
    "json",
    "jsonl",
    "eml",
    "mbox",
    "xml",
    "rtf",
    "doc",
    "zip",
    "py",
    "log",
    "weird",
]
OPENINGS = [
    b"", b"%PDF-1.7\n", b"PK\x03\x04", b"{\\rtf1 ", b"<html><body>", b"<?xml version='1.0'?><a>",
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
    b"From: a@b.c\nTo: d@e.f\nSubject: x\nDate: y\n\n", b"---\ntitle: x\n---\n",
    b'{"a": ', b"\xff\xfe", b"\xef\xbb\xbf", b"a,b\n1,\"",
]  # fmt: skip


COMPOUND = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"


def check(document: ParsedDocument) -> None:
    """Blocks are sorted, do not overlap, lie inside the text and are not blank; the text is canonical."""
    position = 0
    for block in document.blocks:
        assert position <= block.start < block.end <= len(document.text)
        assert document.text[block.start : block.end].strip()
        position = block.end
    assert document.blocks
    assert document.title
    assert document.media_type in MEDIA_TYPES.values()
    assert canonical(document.text) == document.text
    document.text.encode("utf-8")


def attempt(data: bytes, name: str) -> None:
    found: ParsedDocument | ParseFailure
    try:
        found = parse_bytes(data, name=name)
    except ParseFailure as failure:
        found = failure
    if isinstance(found, ParseFailure):
        assert found.reason in REASONS
        assert found.message
    else:
        check(found)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(OPENINGS), st.binary(max_size=400), st.sampled_from(EXTENSIONS))
def test_any_bytes_under_any_extension(opening: bytes, data: bytes, extension: str) -> None:
    attempt(opening + data, f"file.{extension}")


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.text(max_size=400), st.sampled_from(["md", "html", "txt", "csv", "json", "xml", "rtf", "eml"]))
def test_any_text_under_any_text_extension(text: str, extension: str) -> None:
    attempt(text.encode("utf-8", "surrogatepass"), f"file.{extension}")


PIECES = [
    "# ", "> ", "- ", "1. ", "```\n", "|a|b|\n", "|-|-|\n", "\n", "\n\n", "    ", "text ", "<!-- ", "-->", "<div>",
    "===\n", "---\n", "\t", "\\", "*",
]  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=40))
def test_markdown_of_any_structure_keeps_its_spans(pieces: list[str]) -> None:
    source = "".join(pieces)
    try:
        document = parse_bytes(source.encode(), name="a.md")
    except ParseFailure:
        return
    check(document)
    assert document.text == source


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 400), st.integers(0, 255))
def test_damaged_office_file(docx_of: Callable[..., bytes], position: int, value: int) -> None:
    data = bytearray(docx_of("<w:p><w:r><w:t>Some text in a paragraph</w:t></w:r></w:p>"))
    data[position % len(data)] = value
    attempt(bytes(data), "a.docx")
    attempt(bytes(data[: position % len(data)]), "a.docx")


def test_content_beats_a_wrong_extension(docx_of: Callable[..., bytes]) -> None:
    word = docx_of("<w:p><w:r><w:t>Some text</w:t></w:r></w:p>")
    assert parse_bytes(word, name="really.pdf").media_type == MEDIA_TYPES["docx"]
    assert parse_bytes(b"<!doctype html><p>x", name="page.txt").media_type == "text/html"
    assert parse_bytes(b"plain words", name="note.pdf").media_type == "text/plain"
    assert parse_bytes(b"# hi", name="a.md").media_type == "text/markdown"
    assert parse_bytes(b"# hi", name="hi", media_type="text/markdown; charset=utf-8").media_type == "text/markdown"


@pytest.mark.parametrize(
    ("data", "name", "reason", "hint"),
    [
        (COMPOUND + "WordDocument".encode("utf-16-le"), "a.doc", "unsupported", "docx"),
        (COMPOUND + "Workbook".encode("utf-16-le"), "a.docx", "unsupported", "xlsx"),
        (COMPOUND + "EncryptedPackage".encode("utf-16-le"), "a.docx", "encrypted", "password"),
        (b"\x89PNG\r\n\x1a\n" + bytes(50), "a.png", "unsupported", "OCR"),
        (b"7z\xbc\xaf\x27\x1c" + bytes(50), "a.txt", "unsupported", "single files"),
        (bytes(range(256)) * 8, "a.bin", "unsupported", "text or office"),
        (bytes(range(256)) * 8, "a.docx", "corrupt", ""),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_named(data: bytes, name: str, reason: str, hint: str) -> None:
    with pytest.raises(ParseFailure) as caught:
        parse_bytes(data, name=name)
    assert caught.value.reason == reason
    assert hint in caught.value.hint


def test_zip_bombs_by_total_and_by_ratio(zip_of: Callable[..., bytes]) -> None:
    for parts in ({"word/document.xml": bytes(50_000_000)}, {f"p{number}": bytes(21_000_000) for number in range(10)}):
        with pytest.raises(ParseFailure) as caught:
            Archive(zip_of(parts), "bomb.docx")
        assert caught.value.reason == "archive_bomb"


def test_zip_whose_directory_lies_is_counted_while_inflating(zip_of: Callable[..., bytes]) -> None:
    data = bytearray(zip_of({"word/document.xml": bytes(50_000_000)}))
    for signature, offset in ((b"PK\x01\x02", 24), (b"PK\x03\x04", 22)):
        place = data.find(signature) + offset
        data[place : place + 4] = struct.pack("<I", 1_000)
    with pytest.raises(ParseFailure) as caught:
        Archive(bytes(data), "bomb.docx").read("word/document.xml")
    assert caught.value.reason in ("archive_bomb", "corrupt")


def test_protected_zip_part_is_named(docx_of: Callable[..., bytes]) -> None:
    data = bytearray(docx_of(""))
    with zipfile.ZipFile(io.BytesIO(bytes(data))) as archive:
        headers = [info.header_offset for info in archive.infolist()]
    for offset in headers:
        data[offset + 6] |= 1
    position = 0
    while (position := data.find(b"PK\x01\x02", position)) >= 0:
        data[position + 8] |= 1
        position += 4
    with pytest.raises(ParseFailure) as caught:
        parse_bytes(bytes(data), name="a.docx")
    assert caught.value.reason == "encrypted"


def test_archives_are_not_opened(zip_of: Callable[..., bytes]) -> None:
    with pytest.raises(ParseFailure) as caught:
        parse_bytes(zip_of({"inner.zip": zip_of({"a.txt": "x"})}), name="a.zip")
    assert caught.value.reason == "unsupported"
    assert "single files" in caught.value.hint
