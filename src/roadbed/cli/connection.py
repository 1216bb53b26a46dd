"""How commands reach a running server: address and key from ``STATE/run/cli.json``, one small HTTP client.

`connect` finds the server of a workspace (or of ``--url`` and ``ROADBED_API_KEY``) and says how to start one when
none runs. Blocking and from the standard library alone, since a command makes a few calls and ends.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import ssl
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from roadbed.kernel.errors import RoadbedError
from roadbed.server.settings import default_state

TIMEOUT_S = 120.0
BODY_BYTES_MAX = 64 * 1024 * 1024
KEY_VARIABLE = "ROADBED_API_KEY"
URL_VARIABLE = "ROADBED_URL"


HERE = Path()
"""The workspace of a command that was told none: this folder, or the one that is served (`folder_of`)."""


class NoServer(RoadbedError):
    """No server of this workspace runs, or it does not answer."""

    code = "cli.no_server"
    http_status = 503
    exit_code = 4


class NotAnAddress(RoadbedError):
    """What names the server is no address of one."""

    code = "cli.not_an_address"
    hint = "write for example http://127.0.0.1:8400"
    exit_code = 2


class CallFailed(RoadbedError):
    """The server refused or failed a call; the message is the server's own."""

    code = "cli.call_failed"

    def __init__(self, status: int, message: str, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.exit_code = 5 if status in (401, 403) else 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of every command that talks to a server."""
    group = parser.add_argument_group("which server")
    group.add_argument("--workspace", default=HERE, type=Path, help="the folder that it serves (default: this one)")
    group.add_argument("--state", type=Path, help="its state folder, when it was started with --state")
    group.add_argument("--url", help=f"its address, with the key in {KEY_VARIABLE} (default: {URL_VARIABLE})")
    parser.add_argument("--json", action="store_true", help="print JSON")


class Server:
    """One running server."""

    def __init__(self, url: str, key: str) -> None:
        self.url = url.rstrip("/")
        self.key = key
        try:
            parts = urlsplit(self.url)
            self._is_tls, self._host, self._port = parts.scheme == "https", parts.hostname, parts.port
        except ValueError:
            raise NotAnAddress(f"{url!r} is not an address") from None
        if parts.scheme not in ("http", "https") or not self._host:
            raise NotAnAddress(f"{url!r} is not an address")

    def _connection(self) -> http.client.HTTPConnection:
        host = self._host or ""
        if self._is_tls:
            return http.client.HTTPSConnection(
                host, self._port, timeout=TIMEOUT_S, context=ssl.create_default_context()
            )
        return http.client.HTTPConnection(host, self._port, timeout=TIMEOUT_S)

    def _send(self, method: str, path: str, body: Any) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        connection = self._connection()
        headers = {"authorization": f"Bearer {self.key}", "accept": "application/json"}
        data = None
        if body is not None:
            data = json.dumps(body).encode()
            headers["content-type"] = "application/json"
        try:
            connection.request(method, path, data, headers)
            response = connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise NoServer(
                f"{self.url} does not answer ({type(error).__name__})", hint="start it with: roadbed up WORKSPACE"
            ) from None
        if response.status >= 400:
            data_in = response.read(BODY_BYTES_MAX)
            connection.close()
            raise _failure(response.status, data_in)
        return connection, response

    def call(self, method: str, path: str, body: Any = None, **query: Any) -> Any:
        """One JSON call. Raises `NoServer`, `CallFailed`."""
        given = {name: value for name, value in query.items() if value is not None}
        connection, response = self._send(method, path + (f"?{urlencode(given)}" if given else ""), body)
        try:
            data = response.read(BODY_BYTES_MAX)
        except (OSError, http.client.HTTPException):
            raise NoServer(f"{self.url} broke off its answer") from None
        finally:
            connection.close()
        return self._decoded(data) if data else None

    def _decoded(self, data: bytes) -> Any:
        try:
            return json.loads(data)
        except ValueError:
            hint = "name the address that `roadbed up` printed"
            raise CallFailed(500, f"what answers at {self.url} is not Roadbed", hint) from None

    def lines(self, path: str, **query: Any) -> Iterator[dict[str, Any]]:
        """The JSON objects of a stream of lines, until ``{"end": true}``; `CallFailed` when it ends without it."""
        given = {name: value for name, value in query.items() if value is not None}
        connection, response = self._send("GET", path + (f"?{urlencode(given)}" if given else ""), None)
        try:
            for raw in response:
                line = self._decoded(raw)
                if line.get("end"):
                    return
                yield line
            raise CallFailed(500, "the answer broke off before its end")
        except (OSError, http.client.HTTPException):
            raise NoServer(f"{self.url} broke off its answer") from None
        finally:
            connection.close()

    def events(self, path: str, body: Any) -> Iterator[dict[str, Any]]:
        """The JSON events of a stream, until ``[DONE]``. A stream that ends without it raises `CallFailed`."""
        connection, response = self._send("POST", path, body)
        try:
            for raw in response:
                line = raw.decode("utf-8", "replace").strip()
                if not line.startswith("data:"):
                    continue
                data = line[5:].strip()
                if data == "[DONE]":
                    return
                event = json.loads(data)
                if "error" in event:
                    raise CallFailed(500, str(event["error"].get("message", "the stream failed")))
                yield event
            raise CallFailed(500, "the answer broke off before its end")
        except (OSError, http.client.HTTPException):
            raise NoServer(f"{self.url} broke off its answer") from None
        finally:
            connection.close()


def _failure(status: int, data: bytes) -> CallFailed:
    try:
        body = json.loads(data)
    except ValueError:
        return CallFailed(status, f"the server answered {status}")
    inner = body.get("error") if isinstance(body, dict) else None
    if isinstance(inner, dict):
        return CallFailed(status, str(inner.get("message", f"the server answered {status}")))
    if isinstance(body, dict):
        return CallFailed(status, str(body.get("detail", f"the server answered {status}")), str(body.get("hint", "")))
    return CallFailed(status, f"the server answered {status}")


def connect(arguments: argparse.Namespace) -> Server:
    """The server that a command was pointed at. Raises `NoServer`."""
    url = arguments.url or os.environ.get(URL_VARIABLE)
    if url:
        key = os.environ.get(KEY_VARIABLE, "")
        if not key:
            raise NoServer(
                f"{KEY_VARIABLE} is not set", hint="`roadbed keys create` on the server's machine makes a key"
            )
        return Server(url, key)
    folder = arguments.state or default_state(arguments.workspace)
    server = _read(folder / "run" / "cli.json") or (None if arguments.state else _only_one_running())
    if server is None:
        where = arguments.workspace if str(arguments.workspace) != "." else "this folder"
        if arguments.state:
            raise NoServer(
                f"no server runs with the state folder {arguments.state}",
                hint=f"start one with: roadbed up {arguments.workspace} --state {arguments.state}",
            )
        raise NoServer(
            f"no server runs for {where}",
            hint=f"start one with: roadbed up {arguments.workspace}; or name one with --workspace, --state or --url",
        )
    return server


def _read(path: Path) -> Server | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        os.kill(int(found["pid"]), 0)
        return Server(str(found["url"]), str(found["key"]))
    except PermissionError:
        return None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _only_one_running() -> Server | None:
    """The one server of this user that runs just now, so that commands work from any folder; None when several do."""
    running = [server for path in _known() if (server := _read(path)) is not None]
    return running[0] if len(running) == 1 else None


def _known() -> list[Path]:
    return sorted(default_state(HERE).parent.glob("*/run/cli.json"))


def folder_of(workspace: Path) -> Path:
    """The folder that a command reads or changes, which needs no server.

    Where none was named, this folder is no workspace and one other is served, it is that one, as for all commands that
    ask a server; standard error says so.
    """
    from roadbed.releases.workspace import MANIFEST_NAME

    if workspace is not HERE or (HERE / MANIFEST_NAME).exists() or _read(default_state(HERE) / "run" / "cli.json"):
        return workspace
    running = [path for path in _known() if _read(path) is not None]
    try:
        served = (
            Path(str(json.loads(running[0].read_text(encoding="utf-8"))["workspace"])) if len(running) == 1 else HERE
        )
    except (OSError, ValueError, KeyError):
        return workspace
    if served is not HERE:
        print(f"workspace: {served} (it is served; this folder has no {MANIFEST_NAME})", file=sys.stderr)
    return served


def escape(name: str) -> str:
    """A name as a part of a path."""
    return quote(name, safe="")
