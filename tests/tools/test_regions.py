"""Regions of callers: what a tool gives stays in the regions of its label, whoever asks."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roadbed.guard.gate import Guard
from roadbed.guard.manifest import GuardConfig, TeamConfig
from roadbed.kernel.deadline import Deadline
from roadbed.kernel.label import PUBLIC, Label, parse_label
from roadbed.kernel.principal import ADMIN, Principal
from roadbed.ledger.metrics import Metrics
from roadbed.store.database import Database
from roadbed.tools.approvals import Approvals
from roadbed.tools.regions import is_across, region_refusal
from roadbed.tools.toolbox import ToolBox
from roadbed.tools.types import NeedsApproval, Ok, Outcome, Refused, Tool, ToolRequest

REGIONS = st.none() | st.frozensets(st.sampled_from(["eu", "us", "no"]))
EU = parse_label(["region:eu"])
HERE, ABROAD, ANYWHERE = Principal("anna", "board"), Principal("bert", "support"), Principal("cora", "field")


@given(REGIONS, REGIONS, st.sampled_from(["", "eu", "us", "no"]))
def test_more_in_an_answer_never_lets_more_out(
    one: frozenset[str] | None, other: frozenset[str] | None, region: str
) -> None:
    first, second = Label(regions=one), Label(regions=other)
    assert is_across(first.join(second), region) == (is_across(first, region) or is_across(second, region))
    assert (region_refusal("it", first, region, "team") is None) is not is_across(first, region)


class Box:
    """A toolbox with a tool whose source must stay in the region, and one whose results alone must."""

    def __init__(self, guard: Guard, approvals: Approvals) -> None:
        self.asked: list[str] = []
        self.toolbox = ToolBox(lambda: guard, Metrics(), b"k" * 32, approvals)

        def run(name: str, label: Label) -> Any:
            async def made(request: ToolRequest) -> Outcome:
                self.asked.append(name)
                return Ok({"said": "Elvegata"}, label=label)

            return made

        self.toolbox.take(
            [
                Tool("declared", "", "register", run("declared", PUBLIC), label=EU),
                Tool("found", "", "register", run("found", EU)),
                Tool("change", "", "register", run("change", PUBLIC), label=EU, effect="write"),
            ]
        )

    async def call(self, tool: str, principal: Principal) -> Outcome:
        return await self.toolbox.call(tool, {}, principal=principal, deadline=Deadline.after(5))


@pytest.fixture
def box(guard: Guard, database: Database) -> Box:
    teams = {"board": TeamConfig(region="eu"), "support": TeamConfig(region="us")}
    return Box(guard.with_config(GuardConfig(), teams), Approvals(database))


async def test_a_team_elsewhere_is_given_nothing_and_the_source_is_not_asked(box: Box) -> None:
    for tool in ("declared", "found"):
        assert isinstance(await box.call(tool, HERE), Ok)
        assert isinstance(await box.call(tool, ANYWHERE), Ok)  # of whom no region is said
    box.asked.clear()
    for tool in ("declared", "found", "change"):
        refused = await box.call(tool, ABROAD)
        assert isinstance(refused, Refused)
        assert refused.code == "guard.region_crossing"
        assert "must stay in eu, and the team support is in us" in refused.message
    assert box.asked == ["found"]
    assert isinstance(await box.call("change", HERE), NeedsApproval)


async def test_who_approves_from_elsewhere_is_not_shown_what_came_of_it(box: Box) -> None:
    waits = await box.call("change", HERE)
    assert isinstance(waits, NeedsApproval)
    abroad = Principal("boss", "support", frozenset({ADMIN}))
    done = await box.toolbox.approve(waits.approval_id, abroad, Deadline.after(5))
    assert isinstance(done, Ok)
    assert done.data is None
