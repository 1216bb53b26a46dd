"""RTF: the visible text of a rich text file.

A small reader of control words, groups and code pages. Called by ``dispatch``. Font tables, pictures and other
destinations are skipped; table cells become table rows; hidden runs are left out. The invariant: one pass, bounded
depth, any bytes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from roadbed.knowledge.parse.document import DocumentBuilder, ParsedDocument, ParseFailure, canonical, one_line, squeeze
from roadbed.knowledge.parse.tables import add_table
from roadbed.knowledge.parse.versions import parser_name

PARSER = parser_name("rtf")
DEPTH_MAX = 1_000
_TOKEN = re.compile(
    rb"\\([a-z]{1,32})(-?\d{1,10})?[ ]?|\\'([0-9a-fA-F]{2})|\\([^a-z])|([{}])|[\r\n]+|([^\\{}\r\n]+)", re.IGNORECASE
)
_DESTINATIONS = frozenset(
    b"""fonttbl colortbl stylesheet info pict object header headerl headerr headerf footer footerl footerr footerf
    listtable listoverridetable revtbl rsidtbl generator xmlnstbl themedata colorschememapping datastore latentstyles
    filetbl fldinst nonshppict objdata shpinst pgdsctbl userprops mmathpr wgrffmtfilter pnseclvl atnid atnauthor
    annotation template operator author company subject keywords comment doccomm hlinkbase category manager bkmkstart
    bkmkend listtext pntext ftnsep ftnsepc aftnsep aftnsepc""".split()
)
_BREAKS = {
    b"par": "\n", b"line": "\n", b"sect": "\n", b"page": "\n", b"tab": "\t", b"emdash": "\u2014",
    b"endash": "\u2013", b"lquote": "\u2018", b"rquote": "\u2019", b"ldblquote": "\u201c",
    b"rdblquote": "\u201d", b"bullet": "\u2022", b"emspace": " ", b"enspace": " ",
}  # fmt: skip
_CHARSETS = {
    0: "cp1252", 128: "cp932", 129: "cp949", 134: "gb18030", 136: "big5", 161: "cp1253", 162: "cp1254", 163: "cp1258",
    177: "cp1255", 178: "cp1256", 186: "cp1257", 204: "cp1251", 222: "cp874", 238: "cp1250",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _State:
    skip: bool = False
    hidden: bool = False
    font: int = -1
    fallback: int = 1
    target: str = ""


def parse_rtf(data: bytes, name: str, declared: str | None = None) -> ParsedDocument:
    """Read an RTF file."""
    reader = _Reader()
    reader.run(data)
    builder = DocumentBuilder()
    if reader.too_deep:
        raise ParseFailure("corrupt", f"{name} is nested too deeply")
    reader.write(builder)
    builder.title = one_line(reader.title)
    return builder.finish(name=name, parser=PARSER, media_type="application/rtf")


class _Reader:
    def __init__(self) -> None:
        self.title = ""
        self.too_deep = False
        self._state = _State()
        self._stack: list[_State] = []
        self._page = "cp1252"
        self._fonts: dict[int, str] = {}
        self._font = -1
        self._pending = bytearray()
        self._eat = 0
        self._text: list[str] = []
        self._row: list[str] = []
        self._in_table = False
        self._items: list[tuple[str, list[list[str]]]] = []
        self._high = ""

    def run(self, data: bytes) -> None:
        """One pass over the tokens."""
        position = 0
        starred = False
        while position < len(data):
            match = _TOKEN.match(data, position)
            if match is None:
                position += 1
                continue
            position = match.end()
            word, number, code, symbol, brace, plain = match.groups()
            if word == b"bin":
                position += max(0, int(number or 0))
                continue
            if brace:
                self._flush()
                if brace == b"{":
                    self._stack.append(self._state)
                    self.too_deep = len(self._stack) > DEPTH_MAX
                    if self.too_deep:
                        return
                elif self._stack:
                    self._state = self._stack.pop()
            elif code:
                self._byte(bytes([int(code, 16)]))
            elif plain:
                self._byte(plain)
            elif symbol == b"*":
                starred = True
                continue
            elif symbol:
                self._symbol(symbol)
            elif word:
                self._word(word.lower(), number, starred)
            starred = False
        self._flush()
        self._end_paragraph()
        self._end_row()

    def write(self, builder: DocumentBuilder) -> None:
        """Hand the collected paragraphs and tables to ``builder``."""
        table: list[list[str]] = []
        for text, rows in self._items:
            if rows:
                table.extend(rows)
                continue
            if table:
                add_table(builder, table)
                table = []
            builder.add("paragraph", squeeze(text))
        if table:
            add_table(builder, table)

    def _byte(self, piece: bytes) -> None:
        if self._eat:
            taken = min(self._eat, len(piece))
            self._eat -= taken
            piece = piece[taken:]
        if not self._state.skip or self._state.target:
            self._pending += piece

    def _flush(self) -> None:
        if self._pending:
            encoding = self._fonts.get(self._state.font, self._page)
            self._put(bytes(self._pending).decode(encoding, "replace"))
            self._pending.clear()

    def _put(self, text: str) -> None:
        if self._state.target == "title":
            self.title += canonical(text)
        elif not self._state.skip and not self._state.hidden:
            self._text.append(text)

    def _symbol(self, symbol: bytes) -> None:
        self._flush()
        self._put(
            {b"~": " ", b"_": "-", b"-": "", b"\n": "\n", b"\r": "\n"}.get(
                symbol, symbol.decode("latin-1") if symbol in b"\\{}" else ""
            )
        )
        if symbol in b"\r\n":
            self._end_paragraph()

    def _word(self, word: bytes, number: bytes | None, starred: bool) -> None:
        if word == b"u" and number is not None:
            self._unicode(int(number))
            return
        self._flush()
        value = int(number) if number is not None else None
        state = self._state
        if word == b"ud" and state.target == "" and self.title:
            self.title = ""  # the same title again, in Unicode
        elif word == b"title":
            self._state = replace(state, target="title", skip=True)
        elif (starred and word not in (b"shptxt", b"footnote", b"fldrslt")) or word in _DESTINATIONS:
            self._state = replace(state, skip=True, target="fonts" if word == b"fonttbl" else "")
        elif word in (b"shppict", b"upr"):
            self._state = replace(state, skip=word == b"shppict" or state.skip)
        elif word == b"ansicpg" and value:
            self._page = _page(value)
        elif word in (b"mac", b"pc", b"pca"):
            self._page = {b"mac": "mac-roman", b"pc": "cp437", b"pca": "cp850"}[word]
        elif word == b"f" and value is not None:
            self._font = value
            self._state = replace(state, font=value)
        elif word == b"fcharset" and state.target == "fonts" and value in _CHARSETS and value:
            self._fonts[self._font] = _CHARSETS[value]
        elif word == b"uc" and value is not None:
            self._state = replace(state, fallback=min(max(value, 0), 8))
        elif word == b"v":
            self._state = replace(state, hidden=value != 0)
        elif word == b"plain":
            self._state = replace(state, hidden=False)
        elif not state.skip:
            self._structure(word)

    def _structure(self, word: bytes) -> None:
        if word == b"intbl":
            self._in_table = True
        elif word == b"pard":
            self._in_table = False
        elif word in (b"cell", b"nestcell"):
            self._row.append(one_line("".join(self._text)))
            self._text.clear()
        elif word in (b"row", b"nestrow"):
            self._end_row()
        elif word in (b"par", b"sect", b"page"):
            if self._in_table:
                self._text.append(" ")
            else:
                self._end_paragraph()
        elif word in _BREAKS:
            self._text.append(_BREAKS[word])

    def _unicode(self, value: int) -> None:
        self._flush()
        char = chr(value & 0xFFFF)
        self._eat = self._state.fallback
        if "\ud800" <= char < "\udc00":
            self._high = char
            return
        if "\udc00" <= char < "\ue000":
            char = (self._high + char).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
            self._high = ""
        self._put(char)

    def _end_paragraph(self) -> None:
        text = "".join(self._text)
        self._text.clear()
        if text.strip():
            self._end_row()
            self._items.append((text, []))

    def _end_row(self) -> None:
        if self._row:
            self._items.append(("", [self._row]))
            self._row = []


def _page(number: int) -> str:
    import codecs

    if number == 65001:
        return "utf-8"
    try:
        return codecs.lookup(f"cp{number}").name
    except LookupError:
        return "mac-roman" if number == 10000 else "cp1252"
