"""Tools on files, an HTTP API and an object store, called through a real server."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from .serving import Server, serving, write_files

pytestmark = pytest.mark.services  # whole servers: too long for `make test`

MANIFEST = """\
name: reach
sources:
  handbook: {{type: files, path: handbook, explore: true, labels: [internal]}}
  crm:
    type: http
    url: "http://127.0.0.1:{port}/v1"
    openapi: crm.yaml
    operations: [listCustomers, addCustomer, upload]
    private: true
    auth: {{bearer: env:CRM_TOKEN}}
  shelf: {{type: objects, url: "file://{folder}/shelf/"}}
"""
CRM = """\
openapi: 3.1.0
paths:
  /customers:
    get:
      operationId: listCustomers
      summary: Lists customers.
      parameters: [{name: page, in: query, schema: {type: integer}}]
    post:
      operationId: addCustomer
      requestBody: {content: {application/json: {schema: {type: object, properties: {name: {type: string}}}}}}
  /upload: {post: {operationId: upload, requestBody: {required: true, content: {multipart/form-data: {}}}}}
"""
FILES = {
    "handbook/fees.md": "# Fees\n\nA rush order costs 35 % extra.\n",
    "handbook/page.html": "<html><body><p>Opening hours: nine to five.</p></body></html>",
    "secret.txt": "outside of every source",
    "shelf/contract.txt": "The contract ends in May.",
    "crm.yaml": CRM,
}


class Api(http.server.BaseHTTPRequestHandler):
    """One page of customers after another; keeps what it was sent."""

    requests: list[tuple[str, str, str]]

    def do_GET(self) -> None:
        page = int(self.path.partition("page=")[2] or 1)
        self._answer({"items": [f"customer {page}"], **({"next_page": page + 1} if page < 2 else {})})

    def do_POST(self) -> None:
        self._answer({"added": json.loads(self.rfile.read(int(self.headers["content-length"])))})

    def _answer(self, body: Any) -> None:
        self.requests.append((self.command, self.path, self.headers.get("authorization", "")))
        data = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None: ...


@contextmanager
def api() -> Iterator[tuple[int, list[tuple[str, str, str]]]]:
    requests: list[tuple[str, str, str]] = []
    handler = type("Handler", (Api,), {"requests": requests})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1], requests
        server.shutdown()
        thread.join()


def call(server: Server, tool: str, cursor: str = "", **arguments: Any) -> tuple[int, Any]:
    answer = server.post(f"/api/tools/{tool}/call", {"arguments": arguments, "cursor": cursor})
    return answer.status_code, answer.json()


def test_files_apis_and_objects_are_reached_by_tools(scratch: Path) -> None:
    with api() as (port, requests):
        workspace = write_files(scratch / "reach", FILES)
        (workspace / "roadbed.yaml").write_text(MANIFEST.format(port=port, folder=workspace))
        (workspace / "handbook" / "link.txt").symlink_to("../secret.txt")
        with serving(workspace, scratch / "state", variables={"CRM_TOKEN": "token-of-ours"}) as server:
            names = {tool["name"]: tool for tool in server.get("/api/tools")["tools"]}
            assert {name for name in names if name != "platform_status"} == {
                "handbook_list", "handbook_read", "handbook_search", "crm_listCustomers", "crm_addCustomer",
                "shelf_list", "shelf_read",
            }  # fmt: skip
            assert names["crm_addCustomer"]["effect"] == "write"
            assert names["handbook_read"]["labels"] == ["internal"]
            assert "upload" in server.output  # left out, and said why

            status, found = call(server, "handbook_search", text="RUSH order")
            assert (status, found["data"]["matches"][0]["path"]) == (200, "fees.md")
            assert call(server, "handbook_read", path="page.html")[1]["data"]["text"] == "Opening hours: nine to five."
            for path in ("link.txt", "../secret.txt", "/etc/hostname"):
                status, found = call(server, "handbook_read", path=path)
                assert status in (400, 404), found
                assert "outside" not in json.dumps(found)

            status, first = call(server, "crm_listCustomers")
            assert (status, first["data"]["data"]["items"]) == (200, ["customer 1"])
            assert call(server, "crm_listCustomers", first["cursor"])[1]["data"]["data"]["items"] == ["customer 2"]
            assert call(server, "crm_listCustomers", "made-up")[0] == 400
            assert {request[2] for request in requests} == {"Bearer token-of-ours"}
            status, waiting = call(server, "crm_addCustomer", body={"name": "Ada"})
            assert status == 202  # for a person
            assert not [request for request in requests if request[0] == "POST"]
            server.post(f"/api/tools/approvals/{waiting['approval_id']}/approve", {"digest": waiting["digest"]})
            assert [request[:2] for request in requests if request[0] == "POST"] == [("POST", "/v1/customers")]

            assert call(server, "shelf_read", path="contract.txt")[1]["data"]["text"] == "The contract ends in May."
            assert call(server, "shelf_read", path="../secret.txt")[0] == 400
            assert "token-of-ours" not in server.output
