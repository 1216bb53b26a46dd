"""Text that others wrote, before it enters a prompt, and links in what a model wrote, before a browser sees them. Pure.

`cleaned` takes out what a reader cannot see and keeps count of it; `flags_of` names what is suspicious and stays;
`without_unknown_links` closes the way out by pictures and links. None of it judges meaning: a text that lies in plain
words passes, and the documentation says so. The invariant: honest text comes out as it went in, and cleaning twice
changes nothing.
"""

from __future__ import annotations

import base64
import binascii
import html
import re
import unicodedata
from collections.abc import Collection
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from roadbed.guard.mask import OffsetMap

HIDDEN_RUN: Final = "hidden_characters"
TAGS: Final = "unicode_tags"
BIDI: Final = "bidi_override"
COMMENT: Final = "html_comment"
HIDDEN_HTML: Final = "hidden_html"
ACTIVE_HTML: Final = "active_html"
PICTURE: Final = "picture_elsewhere"
DATA_URL: Final = "data_url"
ENCODED: Final = "encoded_text"
SPEAKS: Final = "speaks_to_a_model"

REMOVED: Final = frozenset({HIDDEN_RUN, TAGS, BIDI, COMMENT, HIDDEN_HTML, ACTIVE_HTML})
FLAGS: Final = (HIDDEN_RUN, TAGS, BIDI, COMMENT, HIDDEN_HTML, ACTIVE_HTML, PICTURE, DATA_URL, ENCODED, SPEAKS)
PASSES_MAX: Final = 20
HELD_CHARACTERS_MAX: Final = 8_000

