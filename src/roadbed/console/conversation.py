"""A conversation as the Ask page carries it: earlier turns travel in the form; nothing is stored, no script needed.

What comes back from a browser is decoded strictly and bounded; it is shown to nobody but its sender and is otherwise
what any caller of the API may send as messages. Turns are dropped from the front when it grows too large.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Final
from urllib.parse import quote

import msgspec
from markupsafe import Markup, escape
from msgspec import Meta

from roadbed.apps.types import Citation
from roadbed.console.markdown import render_quote
from roadbed.console.rendering import link
from roadbed.gateway.types import Message
from roadbed.kernel.errors import InvalidRequest

TURNS_MAX: Final = 12
HISTORY_BYTES_MAX: Final = 256 * 1024
QUESTION_CHARACTERS_MAX: Final = 4_000
QUOTE_CHARACTERS_MAX: Final = 600
CONTEXT_CHARACTERS_MAX: Final = 160
STATEMENT_CHARACTERS_MAX: Final = 1_200

Short = Annotated[str, Meta(max_length=1_000)]


class HistoryRefused(InvalidRequest):
    """The conversation in the form is not one that this page wrote."""

    code = "console.history_invalid"
    hint = "start a new conversation"


class SourceView(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A cited passage or row as the page shows it. ``tool`` and ``statement`` are those of a row; ``version`` is the
    document's when it was cited: its page then says when offsets are of an earlier text.
    """

    number: Annotated[int, Meta(ge=1, le=999)]
    document_id: Short
    title: Short
    where: Short
    start: Annotated[int, Meta(ge=0)]
    end: Annotated[int, Meta(ge=0)]
    quote: Annotated[str, Meta(max_length=QUOTE_CHARACTERS_MAX + 10)]
    before: Short = ""
    after: Short = ""
    tool: Short = ""
    statement: Annotated[str, Meta(max_length=STATEMENT_CHARACTERS_MAX + 10)] = ""
    version: Short = ""

    def shown(self, passage: str) -> Markup:
        """The quote, or what stands around it, as HTML: a Markdown document's emphasis instead of its marks."""
        is_markdown = self.where.partition(" · ")[0].lower().endswith((".md", ".markdown"))
        return render_quote(passage) if is_markdown else escape(passage)

    @property
    def address(self) -> str:
        """The document at this passage, the tool that gave this row, or the page Analytics."""
        if self.tool:
            return link("/console/tools/" + quote(self.tool, safe=""))
        if not self.document_id:
            return "/console/analytics"
        place = {"start": str(self.start), "end": str(self.end), "version": self.version}
        return link(f"/console/documents/{self.document_id}", **place) + "#passage"


class PastTurn(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A question and its answer."""

    question: Annotated[str, Meta(max_length=QUESTION_CHARACTERS_MAX)]
    answer: Annotated[str, Meta(max_length=HISTORY_BYTES_MAX)]
    sources: Annotated[tuple[SourceView, ...], Meta(max_length=100)] = ()


_decoder = msgspec.json.Decoder(tuple[PastTurn, ...])


def source_of(citation: Citation) -> SourceView:
    """A citation as the page shows it."""
    place = citation.location or (f"page {citation.page}" if citation.page is not None else "")
    row = citation.row
    origin = citation.uri or (f"tool {row.tool}" if row is not None else citation.source)
    age = f"from {row.age_s:.0f} s before" if row is not None and row.age_s else ""
    where = " · ".join(part for part in (origin, place, age) if part)
    statement = row.statement if row is not None else ""
    if len(statement) > STATEMENT_CHARACTERS_MAX:
        statement = statement[:STATEMENT_CHARACTERS_MAX] + " …"
    quoted = citation.quote
    if len(quoted) > QUOTE_CHARACTERS_MAX:
        quoted = quoted[:QUOTE_CHARACTERS_MAX].rsplit(" ", 1)[0] + " …"
    return SourceView(
        citation.number,
        citation.document_id[:1_000],
        citation.title[:1_000],
        where[:1_000],
        citation.start,
        citation.end,
        quoted,
        last_words(citation.before),
        first_words(citation.after),
        row.tool if row is not None else "",
        statement,
        citation.version[:1_000],
    )


def first_words(text: str) -> str:
    """The whole words that follow a quote; what is cut at its end has lost part of a word."""
    words, _, rest = text[:CONTEXT_CHARACTERS_MAX].replace("\n", " ").rpartition(" ")
    return f"{words} …" if words.strip() and rest else ""


def last_words(text: str) -> str:
    """The whole words that come before a quote."""
    rest, _, words = text[-CONTEXT_CHARACTERS_MAX:].replace("\n", " ").partition(" ")
    return f"… {words}" if words.strip() and rest else ""


def decode_history(text: str) -> tuple[PastTurn, ...]:
    """The earlier turns of a form. `HistoryRefused`."""
    if not text:
        return ()
    if len(text) > HISTORY_BYTES_MAX * 2:
        raise HistoryRefused("the conversation is too long")
    try:
        return _decoder.decode(text)[-TURNS_MAX:]
    except (msgspec.DecodeError, UnicodeError):
        raise HistoryRefused("the conversation in this form cannot be read") from None


def encode_history(turns: Iterable[PastTurn]) -> str:
    """The turns for the next form; the oldest are dropped when there are too many or they are too large."""
    kept = list(turns)[-TURNS_MAX:]
    while kept:
        encoded = msgspec.json.encode(kept)
        if len(encoded) <= HISTORY_BYTES_MAX:
            return encoded.decode()
        del kept[0]
    return ""


def messages_of(turns: Sequence[PastTurn], question: str) -> list[Message]:
    """The conversation as an app is asked."""
    messages: list[Message] = []
    for turn in turns:
        messages += [Message("user", turn.question), Message("assistant", turn.answer)]
    return [*messages, Message("user", question)]
