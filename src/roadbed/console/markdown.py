"""Answers as HTML: a small Markdown allowlist with citation markers as links.

What a model or a document writes is text until this file makes an element of it: paragraphs, lists, emphasis, code,
quotes, tables, headings and http links. Raw HTML stays text, images become their description, and an address of an
image is never loaded (it would be a way out for data). The invariant: every value is escaped where it is written.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup, escape

ANSWER_CHARACTERS_MAX: Final = 200_000
_MARKER = re.compile(r"\[(\d{1,3})\]")
_HALF_EMPHASIS = re.compile(r"(?<![\w*])\*\*(?!\*)|(?<!\*)\*\*(?![\w*])")
_SAFE_LINK = re.compile(r"(?i)(https?://|mailto:)")
_BLOCKS: Final = {
    "paragraph": "p",
    "bullet_list": "ul",
    "ordered_list": "ol",
    "list_item": "li",
    "blockquote": "blockquote",
    "table": "table",
    "thead": "thead",
    "tbody": "tbody",
    "tr": "tr",
    "th": "th",
    "td": "td",
    "strong": "strong",
    "em": "em",
}
_PARSER = (
    MarkdownIt("commonmark", {"html": False})
    .enable("table")
    .disable(["reference", "html_block", "html_inline", "entity"])
)


def render_answer(text: str, links: Mapping[int, tuple[str, str]]) -> Markup:
    """An answer as HTML. ``links`` gives the address and the title of each citation number."""
    return Markup(_Writer(links).write(_PARSER.parse(text[:ANSWER_CHARACTERS_MAX])))  # noqa: S704 - escaped piecewise


def render_quote(text: str) -> Markup:
    """A passage of a Markdown document as HTML: emphasis and code; links come out as their words.

    Marks of emphasis whose other half was cut off are left out.
    """
    tokens = _PARSER.parseInline(text[:ANSWER_CHARACTERS_MAX])
    return Markup(_Writer({}, is_quote=True).write(tokens))  # noqa: S704 - escaped piecewise


class _Writer:
    """Writes tokens of the allowlist; whatever else there is comes out as its text."""

    def __init__(self, links: Mapping[int, tuple[str, str]], *, is_quote: bool = False) -> None:
        self._links = links
        self._is_quote = is_quote
        self._open_links: list[bool] = []

    def write(self, tokens: Sequence[Token]) -> str:
        """The HTML of some tokens."""
        return "".join(self._token(token) for token in tokens)

    def _token(self, token: Token) -> str:
        if token.hidden:
            return ""
        name, _, kind = token.type.rpartition("_")
        if kind in ("open", "close") and name in _BLOCKS:
            return f"<{_BLOCKS[name]}>" if kind == "open" else f"</{_BLOCKS[name]}>"
        if name == "heading":
            # An answer stands under the page's own headings.
            return "<h4>" if kind == "open" else "</h4>"
        writer = self._WRITERS.get(token.type)
        return writer(self, token) if writer is not None else str(escape(token.content))

    def _inline(self, token: Token) -> str:
        return self.write(token.children or ())

    def _text(self, token: Token) -> str:
        content = _HALF_EMPHASIS.sub("", token.content) if self._is_quote else token.content
        return _MARKER.sub(self._citation, str(escape(content)))

    def _citation(self, match: re.Match[str]) -> str:
        number = int(match[1])
        if number not in self._links or any(self._open_links):
            return match[0]
        address, title = self._links[number]
        return str(
            Markup('<a class="cite" href="{}" data-cite="{}" aria-label="source {}: {}">{}</a>').format(
                address, number, number, title, number
            )
        )

    def _code(self, token: Token) -> str:
        return f"<code>{escape(token.content)}</code>"

    def _code_block(self, token: Token) -> str:
        return f"<pre><code>{escape(token.content)}</code></pre>"

    def _link_open(self, token: Token) -> str:
        address = str(token.attrs.get("href", ""))
        is_safe = not self._is_quote and _SAFE_LINK.match(address) is not None
        self._open_links.append(is_safe)
        return f'<a href="{escape(address)}" rel="noopener nofollow noreferrer">' if is_safe else ""

    def _link_close(self, token: Token) -> str:
        return "</a>" if self._open_links.pop() else ""

    def _image(self, token: Token) -> str:
        return f"[image: {escape(token.content)}]" if token.content else "[image]"

    def _break(self, token: Token) -> str:
        return "<br>"

    def _soft_break(self, token: Token) -> str:
        return "\n"

    def _rule(self, token: Token) -> str:
        return "<hr>"

    _WRITERS: Final[Mapping[str, Callable[[_Writer, Token], str]]] = {
        "inline": _inline,
        "text": _text,
        "code_inline": _code,
        "code_block": _code_block,
        "fence": _code_block,
        "link_open": _link_open,
        "link_close": _link_close,
        "image": _image,
        "hardbreak": _break,
        "softbreak": _soft_break,
        "hr": _rule,
    }
