"""What an answer's text cites, as the annotations of OpenAI's two dialects.

Endpoints cite in their own words (`Cited`); only citations of web addresses have a like. Pure. The invariant: indexes
are code points of the whole text, and cover the block that cites.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from roadbed.gateway.types import Answer, Cited


def cited_addresses(answer: Answer) -> list[dict[str, Any]]:
    """``url_citation`` annotations as Responses show them."""
    return [
        {
            "type": "url_citation",
            "start_index": start,
            "end_index": end,
            "url": url,
            "title": str(fields.get("title") or ""),
        }
        for start, end, fields in _spans(answer)
        if (url := _address(fields))
    ]


def cited_in_chat(answer: Answer) -> list[dict[str, Any]]:
    """The same as chat completions show them: the facts stand in an object of the type's name."""
    return [
        {"type": "url_citation", "url_citation": {key: value for key, value in found.items() if key != "type"}}
        for found in cited_addresses(answer)
    ]


def _spans(answer: Answer) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """Each citation with the part of the text that cites it."""
    begin = 0
    cited: list[dict[str, Any]] = []
    for place, mark in answer.marks:
        if isinstance(mark, Cited):
            cited.append(mark.fields)
            continue
        yield from ((begin, place, fields) for fields in cited)
        begin, cited = place, []
    yield from ((begin, len(answer.text), fields) for fields in cited)


def _address(fields: dict[str, Any]) -> str:
    url = fields.get("url") or fields.get("source")
    return url if isinstance(url, str) and url.startswith(("https://", "http://")) else ""
