"""Forward proxies and TLS trust: what the environment says, tunnels, absolute form, certificates."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest

from roadbed.wire import errors
from roadbed.wire.address import Origin, parse_url
from roadbed.wire.client import UpstreamClient
from roadbed.wire.exchange import UpstreamRequest
from roadbed.wire.proxy import Proxy, ProxySettings, parse_proxy
from roadbed.wire.resolver import Resolver
from roadbed.wire.tls import TrustDomain, make_context

from .certificates import make_certificate, make_expired_certificate
from .conftest import OpenUpstream, Upstream

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
PROXY = Proxy("p", 3128)


async def answer(upstream: Upstream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
    while True:
        await upstream.request(reader)
        writer.write(OK)


async def speak_plainly(
    upstream: Upstream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int
) -> None:
    writer.write(OK)
    await reader.readexactly(1)


def server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


def test_the_environment_is_read_as_curl_reads_it() -> None:
    settings = ProxySettings.from_environment(
        {
            "HTTPS_PROXY": "http://u:p%40@p:3128",
            "https_proxy": "http://low:1",
            "all_proxy": "any:2",
            "NO_PROXY": " a.b , ,*.c",
        }
    )
    assert settings.https == Proxy("low", 1)
    assert settings.http == Proxy("any", 2)
    assert settings.bypass == ("a.b", "*.c")
    assert ProxySettings.from_environment({}) == ProxySettings()


def test_credentials_are_encoded_and_not_shown() -> None:
    proxy = parse_proxy("http://u:p%40@p:3128")
    assert proxy == Proxy("p", 3128, b"Basic dTpwQA==")
    assert "dTpwQA" not in repr(proxy)


@pytest.mark.parametrize("text", ["https://p:1", "socks5://p:1", "http://", "http://p:x"])
def test_other_proxies_are_refused(text: str) -> None:
    with pytest.raises(errors.InvalidProxy):
        parse_proxy(text)


@pytest.mark.parametrize(
    ("bypass", "host", "port", "is_direct"),
    [
        ((), "api.test", 443, False),
        (("*",), "api.test", 443, True),
        (("api.test",), "api.test", 443, True),
        (("test",), "api.test", 443, True),
        ((".test",), "api.test", 443, True),
        (("*.test",), "api.test", 443, True),
        (("pi.test",), "api.test", 443, False),
        (("api.test:8443",), "api.test", 443, False),
        (("api.test:443",), "api.test", 443, True),
        (("10.0.0.0/8",), "10.1.2.3", 443, True),
        (("10.0.0.0/8",), "11.1.2.3", 443, False),
        (("10.0.0.0/8",), "api.test", 443, False),
        (("fd00::1",), "fd00::1", 443, True),
        (("[fd00::1]:443",), "fd00::1", 443, True),
        ((), "localhost", 443, True),
        ((), "127.0.0.1", 443, True),
        ((), "::1", 443, True),
    ],
)
def test_hosts_that_go_without_a_proxy(bypass: tuple[str, ...], host: str, port: int, is_direct: bool) -> None:
    settings = ProxySettings(https=PROXY, bypass=bypass)
    assert settings.choose(Origin("https", host, port)) == (None if is_direct else PROXY)
    assert settings.choose(Origin("http", host, port)) is None


async def test_plain_http_goes_to_the_proxy_in_absolute_form(open_upstream: OpenUpstream) -> None:
    proxy = await open_upstream(answer)
    client = UpstreamClient(proxies=ProxySettings(http=Proxy("127.0.0.1", proxy.port, b"Basic eA==")))
    for _ in range(2):
        response = await client.request(UpstreamRequest(b"GET", parse_url("http://api.test/x?y=1")))
        assert await response.read() == b"ok"
    assert proxy.requests[0].startswith(b"GET http://api.test/x?y=1 HTTP/1.1\r\nhost: api.test\r\n")
    assert b"proxy-authorization: Basic eA==\r\n" in proxy.requests[0]
    assert proxy.connections == 1
    await client.close()


async def test_https_goes_through_a_tunnel_and_the_proxy_sees_no_request(
    open_upstream: OpenUpstream, tmp_path: Path
) -> None:
    certificate, key = make_certificate(tmp_path, "upstream")
    upstream = await open_upstream(answer, server_context(certificate, key))

    async def tunnel(proxy: Upstream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        await proxy.request(reader)
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", upstream.port)
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")

        async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            while data := await source.read(65536):
                sink.write(data)
            sink.close()

        await asyncio.gather(copy(reader, there_writer), copy(there_reader, writer))

    proxy = await open_upstream(tunnel)

    async def lookup(host: str, port: int) -> list[str]:
        raise AssertionError("the proxy resolves names")

    client = UpstreamClient(
        proxies=ProxySettings(https=Proxy("127.0.0.1", proxy.port, b"Basic eA==")), resolver=Resolver(lookup)
    )
    trust = TrustDomain((str(certificate),), only_ca_files=True)
    # The certificate is for another name: the mismatch shows that the name is checked inside the tunnel.
    with pytest.raises(errors.TlsFailed, match="api\\.test"):
        await client.request(UpstreamRequest(b"GET", parse_url("https://api.test/x"), trust=trust))
    assert proxy.requests[0].startswith(b"CONNECT api.test:443 HTTP/1.1\r\nhost: api.test:443\r\n")
    assert b"proxy-authorization: Basic eA==\r\n" in proxy.requests[0]
    assert upstream.requests == []
    await client.close()


async def test_a_tunnel_carries_requests(open_upstream: OpenUpstream, tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path, "upstream", host="api.test")
    context = server_context(certificate, key)

    async def terminate(
        proxy: Upstream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int
    ) -> None:
        await proxy.request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nx: y\r\n\r\n")
        await writer.start_tls(context)
        await answer(proxy, reader, writer, number)

    proxy = await open_upstream(terminate)
    client = UpstreamClient(proxies=ProxySettings(https=Proxy("127.0.0.1", proxy.port)))
    request = UpstreamRequest(b"GET", parse_url("https://api.test/x"), trust=TrustDomain((str(certificate),)))
    for _ in range(2):
        assert await (await client.request(request)).read() == b"ok"
    assert proxy.connections == 1
    assert proxy.requests[1].startswith(b"GET /x HTTP/1.1\r\nhost: api.test\r\n")
    await client.close()


@pytest.mark.parametrize("said", [b"HTTP/1.1 403 No\r\n\r\n", b"", b"x" * 10_000, b"HTTP/1.1 200 OK\r\n\r\nearly"])
async def test_a_proxy_that_refuses_is_typed(open_upstream: OpenUpstream, said: bytes) -> None:
    async def refuse(proxy: Upstream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        await proxy.request(reader)
        writer.write(said)

    proxy = await open_upstream(refuse)
    client = UpstreamClient(proxies=ProxySettings(https=Proxy("127.0.0.1", proxy.port)))
    with pytest.raises(errors.ProxyRefused) as caught:
        await client.request(UpstreamRequest(b"GET", parse_url("https://api.test/x")))
    assert not caught.value.may_have_run
    await client.close()


async def test_certificates_are_verified(open_upstream: OpenUpstream, tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path, "upstream")
    upstream = await open_upstream(answer, server_context(certificate, key))
    client = UpstreamClient(proxies=ProxySettings())
    url = parse_url(f"https://127.0.0.1:{upstream.port}/")
    trust = TrustDomain((str(certificate),))
    assert await (await client.request(UpstreamRequest(b"GET", url, trust=trust))).read() == b"ok"
    with pytest.raises(errors.TlsFailed, match="certificate"):
        await client.request(UpstreamRequest(b"GET", url))
    plain = await open_upstream(speak_plainly)
    with pytest.raises(errors.TlsFailed):
        await client.request(UpstreamRequest(b"GET", parse_url(f"https://127.0.0.1:{plain.port}/"), trust=trust))
    await client.close()


async def test_an_expired_certificate_is_refused_before_anything_is_sent(
    open_upstream: OpenUpstream, tmp_path: Path
) -> None:
    certificate, key = make_expired_certificate(tmp_path, "upstream")
    upstream = await open_upstream(answer, server_context(certificate, key))
    client = UpstreamClient(proxies=ProxySettings())
    url = parse_url(f"https://127.0.0.1:{upstream.port}/")
    with pytest.raises(errors.TlsFailed, match="expired") as caught:
        await client.request(UpstreamRequest(b"GET", url, trust=TrustDomain((str(certificate),))))
    assert not caught.value.may_have_run
    await client.close()


async def test_client_certificates_are_shown(open_upstream: OpenUpstream, tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path, "both")
    context = server_context(certificate, key)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(certificate)
    upstream = await open_upstream(answer, context)
    client = UpstreamClient(proxies=ProxySettings())
    url = parse_url(f"https://localhost:{upstream.port}/")
    shown = TrustDomain((str(certificate),), str(certificate), str(key))
    assert await (await client.request(UpstreamRequest(b"GET", url, trust=shown))).read() == b"ok"
    with pytest.raises(errors.UpstreamFailed):
        await client.request(UpstreamRequest(b"GET", url, trust=TrustDomain((str(certificate),))))
    await client.close()


def test_tls_files_that_cannot_be_read_are_typed(tmp_path: Path) -> None:
    missing = str(tmp_path / "none.pem")
    for domain in (TrustDomain((missing,)), TrustDomain((), missing, missing)):
        with pytest.raises(errors.InvalidTlsFile, match=r"none\.pem"):
            make_context(domain)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "api.test",
        "ftp://a",
        "http://",
        "http://a:b",
        "http://u:p@a/",
        "http://a/#x",
        "http://a/é",
        "http://a/a b",
        "http://[::1",
    ],
)
def test_other_addresses_are_refused(text: str) -> None:
    with pytest.raises(errors.InvalidUrl):
        parse_url(text)


def test_addresses_are_parsed() -> None:
    url = parse_url("https://API.test:8443/v1?x=1")
    assert (url.origin, url.target) == (Origin("https", "api.test", 8443), b"/v1?x=1")
    assert url.origin.host_header == b"api.test:8443"
    assert parse_url("http://[::1]").origin.host_header == b"[::1]"
    assert parse_url("http://bücher.test").origin.host == "xn--bcher-kva.test"
    assert parse_url("http://a/v1/").join("/x").target == b"/v1/x"


async def test_names_are_cached_merged_and_kept_while_the_resolver_fails() -> None:
    asked = 0
    answers: list[list[str] | None] = [["192.0.2.1", "192.0.2.2", "2001:db8::1"], None]

    async def lookup(host: str, port: int) -> list[str]:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0)
        found = answers.pop(0)
        if found is None:
            raise OSError
        return found

    resolver = Resolver(lookup, cache_s=1000)
    first, second = await asyncio.gather(resolver.resolve("a.test", 1), resolver.resolve("a.test", 1))
    assert first == second == ["192.0.2.1", "2001:db8::1", "192.0.2.2"]
    assert await resolver.resolve("a.test", 1) == first
    assert asked == 1
    short = Resolver(lookup, cache_s=0)
    answers[:] = [["192.0.2.1"], None]
    assert await short.resolve("a.test", 1) == ["192.0.2.1"]
    assert await short.resolve("a.test", 1) == ["192.0.2.1"]
    answers[:] = [None]
    with pytest.raises(errors.NameUnresolved):
        await short.resolve("b.test", 1)
    assert await short.resolve("::1", 1) == ["::1"]


async def test_a_dead_address_does_not_hide_a_living_one(open_upstream: OpenUpstream) -> None:
    upstream = await open_upstream(answer)

    async def lookup(host: str, port: int) -> list[str]:
        return ["127.0.0.2", "127.0.0.1"]

    client = UpstreamClient(proxies=ProxySettings(), resolver=Resolver(lookup))
    response = await client.request(UpstreamRequest(b"GET", parse_url(f"http://api.test:{upstream.port}/")))
    assert await response.read() == b"ok"
    await client.close()
