"""Client certificates over real TLS: whose they are at every address, and every one that is nobody's."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import httpx2
import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from .authority import Authority
from .serving import ADMIN_KEY, Server, eventually, serving, temporary_folder, write_files

pytestmark = pytest.mark.services  # a server of its own, and long

MANIFEST = """
name: doors
endpoints:
  lab: {type: openai, url: "http://127.0.0.1:9/v1", model: m}
models:
  fast: {ladder: [lab], deadline: 2s}
  slow: {ladder: [lab], deadline: 2s}
identity:
  certificates:
    billing: {uri: "spiffe://example.com/billing", team: sales, apps: [fast]}
    reports: {dns: Reports.Example.com, team: sales, scopes: [search]}
    ops: {common_name: ops, team: platform, roles: [admin, member]}
"""
CHAT = {"model": "fast", "messages": [{"role": "user", "content": "hello"}]}
URI = x509.UniformResourceIdentifier
BILLING = URI("spiffe://example.com/billing")


@dataclass
class Doors:
    """A TLS server, the authority that it trusts, and another one."""

    server: Server
    ours: Authority
    theirs: Authority

    def client(self, shown: tuple[Path, Path] | None = None, key: str | None = None) -> httpx2.Client:
        """A client with that certificate; use it in a ``with`` statement."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(self.ours.file)
        if shown is not None:
            context.load_cert_chain(*shown)
        headers = {"authorization": f"Bearer {key}"} if key else {}
        url = self.server.url
        return httpx2.Client(base_url=url, headers=headers, verify=context, timeout=30, trust_env=False)

    def new_key(self, team: str) -> str:
        with self.client(key=ADMIN_KEY) as admin:
            return str(admin.post("/api/keys", json={"team": team, "roles": ["member"]}).json()["key"])


@pytest.fixture(scope="module")
def doors() -> Iterator[Doors]:
    with temporary_folder() as folder:
        ours, theirs = Authority(folder, "ours"), Authority(folder, "theirs")
        host = (x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1")))
        certificate, key = ours.issue("server", *host, use=ExtendedKeyUsageOID.SERVER_AUTH)
        workspace = write_files(folder / "doors", {"roadbed.yaml": MANIFEST})
        arguments = ["--tls-cert", str(certificate), "--tls-key", str(key), "--tls-client-ca", str(ours.file)]
        arguments += ["--tls-client-crl", str(ours.revoke())]
        with serving(workspace, folder / "state", *arguments) as server:
            yield Doors(server, ours, theirs)


def code_of(response: Any) -> str:
    body = response.json()
    return str(body["error"]["code"] if "error" in body else body["code"])


def test_a_certificate_works_as_a_key_does(doors: Doors) -> None:
    with doors.client(doors.ours.issue("a", BILLING)) as client:
        for _ in range(3):  # one connection, whose head is remembered
            assert code_of(client.post("/v1/chat/completions", json=CHAT)) == "gateway.endpoints_failed"
        assert [model["id"] for model in client.get("/v1/models").json()["data"]] == ["fast"]
        slow = client.post("/v1/chat/completions", json={**CHAT, "model": "slow"})
        assert (slow.status_code, code_of(slow)) == (403, "auth.app_not_allowed")
        assert code_of(client.get("/api/keys")) == "auth.role_missing"
        hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
        call = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello}
        accept = {"accept": "application/json, text/event-stream"}
        assert "result" in client.post("/mcp", json=call, headers=accept).json()
    with doors.client(doors.ours.issue("ops")) as client:
        assert client.get("/api/keys").status_code == 200
    with doors.client(doors.ours.issue("b", x509.DNSName("reports.example.COM"))) as client:
        refused = client.post("/v1/chat/completions", json=CHAT)
        assert (refused.status_code, code_of(refused)) == (403, "auth.scope_missing")


def test_a_certificate_signs_in_to_the_console(doors: Doors) -> None:
    with doors.client(doors.ours.issue("ops")) as client:
        assert "Sign in as ops" in client.get("/console/sign-in").text
        assert client.post("/console/sign-in", data={}).status_code == 303
        assert client.get("/console/keys.json").status_code == 200


