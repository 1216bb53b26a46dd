"""The page Analytics without scripts: a form asks, a result has chart, table and statements, and can be saved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from starlette.testclient import TestClient

from roadbed.apps.analytics_desk import Cite, Part, Prepared
from roadbed.apps.analytics_manifest import QuestionConfig
from roadbed.apps.analytics_plan import Asks
from roadbed.apps.analytics_saved import SavedQuestion
from roadbed.apps.analytics_shown import AnalyticsAnswer, Shown, object_of
from roadbed.apps.analytics_table import Table, TableColumn
from roadbed.apps.manifest import AppConfig
from roadbed.apps.registry import ServedApp
from roadbed.gateway.types import Message
from roadbed.kernel.errors import Forbidden
from roadbed.kernel.principal import Principal
from roadbed.kernel.release import Release
from roadbed.tools.manifest import ParameterConfig

from .conftest import DIGEST, Deployment, form_token

PREPARED = Prepared("Sales by <town>", (Part("result", "shop", "SELECT town, total FROM orders WHERE a < 3"),))
TABLE = Table((TableColumn("town", "text"), TableColumn("total", "integer")), (("<b>Oslo</b>", 350), ("=Bergen", 50)))
CITE = Cite("shop", "SELECT 1", 0.0, 2, ("orders",), ("orders: team = {principal.team}",), ("email: token",))


class FakeAnalytics:
    """One app whose answer is set, and a record of what was asked and saved."""

    def __init__(self) -> None:
        self.shown = Shown(prepared=PREPARED, table=TABLE, cites=[CITE], sentence="Oslo leads.", seal="sealed")
        self.calls: list[Any] = []
        self.saved = [
            SavedQuestion("1", "figures", "t", "mine", PREPARED, "k", "1d at 07:00", datetime.now(UTC), None, "")
        ]

    def _answer(self) -> AnalyticsAnswer:
        facts = {"rung": "full", "degraded": [], "trace": "01TRACE", "analytics": object_of(self.shown)}
        return AnalyticsAnswer("text", facts, self.shown.table)

    def apps_for(self, principal: Principal) -> list[str]:
        return ["figures"]

    async def ask(self, app: str, messages: Sequence[Message], principal: Principal) -> AnalyticsAnswer:
        self.calls.append(("ask", app, messages[-1].text(), principal.id))
        return self._answer()

    async def run(
        self, app: str, name: str, given: Mapping[str, Any], principal: Principal, *, is_export: bool = False
    ) -> AnalyticsAnswer:
        self.calls.append(("run", name, dict(given)))
        return self._answer()

    async def run_prepared(
        self, app: str, prepared: Prepared, seal: str, principal: Principal, *, is_export: bool = False
    ) -> AnalyticsAnswer:
        if seal != "sealed":
            raise Forbidden("the seal does not fit")
        self.calls.append(("run_prepared", prepared))
        return self._answer()

    async def save(
        self, app: str, name: str, prepared: Prepared, seal: str, principal: Principal, every: str = ""
    ) -> None:
        self.calls.append(("save", name, prepared, seal, every))

    async def delete(self, app: str, name: str, principal: Principal) -> None:
        self.calls.append(("delete", name))

    async def questions(self, app: str, principal: Principal) -> tuple[ServedApp, list[SavedQuestion]]:
        question = QuestionConfig(title="What since <when>?", parameters={"since": ParameterConfig(type="date")})
        config = AppConfig(kind="analytics", sources=["shop"], questions={"since": question})
        return ServedApp("figures", Release("figures", DIGEST, b"{}", {}), config, Any, 60.0, lambda: None), self.saved  # type: ignore[arg-type]


@pytest.fixture
def analytics(deployment: Deployment) -> FakeAnalytics:
    deployment.analytics.inner = made = FakeAnalytics()
    return made


def test_a_question_is_asked_by_a_form(analytics: FakeAnalytics, member: TestClient) -> None:
    page = member.get("/console/analytics")
    assert "Others need a model." in page.text
    assert "What since &lt;when&gt;?" in page.text
    assert "1d at 07:00" in page.text
    assert 'href="/console/analytics"' in page.text
    form = {"form_token": form_token(member, "/console/analytics"), "question": "Which town?"}
    answer = member.post("/console/analytics/figures/ask", data=form).text
    assert analytics.calls[-1][:3] == ("ask", "figures", "Which town?")
    for text in (
        "Oslo leads.",
        '<svg xmlns="',
        "&lt;b&gt;Oslo&lt;/b&gt;",
        "a &lt; 3",
        "Download Excel",
        "email: token",
    ):
        assert text in answer, text
    assert "<b>Oslo" not in answer
    assert "<style>" not in answer  # the policy forbids styles in the page
    assert member.post("/console/analytics/figures/ask", data={"question": "x"}).status_code == 403


def test_what_was_answered_is_saved_and_exported(analytics: FakeAnalytics, member: TestClient) -> None:
    token = form_token(member, "/console/analytics")
    sealed = {"form_token": token, "prepared": msgspec.json.encode(PREPARED).decode(), "seal": "sealed"}
    done = member.post("/console/analytics/figures/save", data={**sealed, "name": "towns", "every": "6h"})
    assert done.status_code == 303
    assert analytics.calls[-1] == ("save", "towns", PREPARED, "sealed", "6h")
    file = member.post("/console/analytics/figures/export", data={**sealed, "format": "csv"})
    assert file.content.decode("utf-8-sig").splitlines() == ["town,total", "<b>Oslo</b>,350", "'=Bergen,50"]
    assert "attachment" in file.headers["content-disposition"]
    forged = member.post("/console/analytics/figures/export", data={**sealed, "seal": "x", "format": "csv"})
    assert forged.status_code == 403
    bad = member.post("/console/analytics/figures/save", data={**sealed, "name": "", "every": ""})
    assert bad.status_code == 400
    assert member.post("/console/analytics/figures/delete", data={**sealed, "name": "mine"}).status_code == 303
    assert analytics.calls[-1] == ("delete", "mine")


def test_parameters_are_asked_for_and_a_question_back_is_a_choice(analytics: FakeAnalytics, member: TestClient) -> None:
    form = member.get("/console/analytics/figures/run/since").text
    assert 'name="since"' in form
    assert not any(call[0] == "run" for call in analytics.calls)
    member.get("/console/analytics/figures/run/since?since=2026-01-01")
    assert analytics.calls[-1] == ("run", "since", {"since": "2026-01-01"})
    analytics.shown = Shown(asks=Asks("Which date?", ["ordered", "paid"]))
    token = form_token(member, "/console/analytics")
    page = member.post("/console/analytics/figures/ask", data={"form_token": token, "question": "Best?"}).text
    assert 'value="Best? (ordered)"' in page
