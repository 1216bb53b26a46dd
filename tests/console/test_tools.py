"""Tools: the list by source, a form made from a tool's schema, what came of a call, and approvals for admins alone."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from starlette.testclient import TestClient

from roadbed.console.tools import arguments_of, fields_of
from roadbed.tools.approvals import Approval
from roadbed.tools.types import Failed, NeedsApproval, Ok, Provenance, Refused, Tool, ToolRequest

from .conftest import NOW, Deployment, form_token

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "id": {"type": "integer", "minimum": 1, "maximum": 99},
        "kind": {"type": "string", "enum": ["a", "b"]},
        "since": {"type": ["string", "null"], "format": "date"},
        "is_open": {"type": ["boolean", "null"]},
        "sql": {"type": "string", "maxLength": 5000},
        "list": {"type": "array"},
    },
    "required": ["id", "kind"],
}


async def run(request: ToolRequest) -> Ok:
    return Ok({})


TOOL = Tool("sales_in", "Sales <in> a place.", "crm", run, input_schema=SCHEMA)


@pytest.fixture(autouse=True)
def _tools(deployment: Deployment) -> None:
    deployment.tools.tools = [TOOL, Tool("private_one", "d", "crm", run, visible_to=frozenset({"others"}))]


def approval() -> Approval:
    times = {"asked": NOW, "expires": NOW + timedelta(minutes=9)}
    call = {"tool": "rename", "source": "crm", "effect": "write", "arguments": {"id": 7}, "preview": {"rows": 3}}
    rest = {"digest": "d", "nonce": "n", "state": "waiting", "decided_by": None, "reason": ""}
    asker = {"asker": "k-member", "asker_name": "Mia", "team": "office"}
    return Approval(id="01APPROVAL", **call, **asker, **rest, **times, effect_state=None, outcome=None)  # type: ignore[arg-type]


def test_tools_are_listed_by_source_with_their_figures_for_auditors(auditor: TestClient, member: TestClient) -> None:
    page = auditor.get("/console/tools").text
    for text in ("crm", "sales_in", "Sales &lt;in&gt; a place.", "412", "20.0", "1 tool on 1 source"):
        assert text in page, text
    assert "private_one" not in page
    assert "412" not in member.get("/console/tools").text
    assert 'href="/console/tools"' in member.get("/console").text


def test_a_form_is_made_from_the_schema_and_read_by_it() -> None:
    kinds = {field.name: field.kind for field in fields_of(TOOL, {})}
    assert kinds == {
        "id": "integer", "kind": "choice", "since": "date", "is_open": "boolean", "sql": "long", "list": "json",
    }  # fmt: skip
    given = {"id": "7", "kind": "b", "since": "", "is_open": "true", "sql": "SELECT 1", "list": "[1]"}
    assert arguments_of(TOOL, given) == {"id": 7, "kind": "b", "is_open": True, "sql": "SELECT 1", "list": [1]}
    assert arguments_of(TOOL, {"id": "x"}) == {"id": "x"}, "for the tool to refuse"


def test_a_tool_is_tried_as_who_is_signed_in(deployment: Deployment, member: TestClient) -> None:
    columns = [{"name": "street", "type": "text"}]
    origin = Provenance("crm", "sales_in", 0.0, age_s=90.0)
    deployment.tools.outcome = Ok({"columns": columns, "rows": [["<Main>"]]}, (origin,), is_truncated=True)
    token = form_token(member, "/console/tools/sales_in")
    page = member.post("/console/tools/sales_in", data={"form_token": token, "id": "7", "kind": "a"})
    assert page.status_code == 200
    assert "&lt;Main&gt;" in page.text
    assert "there are more" in page.text
    assert deployment.tools.called == [("sales_in", {"id": 7, "kind": "a"}, "k-member")]
    assert member.get("/console/tools/private_one").status_code == 404


@pytest.mark.parametrize(
    ("outcome", "status", "said"),
    [
        (Refused("tools.arguments_invalid", "id is missing", "give id"), 400, "Id is missing. Give id."),
        (Failed("sources.unavailable", "crm is away", "crm", True), 503, "Crm is away"),
        (NeedsApproval("01", {}, "d", 0.0), 200, "waits for a person"),
    ],
)
def test_what_went_wrong_is_told(
    deployment: Deployment, member: TestClient, outcome: Any, status: int, said: str
) -> None:
    deployment.tools.outcome = outcome
    token = form_token(member, "/console/tools/sales_in")
    page = member.post("/console/tools/sales_in", data={"form_token": token, "id": "7"})
    assert page.status_code == status
    assert said in page.text


def test_approvals_are_shown_to_admins_and_decided_by_them(
    deployment: Deployment, admin: TestClient, auditor: TestClient
) -> None:
    deployment.tools.approvals = [approval()]
    page = admin.get("/console/tools").text
    for text in ("Waiting for approval", "rename", "Mia", "3 rows of crm"):
        assert text in page, text
    assert "Waiting for approval" not in auditor.get("/console/tools").text
    form = {"approval": "01APPROVAL", "order": "approve", "form_token": form_token(auditor, "/console/tools/sales_in")}
    assert auditor.post("/console/tools/approvals", data=form).status_code == 403
    assert deployment.tools.decided == []
    for order in ("approve", "deny"):
        form = {"approval": "01APPROVAL", "order": order, "form_token": form_token(admin, "/console/tools")}
        assert admin.post("/console/tools/approvals", data=form).status_code == 303
    assert deployment.tools.decided == [("01APPROVAL", "approve"), ("01APPROVAL", "deny")]


def test_everybody_stores_and_removes_their_own_credential(deployment: Deployment, member: TestClient) -> None:
    assert "Your credentials" not in member.get("/console/tools").text
    deployment.tools.stored = {"crm": None, "erp": "2026-11-27T09:00:00+00:00"}
    page = member.get("/console/tools").text
    for text in ("Your credentials", 'type="password"', "2026-11-27", "Remove the credential for erp"):
        assert text in page, text
    assert "Remove the credential for crm" not in page
    token = form_token(member, "/console/tools")
    form = {"source": "crm", "credential": "annas-own-key", "order": "store"}
    assert member.post("/console/tools/credentials", data=form).status_code == 403  # a form of another page
    told = member.post("/console/tools/credentials", data={**form, "form_token": token})
    assert told.status_code == 303
    assert "annas-own-key" not in told.headers["location"]
    member.post("/console/tools/credentials", data={"source": "erp", "order": "remove", "form_token": token})
    assert [kept[:2] for kept in deployment.tools.kept] == [("crm", "annas-own-key"), ("erp", None)]
    assert len({kept[2] for kept in deployment.tools.kept}) == 1
