"""Running the server: one listening socket, uvicorn with our protocol on it, signals, TLS, and a drain that loses no
request.

A drain: say not ready, wait for load balancers to see it, stop accepting, finish what is under way, let streams end
until the drain's time is over, tell those that are left, close. It installs signal handlers explicitly (a background
start inherits SIGINT ignored), logs no access lines and configures no logging. Several processes may serve one
socket: bind it once, inherit it, and give each a `Seat`.
The invariant: after ``serve`` returned, no connection of its server is open.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import signal
import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import uvicorn

from roadbed.kernel.errors import RoadbedError
from roadbed.wire.acceptor import Acceptor, Seat
from roadbed.wire.client_handshake import ClientVerifyingContext
from roadbed.wire.errors import BindFailed, InvalidTlsFile, PortInUse
from roadbed.wire.hot import HotTable
from roadbed.wire.protocol import HotProtocol, hot_protocol
from roadbed.wire.revocation import faults_of, is_revoked, read_lists, require_lists, unlisted

BACKLOG = 2048
TLS_HANDSHAKE_S = 5.0
FLUSH_S = 2.0
_TICK_S = 0.05
_CERTIFICATE_CHECK_TICKS = 100

log = logging.getLogger("roadbed.wire")


@dataclass(frozen=True, slots=True)
class Drain:
    """How a server stops. ``on_begin`` is called first, so that readiness can turn false ``lead_s`` before the port
    closes.
    """

    lead_s: float = 0.0
    finish_s: float = 30.0
    on_begin: Callable[[], None] | None = None


@dataclass(frozen=True, slots=True)
class ServerTls:
    """Certificate chain and key files. Read again when they change, without dropping connections.

    ``client_ca`` has the authorities of clients' certificates; with it clients may show one. ``client_crl`` has
    these authorities' lists of revoked certificates: a client whose certificate, or an authority of it, is on one,
    or has none that holds now, is refused.
    """

    certificate: str
    key: str
    key_password: str | None = field(default=None, repr=False)
    client_ca: str | None = None
    client_crl: str | None = None

    def state_of_files(self) -> tuple[tuple[int, int, int], ...] | None:
        """What changes when one of the files does; None while one is not there."""
        files = [file for file in (self.certificate, self.key, self.client_ca, self.client_crl) if file is not None]
        try:
            return tuple((found.st_mtime_ns, found.st_size, found.st_ino) for found in map(os.stat, files))
        except OSError:
            return None

    def _load_into(self, context: ssl.SSLContext) -> None:
        try:
            context.load_cert_chain(self.certificate, self.key, self.key_password)
        except (OSError, ssl.SSLError):
            raise InvalidTlsFile(
                f"the certificate {self.certificate} or its key cannot be read", file=self.certificate
            ) from None
        if self.client_ca is not None:
            try:
                context.load_verify_locations(self.client_ca)
            except (OSError, ssl.SSLError):
                raise InvalidTlsFile(f"the CA file {self.client_ca} cannot be read", file=self.client_ca) from None
        if self.client_ca is not None and self.client_crl is not None:
            lists = read_lists(self.client_crl, self.client_ca)
            for fault in (*faults_of(lists), *unlisted(lists, self.client_ca)):
                log.warning("%s in %s: clients of that authority are refused", fault, self.client_crl)
            require_lists(context, lists)

    def make_context(self) -> ssl.SSLContext:
        """A server context: TLS 1.2 or later, HTTP/1.1 only. Raises ``InvalidTlsFile``."""
        kind = ssl.SSLContext if self.client_ca is None else ClientVerifyingContext
        context = kind(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        if self.client_ca is not None:
            context.verify_mode = ssl.CERT_OPTIONAL
            # A resumed session would bring its certificate along without a second look at it.
            context.options |= ssl.OP_NO_TICKET
            context.num_tickets = 0
        self._load_into(context)
        return context

    def revoked(self, certificates: Iterable[bytes]) -> list[bytes]:
        """Those of clients' certificates (DER) that are on a list. Raises ``InvalidTlsFile``."""
        if self.client_ca is None or self.client_crl is None:
            return []
        lists = read_lists(self.client_crl, self.client_ca)
        return [certificate for certificate in certificates if is_revoked(lists, certificate, self.client_ca)]


