"""One PDF page as pieces of text with boxes, straight from PDFium's character list.

Called by ``pdf`` only. A piece is a run of characters on one line without a wide gap; its box is in upright page
coordinates (origin bottom left, rotation applied). Pieces that no reader sees (render mode 3 without a scan behind
it, white on white, transparent, outside of the page) are marked ``hidden``.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

PAGE_CHARS_MAX = 300_000
OBJECTS_MAX = 20_000
ANNOTATIONS_MAX = 2_000
GAP_EM = 1.1
"""A horizontal gap over this many font sizes ends a piece: it is a column gutter or a table cell border."""
SAMPLES = 3
"""So many characters of a piece are asked for their font."""
RAISED_EM = 0.2
"""A digit that stands so many font sizes above the foot of the letter before it, and is small, is a superscript."""
SMALL_EM = 0.58
"""Digits of the text's own size are about 0.7 font sizes high."""
UNIT_CHARS_MAX = 2
"""A raised digit behind so short a number or word is an exponent (``10²``, ``km²``); else it points to a footnote."""
_SUPERSCRIPT = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
_SUPERSCRIPTS = frozenset("⁰¹²³⁴⁵⁶⁷⁸⁹")
_WORD_END = re.compile(r"(?:[^\W\d_]+|\d+)$")
_DASHES = "-\u00ad\u2010\x02"
HYPHEN = "\x02"
"""How a hyphen that PDFium takes for a word division is written in a piece."""
_LIGATURES = {
    "\ufb00": "ff", "\ufb01": "fi", "\ufb02": "fl", "\ufb03": "ffi", "\ufb04": "ffl", "\ufb05": "st", "\ufb06": "st",
    "\uf0b7": "\u2022", "\uf0a7": "\u25aa", "\uf0d8": "\u25b8", "\uf0fc": "\u2713", "\uf06e": "\u25a0", "\uf0be": "-",
    "\ufffe": HYPHEN, "\u00a0": " ", "\u2002": " ", "\u2003": " ", "\u2009": " ", "\t": " ",
}  # fmt: skip
_TEXT, _PATH, _IMAGE, _SHADING, _FORM = 1, 2, 3, 4, 5
_WIDGET = 20
_INVISIBLE = 3
Box = tuple[float, float, float, float]


@dataclass(slots=True)
class Piece:
    """A run of text: ``left, bottom, right, top`` in points, ``size`` about the font size."""

    text: str
    left: float
    bottom: float
    right: float
    top: float
    size: float
    bold: bool
    hidden: bool


def read_page(page: Any) -> tuple[list[Piece], float]:
    """``(pieces in content order, page height)`` of a ``pypdfium2.PdfPage``."""
    from pypdfium2 import raw

    left, bottom, right, top = page.get_bbox()  # get_cropbox() does not see inherited boxes
    turn = _rotation(page.get_rotation(), left, bottom, right, top)
    upright = turn((left, bottom, right, top))
    textpage = page.get_textpage()
    try:
        hidden = _hidden_objects(page, raw, (left, bottom, right, top))
        return _pieces(textpage, raw, turn, upright, hidden), upright[3]
    finally:
        textpage.close()


def _rotation(degrees: int, left: float, bottom: float, right: float, top: float) -> Callable[[Box], Box]:
    """A map from page space to upright coordinates with the crop box's corner as the origin."""
    width, height = right - left, top - bottom

    def turn(box: Box) -> Box:
        x0, y0, x1, y1 = box[0] - left, box[1] - bottom, box[2] - left, box[3] - bottom
        if degrees == 90:
            return y0, width - x1, y1, width - x0
        if degrees == 180:
            return width - x1, height - y1, width - x0, height - y0
        if degrees == 270:
            return height - y1, x0, height - y0, x1
        return x0, y0, x1, y1

    return turn


