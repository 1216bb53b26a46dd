"""The checks of `roadbed doctor`: what a deployment needs of this machine, each with how to mend it.

Reads and probes, changes nothing, and needs no running server; where one runs, it is asked too. A check that fails
does not keep the others from running. The invariant: every `Check` that is not well says what to do.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from roadbed.gateway.local_engines import find_local_engines
from roadbed.gateway.providers import describe_environment
from roadbed.kernel.errors import ConfigError, RoadbedError
from roadbed.releases.workspace import Workspace, load_workspace
from roadbed.server.settings import Settings
from roadbed.wire.revocation import InvalidCrlFile, faults_of, read_lists, unlisted

PYTHON_MIN = (3, 11)
DISK_FREE_BYTES_MIN = 1024**3
PROGRAM_TIMEOUT_S = 10
PROBE_TIMEOUT_S = 3
PART_FIX = "the log of `roadbed up` and postgres/server.log say more"
PART_FIXES = {
    "jobs": "free some disk space where the database is; jobs go on by themselves within seconds",
    "database": "start PostgreSQL or see its log (postgres/server.log when embedded); it is used again by itself",
}
Verdict = Literal["ok", "note", "wrong"]


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at. ``fix`` says what to do when it is not ``ok``."""

    name: str
    verdict: Verdict
    message: str
    fix: str = ""


def examine(settings: Settings) -> list[Check]:
    """All checks, in the order in which `roadbed up` would meet the troubles."""
    running = find_running(settings.state)
    told = running or {}
    return [
        *_python(),
        *_workspace(settings),
        *_state(settings),
        *_disk(settings),
        *_port(settings, running),
        *revoked_checks(
            settings.tls_client_crl or told.get("client_crl"), settings.tls_client_ca or told.get("client_ca")
        ),
        *postgres_checks(settings),
        *_server(running),
        *_data_systems(running),
        *_embedding_model(),
        *_guard(),
        *_engines(),
        *_provider_keys(),
    ]


def find_running(state: Path) -> dict[str, Any] | None:
    """What ``run/cli.json`` says of the server that runs on this state; None when none does."""
    try:
        found: dict[str, Any] = json.loads((state / "run" / "cli.json").read_text(encoding="utf-8"))
        os.kill(int(found["pid"]), 0)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found


def _python() -> Iterator[Check]:
    arguments, flag = (sysconfig.get_config_var(name) for name in ("CONFIG_ARGS", "PGO_PROF_USE_FLAG"))
    yield python_check(sys.version_info[:3], is_optimized(arguments, flag))


def python_check(version: tuple[int, ...], has_optimizations: bool | None) -> Check:
    """What is to be said of the Python that runs; None for one that does not say how it was built."""
    found = ".".join(map(str, version))
    if version < PYTHON_MIN:
        return Check("python", "wrong", f"Python {found} is too old", "install Python 3.11 or newer; run `make setup`")
    if has_optimizations is False:
        message = f"Python {found} was built without optimizations: up to 1.8 times slower"
        fix = (
            "use one built with --enable-optimizations, such as the system's (pyenv: set PYTHON_CONFIGURE_OPTS="
            "--enable-optimizations and install it again), then `make clean` and `make setup`"
        )
        return Check("python", "note", message, fix)
    return Check("python", "ok", f"Python {found}")


def is_optimized(configure_arguments: str | None, profile_flag: str | None) -> bool | None:
    """Whether a Python was built with profile-guided optimization; None where it does not say how it was built.

    Debian's and its kin's are, without the argument: their packaging runs the profile itself, and then strips the
    compiler's flag for it from what is recorded, where any other build keeps it.
    """
    if not configure_arguments:
        return None
    return "--enable-optimizations" in configure_arguments or not profile_flag


def _workspace(settings: Settings) -> Iterator[Check]:
    try:
        workspace = load_workspace(settings.workspace)
    except ConfigError as error:
        yield Check("workspace", "wrong", str(error), "`roadbed check` lists every error with its line")
        return
    origin = "no roadbed.yaml, the defaults apply" if workspace.is_inferred else "roadbed.yaml is valid"
    yield Check("workspace", "ok", f"{workspace.manifest.name}: {origin}")
    yield from _endpoint_keys(workspace)


def _endpoint_keys(workspace: Workspace) -> Iterator[Check]:
    from roadbed.gateway.prices import shipped_prices
    from roadbed.gateway.route import build_routes

    manifest = workspace.manifest
    try:
        routes = build_routes(manifest.endpoints, manifest.models, prices=shipped_prices(), base=workspace.folder)
    except ConfigError as error:
        yield Check("models", "wrong", str(error), "mend the manifest; `roadbed check` validates it")
        return
    for endpoint in {endpoint.name: endpoint for route in routes.values() for endpoint in route.endpoints}.values():
        if endpoint.fault:
            fix = "set it where `roadbed up` runs, and start it again"
            yield Check("models", "wrong", f"{endpoint.name} cannot be used: {endpoint.fault}", fix)
    if routes:
        yield Check("models", "ok", f"declared: {', '.join(sorted(routes))}")
    else:
        yield Check(
            "models", "note", "none declared: a local engine is used, or none", "`roadbed models add openai` names one"
        )


