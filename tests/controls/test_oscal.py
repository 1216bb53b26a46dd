"""Evidence as OSCAL: the shape, and the same bytes each time."""

from __future__ import annotations

import json
import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from roadbed.controls.control import Outcome, Result
from roadbed.controls.evidence import Evidence, Stamp, record_of
from roadbed.controls.frameworks import control_map
from roadbed.controls.oscal import assessment_results
from roadbed.controls.standing_checks import KeyAge

from .oscal_schema import faults_of

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


TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30)


@given(st.lists(st.tuples(st.sampled_from(["pass", "fail", "invalid"]), TEXTS, TEXTS, TEXTS), max_size=4), TEXTS)
@settings(max_examples=60)
def test_whatever_is_found_has_the_shape_of_assessment_results(
    runs: list[tuple[Outcome, str, str, str]], workspace: str
) -> None:
    kept = []
    for hours, (outcome, summary, release, title) in enumerate(runs):
        made = evidence(outcome, hours)
        record = {**json.loads(made.record), "summary": summary, "release": release, "title": title or "t"}
        kept.append(replace(made, record=rfc8785.dumps(record).decode()))
    document = json.loads(assessment_results(kept, control_map(), workspace))
    assert faults_of(document) == []
    findings = document["assessment-results"]["results"][0].get("findings", [])
    if runs:
        assert findings[0]["target"]["status"]["state"] == ("satisfied" if runs[-1][0] == "pass" else "not-satisfied")


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("uuid", "not-a-uuid"),
        ("uuid", "6ba7b810-9dad-11d1-80b4-00c04fd430c8"),
        ("metadata/last-modified", "2026-11-27T00:00:00"),
        ("metadata/oscal-version", None),
        ("import-ap", None),
        ("import-ap/href", "#6ba7b810-9dad-41d1-80b4-00c04fd430c8"),
        ("results/0/reviewed-controls", None),
        ("results/0/observations/0/methods", ["GUESS"]),
        ("results/0/observations/0/collected", None),
        ("results/0/findings/0/target/status/state", "partly"),
        ("results/0/findings/0/target/type", "control"),
        ("results/0/findings/0/related-observations", []),
        ("results/0/findings/0/extra", 1),
        ("results/0/observations", []),
    ],
)
def test_the_rules_refuse_what_is_not_of_that_shape(place: str, value: object) -> None:
    document = json.loads(assessment_results([evidence("fail", 0)], control_map(), "w"))
    assert faults_of(document) == []
    *way, last = place.split("/")
    part = document["assessment-results"]
    for name in way:
        part = part[int(name) if name.isdigit() else name]
    if value is None:
        del part[last]
    else:
        part[last] = value
    assert faults_of(document)
