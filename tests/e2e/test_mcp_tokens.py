"""Access tokens on a running deployment: what a client learns from its refusals, and where a token works."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.guard.test_tokens import RSA, Issuer

from .serving import eventually, serving, write_files

pytestmark = pytest.mark.services  # a server of its own, and long

MANIFEST = """\
name: tokens
sources: {{open: {{type: files, path: open}}}}
collections: {{company: {{sources: [open]}}}}
apps: {{search: {{kind: search, knowledge: [company]}}}}
identity:
  issuers: [{{issuer: "{url}", team: staff, scopes: [roadbed]}}]
"""


def test_a_token_works_on_every_address_of_callers(scratch: Path) -> None:
    issuer = Issuer()
    try:
        files = {
            "open/fees.md": "# Fees\n\nA rush order costs more.\n",
            "roadbed.yaml": MANIFEST.format(url=issuer.url),
        }
        with serving(write_files(scratch / "desk", files), scratch / "state") as server:
            _check(issuer, server)
    finally:
        issuer.server.shutdown()
        issuer.server.server_close()
        issuer.thread.join()


def _check(issuer: Issuer, server: Any) -> None:
    import time

    now = int(time.time())
    resource = f"{server.url}/mcp"

    def token(**claims: Any) -> str:
        given = {"aud": resource, "iat": now, "exp": now + 300, "scope": "roadbed", **claims}
        return issuer.token(RSA, **given).decode()

    ping = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    with server.client(None) as client:
        refused = client.post("/mcp", json=ping)
        assert refused.status_code == 401
        where = f"{server.url}/.well-known/oauth-protected-resource/mcp"
        assert refused.headers["www-authenticate"] == f'Bearer resource_metadata="{where}", scope="roadbed"'
        learned = client.get(where).json()
        assert learned["resource"] == resource
        assert learned["authorization_servers"] == [issuer.url]
        assert client.get(where.removesuffix("/mcp")).json() == learned
    with server.client(token()) as client:
        eventually(lambda: client.post("/mcp", json=ping).status_code == 200, what="the token works")
        assert client.get("/v1/models").status_code == 200
        assert client.get("/api/apps").status_code in (200, 404)
        assert client.get("/api/keys").status_code == 403
    with server.client(token(scope="other")) as client:
        missing = client.post("/mcp", json=ping)
        assert missing.status_code == 403
        assert 'error="insufficient_scope"' in missing.headers["www-authenticate"]
    with server.client(token(aud=server.url)) as client:
        assert 'error="invalid_token"' in client.post("/mcp", json=ping).headers["www-authenticate"]
        assert client.get("/v1/models").status_code == 401