def bind(host: str, port: int) -> socket.socket:
    """A socket bound to ``host:port`` (port 0: a free one) that processes may share. Raises ``PortInUse`` or
    ``BindFailed``.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        listener = socket.socket(family, kind, protocol)
    except OSError:
        raise BindFailed(f"the address {host} is not one to listen on") from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise PortInUse(f"port {port} of {host} is in use") from None
        raise BindFailed(f"port {port} of {host} cannot be listened on: {os.strerror(error.errno or 0)}") from None
    listener.setblocking(False)
    return listener


class HotServer(uvicorn.Server):
    """uvicorn's server with our socket, our signals and our drain."""

    def __init__(
        self,
        config: uvicorn.Config,
        listener: socket.socket,
        tls: ServerTls | None,
        drain: Drain,
        handle_signals: bool,
        seat: Seat | None = None,
    ) -> None:
        super().__init__(config)
        self._seat = seat
        self._acceptor: Acceptor | None = None
        self._listener = listener
        self._tls = tls
        self._tls_context = tls.make_context() if tls is not None else None  # that it begins with
        self._tls_files = tls.state_of_files() if tls is not None else None
        self._tls_fault, self._looks_again = "", False
        self._drain = drain
        self._handles_signals = handle_signals
        self.ready = asyncio.Event()
        self.port: int = listener.getsockname()[1]

    def stop(self) -> None:
        """Begin the drain; a second call ends it at once."""
        if self.should_exit:
            self.force_exit = True
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the application, then accept."""
        await self.lifespan.startup()
        if self.lifespan.should_exit:
            self._listener.close()
            raise RoadbedError("the application did not start", hint="its own error is in the log above")
        config = self.config

        def make_protocol() -> asyncio.Protocol:
            return config.http_protocol_class(  # type: ignore[call-arg]
                config=config, server_state=self.server_state, app_state=self.lifespan.state
            )

        self._acceptor = Acceptor(
            self._listener,
            make_protocol,
            lambda: len(self.server_state.connections),
            self._seat,
            tls=self._tls_context,
            tls_handshake_s=TLS_HANDSHAKE_S,
        )
        self.servers = []
        self.started = True
        self.ready.set()

    async def on_tick(self, counter: int) -> bool:
        """uvicorn's beat (0.1 s): also look for changed certificates."""
        if self._acceptor is not None:
            self._acceptor.publish()
        if self._tls is not None and counter % _CERTIFICATE_CHECK_TICKS == 0:
            await self._read_tls_again(self._tls)
        return await super().on_tick(counter)

    async def _read_tls_again(self, tls: ServerTls) -> None:
        """Where files have changed: a new context for new connections, and an end of those that are revoked."""
        files = tls.state_of_files()
        is_changed = files is not None and files != self._tls_files
        if not (is_changed or self._looks_again):
            return
        try:
            if is_changed:
                # A new one each time: of an old one, nothing is ever taken out, neither authorities nor lists.
                context = await asyncio.to_thread(tls.make_context)
                self._tls_files, self._tls_fault = files, ""
                if self._acceptor is not None:
                    self._acceptor.take_tls(context)
            # Handshakes that had begun are over by the next beat.
            self._looks_again = is_changed
            await self._end_revoked(tls)
        except InvalidTlsFile as error:
            # A half-written file is refused and the old ones stay; the next beat tries again.
            if error.message != self._tls_fault:
                log.error("changed TLS files are not taken: %s", error.message)
            self._tls_fault = error.message

    async def _end_revoked(self, tls: ServerTls) -> None:
        shown = {connection: _shown(connection) for connection in self.server_state.connections}
        revoked = {*await asyncio.to_thread(tls.revoked, {one for one in shown.values() if one is not None})}
        for connection, certificate in shown.items():
            if certificate in revoked:
                log.warning("a connection was ended: its client's certificate is revoked")
                connection.cut()  # type: ignore[union-attr]

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """The drain."""
        drain, state = self._drain, self.server_state
        if drain.on_begin is not None:
            drain.on_begin()
        await self._wait(drain.lead_s, lambda: False)
        if self._acceptor is not None:
            await self._acceptor.close(TLS_HANDSHAKE_S)
        for connection in list(state.connections):
            connection.shutdown()
        await self._wait(drain.finish_s, lambda: not state.connections and not state.tasks)
        for connection in list(state.connections):
            if isinstance(connection, HotProtocol):
                connection.cut()
        for task in list(state.tasks):
            task.cancel()
        await self._wait(FLUSH_S, lambda: not state.connections and not state.tasks, is_forced=True)
        for connection in list(state.connections):
            connection.transport.abort()
        await self.lifespan.shutdown()

    async def _wait(self, seconds: float, is_done: Callable[[], bool], is_forced: bool = False) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        # Polled as uvicorn does: its connection and task sets tell nobody when they shrink.
        while loop.time() < end and not is_done() and (is_forced or not self.force_exit):  # noqa: ASYNC110
            await asyncio.sleep(min(_TICK_S, max(0.0, end - loop.time())))

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """SIGINT and SIGTERM begin the drain; again, they end it. The handlers before are put back."""
        if not self._handles_signals or threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.stop()


def _shown(connection: Any) -> bytes | None:
    """The certificate (DER) that a connection's client has shown."""
    if not isinstance(connection, HotProtocol) or connection.certificate is None:
        return None
    found: bytes | None = connection.transport.get_extra_info("ssl_object").getpeercert(binary_form=True)
    return found


def make_server(
    app: Any,
    table: HotTable,
    listener: socket.socket,
    *,
    tls: ServerTls | None = None,
    drain: Drain | None = None,
    handle_signals: bool = True,
    seat: Seat | None = None,
) -> HotServer:
    """A server for ``app`` (ASGI) and the hot paths of ``table`` on a bound socket. Run it with ``await
    server.serve()``. ``seat`` is given where other processes serve the same socket.
    """
    config = uvicorn.Config(
        app,
        http=hot_protocol(table),
        ws="none",  # else what is installed beside us would decide who reads a connection, and with what limits
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
    )
    return HotServer(config, listener, tls, drain or Drain(), handle_signals, seat)


async def serve(
    app: Any,
    table: HotTable,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    listener: socket.socket | None = None,
    tls: ServerTls | None = None,
    drain: Drain | None = None,
    on_bound: Callable[[int], None] | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM, then drain. ``on_bound`` is told the port, before the application starts.

    ``listener`` is a socket that was bound (and perhaps inherited) already. Raises ``PortInUse``, ``BindFailed``,
    ``InvalidTlsFile``.
    """
    bound = listener if listener is not None else bind(host, port)
    server = make_server(app, table, bound, tls=tls, drain=drain)
    if on_bound is not None:
        on_bound(server.port)
    await server.serve()
