"""The toolbox over a real SQLite file: the rules of a call in their order, cursors, rates, results that are kept."""

from __future__ import annotations

import asyncio
import statistics
import time
from typing import Any

import pytest
from tests.stopwatch import Stopwatch

from roadbed.kernel.deadline import Deadline
from roadbed.kernel.label import PERSONAL, parse_label
from roadbed.kernel.principal import AUDITOR, Principal
from roadbed.ledger.trace import REFUSED, Trace
from roadbed.tools.errors import ToolMisdeclared
from roadbed.tools.manifest import ParameterConfig, ToolConfig
from roadbed.tools.types import Failed, Ok, Refused, Tool, ToolRequest

from .conftest import ANNA, BERIT, ID, Box

ONE = ToolConfig(
    source="db",
    description="One parcel.",
    sql="SELECT id, street, area, photo FROM parcels WHERE id = :id",
    parameters={"id": ID, "kind": ParameterConfig(type="string", values=["a", "b"], required=False)},
)


async def declare(box: Box, **tools: ToolConfig) -> None:
    await box.take({"db": box.sqlite("db.sqlite", labels=["internal"])}, tools)


def tool(sql: str, **settings: Any) -> ToolConfig:
    return ToolConfig(source="db", description="d", sql=sql, **settings)


async def test_a_declared_tool_gives_rows_with_their_origin(box: Box) -> None:
    await declare(box, one=tool(ONE.sql, parameters={"id": ID}))
    outcome = await box.call("one", id=7)
    assert isinstance(outcome, Ok)
    assert outcome.data["rows"] == [[7, "Street 7", 3.5, "(3 bytes, sha256 709e80c88487a241)"]]
    assert [column["name"] for column in outcome.data["columns"]] == ["id", "street", "area", "photo"]
    assert outcome.provenance[0].source == "db"
    assert outcome.label == parse_label(["internal"])
    assert box.metrics.value("roadbed_tool_calls_total", ("one", "ok")) == 1


@pytest.mark.parametrize(
    ("given", "code", "said"),
    [
        ({}, "tools.arguments_invalid", "id is missing"),
        ({"di": 1}, "tools.arguments_invalid", "no argument di"),
        ({"id": "7"}, "tools.arguments_invalid", "id must be of type integer"),
        ({"id": 0}, "tools.arguments_invalid", "id does not fit minimum 1"),
        ({"id": 1, "kind": "c"}, "tools.arguments_invalid", "kind is not one of the allowed values"),
        ({"id": 2**70}, "tools.arguments_invalid", "id does not fit maximum"),
    ],
)
async def test_wrong_arguments_are_refused_with_field_and_allowed_values(
    box: Box, given: dict[str, Any], code: str, said: str
) -> None:
    sql = "SELECT id FROM parcels WHERE id = :id AND coalesce(:kind, 'a') <> ''"
    await declare(box, one=tool(sql, parameters=ONE.parameters))
    outcome = await box.call("one", **given)
    assert isinstance(outcome, Refused)
    assert outcome.code == code
    assert said in outcome.message
    assert outcome.hint
    if "kind" in given:
        assert outcome.hint == "allowed: a, b, None"
        assert outcome.param == "kind"


async def test_a_tool_that_is_not_for_the_caller_is_unknown(box: Box) -> None:
    await declare(box, sales_only=tool("SELECT 1 AS one", visible_to=["sales"]))
    assert [found.name for found in box.toolbox.tools_for(BERIT, ["db"])] == ["sales_only"]
    assert box.toolbox.tools_for(ANNA, ["db"]) == []
    outcome = await box.call("sales_only")
    assert isinstance(outcome, Refused)
    assert outcome.code == "tools.unknown"


async def test_tools_come_by_name_and_can_be_picked_by_source_name_or_prefix(box: Box) -> None:
    await declare(box, beta=tool("SELECT 1"), alpha=tool("SELECT 1"))
    assert [found.name for found in box.toolbox.tools_for(ANNA)] == ["alpha", "beta", "platform_status"]
    assert [found.name for found in box.toolbox.tools_for(ANNA, ["alp"])] == ["alpha"]
    assert [found.name for found in box.toolbox.tools_for(ANNA, ["db"])] == ["alpha", "beta"]


async def test_sources_of_other_teams_are_not_named_by_the_platforms_status(box: Box) -> None:
    await box.take(
        {"db": box.sqlite("db.sqlite", labels=["internal"]), "pay": box.sqlite("pay.sqlite", visible_to=["sales"])}, {}
    )
    auditor = Principal(id="key-ingrid", team="support", roles=frozenset({AUDITOR}))
    for who, told in ((ANNA, ["db"]), (BERIT, ["db", "pay"]), (auditor, ["db", "pay"])):
        outcome = await box.call("platform_status", who)
        assert isinstance(outcome, Ok)
        assert sorted(found["source"] for found in outcome.data["sources"]) == told


