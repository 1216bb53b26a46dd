"""Mail: what a reader sees of a message, and what is only named."""

from __future__ import annotations

from email.message import EmailMessage

import pytest

from roadbed.knowledge.parse.dispatch import parse_bytes
from roadbed.knowledge.parse.document import ParseFailure


def message(subject: str = "Größe der Räume") -> EmailMessage:
    made = EmailMessage()
    made["From"] = "Ada <ada@example.org>"
    made["To"] = "team@example.org"
    made["Subject"] = subject
    made["Date"] = "Thu, 01 Jan 2026 10:00:00 +0000"
    made.set_content("The room holds 12 people.\n\n> How many?\n> Please tell.\n")
    return made


def test_head_body_quote_and_attachment() -> None:
    made = message()
    made.add_attachment(b"%PDF-1.4", maintype="application", subtype="pdf", filename="räume.pdf")
    document = parse_bytes(made.as_bytes(), name="a.eml")
    assert document.title == "Größe der Räume"
    assert document.media_type == "message/rfc822"
    assert "From: Ada <ada@example.org>" in document.text
    notes = [document.text[block.start : block.end] for block in document.blocks if block.kind == "note"]
    assert notes == ["> How many?\n> Please tell."]
    assert document.warnings == ("attachment not read: räume.pdf",)


def test_html_only_mail() -> None:
    made = message("Hi")
    made.set_content("<html><head><title>x</title></head><body><p>Only <b>HTML</b></p></body></html>", subtype="html")
    document = parse_bytes(made.as_bytes(), name="a.eml")
    assert "Only HTML" in document.text
    assert document.title == "Hi"


def test_mailbox_is_split() -> None:
    box = b"".join(
        b"From a@example.org Thu Jan  1 10:00:00 2026\n" + message(f"no {n}").as_bytes() + b"\n\n" for n in (1, 2)
    )
    document = parse_bytes(box, name="box.mbox")
    headings = [block for block in document.blocks if block.kind == "heading"]
    assert [document.text[block.start : block.end] for block in headings] == ["no 1", "no 2"]
    assert headings[1].location == "message 2"


def test_encrypted_mail_is_named() -> None:
    source = b"From: a@b.c\nSubject: s\nContent-Type: application/pkcs7-mime; smime-type=enveloped-data\n\nMIIB\n"
    with pytest.raises(ParseFailure) as caught:
        parse_bytes(source, name="a.eml")
    assert caught.value.reason == "encrypted"


def test_mail_without_extension_is_recognised() -> None:
    assert parse_bytes(message("found").as_bytes(), name="attachment").title == "found"
