"""Opening one connection to an upstream: addresses tried 250 ms apart (RFC 8305), a proxy's tunnel, the TLS
handshake.

It gives a connected transport to the protocol it is handed, or raises one of the ``NotSent`` errors; it sends no
request of the caller's.
"""

from __future__ import annotations

import asyncio
import socket
import ssl

from roadbed.wire import errors
from roadbed.wire.address import Origin
from roadbed.wire.direct import DirectLoop, DirectTransport
from roadbed.wire.proxy import Proxy
from roadbed.wire.resolver import Resolver

ATTEMPT_SPACING_S = 0.25
ADDRESSES_MAX = 8
CONNECT_S_MAX = 10.0
TUNNEL_HEAD_BYTES_MAX = 8 * 1024


class Connector:
    """Opens connections; one per client."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver

    async def open(
        self, origin: Origin, proxy: Proxy | None, context: ssl.SSLContext | None, protocol: asyncio.Protocol
    ) -> None:
        """Connect ``protocol`` to ``origin``. Raises ``NotSent``; bounded by ``CONNECT_S_MAX``."""
        try:
            async with asyncio.timeout(CONNECT_S_MAX):
                await self._open(origin, proxy, context, protocol)
        except TimeoutError:
            raise errors.ConnectTimeout(f"no connection to {origin.authority} within {CONNECT_S_MAX:g} s") from None

    async def _open(
        self, origin: Origin, proxy: Proxy | None, context: ssl.SSLContext | None, protocol: asyncio.Protocol
    ) -> None:
        if proxy is None:
            connection = await self._dial(origin.host, origin.port, origin.authority)
        else:
            connection = await self._dial(proxy.host, proxy.port, f"the proxy {proxy.host}:{proxy.port}")
        loop = asyncio.get_running_loop()
        if context is None and isinstance(loop, DirectLoop):
            DirectTransport(loop, connection, protocol)
            return
        transport, _ = await loop.create_connection(_Dialed, sock=connection)
        is_ready = False
        try:
            if context is not None and proxy is not None:
                await _open_tunnel(transport, origin, proxy)
            if context is not None:
                transport = await _start_tls(transport, protocol, context, origin)
            is_ready = True
        finally:
            if not is_ready:
                transport.abort()
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        if context is None:
            transport.resume_reading()

    async def _dial(self, host: str, port: int, name: str) -> socket.socket:
        addresses = (await self._resolver.resolve(host, port))[:ADDRESSES_MAX]
        try:
            return await _race(addresses, port)
        except ConnectionRefusedError:
            raise errors.ConnectRefused(f"{name} refuses connections") from None
        except OSError as error:
            if isinstance(error, TimeoutError) and error.errno is None:
                raise
            raise errors.ConnectFailed(f"{name} cannot be reached") from None


class _Dialed(asyncio.Protocol):
    """Holds a new connection still until its owner takes it, so that no byte and no close is lost on the way."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.pause_reading()


async def _race(addresses: list[str], port: int) -> socket.socket:
    """The first of ``addresses`` to connect. Raises the last attempt's ``OSError``."""
    loop = asyncio.get_running_loop()
    pending: set[asyncio.Task[socket.socket]] = set()
    waiting = list(addresses)
    failure: OSError = OSError("no address")
    try:
        while waiting or pending:
            if waiting:
                pending.add(loop.create_task(_connect(loop, waiting.pop(0), port)))
            done, pending = await asyncio.wait(
                pending, timeout=ATTEMPT_SPACING_S if waiting else None, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                error = task.exception()
                if error is None:
                    done.discard(task)
                    pending |= done
                    return task.result()
                if not isinstance(error, OSError):
                    raise error
                failure = error
        raise failure
    finally:
        for task in pending:
            _let_go(task)


async def _connect(loop: asyncio.AbstractEventLoop, address: str, port: int) -> socket.socket:
    connection = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    try:
        connection.setblocking(False)
        await loop.sock_connect(connection, (address, port))
    except BaseException:
        connection.close()
        raise
    return connection


def _let_go(task: asyncio.Task[socket.socket]) -> None:
    """Cancel an attempt that lost the race, and close its connection if it has one."""

    def close(finished: asyncio.Task[socket.socket]) -> None:
        if not finished.cancelled() and finished.exception() is None:
            finished.result().close()

    task.cancel()
    task.add_done_callback(close)


class _Tunnel(asyncio.Protocol):
    """Reads the head of a proxy's answer to CONNECT."""

    def __init__(self, answered: asyncio.Future[bytes]) -> None:
        self._answered = answered
        self._head = b""

    def data_received(self, data: bytes) -> None:
        self._head += data
        if b"\r\n\r\n" in self._head or len(self._head) > TUNNEL_HEAD_BYTES_MAX:
            self._settle(self._head)

    def connection_lost(self, exc: Exception | None) -> None:
        self._settle(b"")

    def _settle(self, head: bytes) -> None:
        if not self._answered.done():
            self._answered.set_result(head)


async def _open_tunnel(transport: asyncio.Transport, origin: Origin, proxy: Proxy) -> None:
    answered: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    transport.set_protocol(_Tunnel(answered))
    transport.resume_reading()
    authority = origin.authority.encode("ascii")
    lines = [b"CONNECT %b HTTP/1.1" % authority, b"host: %b" % authority]
    if proxy.authorization is not None:
        lines.append(b"proxy-authorization: %b" % proxy.authorization)
    transport.write(b"\r\n".join(lines) + b"\r\n\r\n")
    head = await answered
    status = head[9:12]
    if not (head.startswith(b"HTTP/1.") and status.startswith(b"2") and head.endswith(b"\r\n\r\n")):
        said = f"answered {status.decode()}" if status.isdigit() else "gave no valid answer"
        raise errors.ProxyRefused(f"the proxy {proxy.host}:{proxy.port} {said} for {origin.authority}")


async def _start_tls(
    transport: asyncio.Transport, protocol: asyncio.Protocol, context: ssl.SSLContext, origin: Origin
) -> asyncio.Transport:
    loop = asyncio.get_running_loop()
    try:
        secured = await loop.start_tls(transport, protocol, context, server_hostname=origin.host)
    except ssl.SSLCertVerificationError as error:
        raise errors.TlsFailed(f"the certificate of {origin.authority} is refused: {error.verify_message}") from None
    except ssl.SSLError as error:
        raise errors.TlsFailed(f"TLS with {origin.authority} failed: {error.reason or 'no reason given'}") from None
    except OSError:
        raise errors.TlsFailed(f"{origin.authority} closed the connection during the TLS handshake") from None
    if secured is None:
        raise errors.TlsFailed(f"{origin.authority} closed the connection during the TLS handshake")
    return secured