def _pieces(textpage: Any, raw: Any, turn: Callable[[Box], Box], upright: Box, hidden: set[int]) -> list[Piece]:
    count = min(textpage.count_chars(), PAGE_CHARS_MAX)
    read_code, read_box, read_object = raw.FPDFText_GetUnicode, raw.FPDFText_GetCharBox, raw.FPDFText_GetTextObject
    x0, x1, y0, y1 = (ctypes.c_double() for _ in range(4))
    pieces: list[Piece] = []
    current: Piece | None = None
    chars: list[str] = []
    places: list[int] = []
    high = ""
    foot: float | None = None  # of the last letter of the piece

    def close() -> None:
        nonlocal current, foot
        if current is not None:
            current.text = "".join(chars).strip(" ")
            _measure(current, textpage, raw, places, turn)
            pieces.append(current)
        current, foot = None, None
        chars.clear()
        places.clear()

    for index in range(count):
        code = read_code(textpage, index)
        if code in (10, 13) or code == 0:
            close()
            continue
        if 0xD800 <= code < 0xDC00:
            high = chr(code)
            continue
        char = chr(code)
        if 0xDC00 <= code < 0xE000:
            char = (high + char).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
            high = ""
        char = _LIGATURES.get(char, char)
        if char == " ":
            if current is not None:
                chars.append(char)
            continue
        if char in _DASHES and raw.FPDFText_IsHyphen(textpage, index) == 1:
            char = HYPHEN
        read_box(textpage, index, x0, x1, y0, y1)
        box = turn((x0.value, y0.value, x1.value, y1.value))
        unseen = bool(hidden) and _address(read_object(textpage, index)) in hidden
        unseen = unseen or box[2] < upright[0] or box[0] > upright[2] or box[3] < upright[1] or box[1] > upright[3]
        if current is not None:
            gap = max(box[0] - current.right, current.left - box[2])
            if unseen != current.hidden or (gap > GAP_EM * current.size and char != HYPHEN):
                close()
        if current is None:
            size, low, edge, _ = _font(textpage, raw, index, turn, box)
            current = Piece("", box[0], low, box[2], edge, size, False, unseen)
        else:
            current.left, current.right = min(current.left, box[0]), max(current.right, box[2])
        if char.isdecimal() and char.isascii() and _is_raised(box, foot, current.size):
            if chars[-1] not in _SUPERSCRIPTS and not _takes_exponent("".join(chars[-UNIT_CHARS_MAX - 1 :])):
                chars.append(" ")
            char = char.translate(_SUPERSCRIPT)
        elif char.isalnum():
            foot = box[1]
        chars.append(char)
        places.append(index)
        if char == HYPHEN:
            # PDFium gives this sign instead of hyphen and line end: what follows is on the next line.
            close()
    close()
    return pieces


def _is_raised(box: Box, foot: float | None, size: float) -> bool:
    return foot is not None and box[1] - foot > RAISED_EM * size and box[3] - box[1] < SMALL_EM * size


def _takes_exponent(before: str) -> bool:
    """Whether a raised digit behind this text belongs to it."""
    word = _WORD_END.search(before)
    return word is not None and len(word[0]) <= UNIT_CHARS_MAX