# A flag of a region, such as Scotland's, is a black flag and tag characters; all other tag characters are hidden text.
_TAGS = re.compile("(?<!\U0001f3f4)(?<![\U000e0020-\U000e007e])[\U000e0000-\U000e007f]+")
_BIDI = re.compile("[\u202a-\u202e\u2066-\u2069]")
# One joiner stands in an emoji or in Persian; a run of invisible characters is a message.
_INVISIBLE = "\u200b\u200c\u200d\u2060-\u2064\ufeff\u180e\u115f\u1160\u3164\uffa0"
_RUN = re.compile(f"[{_INVISIBLE}\u200e\u200f]{{4,}}")
_BETWEEN = re.compile("(?<=[A-Za-z])[\u200b\u2060-\u2064\ufeff\u00ad]+(?=[A-Za-z])")
_SELECTORS = re.compile("[\ufe00-\ufe0f]{2,}|[\U000e0100-\U000e01ef]{2,}")
_COMMENT = re.compile(r"<!--.{0,20000}?-->", re.DOTALL)
_HIDING = re.compile(
    r"""<(?P<tag>span|div|p|font|td|li|a|section|b|i|em|small|label)\b[^<>]{0,400}?
    (?:style\s*=\s*["'][^"'<>]{0,300}?(?:display\s*:\s*none|visibility\s*:\s*hidden|font-size\s*:\s*0(?![.\d])
        |opacity\s*:\s*0(?![.\d])|color\s*:\s*(?:white|\#fff(?:fff)?)\b|(?:left|top|text-indent)\s*:\s*-\d{3,})
     |\bhidden(?=[\s>=])|aria-hidden\s*=\s*["']true)
    [^<>]{0,400}>.{0,20000}?</(?P=tag)\s*>""",
    re.DOTALL | re.IGNORECASE | re.VERBOSE,
)
_ACTIVE = re.compile(
    r"(?<!`)<\s*(script|style|iframe|object|embed|svg|link|meta|base|form|input)\b[^<>]{0,2000}>"
    r"(?:.{0,20000}?<\s*/\s*\1\s*>)?|(?<!`)<[a-z][^<>]{0,400}\son[a-z]{3,20}\s*=\s*[\"'][^<>]{0,2000}>",
    re.DOTALL | re.IGNORECASE,
)
_PICTURE = re.compile(
    r"!\[[^\]\n]{0,500}\]\s?\(\s*<?(?P<url>[^)\s>]{1,2000})[^)\n]{0,300}\)|<img\b[^<>]{0,2000}>", re.I
)
_REFERENCE = re.compile(
    r"^ {0,3}\[(?P<name>[^\]\n]{1,200})\]:\s{0,3}<?(?P<url>\S{1,2000}?)>?(?:\s+[\"'(].{0,300})?$", re.M
)
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufff9-\ufffb\U000f0000-\U0010ffff]")
_FORMAT = f"{_INVISIBLE}\u00ad\u061c\u200e\u200f\u206a-\u206f"
_STRAY = re.compile(f"(?<![^\x00-\x7f])[{_FORMAT}]+|[{_FORMAT}]+(?![^\x00-\x7f])")
_ANY = re.compile(f"[{_FORMAT}\u202a-\u202e\u2066-\u2069\ufe00-\ufe0f\U000e0000-\U000e01ef]")
_INVISIBLE_PATTERNS: Final = (
    (TAGS, _TAGS),
    (BIDI, _BIDI),
    (HIDDEN_RUN, _RUN),
    (HIDDEN_RUN, _SELECTORS),
    (HIDDEN_RUN, _BETWEEN),
)
_HTML_PATTERNS: Final = ((COMMENT, _COMMENT), (HIDDEN_HTML, _HIDING), (ACTIVE_HTML, _ACTIVE))
_DATA_URL = re.compile(r"\bdata:[a-z]{2,20}/[a-z0-9.+-]{2,60}[^\s)\"'>]{0,20000}", re.IGNORECASE)
_BASE64 = re.compile(r"(?<![A-Za-z0-9+/_=-])[A-Za-z0-9+/_-]{40,8000}={0,2}(?![A-Za-z0-9+/_=-])")
_HEX = re.compile(r"(?<![0-9A-Za-z])(?:[0-9a-fA-F]{2}){24,4000}(?![0-9A-Za-z])")
_PERCENT = re.compile(r"(?:%[0-9A-Fa-f]{2}){16,4000}")
_ESCAPES = re.compile(r"(?:\\u00[2-7][0-9a-fA-F]|\\x[2-7][0-9a-fA-F]|&\#(?:x[2-7][0-9a-fA-F]|\d{2,3});){12,2000}")
_WORDS = re.compile(r"[A-Za-z]{2,}")
_SPEAKS = re.compile(
    r"""\b(?:ignore|disregard|forget|override|bypass)\b[^.\n]{0,40}\b(?:previous|prior|above|earlier|preceding|your|system
        |all\s+other)\b[^.\n]{0,30}\b(?:instruction|prompt|rule|message|guideline|direction|constraint)s?\b
    | </?\s*(?:system|assistant|instructions?|passage)\s*>
    | <\|(?:im_start|im_end|system|user|assistant|endoftext)[^|]{0,20}\|>
    | \[/?(?:INST|SYS|SYSTEM)\] | ^\s*\#{0,4}\s*(?:system|assistant|developer)\s*(?:prompt|message|override)?\s*:\s
    | \b(?:note|message|instructions?|attention|reminder)\s+(?:to|for)\s+(?:the\s+)?
        (?:ai|llm|assistant|model|chatbot|language\s+model)\b
    | \b(?:ai|llm|language\s+model)s?\s+(?:reading|processing|summari[sz]ing)\s+this\b
    | \byou\s+are\s+now\b[^.\n]{0,40}\b(?:mode|assistant|ai|dan|unrestricted|admin(?:istrator)?|root)\b
    | \b(?:reveal|print|repeat|output|show)\b[^.\n]{0,30}
        \b(?:system\s+prompt|hidden\s+instructions|your\s+instructions)\b
    | \bdo\s+not\s+(?:tell|inform|mention|reveal)\b[^.\n]{0,30}\b(?:the\s+)?(?:user|human|operator)\b
    | \b(?:send|forward|post|exfiltrate|leak|upload)\b[^.\n]{0,60}
        \b(?:conversation|chat\s+history|system\s+prompt|api\s+keys?|credentials)\b[^.\n]{0,40}\b(?:to|https?:)""",
    re.IGNORECASE | re.VERBOSE | re.MULTILINE,
)
_IMG = re.compile(r"<img\b[^<>]{0,2000}>", re.IGNORECASE)
_SIGN = re.compile(r"!?\[|\]:|<|(?:https?|ftp):|&[#a-z]|\\", re.IGNORECASE)
# What stands before a sign without a blank may be the begin of its address.
_BEFORE = re.compile(r"[!-~]{0,200}\Z")
_WORD = re.compile(r"\S+")
_ESCAPED = re.compile(r"\\([!-/:-@\[-`{-~])")
_ADDRESS = re.compile(r"(?:https?|ftp|wss?|mailto|data|javascript|vbscript|file|tel|sms|blob):|//|\bwww\.", re.I)
# What a definition leads to where `_REFERENCE` does not see it whole: in a list, over two lines, without a scheme.
_LOOSE = re.compile(r"\]:(?:\s{0,3}<?//[^\n]{0,2000}|[ \t]*$)", re.M)
DECODINGS_MAX: Final = 4
SIGN_CHARACTERS: Final = 6  # a sign may be cut: what could be the begin of one is held, too
_LINK = re.compile(
    r"(?P<picture>!?)\[(?P<text>[^\]\n]{0,500})\]\s?\(\s*<?(?P<url>[^)\s>]{1,4000})>?[^)\n]{0,300}\)"
    r"|\[(?P<text2>[^\]\n]{1,500})\]\[(?P<name>[^\]\n]{0,200})\]"
    r"|<(?P<auto>(?:https?|ftp)://[^>\s]{1,4000})>"
    r"|(?P<bare>\b(?:https?|ftp)://[^\s<>\"'`)\]]{1,4000})",
    re.IGNORECASE,
)


