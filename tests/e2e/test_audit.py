"""The audit of a real deployment with two serving processes: acts, requests, roles, exports, and a standing alone."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import openpyxl
import pytest

import roadbed.ledger.audit_verify as verifier

from .serving import eventually, serving, write_files

pytestmark = pytest.mark.services  # a server of its own, and long

FILES = {
    "roadbed.yaml": "name: office\nsources: {notes: {type: files, path: notes}}\n"
    "collections: {company: {sources: [notes]}}\napps: {helpdesk: {kind: copilot, knowledge: [company]}}\n"
    "audit: {every: 1s, ship_to: [../copies]}\n",
    "notes/fees.md": "# Fees\n\nThe rush fee is 35 %.\n",
}


def test_acts_and_requests_are_recorded_and_proven(scratch: Path) -> None:
    workspace = write_files(scratch / "workspace", FILES)
    with serving(workspace, scratch / "state", "--workers", "2") as server:
        key = server.new_key("staff")
        server.ask("What is the rush fee?")
        assert server.post("/api/keys", {"team": "x"}, key=key["key"]).status_code == 403
        with server.client() as client:
            assert client.delete(f"/api/keys/{key['id']}").status_code == 204

        def recorded() -> list[dict[str, object]] | None:
            found = server.get("/api/audit", limit=200)["records"]
            return found if any(row["action"] == "request" for row in found) else None

        records = eventually(recorded, what="the record of the request")
        acts = [(row["action"], row["resource"], row["outcome"]) for row in records]
        assert ("keys.create", "", "begun") in acts
        assert ("keys.create", "", "done") in acts
        assert ("keys.delete", key["id"], "begun") in acts
        assert acts.count(("manifest.take", "office", "begun")) == 1
        assert [row for row in acts if row[0] == "audit.boot"] == [("audit.boot", "", "ok")] * 3
        text = json.dumps(records)
        assert "rush fee" not in text
        assert key["key"] not in text

        auditor = server.new_key("audit", "auditor")["key"]
        with server.client(auditor) as client:
            assert client.get("/api/audit/head").status_code == 200
            assert client.get("/api/audit", params={"format": "csv"}).text.startswith("at,action,actor")
            sheet = client.get("/api/audit", params={"format": "xlsx", "action": "keys.*"})
            rows = list(openpyxl.load_workbook(io.BytesIO(sheet.content)).active.values)
            assert rows[0][:3] == ("at", "action", "actor")
            assert len(rows) > 2
            assert all(str(row[1]).startswith("keys.") for row in rows[1:])
            assert client.post("/api/audit/checkpoint").status_code == 403
            assert client.post("/api/keys", json={"team": "x"}).status_code == 403
        assert server.post("/api/erasures", {"subject": "Some One"}, key=auditor).status_code == 403
        public = server.get("/api/audit/head")["key"]
        assert server.cli("audit", "query", "--acts").returncode == 0
        verified = server.cli("audit", "verify", "--key", public, "--witness", str(scratch / "copies"))
        assert verified.returncode == 0, verified.stdout + verified.stderr
        out = scratch / "export"
        assert server.cli("audit", "export", "--out", str(out)).returncode == 0
    alone = scratch / "audit_verify.py"
    shutil.copy(verifier.__file__, alone)
    command = [sys.executable, "-I", str(alone), str(out), "--key", public, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert json.loads(done.stdout)["whole"]


def test_the_key_changes_while_two_processes_sign_and_a_second_deployment_watches(scratch: Path) -> None:
    second = write_files(scratch / "second", {"roadbed.yaml": "name: witness\n"})
    with serving(second, scratch / "second-state") as witness:
        told = witness.new_key("audit", "auditor")["key"]
        places = f"[../copies, {witness.url}/api/audit/witness]"
        manifest = FILES["roadbed.yaml"].replace("[../copies]", f"{places}, witness_key: env:WITNESS_KEY")
        workspace = write_files(scratch / "workspace", {**FILES, "roadbed.yaml": manifest})
        arguments = (workspace, scratch / "state", "--workers", "2")
        with serving(*arguments, variables={"WITNESS_KEY": told}) as server:
            first = server.get("/api/audit/head")["key"]
            done = server.cli("audit", "rotate-key", "--json")
            assert done.returncode == 0, done.stderr
            changed = json.loads(done.stdout)
            assert (changed["old"], changed["new"] != first) == (first, True)
            for _ in range(3):  # acts of both processes, signed by whichever is first
                server.new_key("staff")
                assert server.post("/api/audit/checkpoint", {}).status_code == 200
                assert server.get("/api/audit/head")["key"] == changed["new"]

            def watched() -> bool:
                (known,) = witness.get("/api/audit/head")["witnessed"]
                assert known["alarm"] == ""
                return bool(known["size"] > changed["size"])

            eventually(watched, what="the copies of the second deployment")
            for key in (first, changed["new"]):
                verified = server.cli("audit", "verify", "--key", key, "--witness", str(scratch / "copies"), "--json")
                assert verified.returncode == 0, verified.stdout + verified.stderr
                assert json.loads(verified.stdout)["rotations"] == 1
        with serving(*arguments, variables={"WITNESS_KEY": told}) as server:
            assert server.get("/api/audit/head")["key"] == changed["new"]
            assert server.cli("audit", "verify", "--key", first).returncode == 0
    assert [path.name for path in (scratch / "state" / "audit").glob("signing*")] == ["signing.key"]
