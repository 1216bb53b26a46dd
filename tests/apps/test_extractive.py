from __future__ import annotations

from dataclasses import replace

import pytest

from roadbed.apps.answer_type import answer_type, holds
from roadbed.apps.calibration import Signals, confidence
from roadbed.apps.extract_text import compose, readable, row_text
from roadbed.apps.extractive import EMBEDDED_MAX, Extract, ExtractedSentence, asked_words, collect, extract
from roadbed.apps.followup import search_query
from roadbed.gateway.types import Message
from roadbed.kernel.errors import Unavailable
from roadbed.knowledge.search import SearchResult

from .conftest import FakeSearcher, MakeHit

FEES = "## Fees\n\nAll fees include VAT.\n\n| Assignment | Fee |\n|---|---|\n| Plot | 5,500 |\n| Row house | 6,400 |"
RUSH = "A rush order costs 35 % more. It is delivered within two working days. Boats are never valued in a hurry."


async def ask(searcher: FakeSearcher, question: str, *, threshold: float = 0.0, count: int = 5) -> Extract:
    result = SearchResult(searcher.hits)
    return await extract(question, result, searcher.embed, threshold=threshold, sentences_max=count)


async def test_the_answer_is_a_verbatim_span_of_its_hit(make_hit: MakeHit) -> None:
    searcher = FakeSearcher([make_hit(RUSH), make_hit(FEES)])
    found = await ask(searcher, "What does a rush order cost?", count=1)
    (sentence,) = found.sentences
    assert sentence.text == "A rush order costs 35 % more."
    assert sentence.hit.text[sentence.start : sentence.end] == sentence.text
    assert 0.0 < found.confidence < 1.0
    assert not found.is_abstention


async def test_a_row_is_found_by_its_header_and_shown_with_it(make_hit: MakeHit) -> None:
    searcher = FakeSearcher([make_hit(FEES), make_hit("Row houses stand in rows.")])
    found = await ask(searcher, "Which fee has the assignment row house?", count=1)
    text, citations = compose(found)
    assert text == "Assignment: Row house; Fee: 6,400 [1]"
    assert citations[0].quote == "| Row house | 6,400 |"
    assert citations[0].start == 100 + FEES.index("| Row house")


async def test_repeats_are_left_out_and_the_rest_reads_from_top_to_bottom(make_hit: MakeHit) -> None:
    first = make_hit(
        "The boat is kept in Hellvik. The boat is red. Boats in Hellvik need a boat place.", document_id="d"
    )
    second = make_hit("The boat is kept in Hellvik.")
    found = await ask(FakeSearcher([first, second]), "Where in Hellvik is the boat kept?")
    texts = [sentence.text for sentence in found.sentences]
    assert texts.count("The boat is kept in Hellvik.") == 1
    places = [sentence.start for sentence in found.sentences if sentence.hit is first]
    assert places == sorted(places)
    assert len(texts) <= 5


async def test_the_section_that_answers_best_comes_first_wherever_in_its_document_it_stands(make_hit: MakeHit) -> None:
    page = {"document_id": "start", "title": "Start"}
    early = "A rollback brings back neither deleted documents nor an index. It moves the release back."
    late = "To back up, stop the server. Then copy the state folder whole, and bring it back when it is lost."
    hits = [
        replace(make_hit(early, heading_path=("Start", "How do I roll back?"), **page), start=100),
        replace(make_hit(late, heading_path=("Start", "How do I back up?"), **page), start=900),
    ]
    found = await ask(FakeSearcher(hits), "How do I back up?")
    places = [(sentence.hit.start, sentence.start) for sentence in found.sentences]
    assert [start for start, _ in places] == sorted((start for start, _ in places), reverse=True)
    assert {start for start, _ in places} == {100, 900}
    last = [place for place in places if place[0] == 900]
    assert len(last) == 2
    assert last == sorted(last)


async def test_what_stands_first_under_a_heading_that_asks_the_question_is_among_the_answer(make_hit: MakeHit) -> None:
    text = (
        "## How do I upgrade the server?\n\nStop it, pull, start again.\n\nEach server is logged. Some server takes a "
        "minute. Then the server reads documents again. No server is lost. Any server can be scheduled. "
        "One server waits."
    )
    hit = make_hit(text, heading_path=("Operations", "How do I upgrade the server?"))
    found = await ask(FakeSearcher([hit]), "How do I upgrade the server?")
    assert found.sentences[0].text == "Stop it, pull, start again."
    other = await ask(FakeSearcher([hit]), "Which server reads documents again?")
    assert "Stop it, pull, start again." not in [sentence.text for sentence in other.sentences]


