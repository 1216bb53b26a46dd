"""Data residency: each crossing of a region is refused, with the reason, between sources, stores, endpoints, people."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from roadbed.apps.registry import ServedApp
from roadbed.apps.types import Delta, Turn
from roadbed.gateway.endpoints import Endpoint, sink_of
from roadbed.gateway.errors import NoCandidate
from roadbed.gateway.route import Route, plan
from roadbed.gateway.types import ChatRequest
from roadbed.gateway.ways import Ways
from roadbed.guard.detect import Detector
from roadbed.guard.gate import Guard
from roadbed.guard.manifest import GuardConfig, TeamConfig
from roadbed.guard.policy import RegionCrossing
from roadbed.kernel.deadline import Deadline
from roadbed.kernel.errors import ConfigError
from roadbed.kernel.label import PUBLIC, Label, parse_label
from roadbed.kernel.principal import Principal
from roadbed.kernel.release import Release
from roadbed.ledger.ledger import Ledger
from roadbed.ledger.metrics import Metrics
from roadbed.ledger.trace import Trace
from roadbed.releases.workspace import load_workspace
from roadbed.server.turns import run_turn
from roadbed.tools.toolbox import ToolBox
from roadbed.tools.types import Ok, Outcome, Refused, Tool, ToolRequest

TEAMS = {"support": TeamConfig(region="us"), "board": TeamConfig(region="eu")}
GUARD = Guard(Detector(), GuardConfig(), TEAMS)
IN_EU = parse_label(["region:eu"])
ANNA, BERIT, CARL = Principal("anna", "support"), Principal("berit", "board"), Principal("carl", "no region said")
REASON = "must stay in eu, and the team support is in us"


def endpoint(name: str, *labels: str, is_local: bool = True) -> Endpoint:
    """An endpoint with these labels."""
    sink = sink_of(name, is_local=is_local, labels=list(labels))
    return Endpoint(name, "http://127.0.0.1:9/v1", "m", sink=sink, is_local=is_local)


def test_a_source_whose_data_must_stay_elsewhere_is_refused_when_the_manifest_is_read(tmp_path: Path) -> None:
    manifest = (
        "name: office\nguard: {region: us}\nsources:\n"
        "  here: {type: files, path: ., labels: ['region:us', 'region:eu']}\n"
        "  there: {type: files, path: ., labels: ['region:eu']}\n  anywhere: {type: files, path: .}\n"
    )
    (tmp_path / "roadbed.yaml").write_text(manifest)
    with pytest.raises(ConfigError) as refused:
        load_workspace(tmp_path)
    said = "roadbed.yaml:5: there: its data must stay in eu, and this deployment stores in us (`guard.region`)"
    assert str(refused.value).startswith(said)
    (tmp_path / "roadbed.yaml").write_text(manifest.replace("region: us}", "region: eu}"))
    assert load_workspace(tmp_path).manifest.guard.region == "eu"


@pytest.mark.parametrize(
    ("labels", "why"),
    [
        (["region:us"], "it is in us, and this must stay in eu"),
        ([], "it is in local, and this must stay in eu"),
    ],
)
def test_an_endpoint_in_another_region_is_not_asked_and_the_reason_is_said(labels: list[str], why: str) -> None:
    route = Route("smart", (endpoint("far", *labels), endpoint("near", "region:eu")))
    chosen = plan(route, IN_EU, lambda endpoint: "")
    assert [candidate.endpoint.name for candidate in chosen.candidates] == ["near"]
    assert chosen.skipped == (f"far: {why}",)
    with pytest.raises(NoCandidate, match=why):
        plan(Route("smart", (endpoint("far", *labels),)), IN_EU, lambda endpoint: "")


def test_labels_of_two_regions_may_go_nowhere() -> None:
    both = IN_EU.join(parse_label(["region:us"]))
    with pytest.raises(NoCandidate, match="must stay in no region at all"):
        plan(Route("smart", (endpoint("near", "region:eu"),)), both, lambda endpoint: "")
    with pytest.raises(RegionCrossing, match="no region at all"):
        GUARD.check_label(both, "caller", "board")


def test_a_route_of_another_region_answers_no_team_of_this_one() -> None:
    with pytest.raises(RegionCrossing, match=REASON):
        GUARD.label_for_models(IN_EU, "support")
    assert GUARD.label_for_models(IN_EU, "board") == IN_EU
    assert GUARD.label_for_models(IN_EU, CARL.team) == IN_EU
    assert GUARD.label_for_models(PUBLIC, "support") is PUBLIC


def test_no_short_way_leads_around_it() -> None:
    ways = Ways(cast(Any, None), cast(Any, None), GUARD)
    assert ways._judges_labels
    assert not Ways(cast(Any, None), cast(Any, None), Guard(Detector()))._judges_labels


async def test_a_tool_of_another_region_gives_its_result_to_no_team_of_this_one() -> None:
    async def run(request: ToolRequest) -> Outcome:
        return Ok({"rows": 1})

    box = ToolBox(lambda: GUARD, Metrics(), b"k" * 32)
    box.take([Tool("ask", "Asks.", "crm", run, {"type": "object", "properties": {}}, label=IN_EU)])

    async def called(who: Principal) -> Outcome:
        return await box.call("ask", {}, principal=who, deadline=Deadline.after(5), is_for_caller=True)

    refused = await called(ANNA)
    assert isinstance(refused, Refused)
    assert (refused.code, REASON in refused.message) == ("guard.region_crossing", True)
    assert isinstance(await called(BERIT), Ok)
    assert isinstance(await called(CARL), Ok)


class Telling:
    """An app whose answer must stay in the EU."""

    async def answer(self, turn: Turn) -> Any:
        turn.trace.label = Label.join(turn.trace.label, IN_EU)
        yield Delta("the boat leaves at noon")


async def test_an_app_says_nothing_that_must_stay_elsewhere() -> None:
    ledger = cast(Ledger, type("Finishing", (), {"finish": lambda self, trace, **how: None})())
    served = cast(ServedApp, type("Served", (), {"app": Telling()}))

    async def heard(who: Principal) -> list[Any]:
        release, request = Release("app", "d", b"{}", {}), ChatRequest(messages=())
        turn = Turn("app", release, request, who, Deadline.after(5), Trace("app", who))
        return [event async for event in run_turn(ledger, served, turn, GUARD)]

    with pytest.raises(RegionCrossing, match=REASON):
        await heard(ANNA)
    assert len(await heard(BERIT)) == 1
