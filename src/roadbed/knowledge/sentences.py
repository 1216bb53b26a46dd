"""Splits text into sentences with their offsets; shared by the chunker and by what checks and extracts answers.

A sentence ends at ``.``, ``!``, ``?``, ``…`` or their CJK forms, at a blank line, and before a list item; not after an
abbreviation, an initial, a list number or inside a decimal. Single newlines are wrapped lines, not ends. Pure; the
invariant: spans are ordered, do not overlap, begin and end at a non-blank, and cover every non-blank character.
"""

from __future__ import annotations

import re

BULLETS = (
    "-*\u2022\u2023\u25aa\u25ab\u2013\u25cf\u25cb\u25e6\u25a0\u25a1\u25b6\u25b8\u25ba\u2043\u2212"
    "\u2794\u27a2\u27a4\u2713\u2714\u2756"
)
"""The signs that open a list item, for a character class; Wingdings' square is written as a section sign."""
ITEM_SIGN = rf"(?:>[ \t]?)*(?:[{BULLETS}]|\u00a7(?=[ \t]+[^\W\d])|\d{{1,3}}[.)]|[a-zA-Z][.)])(?=[ \t])"
"""What a list item begins with, within a quotation too."""
SENTENCE_CHARS_MAX = 4_000  # a "sentence" without an end (a log, a key list) is cut here at the last blank

# After these a full stop does not end a sentence. Casefolded, without the final stop.
_ABBREVIATIONS_TEXT = """
adj al abb abs afb anm approx apt art assoc aug avg ave bd bldg bros bspw bzgl bzw ca capt cf cfr ch chap chr
cie co col corp dec dept ders dgl dipl dr ed eds eg emp eng esp est ev evtl excl exp ext feb fig figs fr geb gen
gegr ggf gov hr hrsg ie inc incl ing inkl int jan jr jul jun kap lt ltd maj mar max mfg mgr min misc mr mrs ms
mt nos nov nr num oct op orig pag pp pres prof prop rd ref refs reg resp rev sec sen sep sept sig sog sr st str
stud tab tel techn ten u.a u.u univ usw vgl vol vols vs z.b z.t zzgl e.g i.e d.h b.v n.v s.a s.r.l
"""
_ABBREVIATIONS = frozenset(_ABBREVIATIONS_TEXT.split())
_MONTHS_TEXT = """
januar februar märz april mai juni juli august september oktober november dezember jänner januari februari maart
mei augustus mars maj marts leden ledna
"""
_MONTHS = frozenset(_MONTHS_TEXT.split())
# Runs are entered at their first character alone, so that a million stops or blanks take no time squared.
_END = re.compile(
    r"""(?P<blank>(?:(?<![ \t])[ \t]+)?\n[ \t]*\n\s*)"""
    rf"""|(?P<item>\n(?=[ \t]*{ITEM_SIGN}))"""
    r"""|(?P<cjk>[。！？｡]+[”’」』）)]*)"""
    # The number of a footnote can stand directly behind the stop, raised in print.
    r"""|(?<![.!?…])(?P<stop>[.!?…]++["'”’»)\]]*+(?:(?<=[^\s\d][.!?…"'”’»)\]])\d{1,3})?)(?=\s)"""
)
_LAST_WORD = re.compile(r"[^\s(\[\"'“‘«]*$")
_LIST_NUMBER = re.compile(r"(?:^|\n)[ \t]*(?:\d{1,3}|[a-zA-Z])$")
_WORD = re.compile(r"[^\W\d_]+")
_LOOK_BEHIND_CHARS = 40


def _is_end(text: str, stop_start: int, stop_end: int) -> bool:
    """Whether the stop marks at these offsets end a sentence."""
    if text[stop_start:stop_end].strip("\"'”’»)]0123456789") != ".":
        return True
    before = text[max(0, stop_start - _LOOK_BEHIND_CHARS) : stop_start]
    if _LIST_NUMBER.search(before):
        return False
    last = _LAST_WORD.search(before)
    word = last.group().casefold() if last else ""
    following = text[stop_end : stop_end + _LOOK_BEHIND_CHARS].lstrip()
    if following[:1].islower():
        return False
    if len(word) == 1 and word.isalpha() and last is not None and last.group().isupper():
        return False  # an initial: "J. Smith"
    if word in _ABBREVIATIONS or word.rpartition("-")[2] in _ABBREVIATIONS:
        return False
    if word == "no" or word == "p":
        return not (following[:1].isdigit() or text[stop_end - 1].isdigit())
    if word.isdigit() and len(word) <= 2:
        month = _WORD.match(following)
        return not (month and month.group().casefold() in _MONTHS)
    return True


def sentences(text: str) -> list[tuple[int, int]]:
    """The ``(start, end)`` of each sentence, without the blanks around it."""
    spans: list[tuple[int, int]] = []
    start = 0
    for match in _END.finditer(text):
        if match.lastgroup == "stop" and not _is_end(text, match.start(), match.end()):
            continue
        end = match.end() if match.lastgroup in ("stop", "cjk") else match.start()
        _append(spans, text, start, end)
        start = end
    _append(spans, text, start, len(text))
    return spans


def _append(spans: list[tuple[int, int]], text: str, start: int, end: int) -> None:
    """Add the trimmed span, cut at blanks where it is longer than any sentence."""
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    while end - start > SENTENCE_CHARS_MAX:
        cut = max(
            text.rfind(" ", start + 1, start + SENTENCE_CHARS_MAX),
            text.rfind("\n", start + 1, start + SENTENCE_CHARS_MAX),
        )
        cut = cut if cut > start else start + SENTENCE_CHARS_MAX
        stop = cut
        while stop > start and text[stop - 1].isspace():
            stop -= 1
        spans.append((start, stop))
        start = cut
        while start < end and text[start].isspace():
            start += 1
    if start < end:
        spans.append((start, end))
