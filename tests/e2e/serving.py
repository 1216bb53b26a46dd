"""Running real servers for the end-to-end tests: `roadbed up` as a process, the command line, models in a thread.

Nothing waits by sleeping: `eventually` polls with a deadline. A `Server` is stopped as Ctrl-C stops it.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx2
import pytest
from tests.stopwatch import Stopwatch

from roadbed.testing.scripted_model import Rule, ScriptedModel

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "appraisals"
ADMIN_KEY = "rb-tests-5f1c8e0b7a9d4c21"
READY_S = 60.0
STOP_S = 60.0
RUN_S = 120.0
T = TypeVar("T")


def eventually(check: Callable[[], T | None], *, within_s: float = 10.0, what: str = "it") -> T:
    """The first true value of ``check``, asked again and again until the deadline; then the test fails."""
    watch = Stopwatch()
    while True:
        found = check()
        if found:
            return found
        if watch.elapsed_s() > within_s:
            pytest.fail(f"{what} did not happen within {within_s} s", pytrace=True)
        threading.Event().wait(0.02)


def environment(home: Path, variables: Mapping[str, str] | None = None) -> dict[str, str]:
    """A bare environment: no keys of providers, no settings of whoever runs the tests."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR", "PYTHONPATH") if name in os.environ}
    return {**kept, "HOME": str(home), "ROADBED_ADMIN_KEY": ADMIN_KEY, **(variables or {})}


@dataclass
class Server:
    """One ``roadbed up`` in a process group of its own."""

    workspace: Path
    state: Path
    home: Path
    process: subprocess.Popen[bytes]
    log: Path
    ready_file: Path
    started_s: float = 0.0
    ready: dict[str, Any] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """``http://127.0.0.1:PORT``."""
        return str(self.ready["url"])

    @property
    def port(self) -> int:
        """The port it serves."""
        return int(self.url.rpartition(":")[2])

    @property
    def output(self) -> str:
        """What it printed so far, standard error too."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def client(self, key: str | None = ADMIN_KEY) -> httpx2.Client:
        """A plain HTTP client; use it in a ``with`` statement."""
        headers = {"authorization": f"Bearer {key}"} if key else {}
        return httpx2.Client(base_url=self.url, headers=headers, timeout=30, trust_env=False)

    def get(self, path: str, **query: Any) -> Any:
        """The JSON of a GET that must work."""
        with self.client() as client:
            response = client.get(path, params=query)
            assert response.status_code == 200, response.text
            return response.json()

    def post(self, path: str, body: Any, *, key: str | None = ADMIN_KEY) -> httpx2.Response:
        """The response to a POST."""
        with self.client(key) as client:
            return client.post(path, json=body)

    def ask(self, question: str, app: str = "helpdesk", *, key: str | None = ADMIN_KEY) -> dict[str, Any]:
        """The whole answer to a question."""
        body = {"model": app, "messages": [{"role": "user", "content": question}]}
        response = self.post("/v1/chat/completions", body, key=key)
        assert response.status_code == 200, f"{response.text}\n{self.output[-2000:]}"
        return dict(response.json())

    def new_key(self, team: str, *roles: str) -> dict[str, Any]:
        """A fresh key of a team."""
        response = self.post("/api/keys", {"team": team, "roles": list(roles) or ["member"]})
        assert response.status_code == 201, response.text
        return dict(response.json())

    def cli(self, *words: str, variables: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """A command of the command line against this server."""
        return run_cli(*words, "--state", str(self.state), home=self.home, variables=variables)

    def wait_ready(self, within_s: float = READY_S) -> Server:
        """Wait for the ready file; the process must live on."""

        def look() -> dict[str, Any] | None:
            if self.process.poll() is not None:
                pytest.fail(f"roadbed up ended with {self.process.returncode}:\n{self.output[-2000:]}")
            return json.loads(self.ready_file.read_text()) if self.ready_file.exists() else None

        self.ready = eventually(look, within_s=within_s, what="the ready file")
        return self

    def signal_group(self, number: signal.Signals = signal.SIGINT) -> None:
        """What Ctrl-C in a terminal does."""
        os.killpg(self.process.pid, number)

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        """Stop it as Ctrl-C does; its exit code."""
        if self.process.poll() is None:
            self.signal_group(number)
        try:
            return self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def kill(self) -> None:
        """SIGKILL for the parent alone."""
        self.process.kill()
        self.process.wait(STOP_S)

    def postmaster(self) -> int:
        """The process id of its PostgreSQL."""
        return int((self.state / "postgres" / "data" / "postmaster.pid").read_text().split()[0])

    def database_dsn(self) -> str:
        """A connection string of the application's role, as the files of the state folder say."""
        lines = (self.state / "postgres" / "data" / "postmaster.pid").read_text().splitlines()
        passwords = json.loads((self.state / "postgres" / "passwords.json").read_text())
        return f"postgresql://roadbed:{passwords['application']}@/roadbed?host={lines[4]}"


