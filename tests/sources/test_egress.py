"""The guarded way out: no address of a private network is reached by any spelling, answer or redirect; bounds hold."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.sources.listener import Listener
from tests.sources.ssrf_addresses import ANSWERS, REDIRECTS, addresses
from tests.stopwatch import Stopwatch

from roadbed.kernel.deadline import Deadline
from roadbed.sources.egress import BODY_BYTES_MAX, EgressClient, EgressPolicy, EgressRequest, unpack
from roadbed.sources.errors import AnswerRefused, EgressRefused
from roadbed.sources.outbound_url import parse_outbound
from roadbed.sources.public_address import kind_of
from roadbed.wire.errors import InvalidUrl, UpstreamFailed


class Anything(frozenset[str]):
    """A list of hosts that has every host on it, so that nothing but the addresses is judged."""

    def __contains__(self, item: object) -> bool:
        return True


@pytest.fixture
async def listener() -> AsyncIterator[Listener]:
    found = Listener()
    await found.start()
    yield found
    await found.stop()


async def look_up(host: str, port: int) -> list[str]:
    return ANSWERS.get(host, ["127.0.0.1"] if host == "door.test" else ["93.184.215.14"])


async def outcome(client: EgressClient, text: str, ports: tuple[int, ...], deadline_s: float = 5.0) -> str:
    """``refused``, or what else came of asking an address."""
    try:
        url = parse_outbound(text, ports=ports)
        answer = await client.send(EgressRequest("GET", url), Deadline.after(deadline_s))
    except (EgressRefused, InvalidUrl):
        return "refused"
    except UpstreamFailed as error:
        return error.code
    return f"answered {answer.status}"


async def test_no_spelling_of_a_private_address_reaches_a_listener(listener: Listener) -> None:
    ports = (listener.port,)
    client = EgressClient(EgressPolicy(Anything(), ports=frozenset(ports)), lookup=look_up)
    texts = [text.replace("{port}", str(listener.port)) for text in addresses()]
    assert len(set(texts)) >= 150
    wrong = {text: found for text in texts if (found := await outcome(client, text, ports)) != "refused"}
    await client.close()
    assert not wrong
    assert listener.connections == 0


async def test_a_declared_private_host_is_reached_and_a_metadata_service_is_not(listener: Listener) -> None:
    ports = frozenset({listener.port})
    hosts = frozenset({"loopback.test", "metadata.test", "wireserver.test"})
    client = EgressClient(EgressPolicy(hosts, hosts, ports), lookup=look_up)
    assert await outcome(client, f"http://loopback.test:{listener.port}/", (listener.port,)) == "answered 200"
    assert listener.connections == 1
    for name in ("metadata.test", "wireserver.test", "other.test"):
        assert await outcome(client, f"http://{name}/", ()) == "refused"
    await client.close()


async def test_the_connection_goes_to_the_judged_address_with_the_name_in_host(listener: Listener) -> None:
    asked: list[str] = []

    async def rebinding(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["169.254.169.254"]

    hosts = frozenset({"rebind.test"})
    client = EgressClient(EgressPolicy(hosts, hosts, frozenset({listener.port})), lookup=rebinding)
    assert await outcome(client, f"http://rebind.test:{listener.port}/", (listener.port,)) == "answered 200"
    await client.close()
    assert asked == ["rebind.test"]
    assert f"host: rebind.test:{listener.port}".encode() in listener.requests[0]


async def test_a_name_that_turns_private_is_refused(listener: Listener) -> None:
    answers = [["93.184.215.14"], ["127.0.0.1"]]

    async def rebinding(host: str, port: int) -> list[str]:
        return answers.pop(0) if len(answers) > 1 else answers[0]

    policy = EgressPolicy(frozenset({"rebind.test"}), ports=frozenset({listener.port}))
    policy.check_addresses("rebind.test", await rebinding("rebind.test", 80))  # what a check before the call would see
    client = EgressClient(policy, lookup=rebinding)
    assert await outcome(client, f"http://rebind.test:{listener.port}/", (listener.port,)) == "refused"
    await client.close()
    assert listener.connections == 0


@pytest.mark.parametrize("location", REDIRECTS)
async def test_redirects_reach_no_other_host(location: str, listener: Listener) -> None:
    door = Listener()
    await door.start()
    text = location.replace("{port}", str(listener.port))
    door.answer = f"HTTP/1.1 302 Found\r\nlocation: {text}\r\ncontent-length: 0\r\n\r\n".encode()
    hosts = frozenset({"door.test"})
    client = EgressClient(EgressPolicy(Anything(), hosts, frozenset({door.port, listener.port})), lookup=look_up)
    found = await outcome(client, f"http://door.test:{door.port}/", (door.port, listener.port))
    await client.close()
    await door.stop()
    assert found in ("refused", "wire.response_malformed")
    assert listener.connections == 0
    assert len(door.requests) == 1


async def test_redirects_on_one_host_are_followed_and_bounded(listener: Listener) -> None:
    async def step(head: bytes, writer: asyncio.StreamWriter) -> None:
        number = int(head.split(b" ")[1].strip(b"/") or b"0")
        if number < 3:
            writer.write(f"HTTP/1.1 302 Found\r\nlocation: /{number + 1}#x\r\ncontent-length: 0\r\n\r\n".encode())
        else:
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")

    listener.answer = step
    hosts = frozenset({"door.test"})
    client = EgressClient(EgressPolicy(hosts, hosts, frozenset({listener.port})), lookup=look_up)
    url = parse_outbound(f"http://door.test:{listener.port}/0", ports=(listener.port,))
    assert (await client.send(EgressRequest("GET", url), Deadline.after(5))).body == b"ok"
    with pytest.raises(EgressRefused, match="not for reading"):
        await client.send(EgressRequest("POST", url, body=b"x"), Deadline.after(5))
    listener.answer = b"HTTP/1.1 302 Found\r\nlocation: /again\r\ncontent-length: 0\r\n\r\n"
    listener.requests.clear()
    with pytest.raises(AnswerRefused, match="more than 3"):
        await client.send(EgressRequest("GET", url), Deadline.after(5))
    assert len(listener.requests) == 4
    await client.close()


async def test_credentials_stay_with_their_origin(listener: Listener) -> None:
    other = Listener()
    await other.start()
    listener.answer = (
        f"HTTP/1.1 307 Over there\r\nlocation: http://door.test:{other.port}/\r\ncontent-length: 0\r\n\r\n".encode()
    )
    hosts = frozenset({"door.test"})
    ports = (listener.port, other.port)
    client = EgressClient(EgressPolicy(hosts, hosts, frozenset(ports)), lookup=look_up)
    request = EgressRequest(
        "GET",
        parse_outbound(f"http://door.test:{listener.port}/", ports=ports),
        ((b"cookie", b"a=b"), (b"x-own", b"1")),
        ((b"authorization", b"Bearer abcdef"),),
    )
    await client.send(request, Deadline.after(5))
    await client.close()
    await other.stop()
    assert b"authorization: Bearer abcdef" in listener.requests[0]
    assert b"cookie" not in listener.requests[0]
    assert b"authorization" not in other.requests[0]
    assert b"x-own: 1" in other.requests[0]
    assert "abcdef" not in repr(request)


async def test_bodies_are_bounded(listener: Listener) -> None:
    async def endless(head: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")
            await writer.drain()

    listener.answer = endless
    hosts = frozenset({"door.test"})
    client = EgressClient(EgressPolicy(hosts, hosts, frozenset({listener.port})), lookup=look_up)
    request = EgressRequest("GET", parse_outbound(f"http://door.test:{listener.port}/", ports=(listener.port,)))
    with pytest.raises(AnswerRefused, match=str(BODY_BYTES_MAX)):
        await client.send(request, Deadline.after(10))
    bomb = gzip.compress(b"\0" * 50_000_000)
    head = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n"
    listener.answer = head % len(bomb) + bomb
    with pytest.raises(AnswerRefused, match="unpacks"):
        await client.send(request, Deadline.after(10))
    small = gzip.compress(b"fine" * 100)
    listener.answer = head % len(small) + small
    assert (await client.send(request, Deadline.after(10))).body == b"fine" * 100
    listener.answer = (head % len(small) + small).replace(b"gzip", b"br")
    with pytest.raises(AnswerRefused):
        await client.send(request, Deadline.after(10))
    await client.close()


async def test_a_silent_server_costs_no_more_than_the_deadline(listener: Listener) -> None:
    async def silent(head: bytes, writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    listener.answer = silent
    hosts = frozenset({"door.test"})
    client = EgressClient(EgressPolicy(hosts, hosts, frozenset({listener.port})), lookup=look_up)
    request = EgressRequest("GET", parse_outbound(f"http://door.test:{listener.port}/", ports=(listener.port,)))
    watch = Stopwatch()
    with pytest.raises(UpstreamFailed):
        await client.send(request, Deadline.after(0.2))
    assert watch.elapsed_s() < 3.0
    await client.close()


async def test_proxy_variables_do_not_exist(listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{listener.port}")

    async def nowhere(host: str, port: int) -> list[str]:
        return ["127.0.0.1"]

    client = EgressClient(EgressPolicy(frozenset({"public.test"})), lookup=nowhere)
    assert await outcome(client, "http://public.test/", ()) == "refused"
    await client.close()
    assert listener.connections == 0


def test_packed_bodies_that_are_cut_or_followed_are_refused() -> None:
    packed = gzip.compress(b"a" * 1000)
    for wrong in (packed[:-9], packed + b"x", b"no gzip", packed + packed):
        with pytest.raises(AnswerRefused):
            unpack(wrong)
    assert unpack(zlib.compress(b"b" * 10)) == b"b" * 10


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_is_of_one_kind_in_all_of_its_forms(address: object) -> None:
    kind = kind_of(str(address))
    assert kind_of(f"::ffff:{address}") == kind
    assert kind_of(f"::{address}") in ("forbidden", "private")  # `private`: ::0.0.0.1 is loopback
    assert kind_of(f"64:ff9b::{address}") == "forbidden"


@given(st.text(max_size=60))
def test_what_is_parsed_is_what_is_sent(text: str) -> None:
    try:
        url = parse_outbound(f"http://{text}")
    except EgressRefused:
        return
    again = parse_outbound(f"http://{url.origin.authority}{url.target.decode()}", ports=(url.origin.port,))
    assert again == url
    assert "@" not in url.origin.host
    assert url.origin.host.isascii()
    assert not set(url.origin.host) & set("\\/%# ")