async def test_a_cursor_gives_the_rows_that_follow_and_fits_nothing_else(box: Box) -> None:
    every = tool("SELECT id FROM parcels ORDER BY id", rows_max=500)
    await declare(box, every=every, other=every)
    seen: list[int] = []
    cursor = first = ""
    for _ in range(3):
        outcome = await box.call("every", cursor=cursor)
        assert isinstance(outcome, Ok)
        seen += [row[0] for row in outcome.data["rows"]]
        cursor = outcome.cursor
        first = first or cursor
    assert seen == list(range(1, 1201))
    assert cursor == ""
    for name, who, given in (("other", ANNA, first), ("every", BERIT, first), ("every", ANNA, first[:-2] + "AA")):
        refused = await box.call(name, who, cursor=given)
        assert isinstance(refused, Refused)
        assert refused.code == "tools.cursor_invalid"


async def test_a_result_over_its_bytes_is_cut_by_whole_rows_and_goes_on(box: Box) -> None:
    await declare(box, wide=tool("SELECT id, printf('%.8000c', 'x') AS body FROM parcels WHERE id <= 60 ORDER BY id"))
    seen: list[int] = []
    cursor = ""
    while True:
        outcome = await box.call("wide", cursor=cursor)
        assert isinstance(outcome, Ok)
        assert all(len(row) == 2 and len(row[1]) == 8000 for row in outcome.data["rows"])
        seen += [row[0] for row in outcome.data["rows"]]
        if not outcome.is_truncated:
            break
        cursor = outcome.cursor
    assert seen == list(range(1, 61))


async def test_the_rate_is_each_callers_own(box: Box) -> None:
    await declare(box, few=tool("SELECT 1 AS one", rate="2/min"))
    outcomes = [await box.call("few") for _ in range(3)]
    assert [type(outcome) for outcome in outcomes] == [Ok, Ok, Refused]
    assert isinstance(outcomes[2], Refused)
    assert outcomes[2].code == "limits.rate_limited"
    assert isinstance(await box.call("few", BERIT), Ok)


async def test_secrets_are_replaced_and_personal_data_is_labelled(box: Box) -> None:
    key = "AKIA" + "Q3EGRZ5T7WKD2LNM"
    await declare(box, leaky=tool(f"SELECT '{key}' AS a, 'ola.nordmann@example.com' AS b"))
    outcome = await box.call("leaky")
    assert isinstance(outcome, Ok)
    assert key not in str(outcome.data)
    assert outcome.data["rows"][0][1] == "ola.nordmann@example.com"
    assert PERSONAL in outcome.label.categories


async def test_nothing_that_changes_runs_without_an_approval(box: Box) -> None:
    ran: list[str] = []

    async def run(request: ToolRequest) -> Ok:
        ran.append("ran")
        return Ok({})

    for effect in ("write", "irreversible", "send"):
        box.toolbox.take([Tool("act", "d", "s", run, effect=effect)])
        outcome = await box.toolbox.call(
            "act", {}, principal=ANNA, deadline=Deadline.after(5), is_tainted=effect == "send"
        )
        assert isinstance(outcome, Refused)
        assert outcome.code == "tools.approval_unavailable"
    assert ran == []
    assert isinstance(await box.call("act"), Ok)  # it sends, and nothing untrusted was read


async def test_what_a_provider_raises_is_an_outcome(box: Box) -> None:
    async def run(request: ToolRequest) -> Ok:
        raise RuntimeError("password=hunter2")

    box.toolbox.take([Tool("broken", "d", "s", run)])
    outcome = await box.call("broken")
    assert isinstance(outcome, Failed)
    assert outcome.code == "tools.broken"
    assert "hunter2" not in outcome.message


async def test_the_words_of_a_failure_hold_no_secret(box: Box) -> None:
    secret = "sk-proj-" + "aB3dE5gH7jK9mN1pQ2rS"

    async def run(request: ToolRequest) -> Failed | Refused:
        words = f"the source would not take {secret}"
        return Refused("s.refused", words) if request.arguments else Failed("s.away", words, "s", True)

    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    box.toolbox.take([Tool("leaky", "d", "s", run, input_schema=schema)])
    for outcome in (await box.call("leaky"), await box.call("leaky", a="b")):
        assert isinstance(outcome, Failed | Refused)
        assert outcome.message.startswith("the source would not take")
        assert secret not in outcome.message


