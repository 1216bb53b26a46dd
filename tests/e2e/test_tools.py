"""Tools through a real server: declared ones, free SQL, who may see what, and a change that a person approves."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path

import httpx2
import pytest

from .serving import Server, eventually, launch, shut, write_files

pytestmark = pytest.mark.services  # whole servers: too long for `make test`

MANIFEST = """\
name: shop
sources:
  shop:
    type: postgres
    dsn: embedded:shop
    write_dsn: embedded:shop
    seed: shop.sql
    explore: true
  file: {type: sqlite, path: file.sqlite, explore: true, visible_to: [office]}
tools:
  order_of:
    source: shop
    description: An order by its number.
    sql: SELECT id, total FROM orders WHERE id = :id
    parameters: {id: {type: integer, minimum: 1}}
  slow:
    source: shop
    description: Takes its time.
    sql: SELECT pg_sleep(30)
    timeout: 60s
  running:
    source: shop
    description: How many of the slow one run.
    sql: >-
      SELECT count(*) FROM pg_stat_activity
      WHERE query LIKE '%pg_sleep(30)%' AND pid <> pg_backend_pid() AND state = 'active'
  counted:
    source: shop
    description: May be asked ten times a minute.
    sql: SELECT 1 AS one
    rate: 10/min
  cancel_order:
    source: shop
    description: Cancels an order.
    effect: irreversible
    sql: DELETE FROM orders WHERE id = :id
    parameters: {id: {type: integer}}
"""
SEED = """
CREATE TABLE orders (id integer PRIMARY KEY, total numeric(10, 2));
INSERT INTO orders SELECT n, n * 1.5 FROM generate_series(1, 50) n;
"""


def status_of_call(server: Server, key: str, tool: str) -> int:
    """Call a tool over a connection of its own, which any of the processes may take."""
    with server.client(key) as client:
        return client.post(f"/api/tools/{tool}/call", json={"arguments": {}}).status_code


def call_slowly(client: httpx2.Client) -> None:
    """Call the slow tool until somebody shuts the client's connections."""
    with pytest.raises(httpx2.TransportError):
        client.post("/api/tools/slow/call", json={})


def is_running(client: httpx2.Client) -> bool:
    found = client.post("/api/tools/running/call", json={}).json()
    return bool(found["data"]["rows"][0][0])


def test_tools_end_to_end(scratch: Path) -> None:
    workspace = write_files(scratch / "shop", {"shop.sql": SEED, "roadbed.yaml": MANIFEST})
    with closing(sqlite3.connect(workspace / "file.sqlite")) as connection, connection:
        connection.execute("CREATE TABLE notes (id integer PRIMARY KEY, text text)")
    server = launch(workspace, scratch / "state", "--workers", "2")
    try:
        member = server.new_key("others")["key"]
        began_s = time.monotonic()
        statuses = [status_of_call(server, member, "counted") for _ in range(30)]
        by_time = (time.monotonic() - began_s) / 6
        assert set(statuses) == {200, 429}
        # Ten at once by both processes together, one each, what time adds, and a second in which shares disagree.
        assert statuses.count(200) <= 12 + by_time + 1 / 6
        with server.client(member) as client:
            names = [tool["name"] for tool in client.get("/api/tools").json()["tools"]]
            assert "order_of" in names
            assert "file_query" not in names
            assert client.post("/api/tools/file_query/call", json={"arguments": {"sql": "SELECT 1"}}).status_code == 404
            found = client.post("/api/tools/order_of/call", json={"arguments": {"id": 7}}).json()
            assert found["data"]["rows"] == [[7, "10.50"]]
            wrong = client.post("/api/tools/order_of/call", json={"arguments": {"id": 0}})
            assert (wrong.status_code, wrong.json()["param"]) == (400, "id")
            sql = {"arguments": {"sql": "SELECT sum(total) AS s FROM orders"}}
            assert client.post("/api/tools/shop_query/call", json=sql).json()["data"]["rows"] == [["1912.50"]]
            drop = {"arguments": {"sql": "DROP TABLE orders"}}
            assert client.post("/api/tools/shop_query/call", json=drop).json()["code"] == "tools.sql_refused"
            asked = client.post("/api/tools/cancel_order/call", json={"arguments": {"id": 7}})
            assert asked.status_code == 202
            assert asked.json()["preview"]["rows"] == 1
            path = f"/api/tools/approvals/{asked.json()['approval_id']}/approve"
            assert client.post(path).status_code == 403
            assert [one["tool"] for one in server.get("/api/tools/approvals")["approvals"]] == ["cancel_order"]
            assert server.post(path, {}).json()["data"] == {"rows_changed": 1}
            told = client.post("/api/tools/cancel_order/call", json={"arguments": {"id": 7}}).json()
            assert told["data"] == {"rows_changed": 1}
            assert client.post("/api/tools/order_of/call", json={"arguments": {"id": 7}}).json()["data"]["rows"] == []
        with server.client(member) as leaving:
            thread = threading.Thread(target=call_slowly, args=(leaving,))
            thread.start()
            with server.client(member) as client:
                eventually(lambda: is_running(client), what="the statement")
            shut(leaving)
            thread.join()
        cancelled = 'roadbed_tool_calls_total{tool="slow",outcome="cancelled"} 1'
        with server.client() as client:
            eventually(lambda: cancelled in client.get("/metrics").text, within_s=2, what="the cancellation")
        called = server.cli("tools", "call", "order_of", "--args", '{"id": 8}', "--as", "office", "--json")
        assert json.loads(called.stdout)["data"]["rows"] == [[8, "12.00"]], called.stderr
        tested = server.cli("tools", "test")
        assert "shop_tables" in tested.stdout, tested.stderr
    finally:
        assert server.stop() == 0, server.output
