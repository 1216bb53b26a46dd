"""Keys in addresses: what is found in a target, however it is written, and what is left alone."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roadbed.guard.exposed import KeyInAddress, find_exposed, may_hold_key
from roadbed.guard.keys import new_key
from roadbed.guard.tokens import TokenInQuery

KEY = new_key()[1]
WORDS = st.text(st.characters(codec="utf-8", exclude_characters="&;=?%+#"), max_size=12)


@given(WORDS, WORDS, st.sets(st.integers(0, len(KEY) - 1)))
def test_a_key_is_found_under_any_name_and_however_it_is_escaped(name: str, other: str, escaped: set[int]) -> None:
    written = "".join(f"%{ord(sign):02x}" if place in escaped else sign for place, sign in enumerate(KEY))
    target = f"/v1/models?a={quote(other)}&{quote(name)}={written}".encode()
    assert may_hold_key(target)
    values, fault = find_exposed(target)
    assert KEY.encode() in values
    assert isinstance(fault, KeyInAddress)
    assert KEY not in f"{fault} {fault.path} {fault.hint}"


@pytest.mark.parametrize(
    "query",
    [
        "key=of-our-own-choice-24-chars",
        "api_key=x",
        "API%5FKEY=x",
        "apikey=x",
        "a=1;access_token=x",
        "Authorization=Bearer+x",
    ],
)
def test_what_stands_under_the_name_of_a_credential_is_refused(query: str) -> None:
    values, fault = find_exposed(f"/api/usage?{query}".encode())
    assert isinstance(fault, KeyInAddress)
    assert values == [query.partition("=")[2].removeprefix("1;access_token=").removeprefix("Bearer+").encode()]


def test_a_key_in_the_path_is_found_and_left_out_of_the_error() -> None:
    values, fault = find_exposed(f"/v1/{KEY}/models".encode())
    assert values == [KEY.encode()]
    assert isinstance(fault, KeyInAddress)
    assert fault.path == "/v1/rbk_/models"


def test_a_token_of_an_issuer_keeps_its_own_error() -> None:
    assert isinstance(find_exposed(b"/mcp?access_token=eyJh.x.y")[1], TokenInQuery)


@pytest.mark.parametrize(
    "target",
    [
        b"/console/sign-in?token=rbs_V3x5d2t0b2tlbg&next=%2Fconsole%2Fask",
        b"/console/sign-in/callback?code=abc&state=def",
        b"/api/usage?by=key&from=2026-01-01",
        b"/console/traces?q=rbk_...&key=",
        b"/api/keys/abcdefghij",
        b"/docs/100%25",
    ],
)
def test_ordinary_addresses_are_left_alone(target: bytes) -> None:
    assert find_exposed(target) == ([], None)


def test_a_plain_target_is_not_looked_at() -> None:
    assert not may_hold_key(b"/v1/models")