def _state(settings: Settings) -> Iterator[Check]:
    state = settings.state
    if not state.exists():
        parent = next(path for path in state.parents if path.exists())
        if os.access(parent, os.W_OK | os.X_OK):
            yield Check("state", "ok", f"{state} will be made by the first start")
        else:
            yield Check("state", "wrong", f"{parent} is not writable", "name another folder with --state")
        return
    status = state.stat()
    if not state.is_dir() or status.st_uid != os.geteuid():
        yield Check("state", "wrong", f"{state} is not a folder of yours", "name another folder with --state")
    elif not os.access(state, os.W_OK | os.X_OK) or _is_read_only(state):
        yield Check("state", "wrong", f"{state} is not writable", f"chmod u+rwx {state}, or name another with --state")
    elif status.st_mode & 0o077:
        yield Check("state", "note", f"{state} can be entered by others", "the next start narrows it to mode 0700")
    else:
        yield Check("state", "ok", str(state))


def _is_read_only(folder: Path) -> bool:
    return bool(os.statvfs(folder).f_flag & os.ST_RDONLY)


def _disk(settings: Settings) -> Iterator[Check]:
    there = next(path for path in (settings.state, *settings.state.parents) if path.exists())
    free = shutil.disk_usage(there).free
    text = f"{free / 1024**3:.1f} GiB free for {settings.state}"
    if free < DISK_FREE_BYTES_MIN:
        yield Check("disk", "wrong", text, "free at least 1 GiB, or name a folder on another disk with --state")
    else:
        yield Check("disk", "ok", text)


def _port(settings: Settings, running: dict[str, Any] | None) -> Iterator[Check]:
    if running is not None:
        yield Check("port", "ok", f"{running['url']} is served by this workspace's own process {running['pid']}")
        return
    if settings.port == 0:
        yield Check("port", "ok", "any free port")
        return
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            message = f"{settings.host}:{settings.port} cannot be used: {error.strerror}"
            yield Check("port", "wrong", message, "stop what listens there, or choose another with --port")
            return
    yield Check("port", "ok", f"{settings.host}:{settings.port} is free")


def revoked_checks(file: Path | str | None, authorities: Path | str | None) -> Iterator[Check]:
    """The lists of revoked certificates that are named here, or that the running server was started with."""
    if authorities is None or file is None:
        return
    fix = "bring a list that holds now, signed by the authority; it is read within seconds, without a restart"
    try:
        lists = read_lists(str(file), str(authorities))
    except InvalidCrlFile as error:
        yield Check("revoked", "wrong", error.message, f"{error.hint}; until then the server goes by the list before")
        return
    faults = [*faults_of(lists), *unlisted(lists, str(authorities))]
    for fault in faults:
        yield Check("revoked", "wrong", f"{fault}: clients of that authority are refused", fix)
    if not faults:
        yield Check("revoked", "ok", f"{len(lists)} lists of revoked client certificates hold")


def postgres_checks(settings: Settings) -> Iterator[Check]:
    """The given server, or the embedded one's program."""
    if settings.database is not None:
        from roadbed.store.first_connection import examine as examine_database

        try:
            yield Check(
                "postgresql",
                "ok",
                asyncio.run(examine_database(settings.database.reveal(), timeout_s=PROBE_TIMEOUT_S)),
            )
        except RoadbedError as error:
            yield Check("postgresql", "wrong", error.message, error.hint)
        return
    from roadbed.store.postgres_process import find_install

    try:
        program = find_install() / "bin" / "postgres"
        answer = subprocess.run(
            [str(program), "--version"], capture_output=True, text=True, timeout=PROGRAM_TIMEOUT_S, check=False
        )
    except RoadbedError as error:
        yield Check("postgresql", "wrong", error.message, error.hint)
        return
    except (OSError, subprocess.TimeoutExpired) as error:
        yield Check(
            "postgresql", "wrong", f"its program does not run: {type(error).__name__}", "run `make setup` again"
        )
        return
    if answer.returncode != 0:
        lines = answer.stderr.strip().splitlines() or ["it gave no reason"]
        yield Check("postgresql", "wrong", f"its program does not run: {lines[0][:200]}", "run `make setup` again")
    else:
        yield Check("postgresql", "ok", answer.stdout.strip())
    folder = Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir())
    if not os.access(folder, os.W_OK | os.X_OK):
        yield Check("sockets", "wrong", f"{folder} is not writable", "make $XDG_RUNTIME_DIR or /tmp writable")


