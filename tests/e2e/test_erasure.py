"""A person is erased: afterwards no byte of the state folder and of PostgreSQL's files holds the value."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from roadbed.guard.scim import USER
from roadbed.ledger.audit_verify import PublicKey

from .serving import Server, eventually, serving, write_files

pytestmark = pytest.mark.services  # a server of its own, and long

SUBJECT = "Wilhelmina Quistgaard"
MAIL = "w.quistgaard@hjem.example"
MANIFEST = """\
name: office
sources:
  notes: {type: files, path: notes}
  inbox: {type: uploads}
collections:
  company: {sources: [notes, inbox]}
apps:
  helpdesk: {kind: copilot, knowledge: [company]}
"""
NOTES = {
    "roadbed.yaml": MANIFEST,
    "notes/fees.md": f"# Fees\n\nThe rush fee of 35 % was agreed with {SUBJECT} in March.\n\nTravel costs 5 kroner.\n",
    "notes/other.md": "# Other\n\nWILHELMINA   QUISTGAARD-signed the lease. Wilhelmina Berg did not.\n",
}


def holding(state: Path, *needles: str) -> list[str]:
    """The files below a folder that hold one of some texts, in any case, as UTF-8 or as UTF-16."""
    found = []
    wanted = [form for needle in needles for form in (needle.lower().encode(), needle.lower().encode("utf-16-le"))]
    for path in state.rglob("*"):
        if path.is_file() and not path.is_symlink():
            data = path.read_bytes().lower()
            found += [f"{path.relative_to(state)}" for form in wanted if form in data]
    return found


def search(server: Server, query: str) -> str:
    """All passages found, as one text."""
    response = server.post("/api/search", {"query": query})
    return " ".join(hit["text"] for hit in response.json()["hits"])


def test_nothing_of_an_erased_person_is_left_and_nothing_brings_it_back(scratch: Path) -> None:
    workspace = write_files(scratch / "workspace", NOTES)
    with serving(workspace, scratch / "state") as server:
        sent = {"name": "mail.md", "text": f"# Mail\n\n{SUBJECT} <{MAIL}> asks for the rush fee.\n"}
        assert server.post("/api/collections/company/documents", sent).status_code == 202
        eventually(lambda: "asks for" in search(server, "mail rush fee") or None, what="the upload")
        server.ask(f"What did {SUBJECT} agree to?")
        assert server.post("/api/keys", {"team": "x", "name": f"for {SUBJECT}"}).status_code == 201
        directory = json.loads(server.cli("keys", "create", "--scope", "scim", "--json").stdout)["key"]
        person = {"schemas": [USER], "userName": MAIL, "displayName": SUBJECT, "title": f"PA of {SUBJECT}"}
        assert server.post("/scim/v2/Users", person, key=directory).status_code == 201
        eventually(lambda: server.get("/api/traces")["traces"] or None, what="the trace")
        assert holding(server.state, SUBJECT)

        tried = server.post("/api/erasures", {"subject": SUBJECT, "dry_run": True})
        assert tried.status_code == 200, tried.text
        assert tried.json()["stores"]["documents"] == 3
        assert SUBJECT in search(server, "rush fee agreed")

        done = server.cli("erase", "--subject", SUBJECT, "--compact", "--json")
        assert done.returncode == 0, done.stderr + server.output
        receipt = json.loads(done.stdout)
        assert receipt["stores"]["documents"] >= 2
        assert receipt["stores"]["uploads"] == 1
        assert receipt["stores"]["trace"] >= 1
        assert receipt["stores"]["api_key"] == 1
        assert receipt["stores"]["people"] == 1
        assert server.post("/api/erasures", {"subject": MAIL, "compact": True}).status_code == 201

        text = search(server, "rush fee agreed lease mail travel")
        assert "[ERASED]" in text
        assert "35 %" in text
        assert "Wilhelmina Berg did not" in text
        # A file that changes brings it back to no one: the guard knows the value by its digest.
        (workspace / "notes" / "fees.md").write_text(NOTES["notes/fees.md"] + "\nParking is free.\n")
        assert server.post("/api/ingest", {"source": "notes"}).status_code == 202
        eventually(lambda: "Parking" in search(server, "parking free") or None, what="the changed file")
        assert "quistgaard" not in search(server, "rush fee agreed lease mail").lower()

        assert holding(server.state, SUBJECT, MAIL) == []

        words = " ".join(SUBJECT.lower().split())
        assert hashlib.sha256(f"{receipt['salt']} {words}".encode()).hexdigest() == receipt["subject"]
        key = PublicKey.parse(receipt["key"])
        unsigned = {k: v for k, v in receipt.items() if k not in ("key", "signature", "salt")}
        body = json.dumps(unsigned, sort_keys=True, separators=(",", ":")).encode()
        signature = base64.b64decode(receipt["signature"])[4:]
        Ed25519PublicKey.from_public_bytes(key.raw).verify(signature, body)
        assert receipt["checkpoint_before"] != receipt["checkpoint_after"]

        verified = server.cli("audit", "verify")
        assert verified.returncode == 0, verified.stdout
        assert len(server.get("/api/erasures")) == 2
    assert holding(server.state, SUBJECT, MAIL) == []
