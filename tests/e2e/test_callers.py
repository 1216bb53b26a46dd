"""Sources that know their callers, through a real server: an issuer that exchanges tokens, an API, and stored keys."""

from __future__ import annotations

import base64
import http.server
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs

import httpx2
import pytest

from roadbed.testing.scripted_model import Rule
from roadbed.testing.scripted_reply import Prompt, Reply, ScriptedCall

from .issuer import CLIENT_ID, CLIENT_SECRET, Issuer
from .serving import ADMIN_KEY, ModelThread, Server, environment, eventually, serving, temporary_folder, write_files
from .test_workers import Pair

pytestmark = pytest.mark.services  # a server of its own, and long

ACCESS = "urn:ietf:params:oauth:token-type:access_token"
ID_TOKEN = "urn:ietf:params:oauth:token-type:id_token"
MANIFEST = """\
name: callers
endpoints: {{model: {{type: openai, url: "{model}", model: alpha, local: true}}}}
models: {{smart: {{ladder: [model]}}}}
sources:
  notes: {{type: files, path: notes}}
  orders:
    type: http
    url: "{town}/v1"
    openapi: orders.yaml
    operations: [listOrders, cancelOrder]
    private: true
    caller_auth:
      exchange:
        url: "{town}/token"
        client_id: roadbed
        client_secret: env:STS_SECRET
        audience: orders
        scopes: [orders:read]
        private: true
  desk:
    type: http
    url: "{town}/desk"
    openapi: desk.yaml
    operations: [listTickets]
    private: true
    caller_auth: {{stored: header, name: X-Desk-Key}}
collections: {{all: {{sources: [notes]}}}}
apps: {{helper: {{kind: copilot, knowledge: [all], model: smart, tools: [orders_listOrders, desk_listTickets]}}}}
identity:
  issuers: [{{issuer: "{issuer}", team: staff}}]
  sign_in: {{issuer: "{issuer}", client_id: {client}, client_secret: env:CLIENT_SECRET, team: staff}}
"""
ORDERS = """\
openapi: 3.1.0
paths:
  /orders:
    get: {operationId: listOrders, summary: Lists your orders.}
    delete: {operationId: cancelOrder, summary: Cancels your orders.}
"""
DESK = "openapi: 3.1.0\npaths: {/tickets: {get: {operationId: listTickets, summary: Lists your tickets.}}}\n"