def _server(running: dict[str, Any] | None) -> Iterator[Check]:
    if running is None:
        yield Check("server", "note", "none runs for this workspace", "start one with: roadbed up WORKSPACE")
        return
    try:
        with urllib.request.urlopen(f"{running['url']}/readyz", timeout=PROBE_TIMEOUT_S) as response:  # noqa: S310
            answer = json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            answer = json.load(error)
    except (OSError, ValueError):
        message = f"process {running['pid']} does not answer at {running['url']}"
        yield Check("server", "wrong", message, "stop it and start it again; its log says more")
        return
    yield from part_checks(str(running["url"]), answer)


def part_checks(url: str, answer: dict[str, Any]) -> Iterator[Check]:
    """What is to be said of a server's parts, from what its ``/readyz`` answered."""
    parts, workers = answer.get("parts", {}), answer.get("workers", {}).get("running", 1)
    for name, state in parts.items():
        if state != "ok":
            yield Check(f"server: {name}", "wrong", state, PART_FIXES.get(name, PART_FIX))
    if all(state == "ok" for state in parts.values()):
        serving = "1 worker" if workers == 1 else f"{workers} workers"
        yield Check("server", "ok", f"{url} is ready, {serving}: {', '.join(parts)}")


def _data_systems(running: dict[str, Any] | None) -> Iterator[Check]:
    """How the declared databases are reached, as the server that runs sees it; nothing where none runs."""
    if running is None or "key" not in running:
        return
    request = urllib.request.Request(  # noqa: S310 - the address of our own server
        f"{running['url']}/api/status", headers={"authorization": f"Bearer {running['key']}"}
    )
    try:
        with urllib.request.urlopen(request, timeout=PROBE_TIMEOUT_S) as response:  # noqa: S310
            answer = json.load(response)
    except (OSError, ValueError):
        return  # `_server` says it
    for connection in answer.get("connections", []):
        yield from source_checks(connection)


def source_checks(connection: dict[str, Any]) -> Iterator[Check]:
    """What is to be said of one data system, from its `connection_object`."""
    name, pool = f"source: {connection['name']}", connection["pool"]
    if pool is None:
        yield Check(name, "ok", "not asked yet")
    elif not connection["well"]:
        message = f"it is away ({pool['breaker'].replace('_', ' ')}): {pool['last_failure']}"
        fix = "start it or mend its address; it is asked again by itself, and everything else goes on"
        yield Check(name, "wrong", message, fix)
    else:
        used = f"{pool['in_use']} of {pool['size']} connections in use, " if pool["size"] else ""
        yield Check(name, "ok", f"{used}breaker {pool['breaker']}")
    for note in connection.get("notes", []):
        yield Check(name, "note", note, "look at it with `roadbed check`, or `roadbed tools lock` for an MCP server")
    for warning in connection["warnings"]:
        fix = "make a role that only reads and put it into the dsn: " + " ".join(warning["fix"])
        yield Check(name, "note", warning["message"], fix)


def _embedding_model() -> Iterator[Check]:
    from roadbed.knowledge.embedding_model import locate, verify

    try:
        folder = locate()
        verify(folder)
    except RoadbedError as error:
        yield Check("embedding model", "wrong", error.message, error.hint or "run `make setup`")
    else:
        yield Check("embedding model", "ok", f"{folder.name}, checksums are right")


def _guard() -> Iterator[Check]:
    from roadbed.guard.engine import make_engine

    engine = make_engine()
    if engine.name == "re":
        message = "the portable engine is used: it finds the same, some twenty times slower"
        yield Check("guard", "note", message, "install the package hyperscan, where it has a build for this machine")
    else:
        yield Check("guard", "ok", f"the engine {engine.name}")


def _engines() -> Iterator[Check]:
    found = asyncio.run(_find_engines())
    if not found:
        yield Check(
            "local engines", "note", "none answers on a usual port", "start Ollama, llama.cpp, vLLM or LM Studio"
        )
    for kind, url, models in found:
        yield Check("local engines", "ok", f"{kind} at {url}: {', '.join(models) or 'no chat model'}")


async def _find_engines() -> list[tuple[str, str, tuple[str, ...]]]:
    from roadbed.wire.client import UpstreamClient

    client = UpstreamClient()
    try:
        return [(engine.kind, engine.url, engine.models[:3]) for engine in await find_local_engines(client)]
    finally:
        await client.close()


def _provider_keys() -> Iterator[Check]:
    for key in describe_environment():
        yield Check("provider keys", "note", f"{key.variable} is set", f"to use it: roadbed models add {key.provider}")
