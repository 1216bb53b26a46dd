"""Mail: the head that a reader sees, the best text part, and the names of attachments.

Single messages (EML) and mailboxes (mbox) through the standard library's parser, which accepts broken mail.
Attachments are named in the warnings and not opened: a connector gives each its own document with the parent's
permissions. Quoted history is marked ``note``. Encrypted bodies are an ``encrypted`` failure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from email import policy
from email.header import decode_header, make_header
from email.message import Message
from email.parser import BytesParser

from roadbed.knowledge.parse.document import DocumentBuilder, ParsedDocument, ParseFailure, canonical, one_line, squeeze
from roadbed.knowledge.parse.encoding import decode
from roadbed.knowledge.parse.html import read_html
from roadbed.knowledge.parse.versions import parser_name

PARSER = parser_name("mail")
MESSAGES_MAX = 10_000
PARTS_MAX = 500
_SHOWN = ("From", "To", "Cc", "Date", "Subject")
_QUOTE = re.compile(r"^\s*>")
_HISTORY = re.compile(
    r"^(?:-{2,}\s*(?:original message|forwarded message|urspr.ngliche nachricht)\s*-{2,}"
    r"|on .{5,200} wrote:|am .{5,200} schrieb .*:)\s*$",
    re.IGNORECASE,
)
_ENCRYPTED = ("application/pkcs7-mime", "application/x-pkcs7-mime", "multipart/encrypted")


def parse_mail(data: bytes, name: str, declared: str | None = None) -> ParsedDocument:
    """Read one message; raises `ParseFailure` (``encrypted``) for S/MIME and PGP bodies."""
    message = _parse(data)
    if _is_encrypted(message):
        raise ParseFailure("encrypted", f"{name} is an encrypted message", hint="export it decrypted")
    builder = DocumentBuilder()
    _message(builder, message, location="")
    builder.title = _header(message, "Subject")
    return builder.finish(name=name, parser=PARSER, media_type="message/rfc822")


def parse_mbox(data: bytes, name: str, declared: str | None = None) -> ParsedDocument:
    """Read a mailbox: one heading and its blocks per message."""
    builder = DocumentBuilder()
    for number, part in enumerate(_split(data), 1):
        if number > MESSAGES_MAX or builder.full:
            builder.warn(f"only the first {number - 1} messages were read")
            break
        message = _parse(part)
        if _is_encrypted(message):
            builder.warn(f"message {number} is encrypted and was left out")
            continue
        _message(builder, message, location=f"message {number}")
    title = builder.title
    builder.title = title if number == 1 else ""
    return builder.finish(name=name, parser=PARSER, media_type="application/mbox")


def _parse(data: bytes) -> Message:
    if b"\x00" in data[:64]:
        data = decode(data)[0].encode()  # saved as UTF-16 by a desktop program
    return BytesParser(policy=policy.compat32).parsebytes(data)


def _split(data: bytes) -> Iterator[bytes]:
    """The messages of an mbox: each starts at a "From " line behind a blank line or at the start."""
    starts = [match.start() for match in re.finditer(rb"(?:\A|(?<=\n\n)|(?<=\r\n\r\n))From [^\r\n]*\r?\n", data)] or [0]
    for start, end in zip(starts, [*starts[1:], len(data)], strict=True):
        piece = data[start:end]
        yield piece.partition(b"\n")[2] if piece.startswith(b"From ") else piece


def _is_encrypted(message: Message) -> bool:
    kind = message.get_content_type()
    if kind not in _ENCRYPTED:
        return False
    return message.get_param("smime-type") not in ("signed-data", "certs-only")


def _message(builder: DocumentBuilder, message: Message, *, location: str) -> None:
    subject = _header(message, "Subject")
    if subject:
        builder.add("heading", subject, level=1, location=location)
    head = [f"{field}: {value}" for field in _SHOWN[:-1] if (value := _header(message, field))]
    builder.add("paragraph", "\n".join(head), location=location)
    plain, html, attachments = _parts(message)
    for attachment in attachments:
        builder.warn(f"attachment not read: {attachment}")
    before = len(builder)
    if plain:
        for part in plain:
            _plain(builder, part, location)
    if len(builder) == before:
        title, language = builder.title, builder.language
        for part in html:
            read_html(builder, _text(part), location=location, keep_boilerplate=True)
        builder.title, builder.language = title, language


def _parts(message: Message) -> tuple[list[Message], list[Message], list[str]]:
    """``(plain text parts, HTML parts, names of attachments)``, without looking into attached messages."""
    plain: list[Message] = []
    html: list[Message] = []
    attachments: list[str] = []
    waiting = [message]
    seen = 0
    while waiting and seen < PARTS_MAX:
        part = waiting.pop(0)
        seen += 1
        kind = part.get_content_type()
        payload = part.get_payload()
        is_attached = part.get_content_disposition() == "attachment"
        if part.is_multipart() and isinstance(payload, list) and kind != "message/rfc822" and not is_attached:
            waiting = [item for item in payload if isinstance(item, Message)] + waiting
        elif is_attached or (kind not in ("text/plain", "text/html") and part is not message):
            if not kind.startswith(
                ("application/pgp-signature", "application/pkcs7-signature", "application/x-pkcs7-sig")
            ):
                attachments.append(_file_name(part) or kind)
        elif kind == "text/html":
            html.append(part)
        elif not part.is_multipart():
            plain.append(part)
    return plain, html, attachments


def _text(part: Message) -> str:
    payload = part.get_payload(decode=True)
    data = payload if isinstance(payload, bytes) else str(payload or "").encode("utf-8", "replace")
    charset = part.get_content_charset()
    return decode(data, declared=charset)[0]


def _plain(builder: DocumentBuilder, part: Message, location: str) -> None:
    text = _text(part)
    if part.get_param("format") == "flowed":
        text = _unflow(text)
    group: list[str] = []
    is_quote = in_history = False

    def flush() -> None:
        builder.add("note" if is_quote else "paragraph", squeeze("\n".join(group)), location=location)
        group.clear()

    for line in text.split("\n"):
        in_history = in_history or bool(_HISTORY.match(line))
        quoted = in_history or bool(_QUOTE.match(line))
        if not line.strip() or quoted != is_quote:
            flush()
        is_quote = quoted
        if line.strip():
            group.append(line)
    flush()


def _unflow(text: str) -> str:
    """RFC 3676: a line that ends in a space goes on in the next one."""
    lines: list[str] = []
    soft = False
    for line in text.split("\n"):
        body = line.removeprefix(" ")
        if soft and lines and not body.startswith(">"):
            lines[-1] += body
        else:
            lines.append(body)
        soft = body.endswith(" ") and body != "-- "
    return "\n".join(lines)


def _header(message: Message, field: str) -> str:
    raw = message.get(field)
    if raw is None:
        return ""
    try:
        value = str(make_header(decode_header(raw)))
    except (ValueError, LookupError, UnicodeError):
        value = str(raw)
    if "\udc80" <= max(value, default="") <= "\udcff":
        value = decode(value.encode("utf-8", "surrogateescape"))[0]
    return one_line(canonical(value))


def _file_name(part: Message) -> str:
    name = part.get_filename() or ""
    try:
        return one_line(str(make_header(decode_header(name))))[:200]
    except (ValueError, LookupError, UnicodeError):
        return one_line(name)[:200]
