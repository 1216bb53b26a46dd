"""Links in answers: kept to listed hosts, words elsewhere, however they are written."""

from __future__ import annotations

import html
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roadbed.apps.links import LEFT_OUT, LinkRule, is_listed

HOSTS = ["wiki.office.example", "*.docs.example"]


def a_rule(*texts: str, has_tools: bool = True, may_let_out: bool = True) -> LinkRule:
    """A rule with these texts shown."""
    return LinkRule(HOSTS, lambda: texts, has_tools, lambda: may_let_out)


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("See [here](https://evil.example/c?d=1).", "See [here]."),
        ("![chart](https://evil.example/1.png)", "(image: chart)"),
        ("![](//evil.example/1.png)", "(image)"),
        ("See https://evil.example/1, now.", f"See {LEFT_OUT}, now."),
        ("[x]: https://evil.example/1", f"[x]: {LEFT_OUT}"),
        ("[x][y] ![a][y]", "[x][y] [a][y]"),
        ('<img src="https://evil.example/1">', f'‹img src="{LEFT_OUT}">'),
        ("[a](/\\evil.example/x)", "[a]"),
        ("[a](javascript:alert(1))", "[a])"),
        ("www.evil.example/x and evil.example/x?y=1", f"{LEFT_OUT} and {LEFT_OUT}"),
        ("[a]( https", "[a] ( https"),
        ("See [it](https://wiki.office.example/a) and https://a.docs.example/b.", None),
        (
            "Read policies/fees.md, notes.txt/x and 3.5/4; a[0](x) and and/or.",
            "Read policies/fees.md, notes.txt/x and 3.5/4; a[0] and and/or.",
        ),
        ("[1] [2][3] A plain sentence. (see [1])", None),
        ("\U000e0041hidden", "hidden"),
        ("[x]: https:/evil.example/1", f"[x]: {LEFT_OUT}"),
        ("[x]: https:\\evil.example/1", f"[x]: {LEFT_OUT}"),
        ("[x]: https:evil.example/1", f"[x]: {LEFT_OUT}"),
        ("[x]: https\\:\\/\\/evil.example\\/1", f"[x]: {LEFT_OUT}"),
        ("[x]: https&#58;&#x2f;&sol;evil.example&#47;1", f"[x]: {LEFT_OUT}"),
        ("[x]: https&amp;#58;//evil.example/1", f"[x]: {LEFT_OUT}"),
        ("[x]: &#47;\\/evil.example/1", f"[x]: {LEFT_OUT}"),
        ("AT&amp;T, a\\_b and \\(x\\) &c.", None),
    ],
)
def test_links_become_words(text: str, plain: str | None) -> None:
    assert a_rule().plain(text) == (text if plain is None else plain)


@pytest.mark.parametrize(
    "address",
    [
        "https://wiki.office.example@evil.example/",
        "https://evil.example/wiki.office.example",
        "https://wiki.office.example.evil.example/",
        "https://evil.example\\@wiki.office.example",
        "https://docs.example/",
        "//wiki.office.example/a",
        "ftp://wiki.office.example/a",
        "https:///wiki.office.example",
        "https://wiki.office.examplé/",
        "https://[wiki.office.example",
    ],
)
def test_what_only_looks_listed_is_not(address: str) -> None:
    assert not is_listed(address, HOSTS)


def test_without_tools_an_address_of_the_shown_passages_stays_and_an_image_does_not() -> None:
    shown = "Handbook: https://intra.example/h?x=1 and more"
    rule = a_rule(shown, has_tools=False)
    assert rule.plain("See https://intra.example/h?x=1.") == "See https://intra.example/h?x=1."
    assert rule.plain("See https://intra.example/h?x=2.") == f"See {LEFT_OUT}."
    assert rule.plain("![a](https://intra.example/h?x=1)") == "(image: a)"
    assert a_rule(shown).plain("See https://intra.example/h?x=1.") == f"See {LEFT_OUT}."


def test_in_a_turn_that_may_let_nothing_out_a_listed_link_must_stand_in_what_was_shown() -> None:
    rule = a_rule("at https://wiki.office.example/a", may_let_out=False)
    assert rule.plain("https://wiki.office.example/a") == "https://wiki.office.example/a"
    assert rule.plain("https://wiki.office.example/a?d=KESTREL") == LEFT_OUT


ADDRESSES = st.sampled_from(
    [
        "https://evil.example/x",
        "http://evil.example?d=1",
        "//evil.example/x",
        "www.evil.example/x",
        "HTTPS://EVIL.example/x",
    ]
)
FRAMES = st.sampled_from(
    ["[a]({})", "![a]({})", "[a](<{}>)", "{}", "<{}>", "[r]: {}", '<a href="{}">', "![![]({})]({})", "({})"]
)
WORDS = st.text(alphabet="ab []()!<>\\`*_.\n", max_size=12)


@given(st.lists(st.tuples(WORDS, FRAMES, ADDRESSES), max_size=4), WORDS)
def test_no_address_leaves_however_it_is_framed(parts: list[tuple[str, str, str]], end: str) -> None:
    text = "".join(words + frame.replace("{}", address) for words, frame, address in parts) + end
    assert not re.search(r"(?i)(?://|www\.)evil", a_rule().plain(text)), text


@st.composite
def coded(draw: st.DrawFn) -> str:
    """An address of which some characters are written as Markdown lets them be."""
    made = []
    for character in draw(ADDRESSES):
        ways = [character, f"&#{ord(character)};", f"&#x{ord(character):X};", f"&amp;#{ord(character)};"]
        made.append(draw(st.sampled_from(ways if character.isalnum() else [*ways, f"\\{character}"])))
    return "".join(made)


@given(st.lists(st.tuples(WORDS, FRAMES, coded()), min_size=1, max_size=3), WORDS)
def test_no_address_leaves_however_its_characters_are_written(parts: list[tuple[str, str, str]], end: str) -> None:
    text = "".join(words + " " + frame.replace("{}", address) for words, frame, address in parts) + " " + end
    plain = a_rule().plain(text)
    for _ in range(3):
        plain = html.unescape(re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", plain))
    assert not re.search(r"(?i)(?:https?:|//|www\.)[/\\]*evil", plain), text


@given(st.text(alphabet="abc DE.,;:!?'\n-123", max_size=60))
def test_prose_is_left_as_it_is(text: str) -> None:
    assert a_rule().plain(text) == text
