"""Links and images in what a model writes: kept to listed hosts, made harmless elsewhere. Pure.

An address is a way out: whoever shows an answer may load it, and its path can hold what a model has read. So a link is
kept only to a host that the app lists; where an app has no tools, also when its address stands word for word in the
shown passages and it is no image. In a turn with confidential data and others' text, both must hold. The invariant:
whatever else could be followed or loaded leaves as words, without its address.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from roadbed.guard.untrusted import plainly_written

LEFT_OUT = "(link left out)"
_TAGS = (
    "a|img|image|iframe|script|link|object|embed|video|audio|source|form|input|button|svg|style|meta|base|picture|area"
)
_DESTINATION = r"\s*<?(?P<{0}>[^)\s>]*)(?:[^()\n]|\([^()\n]*\))*\)"
_FOUND = re.compile(
    rf"(?P<image>!\[(?P<alt>[^\]\n]*)\]\({_DESTINATION.format('image_to')})"
    r"|(?P<bang>!(?=\s*\[))"
    rf"|(?P<inline>\]\({_DESTINATION.format('link_to')})"
    r"|(?P<open>\]\()"
    rf"|(?P<tag><(?=\s*/?\s*(?:{_TAGS})\b))"
    r"|(?P<address>\b[a-z][a-z0-9+.-]{1,30}:[/\\]{2}[^\s<>\"'`\]]*"
    r"|(?<![:\w/])[/\\]{2}[\w-]+\.[^\s<>\"'`\]]*"
    r"|\bwww\.[^\s<>\"'`\]]+"
    r"|\b(?:https?|ftp|wss?|mailto|data|javascript|vbscript|file|tel|sms|blob):(?=\S)[^\s<>\"'`\]]*"
    r"|(?<![\w@/.\\-])(?:[\w-]{1,63}\.)+(?P<top>[a-z]{2,24})(?::\d+)?[/?#][^\s<>\"'`\]]+)",
    re.IGNORECASE,
)
_ENDINGS_TEXT = """md txt pdf html htm csv tsv json jsonl yaml yml toml xml py js ts css sql docx xlsx pptx odt png jpg
jpeg gif svg zip gz tar sh log ini cfg conf sqlite db parquet"""
_ENDINGS = frozenset(_ENDINGS_TEXT.split())
_HIDDEN = re.compile("[\U000e0000-\U000e007f\u202a-\u202e\u2066-\u2069]")


@dataclass(frozen=True, slots=True)
class LinkRule:
    """Which addresses may stand in one answer. ``texts`` gives what was shown to the model."""

    hosts: Sequence[str]
    texts: Callable[[], Sequence[str]]
    has_tools: bool = False
    may_let_out: Callable[[], bool] = lambda: True

    def plain(self, text: str) -> str:
        """Text in which every address that may not stay has become words."""
        return _FOUND.sub(self._replaced, plainly_written(_HIDDEN.sub("", text)))

    def _replaced(self, match: re.Match[str]) -> str:
        whole = match.group()
        if match["image"] is not None:
            if self._may_stay(match["image_to"], is_image=True):
                return whole
            alt = self.plain(match["alt"])
            return f"(image: {alt})" if alt else "(image)"
        if match["bang"] is not None:
            return ""
        if match["inline"] is not None:
            return whole if self._may_stay(match["link_to"]) else "]"
        if match["open"] is not None:
            return "] ("
        if match["tag"] is not None:
            return "‹"
        if match["top"] is not None and match["top"].casefold() in _ENDINGS:
            return whole
        address = whole.rstrip(".,;:!?)*_")
        return whole if self._may_stay(address) else LEFT_OUT + whole[len(address) :]

    def _may_stay(self, address: str, *, is_image: bool = False) -> bool:
        listed = is_listed(address, self.hosts)
        if not listed and (self.has_tools or is_image):
            return False
        is_shown = any(address in text for text in self.texts()) if address else False
        return is_shown if not listed else is_shown or self.may_let_out()


def is_listed(address: str, hosts: Sequence[str]) -> bool:
    """Whether an address is http or https at a listed host, with nothing in it that readers read differently."""
    if "\\" in address or not address.isascii() or not re.match(r"(?i)https?://[^/]", address):
        return False
    try:
        parts = urlsplit(address)
        host = (parts.hostname or "").rstrip(".")
    except ValueError:
        return False
    if "@" in parts.netloc or not host:
        return False
    return any(host == entry or (entry.startswith("*.") and host.endswith(entry[1:])) for entry in hosts)
