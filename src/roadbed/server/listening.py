"""The HTTP server over the services of one process, alone or beside others on one socket."""

from __future__ import annotations

import contextlib
import gc
import resource
import socket

from roadbed.console.pages import console_routes
from roadbed.server.app import build_app, build_hot_table, contained
from roadbed.server.console import console_services
from roadbed.server.services import Services
from roadbed.server.settings import Settings
from roadbed.wire.acceptor import Seat
from roadbed.wire.server import Drain, HotServer, ServerTls, make_server

DRAIN_S = 30.0
OPEN_FILES_MAX = 65_536
GC_THRESHOLDS = (10_000, 20, 50)


def build_server(services: Services, listener: socket.socket, url: str, seat: Seat | None = None) -> HotServer:
    """Everything under ``url``, not yet accepting. ``seat`` is this process's among those that share the socket."""
    allow_open_files()

    def begin_drain() -> None:
        services.is_draining = True
        services.mcp.mcp.begin_end()

    settings = services.settings
    services.mcp.serve_at(url)
    server = make_server(
        contained(build_app(services, console_routes(console_services(services, url)))),
        build_hot_table(services),
        listener,
        tls=tls_of(settings),
        drain=Drain(finish_s=DRAIN_S, on_begin=begin_drain),
        handle_signals=False,
        seat=seat,
    )
    services.mcp.mcp.load_soon(server.ready)
    return server


def tls_of(settings: Settings) -> ServerTls | None:
    """The files that connections are opened with; None where they are in clear."""
    if settings.tls_cert is None:
        return None
    client_ca = str(settings.tls_client_ca) if settings.tls_client_ca is not None else None
    client_crl = str(settings.tls_client_crl) if settings.tls_client_crl is not None else None
    return ServerTls(str(settings.tls_cert), str(settings.tls_key), client_ca=client_ca, client_crl=client_crl)


def allow_open_files() -> None:
    """Take as many open files as this process may have: a stream needs two, and the usual limit is 1,024."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, OPEN_FILES_MAX), most))


def settle_memory() -> None:
    """Leave what the start made out of garbage collection, and collect less often.

    A finished trace waits for the next batch, so it outlives several of Python's usual collections: a tenth of all CPU
    under load went there.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