class Cleaned(NamedTuple):
    """A text without what cannot be seen in it, what was found, and how many characters went."""

    text: str
    flags: tuple[str, ...]
    removed_characters: int


def cleaned(text: str) -> Cleaned:
    """What a person would see of the text, and the flags of what it held. For documents, rows and tools' results.

    Comments, hidden and active HTML, tag characters, runs of invisible characters and bidi overrides go. What is
    visible stays, flagged where it is suspicious.
    """
    return cleaned_with_maps(text)[0]


def cleaned_with_maps(text: str) -> tuple[Cleaned, list[OffsetMap]]:
    """As `cleaned`, with the maps of offsets, to be applied one after the other; none where nothing was removed."""
    found: set[str] = set()
    maps: list[OffsetMap] = []
    done = text
    for _ in range(PASSES_MAX):  # what is around a removed part may have become one
        spans = [
            (match.start(), match.end(), flag)
            for flag, pattern in _removals(done)
            for match in pattern.finditer(done)
            if match.end() > match.start()
        ]
        if not spans:
            break
        found |= {flag for _, _, flag in spans}
        edits = _united(spans)
        maps.append(OffsetMap([(start, end, 0) for start, end in edits]))
        done = _cut(done, edits)
    found |= flags_of(done)
    return Cleaned(done, tuple(flag for flag in FLAGS if flag in found), len(text) - len(done)), maps


def without_invisible(text: str) -> str:
    """Text without characters that cannot be seen; all else as it is, HTML too. For values of rows, and for prompts.

    A joiner between two letters of a script that needs it, or two pictures, stays; beside a sign or a Latin letter it
    would hide a fence's end from whoever looks for it, and goes.
    """
    if text.isascii():
        return text if text.isprintable() else _CONTROL.sub("", text)
    for _ in range(PASSES_MAX):  # what is around a removed part may have become one
        before = text
        for _, pattern in _INVISIBLE_PATTERNS:
            text = pattern.sub("", text)
        text = _STRAY.sub("", _CONTROL.sub("", text))
        if text == before:
            return text
    return _ANY.sub("", text)  # nested on purpose


def warnings_of(found: Cleaned) -> tuple[str, ...]:
    """What was found, for whoever looks at the document."""
    removed = [flag for flag in found.flags if flag in REMOVED]
    kept = [flag for flag in found.flags if flag not in REMOVED]
    said = []
    if removed:
        said.append(f"{found.removed_characters} characters that readers do not see were removed: {', '.join(removed)}")
    if kept:
        said.append(f"suspicious text was kept: {', '.join(kept)}")
    return tuple(said)


def flags_of(text: str) -> set[str]:
    """What is suspicious in a visible text and stays in it: pictures from elsewhere, encoded text, words to a model."""
    found = set()
    if any(_is_elsewhere(match) for match in _PICTURE.finditer(text)):
        found.add(PICTURE)
    if "data:" in text.lower() and _DATA_URL.search(text):
        found.add(DATA_URL)
    if _has_encoded_words(text):
        found.add(ENCODED)
    if _SPEAKS.search(unicodedata.normalize("NFKC", text)):
        found.add(SPEAKS)
    return found


def without_unknown_links(text: str, hosts: Collection[str]) -> tuple[str, int]:
    """A model's answer with pictures and links to hosts that are not in ``hosts`` made harmless, and how many.

    A link keeps its words and shows its host; a picture keeps its description; reference definitions go. A host of the
    list stands for those below it, too.
    """
    text = plainly_written(text)
    if "://" not in text and "](" not in text and "]:" not in text and "<" not in text:
        return text, 0
    count = 0
    named: dict[str, str] = {}

    def definition(match: re.Match[str]) -> str:
        nonlocal count
        named[match["name"].lower()] = match["url"]
        if is_known_host(match["url"], hosts):
            return match[0]
        count += 1
        return ""

    def link(match: re.Match[str]) -> str:
        nonlocal count
        url = match["url"] or match["auto"] or match["bare"]
        if match["text2"] is not None:
            url = named.get((match["name"] or match["text2"]).lower(), "")
            if not url or is_known_host(url, hosts):
                return match[0]
            count += 1
            return match["text2"]
        if is_known_host(url, hosts):
            return match[0]
        count += 1
        words = match["text"]
        if match["picture"]:
            return f"[picture: {words}]" if words else "[picture]"
        host = _host_of(url)
        return f"{words} [link to {host}]" if words else f"[link to {host}]"

    for pattern in (_COMMENT, _ACTIVE, _IMG):
        text, more = pattern.subn("", text)
        count += more
    text = _REFERENCE.sub(definition, text)
    text, more = _LOOSE.subn("] ", text)
    return _LINK.sub(link, text), count + more


