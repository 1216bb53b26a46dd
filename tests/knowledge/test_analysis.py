"""What becomes a term, on the document's side and on the query's."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roadbed.knowledge.analysis import (
    ANALYZER,
    QUERY_TERMS_MAX,
    TERM_CHARS_MAX,
    analyse,
    holds_identifier,
    query_identifiers,
    query_words,
    word_terms,
)


def terms(text: str, language: str = "en") -> set[str]:
    return set(analyse(text, language).frequencies)


def asked_terms(query: str, languages: Sequence[str] = ("en",)) -> dict[str, float]:
    """All terms of a query's words, with their words' factors."""
    return {term: word.factor for word in query_words(query, languages) for term in word.terms}


def test_analyzer_names_its_parts() -> None:
    assert ANALYZER.startswith("analyzer=v2:snowball3.")
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
    asked = asked_terms(query)
    assert next(iter(asked)) in terms(document)  # the whole code, where the query is one


@pytest.mark.parametrize(
    ("document", "query"), [("version v2.31", "v23.1"), ("value 3.14", "314"), ("the year 1,200", "1.200")]
)
def test_different_numbers_stay_different(document: str, query: str) -> None:
    assert not asked_terms(query).keys() & terms(document)


def test_stop_words_are_terms_without_length() -> None:
    analysed = analyse("The wings of the plane")
    assert analysed.length == 2
    assert analysed.frequencies["the"] == 2
    assert word_terms("The wings of the plane") == ["wing", "plane"]


@pytest.mark.parametrize("query", ["who are you", "The Who", "to be or not to be"])
def test_query_of_stop_words_keeps_them(query: str) -> None:
    assert set(asked_terms(query)) == set(query.lower().split())


def test_acronym_that_looks_like_a_stop_word_is_kept() -> None:
    assert list(asked_terms("WHO guidance")) == ["who", "guidanc"]
    assert list(asked_terms("who gives guidance")) == ["give", "guidanc"]
    assert list(asked_terms("THE GUIDANCE")) == ["guidanc"]


def test_languages_stem_apart_and_a_query_asks_in_all() -> None:
    assert terms("die Rechnungen sind bezahlt", "de") >= {"rechnung", "bezahlt"}
    assert "avion" in terms("l'avion", "fr")
    asked = asked_terms("offene Rechnungen", ["en", "de"])
    assert asked.keys() >= asked_terms("offene Rechnungen", ["de"]).keys()
    assert asked.keys() >= asked_terms("offene Rechnungen", ["en"]).keys()
    assert "die" not in asked_terms("die Rechnung", ["en", "de"])


def test_the_terms_of_one_word_in_many_languages_are_one_word() -> None:
    """Else a word would weigh as rare wherever one document is in a language that stems it in another way."""
    words = query_words("What is our management system", ["da", "en", "fr"])
    assert ["manag" in word.terms for word in words] == [True, False]
    assert ["system" in word.terms for word in words] == [False, True]
    assert len({term for word in words for term in word.terms}) > 2
    (rechnung,) = query_words("Rechnung Rechnungen", ["de", "en"])
    assert set(rechnung.terms) == {"rechnung", "rechnungen"}
    assert rechnung.factor == pytest.approx(1.8)


@given(st.text(max_size=80), st.lists(st.sampled_from(["en", "de", "fr", "es", "da", "ru"]), min_size=1, max_size=4))
def test_no_term_belongs_to_two_words(query: str, languages: list[str]) -> None:
    found = [term for word in query_words(query, languages) for term in word.terms]
    assert len(found) == len(set(found))


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("Is CVE-2020-7711 a false positive?", {"cve20207711"}),
        ("close INC0012345's ticket", {"inc0012345"}),
        ("are we ISO27001 certified", {"iso27001"}),
        ("order ab-12345 of the 12-month plan", {"ab12345"}),
        ("the 1990s, v2.3.1, 20th-century, COVID-19, 10:30am and 2024-01-05", set()),
    ],
)
def test_an_identifier_names_one_thing(query: str, found: set[str]) -> None:
    assert query_identifiers(query) == found


def test_an_identifier_is_held_whole_or_in_its_runs() -> None:
    assert holds_identifier(terms("CVE-2020-7711 is false"), "cve20207711")
    assert holds_identifier(terms("certified by ISO 27001"), "iso27001")
    assert not holds_identifier(terms("CVE-2020-7712 is false"), "cve20207711")


def test_repetition_in_a_query_counts_more_but_not_twice() -> None:
    asked = asked_terms("title index title search")
    assert asked == {"titl": pytest.approx(1.8), "index": 1.0, "search": 1.0}
    assert asked_terms("title title", ["en", "de"])["titl"] == pytest.approx(1.8)


def test_bounds() -> None:
    assert len(asked_terms(" ".join(f"term{number}" for number in range(100)))) == QUERY_TERMS_MAX
    assert asked_terms("a" * 5_000 + " tail").keys() == {"a" * TERM_CHARS_MAX}
    assert asked_terms("") == {}
    assert asked_terms("?!") == {}


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
    assert asked_terms(text).keys() <= terms(text)


@pytest.mark.parametrize(
    ("document", "query"),
    [
        ("To back up, stop the server", "backup"),
        ("It was backed up at night", "backups"),
        ("The backup runs at night", "how do I back up?"),
        ("Set up the printer first", "printer setup"),
        ("The setup takes a minute", "setting up"),
        ("Log in with your key", "login"),
        ("Logging in needs a key", "Login"),
        ("The login page", "log in"),
        ("a set-up of two servers", "setup"),
        ("Sign In", "signin"),
        ("ROLL BACK the release", "rollback"),
        ("Rolling back takes a second", "rollback"),
        ("When the request times out", "timeouts"),
        ("Shutting\ndown the server", "shutdown"),
    ],
)
def test_a_verb_with_its_particle_meets_the_one_word(document: str, query: str) -> None:
    found = set(asked_terms(query)) & terms(document)
    assert {"back", "log", "set", "roll", "time", "shut", "printer"}.isdisjoint(found) or len(found) > 1
    assert found
    assert found <= set(word_terms(document))


def test_what_a_verb_and_a_particle_say_apart_stays_as_it_was() -> None:
    assert asked_terms("How do I back up?") == {"back": 1.0, "backup": 1.0}  # an older index knows the verb alone
    assert asked_terms("went up and ran in") == {"went": 1.0, "ran": 1.0}
    assert terms("the log of the inn") == {"the", "log", "of", "inn"}
    assert analyse("back up").length == 1
    assert "login" not in terms("Log in bitte", "de")
    assert "login" not in asked_terms("log in", ["de"])
