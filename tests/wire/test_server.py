"""Binding, signals, TLS and the drain of the real server."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from roadbed.kernel.errors import RoadbedError
from roadbed.wire.address import parse_url
from roadbed.wire.client import UpstreamClient
from roadbed.wire.errors import BindFailed, InvalidTlsFile, PortInUse
from roadbed.wire.exchange import UpstreamRequest
from roadbed.wire.hot import HotTable
from roadbed.wire.request import HotRequest
from roadbed.wire.server import Drain, HotServer, ServerTls, bind, make_server, serve
from roadbed.wire.tls import TrustDomain

from .certificates import make_certificate
from .conftest import PATIENCE_S, RawClient, Recorder

GET = b"GET /hot HTTP/1.1\r\nhost: a\r\n\r\n"


class Lifespan:
    """An application with a lifespan that notes its events."""

    def __init__(self, fails: bool = False) -> None:
        self.events: list[str] = []
        self.fails = fails

    async def __call__(self, scope, receive, send) -> None:  # type: ignore[no-untyped-def]
        assert scope["type"] == "lifespan"
        while True:
            event = (await receive())["type"]
            self.events.append(event.removeprefix("lifespan."))
            await send({"type": f"{event}.failed" if self.fails else f"{event}.complete"})
            if event == "lifespan.shutdown" or self.fails:
                return


@asynccontextmanager
async def running(
    handler: Recorder, *, app: Lifespan | None = None, drain: Drain | None = None, tls: ServerTls | None = None
) -> AsyncIterator[tuple[HotServer, asyncio.Task[None]]]:
    table = HotTable()
    table.add("GET", "/hot", handler)
    server = make_server(app or Lifespan(), table, bind("127.0.0.1", 0), drain=drain, tls=tls, handle_signals=False)
    task = asyncio.create_task(server.serve())
    await asyncio.wait_for(server.ready.wait(), PATIENCE_S)
    yield server, task
    server.stop()
    server.stop()
    await asyncio.wait_for(task, PATIENCE_S)


async def connect(server: HotServer) -> RawClient:
    return RawClient(*await asyncio.open_connection("127.0.0.1", server.port))


def test_a_port_in_use_is_a_typed_error() -> None:
    with bind("127.0.0.1", 0) as listener, pytest.raises(PortInUse, match="is in use"):
        bind("127.0.0.1", listener.getsockname()[1])


def test_an_address_of_another_machine_is_a_typed_error() -> None:
    with pytest.raises(BindFailed):
        bind("192.0.2.1", 0)
    with pytest.raises(BindFailed):
        bind("no such host", 0)


async def test_serving_on_port_0_tells_the_port_and_stops_on_sigterm() -> None:
    ports: list[int] = []
    app = Lifespan()
    table = HotTable()
    table.add("GET", "/hot", Recorder())
    before = signal.getsignal(signal.SIGTERM)

    async def stop_after_one_request() -> None:
        while True:
            try:
                client = RawClient(*await asyncio.open_connection("127.0.0.1", ports[0]))
                break
            except (ConnectionError, IndexError):
                await asyncio.sleep(0)
        client.send(GET)
        reply = await client.reply()
        assert reply.status == 200
        assert reply.headers["date"].endswith("gmt")
        assert "server" not in reply.headers
        client.abort()
        os.kill(os.getpid(), signal.SIGTERM)

    task = asyncio.create_task(stop_after_one_request())
    await asyncio.wait_for(serve(app, table, port=0, on_bound=ports.append), PATIENCE_S)
    await task
    assert app.events == ["startup", "shutdown"]
    assert signal.getsignal(signal.SIGTERM) is before


async def test_an_application_that_does_not_start_is_an_error() -> None:
    with pytest.raises(RoadbedError, match="did not start"):
        await serve(Lifespan(fails=True), HotTable(), port=0)


async def test_a_drain_finishes_what_is_under_way_and_accepts_no_more() -> None:
    waiting: asyncio.Queue[HotRequest] = asyncio.Queue()
    begun = asyncio.Event()
    async with running(Recorder(waiting.put_nowait), drain=Drain(on_begin=begun.set)) as (server, task):
        idle, busy = await connect(server), await connect(server)
        busy.send(GET)
        request = await asyncio.wait_for(waiting.get(), PATIENCE_S)
        server.stop()
        await asyncio.wait_for(begun.wait(), PATIENCE_S)
        assert await idle.closed() == b""
        with pytest.raises(ConnectionError):
            await connect(server)
        request.send(200, (), b"late but whole")
        reply = await busy.reply()
        assert (reply.body, reply.headers["connection"]) == (b"late but whole", "close")
        await asyncio.wait_for(task, PATIENCE_S)
        idle.abort()
        busy.abort()


async def test_streams_are_told_when_the_drain_time_is_over() -> None:
    streams: asyncio.Queue[HotRequest] = asyncio.Queue()

    def answer(request: HotRequest) -> None:
        request.start_stream(200, (), b"first")
        streams.put_nowait(request)

    async with running(Recorder(answer), drain=Drain(finish_s=0.05)) as (server, task):
        told, untold = await connect(server), await connect(server)
        told.send(GET)
        request = await asyncio.wait_for(streams.get(), PATIENCE_S)
        request.on_shutdown(lambda: request.end(b" last"))
        untold.send(GET)
        await asyncio.wait_for(streams.get(), PATIENCE_S)
        server.stop()
        assert (await told.reply()).body == b"first last"
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await untold.reply()
        await asyncio.wait_for(task, PATIENCE_S)
        told.abort()
        untold.abort()


async def test_tls_serves_http_1_1_and_takes_a_changed_certificate(tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path, "first")
    tls = ServerTls(str(certificate), str(key))
    async with running(Recorder(), tls=tls) as (server, _):
        client = UpstreamClient()
        url = parse_url(f"https://localhost:{server.port}/hot")

        async def fetch(trusted: Path) -> bytes:
            trust = TrustDomain(ca_files=(str(trusted),), only_ca_files=True)
            response = await client.request(UpstreamRequest(b"GET", url, trust=trust))
            return await response.read()

        assert await fetch(certificate) == b"hot:"
        second, second_key = make_certificate(tmp_path, "second")
        certificate.write_bytes(second.read_bytes())
        key.write_bytes(second_key.read_bytes())
        os.utime(certificate, (2_000_000_000, 2_000_000_000))
        await server.on_tick(0)
        assert await fetch(second) == b"hot:"
        await client.close()


def own_address() -> str:
    """An address of this machine that is not its loopback; asking for it sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        try:
            asking.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine has the loopback alone")
        return str(asking.getsockname()[0])


