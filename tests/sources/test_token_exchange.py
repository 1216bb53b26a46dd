"""Exchanging a caller's token: what is asked and believed (pure), and a real token endpoint on loopback."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.sources.listener import Listener

from roadbed.guard.credentials import ID_TOKEN, Subject
from roadbed.kernel.deadline import Deadline
from roadbed.kernel.errors import ConfigError, RoadbedError
from roadbed.kernel.secrets import Secret
from roadbed.sources.caller_errors import NOTHING_DONE, ExchangeAway, ExchangeRefused
from roadbed.sources.caller_manifest import CallerAuth, TokenExchange, check_caller_auth
from roadbed.sources.errors import SourceUnavailable
from roadbed.sources.token_exchange import Exchanger, exchange_form, read_exchange

ANNA = Subject("token-anna", Secret("anna.came.with"))
ACCESS = "urn:ietf:params:oauth:token-type:access_token"
GOOD = {"access_token": "for-the-crm", "issued_token_type": ACCESS, "token_type": "Bearer", "expires_in": 300}
CONFIG = TokenExchange(url="https://issuer.example/token", audience="crm", scopes=["orders:read", "orders:list"])


def body(**changed: Any) -> bytes:
    found = {name: value for name, value in {**GOOD, **changed}.items() if value is not None}
    return json.dumps(found).encode()


def test_the_form_is_that_of_the_rfc() -> None:
    form, authorization = exchange_form(CONFIG, ANNA, None)
    assert {name: values[0] for name, values in parse_qs(form.decode()).items()} == {
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
        "subject_token": "anna.came.with",
        "subject_token_type": ACCESS,
        "requested_token_type": ACCESS,
        "audience": "crm",
        "scope": "orders:read orders:list",
    }
    assert authorization == b""
    signed_in = Subject("u_1", Secret("id.token"), ID_TOKEN)
    own = TokenExchange(url=CONFIG.url, resource="https://crm.example/api", client_id="road:bed", client_auth="post")
    form, authorization = exchange_form(own, signed_in, Secret("s&cret"))
    fields = parse_qs(form.decode())
    assert fields["subject_token_type"] == [ID_TOKEN]
    assert (fields["client_id"], fields["client_secret"]) == (["road:bed"], ["s&cret"])
    assert fields["resource"] == ["https://crm.example/api"]
    assert (authorization, "audience" in fields) == (b"", False)
    basic = TokenExchange(url=CONFIG.url, audience="crm", client_id="road:bed")
    form, authorization = exchange_form(basic, ANNA, Secret("s&cret"))
    assert authorization == b"Basic cm9hZCUzQWJlZDpzJTI2Y3JldA=="  # each part is form-encoded (RFC 6749, 2.3.1)
    assert b"cret" not in form


@pytest.mark.parametrize(
    ("status", "answer", "error"),
    [
        (200, body(issued_token_type="urn:ietf:params:oauth:token-type:saml2"), ExchangeRefused),
        (200, body(issued_token_type=None), ExchangeRefused),
        (200, body(token_type="N_A"), ExchangeRefused),
        (200, body(token_type="DPoP"), ExchangeRefused),
        (200, body(access_token=""), ExchangeRefused),
        (200, body(access_token="a\r\nx: y"), ExchangeRefused),
        (200, body(access_token="x" * 20_000), ExchangeRefused),
        (200, body(access_token="anna.came.with"), ExchangeRefused),  # the caller's own token: nothing was exchanged
        (200, b"<html>", ExchangeAway),
        (200, b"[]", ExchangeAway),
        (400, json.dumps({"error": "invalid_grant", "error_description": "anna.came.with"}).encode(), ExchangeRefused),
        (401, b'{"error": "invalid_client"}', ExchangeRefused),
        (403, b"{}", ExchangeRefused),
        (429, b"", ExchangeAway),
        (503, b"", ExchangeAway),
    ],
)
def test_what_is_no_token_of_the_source_is_refused(status: int, answer: bytes, error: type[RoadbedError]) -> None:
    with pytest.raises(error) as refused:
        read_exchange("crm", status, answer, ANNA)
    assert "came" not in f"{refused.value.message} {refused.value.hint}"
    assert refused.value.hint
    assert refused.value.code in NOTHING_DONE


@given(st.integers(100, 599), st.binary(max_size=60) | st.builds(lambda x: json.dumps(x).encode(), st.dictionaries(
    st.sampled_from(["access_token", "token_type", "issued_token_type", "expires_in", "error"]),
    st.none() | st.integers() | st.text(max_size=5) | st.just(ACCESS) | st.just("bearer"),
)))  # fmt: skip
def test_no_answer_breaks_it(status: int, answer: bytes) -> None:
    try:
        issued = read_exchange("crm", status, answer, ANNA)
    except (ExchangeRefused, ExchangeAway):
        return
    assert status == 200
    assert 0 <= issued.lasts_s <= 3_600


@pytest.mark.parametrize(
    "auth",
    [
        CallerAuth(),
        CallerAuth(exchange=CONFIG, stored="bearer"),
        CallerAuth(exchange=TokenExchange(url=CONFIG.url)),
        CallerAuth(exchange=TokenExchange(url="http://issuer.example/token", audience="crm")),
        CallerAuth(stored="header"),
        CallerAuth(stored="bearer", name="X-Key"),
        CallerAuth(stored="query", name="key"),
    ],
)
def test_what_cannot_be_is_said_when_it_is_declared(auth: CallerAuth) -> None:
    with pytest.raises(ConfigError):
        check_caller_auth("crm", auth)


# -- a token endpoint --------------------------------------------------------------------------------------------------


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def monotonic_s(self) -> float:
        return self.now_s

    def wall(self) -> Any:
        raise AssertionError


class House:
    """An exchanger and its token endpoint, which numbers the tokens that it gives."""

    def __init__(self, folder: Path, listener: Listener) -> None:
        self.listener = listener
        self.clock = Clock()
        self.lasts_s = 300
        self.status = 200
        self.config = TokenExchange(url=f"http://sts.test:{listener.port}/token", audience="crm", private=True)
        self.exchanger = Exchanger("crm", self.config, folder, lookup=self._lookup, clock=self.clock)
        self.addresses = ["127.0.0.1"]
        listener.answer = self._answer

    async def _lookup(self, host: str, port: int) -> list[str]:
        return self.addresses

    async def _answer(self, head: bytes, writer: asyncio.StreamWriter) -> None:
        data = body(access_token=f"given-{len(self.listener.requests)}", expires_in=self.lasts_s)
        # The form is never read: the connection is closed behind each answer.
        head = f"HTTP/1.1 {self.status} X\r\ncontent-type: application/json\r\nconnection: close\r\n".encode()
        writer.write(head + f"content-length: {len(data)}\r\n\r\n".encode() + data)
        await writer.drain()
        raise ConnectionError

    async def token(self, subject: Subject = ANNA) -> str:
        return (await self.exchanger.token(subject, Deadline.after(5))).reveal()


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    listener = Listener()
    await listener.start()
    house = House(tmp_path, listener)
    yield house
    await house.exchanger.close()
    await listener.stop()


async def test_a_token_is_kept_until_a_minute_before_its_end(house: House) -> None:
    assert [await house.token() for _ in range(3)] == ["given-1"] * 3
    house.clock.now_s += 239
    assert await house.token() == "given-1"
    house.clock.now_s += 2
    assert await house.token() == "given-2"
    house.lasts_s = 50  # too short to keep
    house.clock.now_s += 300
    assert [await house.token() for _ in range(2)] == ["given-3", "given-4"]


async def test_nobody_gets_what_was_given_for_another_or_for_another_token(house: House) -> None:
    given = [
        await house.token(),
        await house.token(Subject("token-bert", ANNA.token)),
        await house.token(Subject(ANNA.owner, Secret("anna.with.fewer.rights"))),
    ]
    assert len(set(given)) == 3
    assert await house.token() == given[0]


async def test_callers_who_come_at_once_share_one_exchange(house: House) -> None:
    assert set(await asyncio.gather(*(house.token() for _ in range(20)))) == {"given-1"}
    assert len(house.listener.requests) == 1


async def test_a_refused_token_is_not_used_again(house: House) -> None:
    first = await house.token()
    house.exchanger.forget(ANNA, Secret("another"))
    assert await house.token() == first
    house.exchanger.forget(ANNA, Secret(first))
    assert await house.token() != first


async def test_an_issuer_that_is_away_rests_and_one_that_refuses_does_not(house: House) -> None:
    house.status = 400
    for _ in range(8):
        with pytest.raises(ExchangeRefused):
            await house.token()
    house.status = 503
    for _ in range(8):
        with pytest.raises(SourceUnavailable):
            await house.token()
    assert len(house.listener.requests) < 16


async def test_a_token_endpoint_at_an_address_that_may_not_be_asked_is_not_asked(house: House) -> None:
    house.addresses = ["169.254.169.254"]
    with pytest.raises(RoadbedError) as refused:
        await house.token()
    assert refused.value.code == "sources.egress_refused"
    assert not house.listener.requests
