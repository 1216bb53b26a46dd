"""The page Access: who there is, why somebody may, what waits for a second person, and break-glass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from starlette.testclient import TestClient

from roadbed.guard.duties import OwnRequest, Rules
from roadbed.guard.duty_requests import DutyRequest
from roadbed.guard.glasses import Glass, GlassInvalid, check_glass
from roadbed.guard.people import Person
from roadbed.kernel.principal import Principal

from .conftest import DIGEST, Deployment, form_token

NOW = datetime.now(UTC)
PERSON = Person("u_ada", "", "", "ada", "", "Ada <b>", "", frozenset({"ops"}), True, None)
REQUEST = DutyRequest(
    id="r1",
    duty="promotions",
    subject="helpdesk",
    digest=DIGEST,
    asker="k-auditor",
    asker_name="the auditor",
    asker_names=frozenset({"k-auditor"}),
    asker_lineage=frozenset({"k-auditor"}),
    asker_is_person=False,
    said_by="",
    reason="evaluated",
    asked=NOW,
    expires=NOW + timedelta(days=7),
    state="waiting",
    decider=None,
    decider_name="",
    decided=None,
    note="",
)
GLASS = Glass(
    id="g1",
    principal="k-auditor",
    name="the auditor",
    names=frozenset({"k-auditor"}),
    lineage=frozenset({"k-auditor"}),
    is_person=False,
    reason="wrong fees <i>",
    started=NOW,
    ends=NOW + timedelta(minutes=30),
    ended=None,
    ended_by="",
    reviewed=None,
    reviewed_by="",
    reviewer_name="",
    review_note="",
)


class FakeAccess:
    """A deployment with one person, one request and one use of break-glass."""

    def __init__(self) -> None:
        self.in_force: list[Glass] = []
        self.requests: list[DutyRequest] = [REQUEST]
        self.persons: list[Person] = [PERSON]
        self.used: list[Glass] = [GLASS]
        self.done: list[tuple[str, ...]] = []
        self.rule = Rules(frozenset({"promotions"}))
        self.is_let = True

    def glasses(self) -> Sequence[Glass]:
        return self.in_force

    def is_raised(self, principal: Principal) -> bool:
        return any(glass.principal == principal.id for glass in self.in_force)

    def may_break(self, principal: Principal) -> bool:
        return self.is_let

    def people(self) -> Sequence[Person]:
        return self.persons

    def policies(self) -> Sequence[tuple[str, str]]:
        return [("shipped", '@id("everyone-uses")')]

    def actions(self) -> Sequence[str]:
        return ["app.use", "keys.manage"]

    async def explain(self, who: str, what: str, on: str) -> dict[str, Any]:
        if who == "nobody":
            raise GlassInvalid("nobody is named so", hint="name a key")
        check = {"kind": "role", "name": "admins-manage", "allows": False}
        who_is = {"id": who, "name": "", "team": "", "roles": []}
        return {"who": who_is, "what": what, "on": on, "allowed": False, "checks": [check], "needed": ["a role <b>"]}

    async def rules(self) -> Rules:
        return self.rule

    async def waiting(self) -> Sequence[DutyRequest]:
        return self.requests

    async def promote(self, app: str, digest: str | None, principal: Principal, reason: str) -> DutyRequest | None:
        self.done.append(("promote", app, principal.id, reason))
        return REQUEST if self.rule.two_persons else None

    async def approve(self, request_id: str, principal: Principal) -> DutyRequest | None:
        if principal.id == "k-auditor":
            raise OwnRequest("not by who asks")
        self.done.append(("approve", request_id, principal.id))
        return None

    async def decline(self, request_id: str, principal: Principal, note: str) -> DutyRequest:
        self.done.append(("decline", request_id, note))
        return REQUEST

    async def uses(self) -> Sequence[Glass]:
        return self.used

    async def break_glass(self, principal: Principal, reason: str, minutes: int) -> Glass:
        check_glass(reason, minutes)
        self.done.append(("break", principal.id, reason, str(minutes)))
        return GLASS

    async def end_glass(self, glass_id: str, principal: Principal) -> Glass:
        self.done.append(("end", glass_id))
        return GLASS

    async def review_glass(self, glass_id: str, principal: Principal, note: str) -> Glass:
        self.done.append(("review", glass_id, note))
        return GLASS


@pytest.fixture
def fake() -> FakeAccess:
    return FakeAccess()


@pytest.fixture
def deployment(fake: FakeAccess) -> Deployment:
    return Deployment(access=fake)


def send(client: TestClient, path: str, **fields: str) -> Any:
    return client.post(path, data={"form_token": form_token(client), **fields})


def test_the_page_shows_who_there_is_and_what_decides(fake: FakeAccess, admin: TestClient) -> None:
    page = admin.get("/console/access").text
    for text in (
        "Ada &lt;b&gt;",
        "ops",
        "k-member",
        "everyone-uses",
        "promote helpdesk",
        "wrong fees &lt;i&gt;",
        "in force",
    ):
        assert text in page, text
    assert '<a href="/console/access"' in page
    assert admin.get("/console/access.json").json()["two_persons"] == ["promotions"]


def test_empty_parts_say_what_to_do(fake: FakeAccess, admin: TestClient) -> None:
    fake.persons, fake.requests, fake.used, fake.rule = [], [], [], Rules()
    page = admin.get("/console/access").text
    for text in ("access: {two_persons:", "identity.sign_in", "--scope scim", "Nobody has broken the glass"):
        assert text in page, text
    fake.rule = Rules(frozenset({"models"}), persons_only=True)
    page = admin.get("/console/access").text
    assert "Nothing waits" in page
    assert "only people count" in page


def test_an_act_is_explained(admin: TestClient) -> None:
    page = admin.get("/console/access?who=team:sales&what=keys.manage").text
    assert "may not" in page
    assert "admins-manage" in page
    assert "needed: a role &lt;b&gt;" in page
    assert "Nobody is named so" in admin.get("/console/access?who=nobody").text


def test_a_second_person_decides(fake: FakeAccess, admin: TestClient, auditor: TestClient) -> None:
    page = admin.get("/console/releases").text
    assert "Waiting for a second person" in page
    assert "Approve" in page
    assert "/console/access/approvals" not in auditor.get("/console/access").text
    answer = send(admin, "/console/access/approvals", request="r1", order="approve")
    assert answer.headers["location"].startswith("/console/access?told=It+was+done")
    send(admin, "/console/access/approvals", request="r1", order="decline", reason="no")
    assert fake.done == [("approve", "r1", "k-admin"), ("decline", "r1", "no")]
    assert send(auditor, "/console/access/approvals", request="r1", order="approve").status_code == 403
    fake.requests = [replace(REQUEST, asker="k-admin")]
    page = admin.get("/console/access").text
    assert "Withdraw" in page
    assert 'value="approve"' not in page


def test_a_promotion_waits(fake: FakeAccess, deployment: Deployment, admin: TestClient) -> None:
    data = {"move": "promote", "digest": "", "reason": "good"}
    answer = send(admin, "/console/releases/helpdesk/move", **data)
    assert "told=helpdesk+waits" in answer.headers["location"]
    assert fake.done == [("promote", "helpdesk", "k-admin", "good")]
    assert not deployment.releases.moves
    fake.rule = Rules()
    assert send(admin, "/console/releases/helpdesk/move", **data).headers["location"] == "/console/releases/helpdesk"


def test_break_glass_is_begun_shown_everywhere_ended_and_reviewed(
    fake: FakeAccess, deployment: Deployment, admin: TestClient, auditor: TestClient, member: TestClient
) -> None:
    for wrong in (
        {"reason": "short", "minutes": "30"},
        {"reason": "a good reason", "minutes": "61"},
        {"reason": "x" * 20},
    ):
        assert send(auditor, "/console/access/break-glass", **wrong).status_code == 400
    send(auditor, "/console/access/break-glass", reason="wrong fees quoted", minutes="30")
    assert fake.done == [("break", "k-auditor", "wrong fees quoted", "30")]
    assert ("console.access.break-glass", "k-auditor", "") in deployment.audit.acts

    assert "Break-glass:" not in member.get("/console").text
    fake.in_force = [GLASS]
    for client in (admin, auditor, member):
        assert "Break-glass:" in client.get("/console").text
    assert "wrong fees" not in member.get("/console").text
    assert "Break the glass" not in auditor.get("/console/access").text, "one at a time"
    noted = [action for action, _ in deployment.audit.noted]
    assert noted.count("breakglass.use") >= 2, "what is seen under it is recorded"

    send(admin, "/console/access/break-glass/end", use="g1")
    fake.in_force, fake.used = [], [replace(GLASS, ended=NOW)]
    assert "/break-glass/review" not in auditor.get("/console/access").text, "nobody reviews their own"
    assert "/break-glass/review" in admin.get("/console/access").text
    send(admin, "/console/access/break-glass/review", use="g1", note="as the incident says")
    assert fake.done[-2:] == [("end", "g1"), ("review", "g1", "as the incident says")]
    fake.is_let = False
    assert "The policies do not let you" in admin.get("/console/access").text


def test_the_page_is_for_those_who_may_watch(member: TestClient) -> None:
    assert member.get("/console/access").status_code == 403
    assert "/console/access" not in member.get("/console").text