async def test_one_row_in_two_tables_is_two_answers_and_a_title_none(make_hit: MakeHit) -> None:
    rows = "Code | Description\nCode: 03; Description: PASSPORT\nCode: 04; Description: LICENCE"
    identity = make_hit(rows, heading_path=("Identity proof",), title="Codes of the download file")
    address = make_hit(rows, heading_path=("Address proof",), title="Codes of the download file")
    titled = make_hit("Codes of the download file\n\nThe file is sent daily.", title="Codes of the download file")
    question = "Which code of the download file is a passport as address proof?"
    candidates = collect(
        question, [identity, address, titled], asked_words(question, SearchResult(())), answer_type(question)
    )
    assert [candidate.hit for candidate in candidates if "PASSPORT" in candidate.text] == [identity, address]
    assert [candidate.text for candidate in candidates if candidate.hit is titled] == ["The file is sent daily."]


async def test_a_list_is_quoted_whole_when_its_announcement_answers(make_hit: MakeHit) -> None:
    text = "Three vectors are mandatory:\n\n● Tenant to tenant\n● Outside to inside\n\nOthers are not."
    found = await ask(FakeSearcher([make_hit(text)]), "Which vectors are mandatory?", count=1)
    answer, citations = compose(found)
    assert answer == "Three vectors are mandatory:\n- Tenant to tenant\n- Outside to inside [1]"
    assert citations[0].quote == "Three vectors are mandatory:\n\n● Tenant to tenant\n● Outside to inside"
    whole = await ask(FakeSearcher([make_hit(text)]), "Which tenant vectors are mandatory?")
    assert [sentence.text for sentence in whole.sentences if "Tenant" in sentence.text] == [citations[0].quote]


async def test_the_line_before_a_list_is_shown_once(make_hit: MakeHit) -> None:
    hit = make_hit("You need these papers for the visa:\n\n- a passport\n- a visa photograph")
    lead = (0, 35)
    sentences = tuple(ExtractedSentence(hit, *span, 1.0, lead) for span in ((37, 49), (50, 69)))
    answer, _ = compose(Extract(sentences, 0.9, False))
    assert answer == "You need these papers for the visa: a passport [1]\n\na visa photograph [2]"


FINDINGS = """## Findings

| Finding           | Verdict                                   |
|-------------------|-------------------------------------------|
| CVE-2020-7711     | Not reachable from our code.              |
| CVE-2021-4444     | This report is a false positive, closed.  |"""


async def test_a_question_of_one_thing_is_answered_from_what_names_it(make_hit: MakeHit) -> None:
    searcher = FakeSearcher([make_hit("This report is a false positive, CVE-2022-1 too."), make_hit(FINDINGS)])
    found = await ask(searcher, "Is CVE-2020-7711 a false positive?", count=1)
    assert [sentence.text for sentence in found.sentences] == [FINDINGS.splitlines()[4]]
    assert (await ask(searcher, "Is CVE-2020-9999 a false positive?")).is_abstention


async def test_padding_of_a_table_makes_no_row_too_long(make_hit: MakeHit) -> None:
    blanks = " " * 800
    hit = make_hit(f"| Place | Verdict |\n|---|---|\n| Boathouse {blanks}| Not insured at all. |")
    found = await ask(FakeSearcher([hit]), "Is the boathouse insured?", count=1)
    assert [sentence.text.startswith("| Boathouse") for sentence in found.sentences] == [True]


@pytest.mark.parametrize(
    ("status", "comes_last"),
    [
        ("Status: superseded by RT-02 on 1 April.", True),
        ("This page is no longer maintained.", True),
        ("This policy has been replaced by another.", True),
        ("Status: in force. The note of 2021 is superseded by this policy.", False),
    ],
)
async def test_what_says_that_it_is_given_up_comes_last(make_hit: MakeHit, status: str, comes_last: bool) -> None:
    old = make_hit(f"{status}\n\nReports are kept for 5 years.", document_id="old")
    new = make_hit("All reports of the office are kept for 7 years in the archive of the house.", document_id="new")
    found = await ask(FakeSearcher([old, new]), "How long are reports kept?", count=2)
    shown = [sentence.hit.document_id for sentence in found.sentences]
    assert shown == (["new", "old"] if comes_last else ["old", "new"])


