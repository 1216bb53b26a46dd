"""``roadbed up``: start everything, say where it is, follow the first ingest, stop it cleanly.

What a person reads goes to standard output, what automation reads to ``--ready-file``. The admin key is shown once,
when it was just made. SIGINT and SIGTERM are handled explicitly from the first moment on, and nothing that was
started outlives this.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from roadbed import __version__
from roadbed.guard.keys import ADMIN_KEY_ID, OWN_KEY_NAME, KeyRecord
from roadbed.kernel.errors import DeadlineExceeded, RoadbedError, Unavailable
from roadbed.kernel.wording import counted
from roadbed.knowledge.states import SourceState
from roadbed.releases.workspace import load_workspace
from roadbed.server.controls import start_controls
from roadbed.server.listening import build_server, settle_memory
from roadbed.server.services import Services, open_services
from roadbed.server.settings import Settings, check_settings, default_state
from roadbed.server.workers import Workers
from roadbed.store.state import require_free, write_private_file
from roadbed.wire.errors import PortInUse
from roadbed.wire.server import bind

log = logging.getLogger("roadbed.server")

CLI_KEY_NAME = OWN_KEY_NAME
CLI_TEAM = "admin"
PROGRESS_INTERVAL_S = 0.25
QUESTIONS_SHOWN = 3
QUESTION_OF_ANYTHING = "What is this about?"
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Address:
    """Where a running server is."""

    url: str
    api: str


class Serves(Protocol):
    """What serves the listening socket: this process itself, or `Workers`."""

    ready: asyncio.Event

    async def serve(self) -> None:
        """Serve until `stop`, and finish what is under way."""

    def stop(self) -> None:
        """Begin the drain; a second call ends it at once."""


async def up(settings: Settings, say: Say, worker_command: Sequence[str] = ()) -> None:
    """Serve a workspace until a signal comes. Raises typed errors for everything that keeps it from starting.

    ``worker_command`` starts one serving process, where there are to be several.
    """
    check_settings(settings)
    workspace = await asyncio.to_thread(load_workspace, settings.workspace)
    try:
        listener = bind(settings.host, settings.port)
    except PortInUse:
        require_free(settings.state)  # who listens there may be this workspace's own server
        raise
    started: Serves | None = None
    this = asyncio.current_task()
    assert this is not None

    def on_signal() -> None:
        if started is not None:
            started.stop()
        else:
            this.cancel()

    with _signals(on_signal), contextlib.closing(listener):
        try:
            async with open_services(settings, workspace) as services:
                sources = counted(len(workspace.manifest.sources), "source")
                say(f"{workspace.manifest.name}: database ready, {sources} declared")
                host = f"[{settings.host}]" if ":" in settings.host else settings.host
                url = f"{settings.scheme}://{host}:{listener.getsockname()[1]}"
                if settings.workers == 1:
                    started = build_server(services, listener, url)
                else:
                    started = Workers(services, listener, url, worker_command)
                await _serve(services, started, Address(url, f"{url}/v1"), say)
        except asyncio.CancelledError:
            if started is not None:
                raise
            say("stopped before it was ready")


@contextlib.contextmanager
def _signals(on_signal: Callable[[], None]):  # type: ignore[no-untyped-def]
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGINT, signal.SIGTERM)
    for number in numbers:
        loop.add_signal_handler(number, on_signal)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


async def _serve(services: Services, server: Serves, address: Address, say: Say) -> None:
    serving = asyncio.create_task(server.serve(), name="http-server")
    ready = asyncio.create_task(server.ready.wait(), name="http-ready")
    await asyncio.wait({serving, ready}, return_when=asyncio.FIRST_COMPLETED)
    ready.cancel()
    if serving.done():
        serving.result()
        return
    settle_memory()
    record = await _write_cli_file(services, address)
    await start_controls(services, address.url)
    try:
        await _announce(services, address, say)
        following = asyncio.create_task(_follow_first_ingest(services, address, say), name="first-ingest")
        try:
            await serving
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
    finally:
        (services.settings.state / "run" / "cli.json").unlink(missing_ok=True)
        with contextlib.suppress(RoadbedError):
            await services.identity.revoke_key(record.id)
        say("stopped")


async def _write_cli_file(services: Services, address: Address) -> KeyRecord:
    """Give commands on this machine their address and a key of their own, which ends with this process."""
    for old in await services.identity.list_keys():
        if old.name == CLI_KEY_NAME and old.revoked is None:
            await services.identity.revoke_key(old.id)
    record, key = await services.identity.create_key(
        team=CLI_TEAM, roles=("admin", "member"), name=CLI_KEY_NAME, acts_as=ADMIN_KEY_ID
    )
    body = {"url": address.url, "api": address.api, "key": key, "pid": os.getpid(), "version": __version__}
    settings = services.settings
    body["workspace"] = str(settings.workspace.expanduser().resolve())
    if settings.tls_client_ca is not None and settings.tls_client_crl is not None:
        body["client_ca"] = str(settings.tls_client_ca.absolute())
        body["client_crl"] = str(settings.tls_client_crl.absolute())
    write_private_file(settings.state / "run" / "cli.json", json.dumps(body).encode())
    return record


async def _announce(services: Services, address: Address, say: Say) -> None:
    apps = dict(services.apps_in_order())
    app = next((name for name, served in apps.items() if served.config.kind == "copilot"), next(iter(apps), ""))
    token = await services.sessions.create_sign_in_token(ADMIN_KEY_ID)
    say("")
    say(f"  console   {address.url}/console")
    say(f"  sign in   {address.url}/console/sign-in?token={token}   (once, within 15 minutes)")
    say(f"  API       {address.api}   (model: {', '.join(apps) or 'none'})")
    if services.made_admin_key:
        say(f"  admin key {services.made_admin_key}   (shown once; `roadbed keys create` makes more)")
    problem = services.problem()
    if problem:
        say(f"  the manifest on disk is not served: {problem}")
    for line in [*services.engines.describe(), *(f"note      {note}" for note in services.workspace.notes())]:
        say(f"  {line}")
    if app:
        questions = apps[app].config.examples[:QUESTIONS_SHOWN]
        key = services.made_admin_key or "$ROADBED_API_KEY"
        say("\n  try")
        for question in questions or [QUESTION_OF_ANYTHING]:
            say(f'    {services.settings.program} ask{_state_option(services.settings)} "{question}"')
        body = json.dumps(
            {"model": app, "messages": [{"role": "user", "content": (questions or [QUESTION_OF_ANYTHING])[0]}]}
        )
        quoted = body.replace("'", "'\\''")
        call = f"curl -s {address.api}/chat/completions"
        say(f"""\n    {call} -H "authorization: Bearer {key}" -d '{quoted}'""")
    say("")


def _state_option(settings: Settings) -> str:
    """What a command needs to find this server; nothing where the state folder is the usual one."""
    if settings.state.resolve() == default_state(settings.workspace).resolve():
        return ""
    return f" --state {shlex.quote(str(settings.state))}"


async def _follow_first_ingest(services: Services, address: Address, say: Say) -> None:
    """A line per source when it is done (and a moving one on a terminal), then the ready file."""
    told: set[str] = set()
    shown = 0
    is_live = sys.stderr.isatty()
    while True:
        with contextlib.suppress(Unavailable, DeadlineExceeded):
            states = await services.knowledge.source_states()
            for state in states:
                if state.name not in told and state.state in ("idle", "failed", "held"):
                    told.add(state.name)
                    option = _state_option(services.settings)
                    say(("\r" + " " * shown + "\r" if shown else "") + _line(state, option))
            waiting = [state for state in states if state.name not in told]
            if is_live and waiting:
                text = "  reading  " + ", ".join(f"{s.name} {s.done}/{s.listed or '?'}" for s in waiting)[:100]
                sys.stderr.write("\r" + text.ljust(shown))
                sys.stderr.flush()
                shown = len(text)
            if not waiting and await services.knowledge.is_settled():
                break
        await asyncio.sleep(PROGRESS_INTERVAL_S)
    say("every source was read; changes are followed")
    if services.settings.ready_file is not None:
        _write_ready_file(services.settings.ready_file, services, address)


def _line(state: SourceState, option: str) -> str:
    words = [f"  {state.name}: {counted(state.indexed, 'document')}"]
    if state.failed:
        words.append(f"{state.failed} not readable (`roadbed ingest {state.name}{option}` lists why)")
    if state.not_taken:
        words.append(f"{len(state.not_taken)} not taken")
    if state.outdated:
        words.append(f"{state.outdated} to be read again since the upgrade, in the background")
    if state.message and state.state in ("failed", "held"):
        words.append(state.message)
    return ", ".join(words)


def _write_ready_file(path: Path, services: Services, address: Address) -> None:
    body = {"url": address.url, "api": address.api, "pid": os.getpid(), "version": __version__}
    if services.made_admin_key:
        body["key"] = services.made_admin_key
    write_private_file(path, json.dumps(body).encode() + b"\n")
