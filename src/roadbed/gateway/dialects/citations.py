"""What an answer's text cites, in the shapes of callers' dialects: OpenAI's annotations, Anthropic's locations.

Endpoints cite in their own words (`Cited`); only citations of web addresses have a like in OpenAI's. What an app cites
comes to OpenAI's dialects as ``file_citation`` annotations, to Anthropic's as `OWN_CITATION` marks. Pure. The
invariant: indexes are code points of the whole text, and cover the block or the marker that cites.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from roadbed.gateway.types import OWN_CITATION, Answer, Cited


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


def files_in_chat(annotations: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """An app's ``file_citation`` annotations as ``url_citation``: chat completions document no other kind, and SDKs
    that check shapes refuse the whole answer for one. File and quote stand beside what is documented.
    """
    return [
        {
            "type": "url_citation",
            "url_citation": {
                "start_index": found["start_index"],
                "end_index": found["end_index"],
                "url": found["url"],
                "title": found["filename"],
                "file_id": found["file_id"],
                "quote": found["quote"],
            },
        }
        for found in annotations
    ]


def location_of(fields: dict[str, Any]) -> dict[str, Any]:
    """What an app cites as Anthropic's callers get it: the one kind that says where a source is, and the one that every
    SDK of the dialect shows. Locations in documents are looked up among those that the caller sent, and Vercel's passes
    over all others. There is no index to send back, so it is empty; the file and its offsets are ours.
    """
    return {
        "type": "web_search_result_location",
        "cited_text": fields["quote"],
        "url": fields["url"],
        "title": fields["title"],
        "encrypted_index": "",
        "file_id": fields["id"],
        "start_char_index": fields["start"],
        "end_char_index": fields["end"],
    }


def _spans(answer: Answer) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """Each citation with the part of the text that cites it."""
    begin = 0
    cited: list[dict[str, Any]] = []
    for place, mark in answer.marks:
        if isinstance(mark, Cited):
            if mark.dialect != OWN_CITATION:
                cited.append(mark.fields)
            continue
        yield from ((begin, place, fields) for fields in cited)
        begin, cited = place, []
    yield from ((begin, len(answer.text), fields) for fields in cited)


def _address(fields: dict[str, Any]) -> str:
    url = fields.get("url") or fields.get("source")
    return url if isinstance(url, str) and url.startswith(("https://", "http://")) else ""