class Town:
    """Both APIs and the token endpoint on one port: everything that they were sent."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        self.forms: list[dict[str, str]] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                headers = {name.lower(): value for name, value in self.headers.items()}
                outer.asked.append((self.command, self.path, headers))
                shown = headers.get("authorization", "") or headers.get("x-desk-key", "")
                self._answer(200 if shown else 401, {"of": shown.rpartition(" ")[2][-6:], "echo": shown})

            do_DELETE = do_GET

            def do_POST(self) -> None:
                form = self.rfile.read(int(self.headers["content-length"])).decode()
                fields = {name: values[0] for name, values in parse_qs(form).items()}
                outer.forms.append({**fields, "authorization": self.headers.get("authorization", "")})
                claims = json.loads(_payload(fields["subject_token"]))
                found = {"access_token": f"exchanged-for-{claims['sub']}", "issued_token_type": ACCESS}
                self._answer(200, {**found, "token_type": "Bearer", "expires_in": 600})

            def _answer(self, status: int, body: Any) -> None:
                data = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: Any) -> None: ...

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def stop(self) -> None:
        """End it."""
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def shown(self, path: str) -> list[str]:
        """The credentials that an address was shown."""
        found = [headers for _, asked, headers in self.asked if asked.startswith(path)]
        return [headers.get("authorization") or headers.get("x-desk-key", "") for headers in found]


def _payload(token: str) -> bytes:
    part = token.split(".")[1]
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


class Place:
    """The server, who it asks, and every token that a caller came with."""

    def __init__(self, server: Server, issuer: Issuer, town: Town, model: ModelThread) -> None:
        self.server, self.issuer, self.town, self.model = server, issuer, town, model
        self.came_with: list[str] = [ADMIN_KEY]

    def token(self, subject: str) -> str:
        """An access token of a person for this deployment."""
        made = self.issuer.signed("at+jwt", sub=subject, aud=f"{self.server.url}/mcp")
        self.came_with.append(made)
        return made

    def call(self, tool: str, key: str) -> httpx2.Response:
        """Call a tool."""
        return self.server.post(f"/api/tools/{tool}/call", {"arguments": {}}, key=key)


@contextmanager
def deployment(*arguments: str) -> Iterator[Place]:
    """A server with its issuer, its town and its model."""
    issuer, model = Issuer(), ModelThread()
    town = Town()
    manifest = MANIFEST.format(model=model.url, town=town.url, issuer=issuer.url, client=CLIENT_ID)
    files = {
        "roadbed.yaml": manifest,
        "orders.yaml": ORDERS,
        "desk.yaml": DESK,
        "notes/a.md": "# Orders\n\nAn order.\n",
    }
    secrets = {"STS_SECRET": "known-to-the-sts", "CLIENT_SECRET": CLIENT_SECRET}
    try:
        with temporary_folder() as folder:
            workspace = write_files(folder / "callers", files)
            with serving(workspace, folder / "state", *arguments, variables=secrets) as server:
                found = Place(server, issuer, town, model)
                eventually(lambda: found.call("platform_status", found.token("anna")).status_code == 200, what="keys")
                yield found
                sent = json.dumps(town.asked)  # whatever the tests did: no source was ever sent what a caller came with
                assert not [came for came in found.came_with if came in sent]
    finally:
        town.stop()
        model.stop()
        issuer.stop()


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with deployment() as found:
        yield found


def test_a_token_is_exchanged_for_each_caller(place: Place) -> None:
    anna, bert = place.token("anna"), place.token("bert")
    place.town.asked.clear()
    place.town.forms.clear()
    for token in (anna, bert, anna):
        answer = place.call("orders_listOrders", token)
        assert answer.status_code == 200, answer.text
        assert "exchanged-for" not in answer.text  # the API repeats it, and it is taken out
    assert place.town.shown("/v1") == [f"Bearer exchanged-for-{name}" for name in ("anna", "bert", "anna")]
    assert [form["subject_token"] for form in place.town.forms] == [anna, bert]
    form = place.town.forms[0]
    assert (form["audience"], form["scope"], form["subject_token_type"]) == ("orders", "orders:read", ACCESS)
    assert form["authorization"].startswith("Basic ")
    with place.server.client(anna) as client:
        body = {
            "jsonrpc": "2.0",
            "id": 1,
            "method": "tools/call",
            "params": {"name": "orders_listOrders", "arguments": {}},
        }
        told = client.post("/mcp", json=body, headers={"mcp-protocol-version": "2025-11-25"})
        assert told.status_code == 200, told.text
    assert place.town.shown("/v1")[-1] == "Bearer exchanged-for-anna"


def test_a_key_shows_nobody_and_is_told_what_to_do(place: Place) -> None:
    refused = place.call("orders_listOrders", ADMIN_KEY)
    assert refused.status_code == 403
    assert refused.json()["code"] == "sources.caller_not_exchangeable"
    assert "access token" in refused.json()["hint"]
    missing = place.call("desk_listTickets", ADMIN_KEY)
    assert (missing.status_code, missing.json()["code"]) == (403, "sources.caller_credential_missing")
    assert "roadbed source credential set desk" in missing.json()["hint"]
    with place.server.client() as client:
        for name in ("nowhere", "orders", "a%00b", "%ED%A0%80"):
            path = f"/api/tools/credentials/{name}"
            assert client.put(path, json={"credential": "value"}).status_code == 404
            assert client.delete(path).status_code == 404
        assert client.put("/api/tools/credentials/desk", json={"credential": "bl\u00e5"}).status_code == 400
        assert client.get("/api/tools/credentials", params={"for": "team:staff"}).status_code == 400
        assert client.get("/api/tools/credentials", params={"for": "nobody"}).status_code == 404


def test_a_write_runs_as_its_asker_when_an_admin_approves_it(place: Place) -> None:
    place.town.asked.clear()
    assert place.call("orders_cancelOrder", ADMIN_KEY).status_code == 403  # nobody is asked to approve what cannot be
    waits = place.call("orders_cancelOrder", place.token("cora"))
    assert waits.status_code == 202, waits.text
    ran = place.server.post(f"/api/tools/approvals/{waits.json()['approval_id']}/approve", {})
    assert ran.status_code == 200, ran.text
    assert place.town.shown("/v1") == ["Bearer exchanged-for-cora"]


def test_a_write_is_approved_in_another_process_than_the_one_that_was_asked() -> None:
    with deployment("--workers", "2") as place:
        pair = Pair(place.server, place.model)
        path = "/api/tools/orders_cancelOrder/call"
        for asked, approved, name in ((1, 2, "cora"), (2, 1, "dan")):
            token = place.token(name)
            eventually(lambda t=token: place.call("platform_status", t).status_code == 200, what="keys")  # type: ignore[misc]
            with pair.client_of(asked) as client:
                waits = client.post(path, json={"arguments": {}}, headers={"authorization": f"Bearer {token}"})
            assert waits.status_code == 202, waits.text
            with pair.client_of(approved) as client:
                ran = client.post(f"/api/tools/approvals/{waits.json()['approval_id']}/approve", json={})
            assert ran.status_code == 200, ran.text
        assert place.town.shown("/v1") == ["Bearer exchanged-for-cora", "Bearer exchanged-for-dan"]


def test_a_person_stores_a_credential_which_is_used_for_them_alone_and_erased_with_them(place: Place) -> None:
    server = place.server
    dora = server.post("/api/keys", {"team": "staff", "roles": ["member"], "name": "Dora Voss"}).json()
    place.came_with.append(dora["key"])

    def cli(*words: str, key: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "roadbed.cli", "source", "credential", *words, "--url", server.url]
        variables = environment(server.home, {"ROADBED_API_KEY": key})
        return subprocess.run(
            command, input=stdin, capture_output=True, text=True, env=variables, timeout=60, check=False
        )

    stored = cli("set", "desk", key=dora["key"], stdin="doras-desk-key-7731\n")
    assert stored.returncode == 0, stored.stderr
    assert "7731" not in stored.stdout
    assert cli("set", "desk", key=dora["key"], stdin=f"{ADMIN_KEY}\n").returncode != 0  # a key of this deployment
    assert cli("set", "orders", key=dora["key"], stdin="x\n").returncode != 0  # takes none
    assert cli("set", "desk", "--for", dora["id"], key=dora["key"], stdin="x\n").returncode == 5  # not an admin
    assert "the caller" in cli("list", key=dora["key"]).stdout
    assert "7731" not in cli("list", "--for", "Dora Voss", key=ADMIN_KEY).stdout
    place.town.asked.clear()
    assert place.call("desk_listTickets", dora["key"]).status_code == 200
    assert place.call("desk_listTickets", ADMIN_KEY).status_code == 403
    assert place.town.shown("/desk") == ["doras-desk-key-7731"]
    assert cli("remove", "desk", key=dora["key"]).returncode == 0
    assert place.call("desk_listTickets", dora["key"]).status_code == 403  # at once
    assert cli("set", "desk", "--for", "Dora Voss", key=ADMIN_KEY, stdin="by-an-admin-7731").returncode == 0
    assert place.call("desk_listTickets", dora["key"]).status_code == 200
    receipt = server.post("/api/erasures", {"subject": "Dora Voss"}).json()
    assert receipt["stores"]["caller_credential"] == 1
    assert place.call("desk_listTickets", dora["key"]).status_code == 403
    actions = {record["action"] for record in server.get("/api/audit", limit=200)["records"]}
    assert {"credentials.store", "credentials.remove"} <= actions
    assert "7731" not in server.output
    assert "7731" not in json.dumps(server.get("/api/audit", limit=200))


def test_a_person_who_signed_in_is_known_by_their_id_token(place: Place) -> None:
    place.issuer.claims = {"sub": "emil", "name": "Emil Berg"}
    with httpx2.Client(base_url=place.server.url, timeout=30, trust_env=False, follow_redirects=False) as client:
        left = client.get("/console/sign-in/start")
        answer = httpx2.get(left.headers["location"], trust_env=False, follow_redirects=False)
        assert client.get(answer.headers["location"]).status_code == 303
        page = eventually(lambda: client.get("/console/tools/orders_listOrders"), what="the session")
        token = page.text.partition('name="form_token" value="')[2].partition('"')[0]
        place.town.forms.clear()
        ran = client.post(
            "/console/tools/orders_listOrders", data={"form_token": token}, headers={"origin": place.server.url}
        )
        assert ran.status_code == 200, ran.text
    assert place.town.shown("/v1")[-1] == "Bearer exchanged-for-emil"
    assert place.town.forms[0]["subject_token_type"] == ID_TOKEN
    place.came_with.append(place.town.forms[0]["subject_token"])


def test_a_copilot_goes_on_without_what_its_caller_cannot_reach(place: Place) -> None:
    def reply(prompt: Prompt) -> Reply:
        if any(role == "tool" for role, _ in prompt.texts):
            return Reply("Your orders are there.")
        return Reply("", calls=tuple(ScriptedCall(name, "{}") for name in ("orders_listOrders", "desk_listTickets")))

    place.model.script(Rule(".", reply))
    place.town.asked.clear()
    answer = place.server.ask("Which orders are mine?", "helper", key=place.token("anna"))
    told = answer["roadbed"]
    assert told["rung"] == "partial"
    assert any("desk" in line and "caller_credential_missing" in line for line in told["degraded"])
    assert place.town.shown("/v1") == ["Bearer exchanged-for-anna"]
    assert place.town.shown("/desk") == []
