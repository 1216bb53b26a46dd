from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from roadbed.apps.types import Citation, RowOrigin
from roadbed.gateway.dialects.anthropic_writer import MessageWriter
from roadbed.gateway.dialects.openai_caller import ChatCallers
from roadbed.gateway.types import Answer, Cited, Event, TextDelta, TextEnded
from roadbed.server.citing import CitedText
from roadbed.server.turns import annotations_of


def citation(number: int, document: str = "d1", **more: Any) -> Citation:
    facts: dict[str, Any] = {"title": f"Title {document}", "uri": f"https://desk.test/{document}"} | more
    return Citation(number, document, "c", facts.pop("title"), facts.pop("uri"), "s", "c", 10, 20, "Quoted.", **facts)


def blocks_of(texts: list[str], *citations: Citation) -> list[dict[str, Any]]:
    """The content of Anthropic's message, after its stream said the same."""
    cited, answer, events = CitedText(), Answer(), list[Event]()
    for found in citations:
        cited.know(found)
    for text in texts:
        events += cited.events(text)
    for event in events:
        answer.add(event)
    writer = MessageWriter("t", "app")
    stream = writer.events(events) + writer.end(answer, annotations=[], roadbed={})
    whole = json.loads(MessageWriter("t", "app").whole(answer, annotations=[], roadbed={}))["content"]
    assert _put_together(stream) == whole
    return list(whole)


def _put_together(stream: bytes) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = []
    for frame in stream.decode().strip().split("\n\n"):
        data = json.loads(frame.partition("data: ")[2])
        if data["type"] == "content_block_start":
            blocks.append(data["content_block"])
        elif data["type"] == "content_block_delta":
            delta = data["delta"]
            if delta["type"] == "text_delta":
                blocks[-1]["text"] += delta["text"]
            else:
                blocks[-1].setdefault("citations", []).append(delta["citation"])
    return blocks


def test_a_block_holds_what_its_citations_bear_out() -> None:
    texts = ["So it is. ", "It costs 35 % [1][2]. ", "Or not", " [1].\n", "\n", "Who knows?"]
    blocks = blocks_of(texts, citation(1), citation(2, "d2"))
    assert [block["text"] for block in blocks] == [
        "So it is. ",
        "It costs 35 % [1][2]. ",
        "Or not [1].\n\n",
        "Who knows?",
    ]
    assert [[found["file_id"] for found in block.get("citations", [])] for block in blocks] == [
        [],
        ["d1", "d2"],
        ["d1"],
        [],
    ]
    assert blocks[1]["citations"][0] == {
        "type": "web_search_result_location",
        "cited_text": "Quoted.",
        "url": "https://desk.test/d1",
        "title": "Title d1",
        "encrypted_index": "",
        "file_id": "d1",
        "start_char_index": 10,
        "end_char_index": 20,
    }


def test_a_text_of_several_claims_is_cut_behind_each() -> None:
    blocks = blocks_of(["One [1]\n\nTwo [2]"], citation(1), citation(2))
    assert [(block["text"], len(block["citations"])) for block in blocks] == [("One [1]\n\n", 1), ("Two [2]", 1)]


def test_brackets_that_cite_nothing_cut_nothing() -> None:
    assert blocks_of(["As in [7], and [1]."], citation(1))[0]["text"] == "As in [7], and [1]."
    assert blocks_of(["Nothing [1]."]) == [{"type": "text", "text": "Nothing [1]."}]


def test_a_row_is_cited_by_what_is_quoted_of_it() -> None:
    origin = RowOrigin("tool", "orders", "SELECT 1", "id 7", (("fee", "40"),))
    found = blocks_of(["40 [1]."], citation(1, "", row=origin))[0]["citations"][0]
    assert found["file_id"] == "tool:id 7"
    assert found["title"] == "Title , id 7"
    assert (found["start_char_index"], found["end_char_index"]) == (0, len("Quoted."))


def test_chat_completions_know_citations_of_addresses_alone() -> None:
    annotations = annotations_of("It is so [1].", (citation(1),))
    incoming = ChatCallers().decode(b'{"model": "app", "messages": [{"role": "user", "content": "Why?"}]}')
    answer = Answer(text="It is so [1].", finish_reason="stop")
    body = ChatCallers().writer("t", 1, incoming).whole(answer, annotations=annotations, roadbed={})
    assert json.loads(body)["choices"][0]["message"]["annotations"] == [
        {
            "type": "url_citation",
            "url_citation": {
                "start_index": 9,
                "end_index": 12,
                "url": "https://desk.test/d1",
                "title": "Title d1",
                "file_id": "d1",
                "quote": "Quoted.",
            },
        }
    ]


@given(st.lists(st.text("ab .[]12\n", max_size=12), max_size=6), st.sets(st.integers(1, 22), max_size=4))
def test_no_text_is_lost_and_blocks_are_never_empty(texts: list[str], numbers: set[int]) -> None:
    cited = CitedText()
    for number in numbers:
        cited.know(citation(number))
    events = [event for text in texts for event in cited.events(text)]
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == "".join(texts)
    kinds = [type(event) for event in events]
    for before, after in pairwise(kinds):
        assert (before, after) != (TextEnded, TextEnded)
        assert after is not Cited or before in (TextDelta, Cited)
    assert not kinds or (kinds[0] is TextDelta and kinds[-1] is not TextEnded)
