"""Who may see a document: another team's key meets it nowhere; changes on disk and of rights are in force at once."""

from __future__ import annotations

import pytest

from .conftest import Desk
from .serving import eventually

pytestmark = pytest.mark.services  # a server, and long

QUESTION = "At what price does the merger with Kestrel Valuation close?"
SECRET = "81 million"


def test_a_key_of_another_team_never_meets_the_document(desk: Desk) -> None:
    server = desk.server
    board, staff = server.new_key("board")["key"], server.new_key("staff")["key"]
    seen = server.ask(QUESTION, "modelless", key=board)
    assert SECRET in seen["choices"][0]["message"]["content"]
    document_id = seen["roadbed"]["citations"][0]["document_id"]
    with server.client(board) as client:
        assert client.get(f"/api/documents/{document_id}").json()["visible_to"] == ["team:board"]
        assert SECRET in client.get(f"/api/documents/{document_id}/text").text

    for app in ("modelless", "helpdesk", "search"):
        assert SECRET not in str(server.ask(QUESTION, app, key=staff)), app
    assert not any(SECRET in request.body.decode() for request in desk.first.model.chats)
    with server.client(staff) as client:
        found = client.post("/api/search", json={"query": QUESTION, "k": 50}).json()
        assert found["hits"]
        assert all(hit["source"] != "board" for hit in found["hits"])
        page = client.post("/v1/vector_stores/company/search", json={"query": QUESTION, "max_num_results": 50}).json()
        assert page["data"], page["roadbed"]
        assert SECRET not in str(page)
        for path in ("", "/text", "/chunks"):
            assert client.get(f"/api/documents/{document_id}{path}").status_code == 404, path
        cited = seen["roadbed"]["citations"][0]
        assert client.post(f"/api/documents/{document_id}/passage", json=cited).status_code == 404
        assert client.get("/api/documents", params={"source": "board"}).json()["documents"] == []


def test_a_collection_of_which_a_team_sees_nothing_is_an_unknown_one_to_it(desk: Desk) -> None:
    staff, board = (desk.server.new_key(team)["key"] for team in ("staff", "board"))

    def asked(name: str, key: str) -> list[tuple[int, object]]:
        sent = {"/api/search": {"query": QUESTION, "collections": [name]}}
        sent[f"/v1/vector_stores/{name}/search"] = {"query": QUESTION}
        answers = [desk.server.post(path, body, key=key) for path, body in sent.items()]
        return [(answer.status_code, answer.text.replace(name, "NAME")) for answer in answers]

    hidden, unknown = asked("boardroom", staff), asked("no-such-one", staff)
    assert [status for status, _ in hidden] == [404, 404]
    assert hidden == unknown
    assert [status for status, _ in asked("boardroom", board)] == [200, 200]


def test_names_of_hidden_documents_are_not_told_by_failures(desk: Desk) -> None:
    """A member's view of the sources tells counts, and no names of what only another team may see."""
    path = desk.server.workspace / "board" / "secret-takeover-of-kestrel.pdf"
    path.write_bytes(b"%PDF-1.4 broken")
    try:
        listed = eventually(
            lambda: "secret-takeover" in str(desk.server.get("/api/sources")) and desk.server.get("/api/sources"),
            what="the failure in the admin's view",
        )
        assert next(source for source in listed if source["name"] == "board")["failed"] == 1
        with desk.server.client(desk.server.new_key("staff")["key"]) as client:
            for address in ("/api/sources", "/api/status"):
                assert "secret-takeover" not in client.get(address).text, address
    finally:
        path.unlink()
        eventually(lambda: "secret-takeover" not in str(desk.server.get("/api/sources")), what="the deletion")


def test_documents_added_edited_and_deleted_on_disk_are_in_force(desk: Desk) -> None:
    server, path = desk.server, desk.server.workspace / "open" / "parking.md"

    def says(text: str) -> bool:
        return text in str(server.ask("Where do visitors park their cars?", "modelless")["choices"])

    path.write_text("# Parking\n\nVisitors park their cars in the north garage.\n")
    eventually(lambda: says("north garage"), what="the new document")
    path.write_text("# Parking\n\nVisitors park their cars in the harbour lot.\n")
    eventually(lambda: says("harbour lot") and not says("north garage"), what="the change")
    path.unlink()
    eventually(lambda: not says("harbour lot"), what="the deletion")
    assert "parking.md" not in str(server.get("/api/documents", source="open"))


def test_a_citation_is_found_again_in_a_changed_document(desk: Desk) -> None:
    server, path = desk.server, desk.server.workspace / "open" / "bicycles.md"
    sentence = "Bicycles of guests stand behind the old boathouse."

    def cited() -> list[dict[str, object]]:
        said = server.ask("Where do bicycles of guests stand?", "modelless")
        return [citation for citation in said["roadbed"]["citations"] if "boathouse" in citation["quote"]]

    path.write_text(f"# Bicycles\n\n{sentence}\n")
    citation = eventually(cited, what="the citation")[0]
    address = f"/api/documents/{citation['document_id']}/passage"
    staff = server.new_key("staff")["key"]
    now = server.post(address, citation, key=staff).json()
    assert (now["passage"]["how"], now["passage"]["quote"]) == ("same_version", citation["quote"])

    path.write_text(f"# Bicycles\n\nOwners of bicycles lock them.\n\n{sentence}\n")
    eventually(lambda: server.post(address, citation).json()["version"] != citation["version"], what="the change")
    moved = server.post(address, citation).json()["passage"]
    assert (moved["how"], moved["quote"]) == ("moved", citation["quote"])
    assert moved["start"] > citation["start"]

    path.write_text("# Bicycles\n\nNobody may bring one.\n")
    eventually(lambda: server.post(address, citation).json()["passage"] is None, what="the loss")
    assert server.post(address, {**citation, "quote": ""}).status_code == 400
    path.unlink()
    eventually(lambda: server.post(address, citation).status_code == 404, what="the deletion")


def test_uploads_are_searched_and_deleted_at_once(desk: Desk) -> None:
    server = desk.server
    body = {"name": "canteen.md", "text": "# Canteen\n\nThe canteen serves soup on Thursdays.\n"}
    response = server.post("/api/collections/company/documents", body)
    assert response.status_code == 202, response.text
    document_id = response.json()["documents"][0]["id"]
    eventually(
        lambda: "soup on Thursdays" in str(server.ask("What does the canteen serve?", "modelless")["choices"]),
        what="the upload",
    )
    with server.client(server.new_key("staff")["key"]) as client:
        assert client.delete(f"/api/documents/{document_id}").status_code == 403
    with server.client() as client:
        assert client.delete(f"/api/documents/{document_id}").status_code == 204
    assert "soup on Thursdays" not in str(server.ask("What does the canteen serve?", "modelless")["choices"])


def test_a_changed_visible_to_is_in_force_after_the_save(desk: Desk) -> None:
    server = desk.server
    manifest = server.workspace / "roadbed.yaml"
    before = manifest.read_text()
    staff = server.new_key("staff")["key"]
    try:
        manifest.write_text(before.replace("visible_to: [board]", "visible_to: [board, staff]"))
        eventually(lambda: SECRET in str(server.ask(QUESTION, "modelless", key=staff)), what="the wider right")
    finally:
        manifest.write_text(before)
    eventually(lambda: SECRET not in str(server.ask(QUESTION, "modelless", key=staff)), what="the narrower right")
