"""Bytes to text: which character encoding a file is in.

Order: byte order mark, what the transport or the file itself declares, strict UTF-8, UTF-16 by its zeros,
statistical detection on a sample, Windows-1252. Never fails: the last resort replaces bytes, and says so. Called by
every text-like parser.
"""

from __future__ import annotations

import codecs
import re

from roadbed.knowledge.parse.document import canonical

SAMPLE_BYTES_MAX = 64 * 1024
_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_META = re.compile(rb"""<meta[^>]{0,200}?charset\s*=\s*["']?\s*([A-Za-z0-9_:.-]{2,40})""", re.IGNORECASE)
_XML_DECLARATION = re.compile(rb"""^\s*<\?xml[^>]{0,200}?encoding\s*=\s*["']([A-Za-z0-9_:.-]{2,40})""")
# The WHATWG encoding standard reads these labels as their Windows supersets; pages rely on it.
_WESTERN_MARKS = "\u2018\u2019\u201c\u201d\u2013\u2014\u2026\xa0\xb0\xa7\u20ac\xa3\xab\xbb\xa9\xae"
_MULTIBYTE = ("cp932", "euc", "gb", "big5", "shift", "iso2022", "cp949", "johab")
_PAIR = re.compile(rb"[\x80-\xff]{2}")
_SUPERSETS = {
    "iso8859-1": "cp1252", "ascii": "cp1252", "iso8859-9": "cp1254", "gb2312": "gb18030", "gbk": "gb18030",
    "shift_jis": "cp932", "euc_kr": "cp949", "big5": "big5hkscs", "iso8859-11": "cp874", "tis-620": "cp874",
}  # fmt: skip


def decode(data: bytes, *, declared: str | None = None) -> tuple[str, str, bool]:
    """``(canonical text, encoding, is_certain)`` of ``data``.

    ``declared`` is a label from a header, used if it fits the bytes.
    """
    for mark, encoding in _BOMS:
        if data.startswith(mark):
            return canonical(data[len(mark) :].decode(encoding, "replace")), encoding, True
    label = _lookup(declared) or _lookup(declared_in(data))
    if label and not label.startswith(("utf-16", "utf-32")):
        try:
            return canonical(data.decode(label)), label, True
        except UnicodeDecodeError:
            pass
    wide = _wide_without_mark(data)
    if wide:
        return canonical(data.decode(wide, "replace")), wide, True
    try:
        return canonical(data.decode("utf-8")), "utf-8", True
    except UnicodeDecodeError as error:
        # One cut sequence at the very end is a truncated file, not another encoding.
        if len(data) > 64 and error.start >= len(data) - 4:
            return canonical(data.decode("utf-8", "ignore")), "utf-8", True
    if _mostly_utf8(data):
        return canonical(data.decode("utf-8", "replace")), "utf-8", False
    encoding = _guess(data)
    return canonical(data.decode(encoding, "replace")), encoding, False


def declared_in(data: bytes) -> str | None:
    """The label in an HTML ``<meta>`` or an XML declaration near the start, if any."""
    head = data[:4096]
    found = _XML_DECLARATION.search(head) or _META.search(head)
    return found.group(1).decode("ascii") if found else None


def looks_like_text(data: bytes) -> bool:
    """Whether the first 64 kB could be text in some encoding: few control bytes, or a byte order mark."""
    head = data[:SAMPLE_BYTES_MAX]
    if any(head.startswith(mark) for mark, _ in _BOMS) or _wide_without_mark(head):
        return True
    if b"\x00" in head:
        return False
    odd = sum(head.count(byte) for byte in (*range(1, 9), *range(14, 27), *range(28, 32), 127))
    return odd * 50 <= len(head)


def _lookup(label: str | None) -> str | None:
    """Python's name for a charset label, or None when there is none or it is no text encoding."""
    if not label:
        return None
    try:
        info = codecs.lookup(label.strip().strip("\"'"))
    except (LookupError, ValueError):
        return None
    if not getattr(info, "_is_text_encoding", True):
        return None
    return _SUPERSETS.get(info.name, info.name)


def _wide_without_mark(data: bytes) -> str | None:
    head = data[:4096]
    if len(head) < 8:
        return None
    even, odd = head[0::2].count(0), head[1::2].count(0)
    half = len(head) // 2
    if odd > half * 0.6 and even < half * 0.1:
        return "utf-16-le"
    if even > half * 0.6 and odd < half * 0.1:
        return "utf-16-be"
    return None


def _mostly_utf8(data: bytes) -> bool:
    """UTF-8 with a few damaged bytes: valid multi-byte sequences outnumber the replaced ones twenty to one."""
    sample = data[:SAMPLE_BYTES_MAX].decode("utf-8", "replace")
    broken = sample.count("\ufffd")
    good = sum(1 for char in sample if char > "\x7f") - broken
    return good > broken * 20


def _guess(data: bytes) -> str:
    from charset_normalizer import from_bytes

    sample = data[:SAMPLE_BYTES_MAX]
    # A handful of high bytes between ASCII letters is Western text; statistics on so few bytes pick exotic code pages.
    high = sum(1 for byte in sample if byte >= 0x80)
    best = from_bytes(sample, steps=10, chunk_size=1024).best()
    if best is None:
        return "cp1252"
    name = _lookup(best.encoding) or "cp1252"
    is_wide = name.startswith(_MULTIBYTE) and _PAIR.search(sample) is not None
    if high < len(sample) * 0.08 and not is_wide:
        try:
            western = sample.decode("cp1252")
        except UnicodeDecodeError:
            return name
        letters = sum(1 for char in western if char > "\x7f" and (char.isalpha() or char in _WESTERN_MARKS))
        return "cp1252" if letters >= high * 0.9 else name
    return name