async def test_words_count_once_however_many_languages_stem_them(make_hit: MakeHit) -> None:
    """A few documents in other languages must not make the words of a question look rare and missing."""
    hits = [make_hit("Deel is our paid time off management system.")]
    names = {"paid": "paid", "manag": "manag", "management": "manag", "system": "system", "syst": "system"}
    result = SearchResult(tuple(hits), term_weights={"paid": 4.0, "manag": 2.0, "system": 3.0}, term_names=names)
    found = await extract("What is our paid time off management system?", result, FakeSearcher(hits).embed, threshold=0)
    assert found.signals is not None
    assert found.signals.sentence_cover == pytest.approx(1.0)
    assert found.signals.rare_missing == 0.0


@pytest.mark.parametrize(
    ("question", "beside", "document", "is_kept"),
    [
        ("What is the rush order supplement?", "A rush supplement is decided by Tone.", "minutes", False),
        ("What is the rush order supplement?", "A rush supplement is decided by Tone.", "prices", True),
        (
            "How much is the rush order supplement, as to taste?",
            "The supplement is a matter of taste.",
            "minutes",
            True,
        ),
    ],
)
async def test_another_document_is_quoted_beside_an_answer_where_it_brings_a_word_of_the_question(
    make_hit: MakeHit, question: str, beside: str, document: str, is_kept: bool
) -> None:
    answer = make_hit("A rush order supplement is 35 % more.", document_id="prices")
    found = await ask(FakeSearcher([answer, make_hit(beside, document_id=document)]), question)
    texts = [sentence.text for sentence in found.sentences]
    assert answer.text in texts
    assert (beside in texts) == is_kept


async def test_headings_and_links_are_no_answers(make_hit: MakeHit) -> None:
    hit = make_hit("# Rush order cost\n\n[rush order cost](https://example.org)\n\nA rush order has its cost: 35 %.")
    found = await ask(FakeSearcher([hit]), "What is the cost of a rush order?")
    assert [sentence.text for sentence in found.sentences] == ["A rush order has its cost: 35 %."]


async def test_under_the_threshold_it_abstains_and_says_nothing(make_hit: MakeHit) -> None:
    searcher = FakeSearcher([make_hit(RUSH)])
    found = await ask(searcher, "What does a rush order cost?", threshold=1.0)
    assert found.is_abstention
    assert found.sentences == ()
    assert compose(found)[1] == ()
    assert (await ask(FakeSearcher(), "What?")).is_abstention


async def test_a_question_of_the_documents_is_surer_than_a_stranger(make_hit: MakeHit) -> None:
    hits = [make_hit(RUSH), make_hit(FEES, vector_score=0.3, lexical_score=1.0)]
    near = await ask(FakeSearcher(hits), "Within how many working days is a rush order delivered?")
    strange = [replace(hit, vector_score=0.1, lexical_score=0.2) for hit in hits]
    far = await ask(FakeSearcher(strange), "Which coffee machine stands in the kitchen?")
    assert near.confidence > 0.5 > far.confidence


async def test_a_question_that_names_another_thing_is_less_sure(make_hit: MakeHit) -> None:
    hits = [make_hit(RUSH), make_hit(FEES, vector_score=0.3, lexical_score=1.0)]
    near = await ask(FakeSearcher(hits), "Within how many working days is a rush order delivered?")
    for other in ("in Bergen", "in version 7.2", "never"):
        missed = await ask(FakeSearcher(hits), f"Within how many working days is a rush order {other} delivered?")
        assert near.confidence - missed.confidence > 0.2


async def test_few_sentences_are_embedded_however_long_the_passages(make_hit: MakeHit) -> None:
    hits = [make_hit(" ".join(f"Sentence {number} of {place} is here." for number in range(40))) for place in range(20)]
    searcher = FakeSearcher(hits)
    await ask(searcher, "Which sentence is here?")
    assert searcher.embedder.texts_embedded <= EMBEDDED_MAX + 1
    assert searcher.embedder.calls == 1


async def test_without_vectors_words_rank_alone(make_hit: MakeHit) -> None:
    searcher = FakeSearcher([make_hit(RUSH, vector_score=None), make_hit(FEES, vector_score=None)])
    searcher.embed_failure = Unavailable("the embedder is away")
    found = await ask(searcher, "What does a rush order cost?", count=1)
    assert found.sentences[0].text == "A rush order costs 35 % more."
    assert found.by_words


def test_better_signals_make_it_surer() -> None:
    low = Signals(0.3, 0.2, 0.3, 0.3, 0.1, 0.0, 0.5, 0.9)
    high = Signals(0.8, 0.9, 1.0, 0.8, 0.6, 1.0, 0.5, 0.0)
    assert 0.0 < confidence(low) < 0.2
    assert 0.8 < confidence(high) < 1.0


