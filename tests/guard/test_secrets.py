"""Every kind of secret is found, and what is nearly one is not; false ones of the third tier are left alone."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.guard.samples import secrets_by_prefix, secrets_by_service

from roadbed.guard.detect import Detector
from roadbed.guard.secret_readers import is_own_name
from roadbed.guard.secret_table import PREFIX_TABLE, SERVICE_TABLE

DETECTOR = Detector()
BY_PREFIX = secrets_by_prefix()
BY_SERVICE = secrets_by_service()


def test_there_are_two_hundred_kinds() -> None:
    assert len({row[0] for row in (*PREFIX_TABLE, *SERVICE_TABLE)}) >= 200


@pytest.mark.parametrize(("name", "value"), BY_PREFIX, ids=[f"{name}-{value[:6]}" for name, value in BY_PREFIX])
def test_a_prefix_and_its_shape_are_found(name: str, value: str) -> None:
    text = f"see {value} here"
    assert [text[f.start : f.end] for f in DETECTOR.find(text) if f.is_secret] == [value]


@pytest.mark.parametrize(("name", "value"), BY_PREFIX, ids=[f"{name}-{value[:6]}" for name, value in BY_PREFIX])
def test_the_beginning_alone_is_no_secret(name: str, value: str) -> None:
    prefix = next(
        prefix for row, prefixes, _ in PREFIX_TABLE if row == name for prefix in prefixes if value.startswith(prefix)
    )
    for text in (f"see {prefix} here", f"see {prefix}ab1 here"):
        assert [f for f in DETECTOR.find(text) if f.is_secret] == []


@pytest.mark.parametrize(("name", "text", "value"), BY_SERVICE, ids=[row[0] for row in BY_SERVICE])
def test_a_service_and_its_shape_are_found(name: str, text: str, value: str) -> None:
    found = [(text[f.start : f.end], f.rule) for f in DETECTOR.candidates(text) if f.is_secret]
    assert (value, name) in found


@pytest.mark.parametrize(("name", "text", "value"), BY_SERVICE, ids=[row[0] for row in BY_SERVICE])
def test_a_value_of_another_length_is_not_the_services(name: str, text: str, value: str) -> None:
    short = text.replace(value, value[:7])
    assert name not in [f.rule for f in DETECTOR.candidates(short)]


@pytest.mark.parametrize(
    "text",
    [
        "heroku is a platform: see twitter, azure = cloud, and the linear_id = 12",
        "togetherness: 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
        "secret: ops_eyJzaWduSW5B..[cut]",
        "xoxo-indieweb-1.jpg",
        "aws_region = eu-central-1",
    ],
)
def test_ordinary_text_is_left_alone(text: str) -> None:
    assert [f.rule for f in DETECTOR.find(text) if f.is_secret] == []


@pytest.mark.parametrize(
    "text",
    [
        "-----BEGIN PRIVATE KEY-----\nyour key here\n-----END PRIVATE KEY-----",
        "secret_key = prod-db-secret-1",
        "api_token: us-east-1.staging.v2",
        '<input name="authenticity_token" value="7SWaFo1hsC6oovfBsJFLGPUl2EhkSWPbJhWANwga">',
        "csrf-token: 7SWaFo1hsC6oovfBsJFLGPUl2EhkSWPbJhWANwga",
        "sk-ant-api03-too-short-to-be-a-key-of-theirs-1a2b3c",
        "glpat-shorter-than-20",
    ],
)
def test_what_only_looks_like_a_secret_is_left_alone(text: str) -> None:
    assert [f for f in DETECTOR.find(text) if f.is_secret] == []


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('<add key="ClearTextPassword" value="d2LkV78zLx!t" />', "d2LkV78zLx!t"),
        ("VAULT_TOKEN=s.7uEvPvzRkJxT4aQdR2mZyL9b", "s.7uEvPvzRkJxT4aQdR2mZyL9b"),
        ("cookie: _gitlab_session=" + "0a1b2c3d" * 4, "_gitlab_session=" + "0a1b2c3d" * 4),
    ],
)
def test_other_writings_are_found(text: str, value: str) -> None:
    (found,) = [f for f in DETECTOR.find(text) if f.is_secret]
    assert text[found.start : found.end] == value


OWN_NAME = re.compile(r"(?<![a-z0-9_])([a-z0-9_]+)[\"'\])]{0,3} {0,4}[:=](?:_|(?:[a-z0-9_]+\.)+)?\1\Z")


@settings(max_examples=500)
@given(
    st.text("ab_.1:= \"'", max_size=8),
    st.sampled_from(["ab", "a_1", "_b"]),
    st.sampled_from(['"', "'] ", " "]) | st.just(""),
    st.sampled_from(["", "_", "it.", "a.b.", ".", "x"]),
    st.booleans(),
)
def test_a_value_that_is_the_name_before_it_is_told(
    before: str, name: str, end: str, owner: str, is_same: bool
) -> None:
    written = f"{before}{name}{end}={owner}{name if is_same else 'b1'}"
    assert is_own_name(written) == bool(OWN_NAME.search(written))
