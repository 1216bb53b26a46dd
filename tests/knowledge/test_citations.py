"""Anchors of citations: found again after edits elsewhere, and never found in the wrong place."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from roadbed.knowledge.citations import Anchor, make_anchor, reanchor

TEXT = (
    "The notice period is four weeks for everyone in the office.\n\n"
    "Managers give three months of notice in writing, and their team is told on the same day.\n\n"
    "During the probation the period is two weeks for both sides, counted from the end of the week."
)
PASSAGE = "Managers give three months of notice in writing, and their team is told on the same day."


def anchor_of(text: str, passage: str) -> Anchor:
    start = text.index(passage)
    return make_anchor("d", "v1", text, start, start + len(passage))


def shown(anchor: Anchor, text: str) -> tuple[str, str] | None:
    found = reanchor(anchor, "v2", text)
    return None if found is None else (found.how, text[found.start : found.end])


def test_the_same_version_is_taken_as_it_is() -> None:
    anchor = anchor_of(TEXT, PASSAGE)
    found = reanchor(anchor, "v1", "")
    assert found is not None
    assert (found.start, found.end, found.how) == (anchor.start, anchor.end, "same_version")


def test_an_edit_behind_the_passage_leaves_it_in_place() -> None:
    assert shown(anchor_of(TEXT, PASSAGE), TEXT + " More.") == ("same_place", PASSAGE)


def test_an_edit_before_the_passage_moves_it() -> None:
    assert shown(anchor_of(TEXT, PASSAGE), "A new first line.\n\n" + TEXT) == ("moved", PASSAGE)


def test_surroundings_tell_equal_passages_apart() -> None:
    text = "North: open at nine. Closed on Sunday.\n\nSouth: open at nine. Closed on Monday."
    start = text.index("open at nine", 30)
    anchor = make_anchor("d", "v1", text, start, start + len("open at nine"))
    later = "West: shut.\n\n" + text
    found = reanchor(anchor, "v2", later)
    assert found is not None
    assert found.how == "by_context"
    assert later[: found.start].endswith("South: ")


def test_a_copy_put_exactly_where_the_passage_stood_is_not_taken_for_it() -> None:
    text = "A: due in May. Paid.\n" + "B: due in May. Open."
    start = text.index("due in May", 10)
    anchor = make_anchor("d", "v1", text, start, start + 10)
    later = "X: due in May. Void.\n" + text  # an entry of the same length was put before: every offset has moved by one
    found = reanchor(anchor, "v2", later)
    assert found is not None
    assert later[found.start - 3 : found.start] == "B: "


def test_equal_passages_with_equal_surroundings_are_said_to_have_changed() -> None:
    text = "Say yes. " * 3
    anchor = make_anchor("d", "v1", "Say yes. And no more.", 0, 8)
    assert reanchor(anchor, "v2", "Oh. " + text) is None


def test_a_small_correction_is_found_as_similar() -> None:
    edited = TEXT.replace("three months", "3 months").replace("The notice", "A notice")
    assert shown(anchor_of(TEXT, PASSAGE), edited) == ("similar", PASSAGE.replace("three", "3"))


def test_a_rewritten_passage_has_changed() -> None:
    edited = TEXT.replace(PASSAGE, "Nobody who leads a team needs to announce anything before they leave us for good.")
    assert shown(anchor_of(TEXT, PASSAGE), edited) is None


def test_a_long_passage_is_compared_by_words() -> None:
    words = [f"word{i} means {i * 7 % 100}" for i in range(300)]
    text = "Intro.\n\n" + ", ".join(words) + "\n\nEnd."
    anchor = anchor_of(text, ", ".join(words[100:200]))
    edited = "Another intro is here.\n\n" + text.replace("word150 means 50", "word150 is about 50")
    found = reanchor(anchor, "v2", edited)
    assert found is not None
    assert found.how == "similar"
    assert edited[found.start : found.end] == ", ".join(words[100:200]).replace(
        "word150 means 50", "word150 is about 50"
    )


@given(
    st.text(alphabet="abc d\n", max_size=200), st.integers(0, 200), st.integers(0, 60), st.text("abc d", max_size=40)
)
def test_what_is_found_is_what_was_quoted(text: str, start: int, length: int, inserted: str) -> None:
    anchor = make_anchor("d", "v1", text, start, start + length)
    later = inserted + text
    found = reanchor(anchor, "v2", later)
    if found is not None and found.how != "similar":
        assert later[found.start : found.end] == anchor.quote
    if found is not None:
        assert 0 <= found.start <= found.end <= len(later)
