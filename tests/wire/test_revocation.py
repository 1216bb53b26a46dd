"""Lists of revoked certificates over real TLS: who is refused, what a new list changes, and what is no list."""

from __future__ import annotations

import asyncio
import ssl
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from tests.e2e.authority import Authority

from roadbed.wire.revocation import InvalidCrlFile, faults_of, read_lists
from roadbed.wire.server import HotServer, ServerTls

from .conftest import PATIENCE_S, Recorder
from .test_server import GET, running

Shown = tuple[Path, Path]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "ours")


def tls_of(authority: Authority, crl: Path) -> ServerTls:
    host = (x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1")))
    certificate, key = authority.issue("server", *host, use=ExtendedKeyUsageOID.SERVER_AUTH)
    return ServerTls(str(certificate), str(key), client_ca=str(authority.file), client_crl=str(crl))


class Client:
    """One connection with a certificate."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def connect(cls, authority: Authority, server: HotServer, shown: Shown | None) -> Client:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(authority.file)
        if shown is not None:
            context.load_cert_chain(*shown)
        async with asyncio.timeout(PATIENCE_S):
            return cls(*await asyncio.open_connection("127.0.0.1", server.port, ssl=context))

    async def ask(self) -> bytes:
        """The answer's first line; empty where the connection has ended."""
        async with asyncio.timeout(PATIENCE_S):
            self.writer.write(GET)
            await self.writer.drain()
            line = await self.reader.readline()
            if line:
                await self.reader.readuntil(b"hot:")
            return line

    async def close(self) -> None:
        self.writer.transport.abort()


async def ask(authority: Authority, server: HotServer, shown: Shown | None) -> str:
    """What a fresh connection gets: a status, or TLS's alert."""
    client = None
    try:
        client = await Client.connect(authority, server, shown)
        return (await client.ask()).split(b" ")[1].decode()
    except ssl.SSLError as error:  # with TLS 1.3 the refusal comes after the client's own handshake
        return str(error.reason)
    finally:
        if client is not None:
            await client.close()


async def test_a_revoked_certificate_is_refused_and_a_new_list_counts_without_a_restart(authority: Authority) -> None:
    one, two = authority.issue("one"), authority.issue("two")
    tls = tls_of(authority, authority.revoke(one[0]))
    async with running(Recorder(), tls=tls) as (server, _):
        assert await ask(authority, server, one) == "SSLV3_ALERT_CERTIFICATE_REVOKED"
        assert await ask(authority, server, two) == "200"
        assert await ask(authority, server, None) == "200"
        kept, other = [await Client.connect(authority, server, shown) for shown in (two, None)]
        assert b"200" in await kept.ask()
        assert b"200" in await other.ask()
        authority.revoke(two[0])
        await server.on_tick(0)
        assert await ask(authority, server, two) == "SSLV3_ALERT_CERTIFICATE_REVOKED"
        assert await ask(authority, server, one) == "200", "the new list alone counts"
        with pytest.raises((ssl.SSLError, ConnectionError, IndexError)):
            (await kept.ask()).split(b" ")[1]
        assert b"200" in await other.ask()
        await kept.close()
        await other.close()


async def test_a_connection_that_was_opening_while_the_list_changed_is_found_at_the_next_look(
    authority: Authority,
) -> None:
    one = authority.issue("one")
    tls = tls_of(authority, authority.revoke())
    async with running(Recorder(), tls=tls) as (server, _):
        before = server._acceptor
        assert before is not None
        old = before._tls
        authority.revoke(one[0])
        await server.on_tick(0)
        assert old is not None
        before.take_tls(old)  # as of a handshake that began before
        late = await Client.connect(authority, server, one)
        assert b"200" in await late.ask()
        await server.on_tick(0)
        with pytest.raises((ssl.SSLError, ConnectionError, IndexError)):
            (await late.ask()).split(b" ")[1]
        await late.close()


async def test_a_list_that_has_run_out_refuses_and_a_damaged_one_is_not_taken(
    authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    one, two = authority.issue("one"), authority.issue("two")
    crl = authority.revoke(one[0])
    async with running(Recorder(), tls=tls_of(authority, crl)) as (server, _):
        whole = crl.read_bytes()
        crl.write_bytes(whole[:80])
        await server.on_tick(0)
        await server.on_tick(0)
        assert [r.message for r in caplog.records].count(f"changed TLS files are not taken: the CRL file {crl} holds 0 "
                                                        "lists, not 1 to 100") == 1  # fmt: skip
        assert await ask(authority, server, one) == "SSLV3_ALERT_CERTIFICATE_REVOKED"
        authority.revoke(one[0], lives=timedelta(hours=-1))
        await server.on_tick(0)
        assert "the list of CN=ours has run out" in caplog.text
        assert await ask(authority, server, two) == "SSLV3_ALERT_CERTIFICATE_EXPIRED"
        assert await ask(authority, server, None) == "200"
        crl.write_bytes(whole)
        await server.on_tick(0)
        assert await ask(authority, server, two) == "200"


def lists_of(folder: Path, *files: Path) -> Path:
    """Several lists in one file."""
    path = folder / "lists.pem"
    path.write_bytes(b"".join(file.read_bytes() for file in files))
    return path


async def test_an_authority_in_between_can_be_revoked_too(authority: Authority, tmp_path: Path) -> None:
    between = authority.below("between")
    leaf, key = between.issue("one")
    chain = tmp_path / "chain.pem"
    chain.write_bytes(leaf.read_bytes() + between.file.read_bytes())
    crl = lists_of(tmp_path, authority.revoke(), between.revoke())
    async with running(Recorder(), tls=tls_of(authority, crl)) as (server, _):
        assert await ask(authority, server, (chain, key)) == "200"
        kept = await Client.connect(authority, server, (chain, key))
        assert b"200" in await kept.ask()
        lists_of(tmp_path, authority.revoke(between.file), between.revoke())
        await server.on_tick(0)
        assert await ask(authority, server, (chain, key)) == "SSLV3_ALERT_CERTIFICATE_REVOKED"
        with pytest.raises((ssl.SSLError, ConnectionError, IndexError)):
            (await kept.ask()).split(b" ")[1]
        await kept.close()


async def test_a_chain_without_a_list_of_each_authority_is_refused(
    authority: Authority, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    between = authority.below("between")
    leaf, key = between.issue("one")
    chain = tmp_path / "chain.pem"
    chain.write_bytes(leaf.read_bytes() + between.file.read_bytes())
    async with running(Recorder(), tls=tls_of(authority, authority.revoke())) as (server, _):
        assert await ask(authority, server, (chain, key)) != "200"
        assert await ask(authority, server, authority.issue("two")) == "200"
    async with running(Recorder(), tls=tls_of(authority, between.revoke())) as (server, _):
        assert await ask(authority, server, (chain, key)) != "200"
    assert "there is no list of CN=ours" in caplog.text


async def test_a_list_in_der_counts_as_one_in_pem(authority: Authority) -> None:
    one, two = authority.issue("one"), authority.issue("two")
    crl = authority.revoke(one[0])
    (found,) = read_lists(str(crl), str(authority.file))
    crl.write_bytes(found.public_bytes(Encoding.DER))
    async with running(Recorder(), tls=tls_of(authority, crl)) as (server, _):
        assert await ask(authority, server, one) == "SSLV3_ALERT_CERTIFICATE_REVOKED"
        assert await ask(authority, server, two) == "200"
    crl.write_bytes(crl.read_bytes()[:-9])
    with pytest.raises(InvalidCrlFile, match="is damaged"):
        read_lists(str(crl), str(authority.file))


def test_what_is_no_list_is_refused_with_its_reason(authority: Authority, tmp_path: Path) -> None:
    crl, ca = authority.revoke(), str(authority.file)
    whole = crl.read_bytes()
    assert len(read_lists(str(crl), ca)) == 1
    assert faults_of(read_lists(str(crl), ca)) == []
    damaged = whole.replace(b"MII", b"MIJ", 1) if b"MII" in whole else whole[:40] + b"AAAA" + whole[44:]
    for content, said in (
        (damaged, "is damaged"),
        (whole[:60], "holds 0 lists"),
        (authority.file.read_bytes(), "holds 0 lists"),
        (whole * 101, "holds 101 lists"),
    ):
        crl.write_bytes(content)
        with pytest.raises(InvalidCrlFile, match=said):
            tls_of(authority, crl).make_context()
    impostor = Authority(tmp_path, "ours").revoke(file="impostor.pem")  # the same name, another key
    with pytest.raises(InvalidCrlFile, match="is not signed by that authority"):
        read_lists(str(impostor), ca)
    with pytest.raises(InvalidCrlFile, match="No such file"):
        read_lists(str(tmp_path / "none.pem"), ca)
    begins = read_lists(str(authority.revoke()), ca)
    assert "begins on" in faults_of(begins, begins[0].last_update_utc - timedelta(days=1))[0]