def plainly_written(text: str) -> str:
    """Text whose words that become addresses only when Markdown is shown, as ``https&#58;//``, are written out."""
    if "&" not in text and "\\" not in text:
        return text
    return _WORD.sub(lambda match: _written_out(match[0]), text)


def _written_out(word: str) -> str:
    if "&" not in word and "\\" not in word:
        return word
    view = word
    for _ in range(DECODINGS_MAX):
        decoded = html.unescape(_ESCAPED.sub(r"\1", view))
        if decoded == view:
            return view if _ADDRESS.search(view) else word
        view = decoded
    return ""  # nobody writes so who means to be read


class LinkFilter:
    """`without_unknown_links` for an answer in pieces: a line is held from its first sign of a link to its end."""

    __slots__ = ("_held", "_hosts")

    def __init__(self, hosts: Collection[str]) -> None:
        self._hosts = hosts
        self._held = ""

    def feed(self, piece: str) -> str:
        """What can be said now."""
        text = self._held + piece
        cut = text.rfind("\n") + 1
        sign = _SIGN.search(text, cut)
        if sign is not None:
            cut = _word_start(text, cut, sign.start())
        else:
            cut = _word_start(text, cut, max(cut, len(text) - SIGN_CHARACTERS))
        if len(text) - cut > HELD_CHARACTERS_MAX:
            cut = len(text)
        self._held = text[cut:]
        return without_unknown_links(text[:cut], self._hosts)[0]

    def finish(self) -> str:
        """The rest."""
        text, self._held = self._held, ""
        return without_unknown_links(text, self._hosts)[0]


def _word_start(text: str, start: int, end: int) -> int:
    before = _BEFORE.search(text, max(start, end - 200), end)
    return before.start() if before is not None else end


def is_known_host(url: str, hosts: Collection[str]) -> bool:
    """Whether an address is relative to where it is shown, or at a host of the list or below one."""
    lowered = url.strip().lower()
    if "\\" in lowered:
        return False
    if lowered.startswith(("#", "/")) and not lowered.startswith("//"):
        return True
    if lowered.startswith("mailto:"):
        return "?" not in lowered
    if ":" not in lowered.split("/", 1)[0] and not lowered.startswith("//"):
        return True  # a relative path
    host = _host_of(url)
    return any(host == known or host.endswith(f".{known}") for known in (name.lower() for name in hosts))


def _host_of(url: str) -> str:
    try:
        return (urlsplit(url.strip()).hostname or "an unknown host").lower()
    except ValueError:
        return "an unknown host"


def _removals(text: str) -> tuple[tuple[str, re.Pattern[str]], ...]:
    """The patterns that can match at all."""
    seen = () if text.isascii() else _INVISIBLE_PATTERNS
    return (*seen, *_HTML_PATTERNS) if "<" in text else seen


def _united(spans: list[tuple[int, int, str]]) -> list[tuple[int, int]]:
    """Disjoint spans in order."""
    united: list[tuple[int, int]] = []
    for start, end, _ in sorted(spans):
        if united and start <= united[-1][1]:
            united[-1] = (united[-1][0], max(end, united[-1][1]))
        else:
            united.append((start, end))
    return united


def _cut(text: str, spans: list[tuple[int, int]]) -> str:
    parts, done = [], 0
    for start, end in spans:
        parts.append(text[done:start])
        done = end
    return "".join([*parts, text[done:]])


def _is_elsewhere(match: re.Match[str]) -> bool:
    url = match["url"]
    return url is None or not is_known_host(url, ())


def _has_encoded_words(text: str) -> bool:
    """Whether a long encoded run decodes to words: keys, hashes and pictures do not."""
    for match in _BASE64.finditer(text):
        try:
            data = base64.b64decode(match[0].replace("-", "+").replace("_", "/").rstrip("=") + "===", validate=False)
        except (binascii.Error, ValueError):
            continue
        if _are_words(data):
            return True
    if any(_are_words(bytes.fromhex(match[0])) for match in _HEX.finditer(text)):
        return True
    return bool(_PERCENT.search(text) or _ESCAPES.search(text))


def _are_words(data: bytes) -> bool:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    printable = sum(character.isprintable() or character in "\n\t " for character in text)
    return printable >= 0.95 * len(text) and len(_WORDS.findall(text)) >= 4 and " " in text