@pytest.mark.parametrize(
    "names",
    [
        (),
        (URI("spiffe://example.com/billing/"),),
        (URI("spiffe://example.com/BILLING"),),
        (URI("spiffe://example.com"),),
        (x509.DNSName("spiffe://example.com/billing"),),
        (x509.DNSName("x.reports.example.com"), x509.DNSName("*.example.com")),
        (x509.DNSName("ops"),),
    ],
)
def test_a_certificate_that_names_nobody_is_refused(doors: Doors, names: tuple[x509.GeneralName, ...]) -> None:
    with doors.client(doors.ours.issue("nobody", *names)) as client:
        for refused in (client.post("/v1/chat/completions", json=CHAT), client.get("/api/keys"), client.post("/mcp")):
            assert (refused.status_code, code_of(refused)) == (401, "auth.certificate_unknown")
        with doors.client(doors.ours.issue("nobody", *names), doors.new_key("sales")) as keyed:
            assert keyed.get("/v1/models").status_code == 200


def test_a_certificate_of_two_services_is_nobodys(doors: Doors) -> None:
    with doors.client(doors.ours.issue("ops", BILLING), doors.new_key("sales")) as client:
        assert code_of(client.get("/v1/models")) == "auth.certificate_ambiguous"


@pytest.mark.parametrize(
    ("alert", "is_ours", "more"),
    [
        ("UNKNOWN_CA", False, {}),
        ("CERTIFICATE_EXPIRED", True, {"lives": timedelta(days=-1)}),
        ("UNSUPPORTED_CERTIFICATE", True, {"use": ExtendedKeyUsageOID.SERVER_AUTH}),
    ],
)
def test_a_certificate_that_is_not_good_ends_the_handshake(
    doors: Doors, alert: str, is_ours: bool, more: dict[str, Any]
) -> None:
    authority = doors.ours if is_ours else doors.theirs
    shown, key = authority.issue("bad", BILLING, **more), doors.new_key("sales")
    with doors.client(shown, key) as client, pytest.raises(httpx2.TransportError, match=alert):
        client.get("/v1/models")


def test_a_key_of_another_team_disagrees(doors: Doors) -> None:
    shown = doors.ours.issue("a", BILLING)
    with doors.client(shown, doors.new_key("sales")) as client:
        assert [model["id"] for model in client.get("/v1/models").json()["data"]] == ["fast", "slow"]
    with doors.client(shown, doors.new_key("support")) as client:
        for refused in (client.post("/v1/chat/completions", json=CHAT), client.get("/v1/models")):
            assert (refused.status_code, code_of(refused)) == (400, "auth.certificate_disagrees")
    with doors.client(shown, "rbk_unknown") as client:
        assert code_of(client.get("/v1/models")) == "auth.key_refused"


def test_a_page_of_another_site_cannot_use_it(doors: Doors) -> None:
    with doors.client(doors.ours.issue("ops")) as client:
        for headers in ({"origin": "https://evil.example"}, {"sec-fetch-site": "cross-site"}):
            refused = client.post("/api/keys", json={"team": "evil"}, headers=headers)
            assert (refused.status_code, code_of(refused)) == (403, "auth.certificate_from_page")
        own = {"origin": doors.server.url, "sec-fetch-site": "same-origin"}
        assert client.get("/api/keys", headers=own).status_code == 200


def test_what_the_manifest_forgets_is_forgotten_on_open_connections(doors: Doors) -> None:
    manifest = doors.server.workspace / "roadbed.yaml"
    with doors.client(doors.ours.issue("a", BILLING)) as client:
        assert client.post("/v1/chat/completions", json=CHAT).status_code != 401
        manifest.write_text(MANIFEST.replace("spiffe://example.com/billing", "spiffe://example.com/other"))
        eventually(lambda: client.post("/v1/chat/completions", json=CHAT).status_code == 401, what="the end")
        manifest.write_text(MANIFEST)
        eventually(lambda: client.post("/v1/chat/completions", json=CHAT).status_code != 401, what="the return")


def test_what_is_revoked_is_refused_within_seconds_and_doctor_sees_the_list(doors: Doors) -> None:
    shown, key = doors.ours.issue("lost", BILLING), doors.new_key("sales")
    with doors.client(shown) as before:
        assert before.get("/v1/models").status_code == 200
        doors.ours.revoke(shown[0])

        def is_refused() -> bool:
            try:
                with doors.client(shown, key) as client:
                    client.get("/v1/models")
            except httpx2.TransportError as error:
                return "CERTIFICATE_REVOKED" in str(error)
            return False

        eventually(is_refused, within_s=20, what="the new list")
        with doors.client(doors.ours.issue("a", BILLING)) as client:
            assert client.get("/v1/models").status_code == 200
    checks = json.loads(doors.server.cli("doctor", "--json").stdout)
    assert [check["verdict"] for check in checks if check["name"] == "revoked"] == ["ok"]