def _measure(piece: Piece, textpage: Any, raw: Any, places: list[int], turn: Callable[[Box], Box]) -> None:
    """Set size, height and weight from a few characters: a piece may open with a footnote sign or a bold word."""
    step = max(1, len(places) // SAMPLES)
    box = piece.left, piece.bottom, piece.right, piece.top
    fonts = [_font(textpage, raw, index, turn, box) for index in places[step // 2 :: step]]
    fonts.sort(key=lambda font: font[0])
    piece.size, piece.bottom, piece.top, _ = fonts[len(fonts) // 2]
    piece.bold = all(font[3] for font in fonts)


def _font(
    textpage: Any, raw: Any, index: int, turn: Callable[[Box], Box], box: Box
) -> tuple[float, float, float, bool]:
    """``(size, bottom, top, is bold)`` at a character, from the box of its font rather than of its ink."""
    rect = raw.FS_RECTF()
    low, high = box[1], box[3]
    if raw.FPDFText_GetLooseCharBox(textpage, index, rect):
        loose = turn((rect.left, rect.bottom, rect.right, rect.top))
        if loose[3] > loose[1]:
            low, high = loose[1], loose[3]
    weight = raw.FPDFText_GetFontWeight(textpage, index)
    bold = weight >= 600
    if not bold:
        buffer = ctypes.create_string_buffer(128)
        flags = ctypes.c_int()
        length = raw.FPDFText_GetFontInfo(textpage, index, buffer, 128, flags)
        font = buffer.value.lower() if 0 < length <= 128 else b""
        bold = b"bold" in font or b"black" in font or b"heavy" in font or font.endswith((b"-bd", b"-semibold"))
    return max(high - low, 1.0) / 1.17, low, high, bold


def _hidden_objects(page: Any, raw: Any, crop: Box) -> set[int]:
    """Addresses of the text objects that a reader of the page does not see."""
    suspects: list[tuple[int, Box, str]] = []
    covers: list[Box] = []
    scan_area = 0.0
    for item in _objects(page, raw):
        kind = raw.FPDFPageObj_GetType(item)
        if kind == _TEXT:
            reason = _suspicion(item, raw)
            if reason:
                suspects.append((_address(item), _bounds(item, raw), reason))
        elif kind in (_IMAGE, _SHADING):
            box = _bounds(item, raw)
            covers.append(box)
            scan_area = max(scan_area, (box[2] - box[0]) * (box[3] - box[1]))
        elif kind == _PATH and _is_coloured(item, raw):
            covers.append(_bounds(item, raw))
    page_area = max((crop[2] - crop[0]) * (crop[3] - crop[1]), 1.0)
    is_scan = scan_area > page_area * 0.5
    hidden: set[int] = set()
    for address, box, reason in suspects:
        if reason == "mode":
            # Over a scanned picture, invisible text is the OCR layer: it says what the reader sees.
            if not is_scan:
                hidden.add(address)
        elif reason == "white":
            x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
            if not any(cover[0] - 1 <= x <= cover[2] + 1 and cover[1] - 1 <= y <= cover[3] + 1 for cover in covers):
                hidden.add(address)
        else:
            hidden.add(address)
    return hidden


def _objects(page: Any, raw: Any) -> list[Any]:
    """Page objects with those inside forms; none at all for a drawing of more than `OBJECTS_MAX`."""
    count = raw.FPDFPage_CountObjects(page)
    if count > OBJECTS_MAX:
        return []
    found: list[Any] = []
    waiting = [raw.FPDFPage_GetObject(page, index) for index in range(count)]
    while waiting and len(found) < OBJECTS_MAX:
        item = waiting.pop()
        if not item:
            continue
        if raw.FPDFPageObj_GetType(item) == _FORM:
            inner = min(raw.FPDFFormObj_CountObjects(item), OBJECTS_MAX)
            waiting.extend(raw.FPDFFormObj_GetObject(item, index) for index in range(max(inner, 0)))
        else:
            found.append(item)
    return found


def _suspicion(item: Any, raw: Any) -> str:
    """Why a text object may be invisible: ``mode``, ``white``, ``clear``, or an empty string."""
    if raw.FPDFTextObj_GetTextRenderMode(item) == _INVISIBLE:
        return "mode"
    colour = _colour(item, raw)
    if colour is None:
        return ""
    if colour[3] < 8:
        return "clear"
    return "white" if min(colour[:3]) >= 250 else ""


def _is_coloured(item: Any, raw: Any) -> bool:
    mode, stroke = ctypes.c_int(), ctypes.c_int()
    if not raw.FPDFPath_GetDrawMode(item, mode, stroke) or mode.value == 0:
        return False
    colour = _colour(item, raw)
    return colour is None or (min(colour[:3]) < 240 and colour[3] >= 8)


def _colour(item: Any, raw: Any) -> tuple[int, int, int, int] | None:
    red, green, blue, alpha = (ctypes.c_uint() for _ in range(4))
    if not raw.FPDFPageObj_GetFillColor(item, red, green, blue, alpha):
        return None
    return red.value, green.value, blue.value, alpha.value


def _bounds(item: Any, raw: Any) -> Box:
    left, bottom, right, top = (ctypes.c_float() for _ in range(4))
    raw.FPDFPageObj_GetBounds(item, left, bottom, right, top)
    return left.value, bottom.value, right.value, top.value


def _address(pointer: Any) -> int:
    return ctypes.cast(pointer, ctypes.c_void_p).value or 0


def form_values(page: Any) -> list[str]:
    """``name: value`` of the page's filled form fields, which are annotations and not part of its text."""
    from pypdfium2 import raw

    found: list[str] = []
    for index in range(min(raw.FPDFPage_GetAnnotCount(page), ANNOTATIONS_MAX)):
        annotation = raw.FPDFPage_GetAnnot(page, index)
        if not annotation:
            continue
        try:
            if raw.FPDFAnnot_GetSubtype(annotation) != _WIDGET:
                continue
            value = _string(annotation, raw, b"V")
            label = _string(annotation, raw, b"TU") or _string(annotation, raw, b"T")
            if value and value != "Off":
                found.append(f"{label}: {value}" if label else value)
        finally:
            raw.FPDFPage_CloseAnnot(annotation)
    return found


def _string(annotation: Any, raw: Any, key: bytes) -> str:
    from roadbed.knowledge.parse.document import one_line

    length = raw.FPDFAnnot_GetStringValue(annotation, key, None, 0)
    if not 2 < length <= 20_000:
        return ""
    buffer = (ctypes.c_ushort * (length // 2))()
    raw.FPDFAnnot_GetStringValue(annotation, key, buffer, length)
    return one_line(bytes(buffer).decode("utf-16-le", "replace").rstrip("\x00"))