@pytest.mark.parametrize(
    ("question", "kind", "holding", "other"),
    [
        ("How many nations control it?", "number", "Nine nations do.", "Many people do not."),
        ("When was it built?", "date", "It was built in 1889.", "It was built of iron."),
        ("How long are files kept?", "duration", "Files are kept for seven years.", "Files are kept."),
        ("How much does a plot cost?", "money", "It costs NOK 5,500.", "It costs time."),
        ("What percentage of people agreed?", "percent", "35 % of them agreed.", "They agreed."),
        ("How far away is the airport?", "distance", "It is 5 km away.", "It is away."),
        ("Who signs the report?", "person", "The report is signed by Marit Haug.", "The report is signed twice."),
        ("Where is the office?", "place", "The office is in Bruvang.", "The office is small."),
        ("Why is it closed?", "reason", "It is closed because it is late.", "It is closed."),
    ],
)
def test_the_kind_of_answer_is_read_from_the_question(question: str, kind: str, holding: str, other: str) -> None:
    found = answer_type(question)
    assert found == kind
    assert holds(found, holding, question)
    assert not holds(found, other, question)


def test_what_the_question_says_itself_is_no_answer() -> None:
    assert not holds("place", "Hellvik is small.", "Where in Hellvik is it?")
    assert not holds("date", "In 2026 it was so.", "When in 2026 was it?")


def test_shown_text_has_no_markup() -> None:
    assert readable("- **Time:** see [the *list*](a.md), <b>now</b>\n soon") == "Time: see the list, now soon"
    assert readable("5 * 3 * 2 and snake_case_name") == "5 * 3 * 2 and snake_case_name"
    assert readable("> ● It is _kept\n> for years_ by <name>, <a@b.org>") == "It is kept for years by <name>, <a@b.org>"
    assert readable("Seen <img alt='' style='" + "x: 1; " * 60 + "'> here") == "Seen here"
    assert readable("2. Verify it") == "2. Verify it"
    assert row_text("| A | B |", "| 1 |") == "1"
    assert row_text("Before: | After:", "read | sign") == "Before: read; After: sign"
    assert readable("[a note](https://x.example/wiki/Rate_(tax)) says so") == "a note says so"
    assert row_text("", "| Parcel | 1042 |") == "Parcel: 1042"
    assert row_text("", "| a | b | c |") == "a | b | c"


RUSH_ORDERS = (
    "## Rush orders\n\nA rush order is delivered within two working days after the inspection and costs 35 % on top of "
    "the standard fee. Rush orders are not available for leisure homes. If we miss the two days, the surcharge is "
    "refunded in full."
)


async def follow_up(make_hit: MakeHit, before: str, question: str) -> Extract:
    """What a follow-up question is answered from a page about rush orders, at the shipped threshold."""
    query = search_query((Message("user", before), Message("user", question)))
    assert query != question
    hits = [make_hit(RUSH_ORDERS, heading_path=("Rush orders",)), make_hit(FEES)]
    searcher = FakeSearcher(hits)
    return await extract(query, SearchResult(tuple(hits)), searcher.embed, said=question)


@pytest.mark.parametrize(
    "before", ["What does a rush order cost?", "Tell me about rush orders.", "Are there rush orders?"]
)
@pytest.mark.parametrize(
    "question",
    [
        "And how fast is it?",
        "How quickly is it delivered?",
        "How long until it is delivered?",
        "how soon are they delivered?",
    ],
)
async def test_a_follow_up_in_several_wordings_is_answered(make_hit: MakeHit, before: str, question: str) -> None:
    found = await follow_up(make_hit, before, question)
    assert any("within two working days" in sentence.text for sentence in found.sentences), found.signals


@pytest.mark.parametrize(
    "question",
    ["What colour is it?", "And for helicopters?", "Is it available on Mars?", "And who is the president of France?"],
)
async def test_a_follow_up_of_which_only_the_turn_before_is_found_is_declined(make_hit: MakeHit, question: str) -> None:
    for before in ("What does a rush order cost?", "Tell me about rush orders."):
        found = await follow_up(make_hit, before, question)
        assert found.is_abstention, (before, found.confidence, found.signals)


def test_how_fast_asks_for_a_time_as_well_as_for_a_speed() -> None:
    assert answer_type("And how fast is it?") == answer_type("How quickly do you answer?") == "pace"
    assert answer_type("Wie schnell ist das?") == "pace"
    for text in ("within two working days", "at 80 km/h", "on the same day", "immediately"):
        assert holds("pace", text, "How fast is it?")
    assert not holds("pace", "A rush order is red.", "How fast is it?")
    assert answer_type("What does it include? order rush cost") == "other"
