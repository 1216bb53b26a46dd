"""``POST /api/guard/scan``: spans without values, and what is no text."""

from __future__ import annotations

from .conftest import Desk

TEXT = "é bob@example.com and BSN: 111222333"


def test_the_server_says_where_values_stand(desk: Desk) -> None:
    answer = desk.server.post("/api/guard/scan", {"text": TEXT})
    body = answer.json()
    spans = [(span["type"], TEXT[span["start"] : span["end"]], span["rule"]) for span in body["findings"]]
    assert spans == [("email", "bob@example.com", "email"), ("national_id", "111222333", "nl_bsn")]
    assert body["counts"] == {"email": 1, "national_id": 1}
    assert "bob" not in answer.text
    with desk.server.client() as client:
        plain = client.post("/api/guard/scan", content=TEXT.encode(), headers={"content-type": "text/plain"})
        assert plain.json()["findings"] == body["findings"]
        large = client.post("/api/guard/scan", content=b"word " * 2_000_000, headers={"content-type": "text/plain"})
        assert large.json()["characters"] == 10_000_000
        for data, status, code in (
            (b"a\0b", 400, "guard.not_text"),
            (b"\xff", 400, "guard.not_text"),
            (b"x" * 10_000_001, 413, "request.too_large"),
        ):
            refused = client.post("/api/guard/scan", content=data, headers={"content-type": "text/plain"})
            assert (refused.status_code, refused.json()["code"]) == (status, code)
        assert client.post("/api/guard/scan", json={"text": 1}).status_code == 400
    assert desk.server.post("/api/guard/scan", {"text": "x"}, key=None).status_code == 401