def launch(
    workspace: Path,
    state: Path,
    *arguments: str,
    home: Path | None = None,
    wait: bool = True,
    variables: Mapping[str, str] | None = None,
) -> Server:
    """Start ``roadbed up`` on a free port."""
    scratch = state.parent
    home = home or scratch
    number = sum(1 for _ in scratch.glob("up-*.log"))
    ready_file, log = scratch / f"ready-{number}.json", scratch / f"up-{number}.log"
    command = [sys.executable, "-m", "roadbed.cli", "up", str(workspace), "--state", str(state)]
    command += ["--ready-file", str(ready_file), *(arguments if "--port" in arguments else ("--port", "0", *arguments))]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment(home, variables),
            start_new_session=True,
        )
    server = Server(workspace, state, home, process, log, ready_file, time.monotonic())
    if wait:
        try:
            server.wait_ready()
        except BaseException:
            server.kill()
            raise
    return server


@contextmanager
def serving(
    workspace: Path, state: Path, *arguments: str, variables: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """A server for the length of a block."""
    server = launch(workspace, state, *arguments, variables=variables)
    try:
        yield server
    finally:
        server.stop()


def run_up(
    workspace: Path, state: Path, *arguments: str, variables: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """``roadbed up`` that must refuse to start."""
    words = [str(workspace), "--state", str(state), "--port", "0", *arguments]
    return run_cli("up", *words, home=state.parent, variables=variables)


def run_cli(
    *words: str, home: Path, cwd: Path | None = None, variables: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """One command of the command line."""
    return subprocess.run(
        [sys.executable, "-m", "roadbed.cli", *words],
        capture_output=True,
        text=True,
        env=environment(home, variables),
        cwd=cwd or home,
        timeout=RUN_S,
        check=False,
    )


def one_line_error(done: subprocess.CompletedProcess[str]) -> str:
    """The error of a command that failed: exactly one line on standard error."""
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, f"expected one line, got:\n{done.stderr}"
    assert lines[0].startswith("roadbed: "), lines[0]
    return lines[0]


def shut(client: httpx2.Client) -> None:
    """Close a client's connections while another thread reads from one."""
    pool: Any = client._transport._pool  # type: ignore[attr-defined]
    for connection in pool.connections:
        stream = connection._connection._network_stream
        stream.get_extra_info("socket").shutdown(socket.SHUT_RDWR)


class ModelThread:
    """A `ScriptedModel` over real HTTP in a thread with a loop of its own, for tests that are not async."""

    def __init__(self) -> None:
        self.model = ScriptedModel()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="scripted-model")
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self.model.start(), self._loop).result(10)

    @property
    def url(self) -> str:
        """The base address of the OpenAI dialect."""
        return self.model.url

    def script(self, *rules: Rule) -> None:
        """Replace the rules, and forget the requests."""
        self.model.requests.clear()
        self.model.script(*rules)

    def stop(self) -> None:
        """Close the port and end the thread."""
        asyncio.run_coroutine_threadsafe(self.model.stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(60)
        self._loop.close()


def write_files(folder: Path, files: dict[str, str]) -> Path:
    """Write text files under a folder."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder that is gone afterwards. PostgreSQL drops its rights when root runs the tests, so it is enterable."""
    folder = Path(tempfile.mkdtemp(prefix="rb-e2e-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