async def test_a_slow_tool_ends_within_its_share(box: Box) -> None:
    async def run(request: ToolRequest) -> Ok:
        await asyncio.Event().wait()
        raise AssertionError

    box.toolbox.take([Tool("slow", "d", "s", run, timeout_s=0.2)])
    watch = Stopwatch()
    outcome = await box.call("slow")
    assert isinstance(outcome, Failed)
    assert watch.elapsed_s() < 1.0


async def test_one_sources_hang_holds_up_no_other(box: Box) -> None:
    gate = asyncio.Event()

    async def hang(request: ToolRequest) -> Ok:
        await gate.wait()
        return Ok({})

    async def quick(request: ToolRequest) -> Ok:
        return Ok({"n": 1})

    box.toolbox.take([Tool("hung", "d", "a", hang, timeout_s=5.0), Tool("quick", "d", "b", quick)])
    hanging = [asyncio.create_task(box.call("hung")) for _ in range(40)]
    await asyncio.sleep(0)
    for _ in range(50):
        assert isinstance(await box.call("quick"), Ok)
    gate.set()
    assert all(isinstance(outcome, Ok) for outcome in await asyncio.gather(*hanging))


async def test_a_kept_result_stands_in_for_a_source_that_is_away(box: Box) -> None:
    away = False

    async def run(request: ToolRequest) -> Ok | Failed:
        return Failed("x.away", "away", "s", True) if away else Ok({"n": 1}, (_origin(),))

    box.toolbox.take([Tool("kept", "d", "s", run, stale_max_s=60.0)])
    assert isinstance(await box.call("kept"), Ok)
    away = True
    outcome = await box.call("kept")
    assert isinstance(outcome, Ok)
    assert outcome.data == {"n": 1}
    assert outcome.provenance[0].age_s > 0
    assert isinstance(await box.call("kept", BERIT), Failed)


async def test_the_trace_holds_counts_and_no_values(box: Box) -> None:
    await declare(box, one=tool("SELECT street FROM parcels WHERE id = :id", parameters={"id": ID}))
    trace = Trace("app", ANNA)
    await box.toolbox.call("one", {"id": 4711}, principal=ANNA, deadline=Deadline.after(5), trace=trace)
    await box.toolbox.call("one", {"id": "x"}, principal=ANNA, deadline=Deadline.after(5), trace=trace)
    assert [span.name for span in trace.spans] == ["tool one", "tool one"]
    assert trace.spans[1].status == REFUSED
    assert "4711" not in str([span.attributes for span in trace.spans])


async def test_statements_that_do_more_than_read_are_denied_by_sqlite_itself(box: Box) -> None:
    for sql in (
        "SELECT name FROM sqlite_master",
        "SELECT load_extension('x')",
        "PRAGMA table_info(parcels)",
        "SELECT * FROM pragma_table_info('parcels')",
        "DELETE FROM parcels",
        "ATTACH ':memory:' AS other",
    ):
        await declare(box, odd=tool(sql))
        outcome = await box.call("odd")
        assert isinstance(outcome, Refused), sql
    await declare(box, plain=tool("SELECT count(*) AS n FROM parcels"))
    assert isinstance(await box.call("plain"), Ok)


async def test_a_thousand_callers_share_the_connections_fairly(box: Box) -> None:
    await box.take(
        {"db": box.sqlite("db.sqlite", connections_max=8)},
        {"one": tool("SELECT street FROM parcels WHERE id = :id", parameters={"id": ID})},
    )
    ended: list[int] = []

    async def one(number: int) -> None:
        outcome = await box.call("one", seconds=60, id=number)
        assert isinstance(outcome, Ok), outcome
        assert outcome.data["rows"] == [[f"Street {number}"]]
        ended.append(number)

    await asyncio.gather(*(one(number) for number in range(1, 1001)))
    pool = box.sources.states()[0].pool
    assert pool is not None
    assert (pool.in_use, pool.waiting) == (0, 0)
    assert pool.idle <= 8
    # First come, first served: nobody ends more than a few places from where he came.
    assert statistics.fmean(abs(place - number) for place, number in enumerate(ended, 1)) < 16


def test_a_manifests_mistakes_are_told_before_it_serves(box: Box) -> None:
    from roadbed.tools.building import build_tools

    source = {"db": box.sqlite("db.sqlite")}
    for wrong in (
        tool("SELECT :x"),
        tool("SELECT 1", parameters={"id": ID}),
        tool("SELECT 1; SELECT 2"),
        tool("SELECT ?1"),
        tool("DELETE FROM parcels", effect="write"),
        tool(""),
    ):
        with pytest.raises(ToolMisdeclared):
            build_tools(source, {"wrong": wrong}, box.sources, b"k")


def _origin() -> Any:
    from roadbed.tools.types import Provenance

    return Provenance("s", "kept", time.time())
