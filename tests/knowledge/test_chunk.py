"""Chunks: what a boundary may cut, what an id depends on, what an edit leaves alone."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roadbed.knowledge.chunk import (
    CHUNK_CHARS_MAX,
    CHUNK_ID_CHARS,
    TOKENS_MAX,
    TOKENS_TAIL_MIN,
    Chunk,
    chunk_document,
    chunk_id,
)
from roadbed.knowledge.parse.dispatch import parse_bytes
from roadbed.knowledge.parse.document import Block, BlockKind
from roadbed.testing.embedder import ScriptedEmbedder

count = ScriptedEmbedder().token_count


def count_signs(text: str) -> int:
    """Tokens as most models have them: words, and signs one each."""
    return len(re.findall(r"\w+|[^\w\s]", text))


def lay_out(parts: Sequence[tuple[BlockKind, str, int]]) -> tuple[str, list[Block]]:
    """A canonical text with its blocks, separated by blank lines."""
    text = ""
    blocks: list[Block] = []
    for kind, own, level in parts:
        start = len(text)
        text += own + "\n\n"
        blocks.append(
            Block(kind, start, start + len(own), level, page=len(blocks) + 1, location=f"block {len(blocks)}")
        )
    return text, blocks


def chunks_of(*parts: tuple[BlockKind, str, int]) -> list[Chunk]:
    text, blocks = lay_out(parts)
    return chunk_document("doc", text, blocks, count)


def sentences_of(number: int, words: int = 10) -> str:
    return " ".join("Sentence " + " ".join(f"w{n}x{m}" for m in range(words - 1)) + "." for n in range(number))


def test_short_document_is_one_chunk_with_its_place() -> None:
    (chunk,) = chunks_of(("paragraph", "Just a few words.", 0))
    assert (chunk.text, chunk.heading_path, chunk.page, chunk.location) == ("Just a few words.", (), 1, "block 0")
    assert chunk.token_count == 4
    assert len(chunk.chunk_id) == CHUNK_ID_CHARS


def test_text_without_blocks_is_chunked_too() -> None:
    assert [chunk.text for chunk in chunk_document("doc", " plain text ", None, count)] == ["plain text"]
    assert chunk_document("doc", " \n ", None, count) == []


@pytest.mark.parametrize("words", [10, 220])
def test_text_of_blocks_left_out_is_in_no_chunk(words: int) -> None:
    text, blocks = lay_out([("paragraph", "seen " * words, 0), ("paragraph", "hidden", 0), ("paragraph", "more", 0)])
    kept = chunk_document("doc", text, [blocks[0], blocks[2]], count)
    assert [chunk.text.split()[0] for chunk in kept] == ["seen", "more"]
    assert not any("hidden" in chunk.embed_text() for chunk in kept)
    assert chunk_document("doc", text, [], count) == []


def test_sections_never_share_a_chunk_and_carry_their_headings() -> None:
    chunks = chunks_of(
        ("heading", "Handbook", 1),
        ("heading", "Leave", 2),
        ("paragraph", "Thirty days a year.", 0),
        ("heading", "Travel", 2),
        ("paragraph", "By train.", 0),
    )
    assert [chunk.heading_path for chunk in chunks] == [("Handbook", "Leave"), ("Handbook", "Travel")]
    assert [chunk.text for chunk in chunks] == ["Handbook\n\nLeave\n\nThirty days a year.", "Travel\n\nBy train."]
    assert chunks[0].embed_text() == chunks[0].text
    assert chunks[1].embed_text() == "Handbook\nTravel\n\nBy train."


MARKDOWN = {
    "without a blank line": "# Handbook\n## Leave\nThirty days a year.\n",
    "with blank lines": "# Handbook\n\n## Leave\n\nThirty days a year.\n",
    "with closing signs": "# Handbook #\n\n## Leave ##\n\nThirty days a year.\n",
    "underlined": "Handbook\n========\n\nLeave\n-----\n\nThirty days a year.\n",
    "with a rule": "# Handbook\n\n---\n\n## Leave\n\n***\n\nThirty days a year.\n",
}


@pytest.mark.parametrize("text", MARKDOWN.values(), ids=MARKDOWN.keys())
def test_a_title_with_a_section_right_below_it_is_no_chunk_of_its_own(text: str) -> None:
    parsed = parse_bytes(text.encode(), name="handbook.md")
    (chunk,) = chunk_document("doc", parsed.text, parsed.blocks, count)
    assert chunk.text.startswith("Handbook")
    assert chunk.text.endswith("Thirty days a year.")
    assert (chunk.heading_path, chunk.own_headings) == (("Handbook", "Leave"), 2)
    assert chunk.embed_text() == chunk.text


def test_what_is_left_out_between_headings_is_in_no_chunk() -> None:
    text = "# Handbook\n\n#1 secret\n\n## Leave\n\nThirty days a year.\n"
    parsed = parse_bytes(text.encode(), name="handbook.md")
    kept = [block for block in parsed.blocks if "secret" not in parsed.text[block.start : block.end]]
    assert not any("secret" in chunk.text for chunk in chunk_document("doc", parsed.text, kept, count))


def test_signs_between_blocks_count_as_what_they_take_of_the_window() -> None:
    text = "\n>\n".join(f"> Quoted line {number} of many words in a row" for number in range(60))
    blocks = [Block("paragraph", match.start(1), match.end(1)) for match in re.finditer(r"> (.+)", text)]
    chunks = chunk_document("doc", text, blocks, count_signs)
    assert len(chunks) > 2
    assert all(count_signs(chunk.text) == chunk.token_count <= TOKENS_MAX for chunk in chunks)


@pytest.mark.parametrize("lines", [48, 49, 50])
def test_a_table_leaves_its_heading_room(lines: int) -> None:
    table = "\n".join("a b c d e" for _ in range(lines))
    chunks = chunks_of(("heading", "Codes of the download file", 1), ("table", table, 0))
    assert chunks[0].text.startswith("Codes of the download file\n\na b")
    assert all(chunk.token_count <= TOKENS_MAX for chunk in chunks)


def test_later_chunks_of_a_section_are_embedded_under_their_heading() -> None:
    first, second, *_ = chunks_of(("heading", "Leave", 1), ("paragraph", sentences_of(60), 0))
    assert first.embed_text() == first.text
    assert second.embed_text() == f"Leave\n{second.text}"
    assert count(second.embed_text()) <= TOKENS_MAX


def test_long_paragraph_is_cut_between_sentences_only() -> None:
    chunks = chunks_of(("paragraph", sentences_of(100), 0))
    assert len(chunks) == 4
    assert all(chunk.text.startswith("Sentence") and chunk.text.endswith(".") for chunk in chunks)
    assert all(200 <= chunk.token_count <= TOKENS_MAX for chunk in chunks)


def test_small_tail_takes_over_from_the_chunk_before() -> None:
    chunks = chunks_of(("paragraph", sentences_of(27), 0))
    assert len(chunks) == 2
    assert min(chunk.token_count for chunk in chunks) >= TOKENS_TAIL_MIN


@pytest.mark.parametrize("kind", ["row", "code", "table"])
def test_row_code_and_table_that_fit_stay_whole(kind: BlockKind) -> None:
    own = "\n".join("a b. C d" for _ in range(50))
    chunks = chunks_of(("paragraph", sentences_of(15), 0), (kind, own, 0))
    assert [chunk.text for chunk in chunks][-1] == own


def test_large_table_is_cut_between_lines() -> None:
    line = "cell one. Cell two | cell three"
    chunks = chunks_of(("table", "\n".join([line] * 200), 0))
    assert len(chunks) > 3
    assert all(set(chunk.text.split("\n")) == {line} for chunk in chunks)


def test_larger_than_a_chunk_is_cut_all_the_same() -> None:
    chunks = chunks_of(("row", "word " * 2_000, 0), ("paragraph", "x" * 50_000, 0))
    assert all(chunk.token_count <= TOKENS_MAX and len(chunk.text) <= CHUNK_CHARS_MAX for chunk in chunks)


def test_a_row_larger_than_a_chunk_is_cut_between_cells() -> None:
    row = "; ".join(f"Column {number}: " + "value " * (10 + number % 7) for number in range(60))
    chunks = chunks_of(("row", row, 0))
    assert len(chunks) > 2
    assert all(chunk.text.startswith("Column ") for chunk in chunks)


def test_long_heading_path_loses_its_outermost_part() -> None:
    chunks = chunks_of(("heading", "far " * 30, 1), ("heading", "near " * 24, 2), ("paragraph", sentences_of(60), 0))
    assert chunks[-1].heading_path == (("near " * 24).strip(),)
    assert all(count(chunk.embed_text()) <= TOKENS_MAX for chunk in chunks)


def test_equal_texts_have_their_own_ids_by_occurrence() -> None:
    chunks = chunks_of(("heading", "A", 1), ("paragraph", "same", 0), ("heading", "A", 1), ("paragraph", "same", 0))
    assert chunks[0].text == chunks[1].text
    assert [chunk.chunk_id for chunk in chunks] == [chunk_id("doc", chunks[0].text, number) for number in (0, 1)]
    assert (
        len({chunk_id("doc", "t", 0), chunk_id("other", "t", 0), chunk_id("doc", "u", 0), chunk_id("doc", "t", 1)}) == 4
    )
    assert chunk_id("doc", "t", 0, "chunker=other") != chunk_id("doc", "t", 0)


_words = st.text(alphabet="ab. \n", min_size=1, max_size=120).filter(lambda text: bool(text.strip()))
_block = st.tuples(st.sampled_from(["heading", "paragraph", "list", "row", "code", "table"]), _words, st.integers(1, 3))


def _parts(drawn: Sequence[tuple[str, str, int]]) -> list[tuple[BlockKind, str, int]]:
    return [(kind, own, level) for kind, own, level in drawn]  # type: ignore[misc]


@given(st.lists(_block, min_size=1, max_size=12), st.integers(4, 40))
def test_spans_cover_everything_in_order(drawn: list[tuple[str, str, int]], tokens_max: int) -> None:
    text, blocks = lay_out(_parts(drawn))
    chunks = chunk_document("doc", text, blocks, count, tokens_max)
    covered = 0
    for chunk in chunks:
        assert chunk.text == text[chunk.start : chunk.end]
        assert chunk.text.strip()
        assert not text[covered : chunk.start].strip()
        assert chunk.token_count <= tokens_max
        covered = chunk.end
    assert not text[covered:].strip()
    assert len({chunk.chunk_id for chunk in chunks}) == len(chunks)


@given(
    st.lists(
        st.lists(
            st.sampled_from([sentences_of(3), sentences_of(12), "tiny", sentences_of(30)]), min_size=1, max_size=4
        ),
        min_size=2,
        max_size=5,
    ),
    st.data(),
)
def test_edit_of_one_section_leaves_the_ids_of_the_others(sections: list[list[str]], data: st.DataObject) -> None:
    edited = data.draw(st.integers(0, len(sections) - 1))

    def ids(change: str) -> list[set[str]]:
        parts: list[tuple[BlockKind, str, int]] = []
        for number, own in enumerate(sections):
            parts.append(("heading", f"Section {number}", 1))
            unique = [text.replace("w", f"s{number}w") for text in own]
            parts += [("paragraph", f"{number} {text}{change if number == edited else ''}", 0) for text in unique]
        found: list[set[str]] = [set() for _ in sections]
        for chunk in chunks_of(*parts):
            found[int(chunk.heading_path[0].split()[1])].add(chunk.chunk_id)
        return found

    before, after = ids(""), ids(" And an added sentence with several words.")
    assert before[edited] != after[edited]
    assert before[:edited] + before[edited + 1 :] == after[:edited] + after[edited + 1 :]
