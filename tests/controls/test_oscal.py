"""Evidence as OSCAL: the shape, and the same bytes each time."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime, timedelta

import rfc8785

from roadbed.controls.control import Outcome, Result
from roadbed.controls.evidence import Evidence, Stamp, record_of
from roadbed.controls.frameworks import control_map
from roadbed.controls.oscal import assessment_results
from roadbed.controls.standing_checks import KeyAge

BEGAN = datetime(2026, 11, 27, tzinfo=UTC)


async def nothing() -> list[object]:
    return []


def evidence(outcome: Outcome, hours: int) -> Evidence:
    control = KeyAge(nothing)  # type: ignore[arg-type]
    began = BEGAN + timedelta(hours=hours)
    result = Result(outcome, "found", n=3, bound=0.01, inputs={"a": 1})
    record = record_of(control, result, began, began + timedelta(seconds=1), Stamp("w", "0.1", "r", "m"))
    return Evidence(record["id"], control.id, began, outcome, rfc8785.dumps(record).decode(), "c2ln")


def test_equal_evidence_gives_equal_bytes_of_the_right_shape() -> None:
    kept = [evidence("pass", 0), evidence("invalid", 1)]
    text = assessment_results(kept, control_map(), "w")
    assert text == assessment_results(kept, control_map(), "w")
    assert text != assessment_results(kept[:1], control_map(), "w")
    document = json.loads(text)["assessment-results"]
    assert uuid.UUID(document["uuid"]).version == 5
    assert document["metadata"]["oscal-version"].startswith("1.2")
    plan = document["import-ap"]["href"].removeprefix("#")
    assert [resource["uuid"] for resource in document["back-matter"]["resources"]] == [plan]
    result = document["results"][0]
    assert result["start"] < result["end"]
    seen = {observation["uuid"] for observation in result["observations"]}
    assert len(seen) == 2
    assert all(observation["methods"] == ["TEST"] for observation in result["observations"])
    finding = result["findings"][0]
    assert finding["target"]["status"] == {"state": "not-satisfied", "reason": "other", "remarks": "found"}
    assert {other["observation-uuid"] for other in finding["related-observations"]} == seen
    clauses = [one["control-id"] for part in result["reviewed-controls"]["control-selections"]
               for one in part["include-controls"]]  # fmt: skip
    assert "soc2-CC6.1" in clauses


def test_no_evidence_is_no_finding() -> None:
    result = json.loads(assessment_results([], control_map(), "w"))["assessment-results"]["results"][0]
    assert "findings" not in result
    assert result["reviewed-controls"]["control-selections"]
