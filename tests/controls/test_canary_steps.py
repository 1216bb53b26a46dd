"""A path of the canary that a rule of the manifest closes is a path where nothing left, and no gap."""

from __future__ import annotations

import pytest

from roadbed.controls.canary import UNREAD, Step


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (200, b"{}", True),
        (403, b'{"error": {"code": "guard.blocked"}}', True),
        (403, b'{"error": {"code": "gateway.no_candidate", "message": "far: not cleared for local-only"}}', True),
        (403, b'{"error": {"code": "gateway.no_candidate", "message": "far: not cleared for restricted"}}', False),
        (403, b'{"error": {"code": "auth.app_not_allowed"}}', False),
        (500, b'{"error": {"code": "guard.blocked"}}', False),
    ],
)
def test_a_refusal_by_a_rule_is_no_gap(status: int, body: bytes, expected: bool) -> None:
    assert Step("chat", status, body).is_whole is expected


@pytest.mark.parametrize(
    ("name", "status", "body", "expected"),
    [
        ("acting", 404, b'{"code": "tools.unknown"}', True),
        ("tool", 404, b'{"code": "tools.unknown"}', False),
        ("acting", 404, b'{"code": "not_found"}', False),
        ("approved", 403, b"access.not_a_person: a call is approved by people", True),
        ("approved", 403, b"access.own_request: a call is not approved by who asks", False),
        ("chat", 403, b"access.not_a_person: a call is approved by people", False),
    ],
)
def test_rules_may_close_the_call_that_waits_for_an_approval(
    name: str, status: int, body: bytes, expected: bool
) -> None:
    assert Step(name, status, body, (503,)).is_whole is expected


def test_a_document_that_was_not_read_is_told_as_such_and_not_as_a_failed_request() -> None:
    step = Step("document", UNREAD, b"pending")
    assert (step.is_whole, step.gap) == (False, "the document that was uploaded is pending, not indexed")
    assert Step("chat", 502, b"").gap == "the path chat answered 502"