async def test_clients_of_other_machines_need_their_certificate(tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path, "both")
    tls = ServerTls(str(certificate), str(key), client_ca=str(certificate))
    table = HotTable(requires_certificate=True)
    handler = Recorder()
    table.add("GET", "/hot", handler)
    server = make_server(Lifespan(), table, bind("0.0.0.0", 0), tls=tls, handle_signals=False)
    task = asyncio.create_task(server.serve())
    await asyncio.wait_for(server.ready.wait(), PATIENCE_S)

    async def ask(host: str, *, shows: bool) -> bytes:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.load_verify_locations(certificate)
        if shows:
            context.load_cert_chain(certificate, key)
        async with asyncio.timeout(PATIENCE_S):
            reader, writer = await asyncio.open_connection(host, server.port, ssl=context)
            writer.write(GET.replace(b"host: a", b"host: a\r\nconnection: close"))
            answer = await reader.read()
            writer.close()
            return answer

    elsewhere = own_address()
    refused = await ask(elsewhere, shows=False)
    assert refused.startswith(b"HTTP/1.1 401")
    assert b"wire.certificate_required" in refused
    assert b"hot:" in await ask(elsewhere, shows=True)
    assert b"hot:" in await ask("127.0.0.1", shows=False)
    certified, local = (request.certificate for request in handler.requests)
    assert certified is not None
    assert (certified.common_names, certified.dns_names) == (("both",), ("localhost",))
    assert local is None
    server.stop()
    await asyncio.wait_for(task, PATIENCE_S)


def test_missing_certificates_are_a_typed_error(tmp_path: Path) -> None:
    with pytest.raises(InvalidTlsFile):
        ServerTls(str(tmp_path / "none"), str(tmp_path / "none")).make_context()


def test_a_bound_socket_can_be_inherited() -> None:
    with bind("127.0.0.1", 0) as listener, socket.socket(fileno=os.dup(listener.fileno())) as inherited:
        assert inherited.getsockname() == listener.getsockname()
