"""AWS Signature Version 4: the published test suite, and two signatures of Bedrock requests made by botocore 1.44.8."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import hypothesis.strategies as st
import pytest
from hypothesis import given

from roadbed.gateway.credentials import AwsCredentials
from roadbed.gateway.dialects.sigv4 import SignedParts, canonical_request, sign
from roadbed.kernel.secrets import Secret

SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"  # the published example
KEYS = AwsCredentials(Secret("AKIDEXAMPLE"), Secret(SECRET))
AT = datetime(2015, 8, 30, 12, 36, tzinfo=UTC)
HOST = "example.amazonaws.com"
UNRESERVED = "/-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
SESSION = (
    "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRXmxfpSPfIeoIYRqTflfKD8YUuwthA"
    "x7mSEI/qkPpKPi/kMcGdQrmGdeehM4IC1NtBmUpp2wUE8phUZampKsburEDy0KPkyQDYwT7WZ0wq5VSXDvp75YU9HFvlRd8Tx6q6fE8YQcHNVXAkiY"
    "9q6d+xo0rKwT38xVqr7ZD0u0iPPkUL64lIZbqBAz+scqKmlzm8FDrypNC9Yjc8fPOLn9FX9KSYvKTr4rvx3iSIlTJabIQwj2ICCR/oLxBA=="
)
SUITE = {
    "get-header-key-duplicate": (
        SignedParts(
            "GET",
            HOST,
            "/",
            headers=((b"My-Header1", b"value2"), (b"My-Header1", b"value2"), (b"My-Header1", b"value1")),
        ),
        "c9d5ea9f3f72853aea855b47ea873832890dbdd183b4468f858259531a5138ea",
    ),
    "get-header-value-trim": (
        SignedParts("GET", HOST, "/", headers=((b"My-Header1", b" value1"), (b"My-Header2", b' "a   b   c"'))),
        "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736",
    ),
    "get-unreserved": (
        SignedParts("GET", HOST, UNRESERVED),
        "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f",
    ),
    "get-utf8": (
        SignedParts("GET", HOST, "/ሴ"),
        "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85",
    ),
    "get-space": (
        SignedParts("GET", HOST, "/example space/"),
        "652487583200325589f1fba4c7e578f72c47cb61beeca81406b39ddec1366741",
    ),
    "get-vanilla-query-order-key-case": (
        SignedParts("GET", HOST, "/", "Param2=value2&Param1=value1"),
        "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
    ),
    "get-vanilla-query-order-value": (
        SignedParts("GET", HOST, "/", "Param1=value2&Param1=value1"),
        "5772eed61e12b33fae39ee5e7012498b51d56abc0abb7c60486157bd471c4694",
    ),
    "post-vanilla": (
        SignedParts("POST", HOST, "/"),
        "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
    ),
    "post-header-key-sort": (
        SignedParts("POST", HOST, "/", headers=((b"My-Header1", b"value1"),)),
        "c5410059b04c1ee005303aed430f6e6645f61f4dc9e1461ec8f8916fdf18852c",
    ),
    "post-x-www-form-urlencoded": (
        SignedParts(
            "POST",
            HOST,
            "/",
            headers=((b"Content-Type", b"application/x-www-form-urlencoded"),),
            body=b"Param1=value1",
        ),
        "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
    ),
}


def signature(parts: SignedParts, keys: AwsCredentials = KEYS, at: datetime = AT, service: str = "service") -> str:
    headers = dict(sign(parts, keys, region="us-east-1", service=service, at=at))
    return headers[b"authorization"].decode().rpartition("Signature=")[2]


@pytest.mark.parametrize(("parts", "expected"), SUITE.values(), ids=SUITE)
def test_the_published_suite(parts: SignedParts, expected: str) -> None:
    assert signature(parts) == expected


def test_a_session_token_is_sent_and_signed() -> None:
    keys = AwsCredentials(KEYS.access_key, KEYS.secret_key, Secret(SESSION))
    headers = sign(SignedParts("POST", HOST, "/"), keys, region="us-east-1", service="service", at=AT)
    assert headers == (
        (b"x-amz-date", b"20150830T123600Z"),
        (b"x-amz-security-token", SESSION.encode()),
        (
            b"authorization",
            b"AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, "
            b"SignedHeaders=host;x-amz-date;x-amz-security-token, "
            b"Signature=85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead",
        ),
    )


@pytest.mark.parametrize(
    ("host", "path", "token", "expected"),
    [
        (
            "bedrock-runtime.us-east-1.amazonaws.com",
            "/model/anthropic.claude-3-haiku-20240307-v1%3A0/converse-stream",
            None,
            "eda8140c699d98318f9558bd92f920afa8c74f36b5e3ef179d725e20e305e09d",
        ),
        (
            "127.0.0.1:8123",
            "/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A123456789012%3Ainference-profile%2F"
            "us.anthropic.claude-sonnet-4-5/converse-stream",
            Secret("FwoGZXIvYXdzEXAMPLE//token+="),
            "878cb1824da1104f311cc48698598a37c5265aa369333cac72532407ded9f75c",
        ),
    ],
    ids=["a model id", "an ARN with a session token"],
)
def test_bedrock_requests_as_botocore_signs_them(host: str, path: str, token: Secret | None, expected: str) -> None:
    content = ((b"content-type", b"application/json"),)
    parts = SignedParts("POST", host, path, headers=content, body=b'{"messages":[]}')
    keys = AwsCredentials(KEYS.access_key, KEYS.secret_key, token)
    assert signature(parts, keys, service="bedrock") == expected


def test_an_encoded_path_is_encoded_once_more() -> None:
    canonical, names = canonical_request(SignedParts("POST", HOST, "/model/a%3A0/converse"))
    assert canonical.split("\n")[1] == "/model/a%253A0/converse"
    assert names == "host"


def test_the_time_is_taken_in_utc() -> None:
    elsewhere = AT.astimezone(timezone(timedelta(hours=5)))
    assert signature(SUITE["post-vanilla"][0], at=elsewhere) == SUITE["post-vanilla"][1]


@given(st.binary(max_size=50), st.text(st.characters(codec="ascii"), max_size=20))
def test_the_secret_is_in_nothing_that_is_returned(body: bytes, path: str) -> None:
    headers = sign(SignedParts("POST", HOST, "/" + path, body=body), KEYS, region="r", service="s", at=AT)
    assert all(SECRET.encode() not in value for _, value in headers)
    assert signature(SignedParts("POST", HOST, "/" + path, body=body)) != signature(
        SignedParts("POST", HOST, "/" + path, body=body + b".")
    )
