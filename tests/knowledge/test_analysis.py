"""What becomes a term, on the document's side and on the query's."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roadbed.knowledge.analysis import (
    ANALYZER,
    QUERY_TERMS_MAX,
    TERM_CHARS_MAX,
    analyse,
    query_terms,
    word_terms,
)


def terms(text: str, language: str = "en") -> set[str]:
    return set(analyse(text, language).frequencies)


def test_analyzer_names_its_parts() -> None:
    assert ANALYZER.startswith("analyzer=v1:snowball3.")
    assert ANALYZER.endswith(":stop1")


@pytest.mark.parametrize(
    ("document", "query"),
    [
        ("The boilers were heated", "heating boiler"),
        ("part AB-1234 is out of stock", "AB-1234"),
        ("part AB-1234 is out of stock", "ab1234"),
        ("part AB1234 is out of stock", "AB-1234"),
        ("part AB_1234's price", "ab1234"),
        ("upgrade to v2.3.1 today", "v2.3.1"),
        ("call foo_bar(x)", "foo_bar"),
        ("call foo_bar(x)", "bar"),
        ("call fooBar(x)", "foo_bar"),
        ("write to jane.doe@example.com now", "jane.doe@example.com"),
        ("write to jane.doe@example.com now", "doe"),
        ("edit /etc/ssh/sshd_config", "sshd_config"),
        ("std::vector in C++", "C++"),
        ("the price is 1,200.50 euros", "1200.50"),
        ("the ﬁnal ｏｆｆｉｃｅ", "final office"),
        ("boundary‑layer flow", "boundary layer"),
        ("Zürich", "zurich"),
        ("résumé", "resume"),
        ("the company’s policy", "company policy"),
        ("東京都の首都", "東京"),
        ("한국어 문서입니다", "한국어"),
        ("soft\u00adware", "software"),
    ],
)
def test_query_finds_the_document(document: str, query: str) -> None:
    asked = query_terms(query)
    assert next(iter(asked)) in terms(document)  # the whole code, where the query is one


@pytest.mark.parametrize(
    ("document", "query"), [("version v2.31", "v23.1"), ("value 3.14", "314"), ("the year 1,200", "1.200")]
)
def test_different_numbers_stay_different(document: str, query: str) -> None:
    assert not query_terms(query).keys() & terms(document)


def test_stop_words_are_terms_without_length() -> None:
    analysed = analyse("The wings of the plane")
    assert analysed.length == 2
    assert analysed.frequencies["the"] == 2
    assert word_terms("The wings of the plane") == ["wing", "plane"]


@pytest.mark.parametrize("query", ["who are you", "The Who", "to be or not to be"])
def test_query_of_stop_words_keeps_them(query: str) -> None:
    assert set(query_terms(query)) == set(query.lower().split())


def test_acronym_that_looks_like_a_stop_word_is_kept() -> None:
    assert list(query_terms("WHO guidance")) == ["who", "guidanc"]
    assert list(query_terms("who gives guidance")) == ["give", "guidanc"]
    assert list(query_terms("THE GUIDANCE")) == ["guidanc"]


def test_languages_stem_apart_and_a_query_asks_in_all() -> None:
    assert terms("die Rechnungen sind bezahlt", "de") >= {"rechnung", "bezahlt"}
    assert "avion" in terms("l'avion", "fr")
    asked = query_terms("offene Rechnungen", ["en", "de"])
    assert asked.keys() >= query_terms("offene Rechnungen", ["de"]).keys()
    assert asked.keys() >= query_terms("offene Rechnungen", ["en"]).keys()
    assert "die" not in query_terms("die Rechnung", ["en", "de"])


def test_repetition_in_a_query_counts_more_but_not_twice() -> None:
    asked = query_terms("title index title search")
    assert asked == {"titl": pytest.approx(1.8), "index": 1.0, "search": 1.0}
    assert query_terms("title title", ["en", "de"])["titl"] == pytest.approx(1.8)


def test_bounds() -> None:
    assert len(query_terms(" ".join(f"term{number}" for number in range(100)))) == QUERY_TERMS_MAX
    assert query_terms("a" * 5_000 + " tail").keys() == {"a" * TERM_CHARS_MAX}
    assert query_terms("") == {}
    assert query_terms("?!") == {}


def test_threads_have_their_own_stemmers() -> None:
    found: list[set[str]] = []
    workers = [threading.Thread(target=lambda: found.append(terms("running heated boilers " * 500))) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert found == [{"run", "heat", "boiler"}] * 4


@given(st.text(max_size=300), st.sampled_from(["en", "de", "fr", "zh", "xx"]))
def test_any_text_is_analysed_within_bounds(text: str, language: str) -> None:
    analysed = analyse(text, language)
    assert 0 <= analysed.length <= sum(analysed.frequencies.values())
    assert all(0 < len(term) <= TERM_CHARS_MAX for term in analysed.frequencies)
    assert analysed == analyse(text, language)


@given(st.text(max_size=200))
def test_query_terms_are_terms_of_the_same_text(text: str) -> None:
    assert query_terms(text).keys() <= terms(text)
