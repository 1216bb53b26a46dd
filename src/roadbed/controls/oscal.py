"""Evidence as OSCAL 1.2 assessment results. Pure: the same evidence gives the same bytes.

One result for all runs; each run is an observation by test, each control a finding by its newest run, each clause of
the map a reviewed control. What is invalid or stale is ``not-satisfied`` with a remark, since OSCAL knows no third
state. Ids are UUIDs of version 5, made of the evidence's own ids and digests.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Sequence
from typing import Any, Final

from roadbed.controls.control import STALE_PERIODS
from roadbed.controls.evidence import Evidence
from roadbed.controls.frameworks import ControlMap

OSCAL_VERSION: Final = "1.2.1"
NAMES: Final = "urn:roadbed:controls"
NAMESPACE: Final = uuid.uuid5(uuid.NAMESPACE_URL, NAMES)
_REASONS: Final = {"pass": "pass", "fail": "fail", "invalid": "other"}
_TOKEN = re.compile(r"[^A-Za-z0-9_.-]+")


def assessment_results(evidence: Sequence[Evidence], mapped: ControlMap, workspace: str) -> str:
    """The document as JSON. ``evidence`` is by time, oldest first; empty evidence makes a result that found nothing."""
    digest = "\n".join(f"{kept.id}:{kept.digest}" for kept in evidence)
    start = json.loads(evidence[0].record)["started"] if evidence else "1970-01-01T00:00:00+00:00"
    end = json.loads(evidence[-1].record)["ended"] if evidence else start
    newest = {kept.control: kept for kept in evidence}
    plan = _uuid("plan", mapped.version)
    result = {
        "uuid": _uuid("result", digest),
        "title": f"Controls of {workspace}",
        "description": "What the controls that run all the time found.",
        "start": start,
        "end": end,
        "reviewed-controls": {"control-selections": _selections(mapped, sorted(newest))},
        **({"observations": [_observation(kept) for kept in evidence]} if evidence else {}),
        **({"findings": [_finding(newest[name], evidence) for name in sorted(newest)]} if newest else {}),
    }
    document = {
        "assessment-results": {
            "uuid": _uuid("document", digest, workspace),
            "metadata": {
                "title": f"Assessment results of {workspace}",
                "last-modified": end,
                "version": mapped.version,
                "oscal-version": OSCAL_VERSION,
                "remarks": mapped.note,
            },
            "import-ap": {"href": f"#{plan}", "remarks": "continuous testing; there is no plan apart from it"},
            "results": [result],
            "back-matter": {
                "resources": [
                    {
                        "uuid": plan,
                        "title": "Continuous testing",
                        "description": "Each control is a test that can fail and runs by its period; one that has not "
                        f"run for {STALE_PERIODS} periods counts as failed.",
                    }
                ]
            },
        }
    }
    return json.dumps(document, indent=2, sort_keys=True) + "\n"


def _uuid(*parts: str) -> str:
    return str(uuid.uuid5(NAMESPACE, "\0".join(parts)))


def token(text: str) -> str:
    """A clause as an OSCAL token: ``soc2-CC6.7``, ``gdpr-5_1_f``."""
    return _TOKEN.sub("_", text).strip("_")


def line(text: str) -> str:
    """A text as an OSCAL string: one line, no blanks around it."""
    return " ".join(text.split())


def _prop(name: str, value: str) -> dict[str, str]:
    """A property of ours: without a name space it would be taken for one of OSCAL's own."""
    return {"name": token(name), "ns": NAMES, "value": value}


def _said(record: dict[str, Any], kept: Evidence) -> str:
    return record["summary"] if line(record["summary"]) else kept.outcome


def _selections(mapped: ControlMap, controls: Sequence[str]) -> list[dict[str, Any]]:
    """The clauses that the controls are evidence for, a selection to each framework."""
    found: dict[str, set[str]] = {}
    for control in controls:
        for framework, clauses in mapped.clauses(control).items():
            found.setdefault(framework, set()).update(clauses)
    if not found:
        return [{"description": "none", "exclude-controls": [{"control-id": "none"}]}]
    return [
        {
            "description": mapped.frameworks[framework].title,
            "include-controls": [
                {"control-id": name} for name in sorted({token(f"{framework}-{clause}") for clause in clauses})
            ],
        }
        for framework, clauses in sorted(found.items())
    ]


def _observation(kept: Evidence) -> dict[str, Any]:
    record = json.loads(kept.record)
    facts = {"outcome": kept.outcome, "n": record["n"], "inputs": record["inputs"], "release": record["release"]}
    if record["bound"] is not None:
        facts["bound"] = record["bound"]
    return {
        "uuid": _uuid("observation", kept.id, kept.digest),
        "title": line(record["title"]) or kept.control,
        "description": _said(record, kept),
        "methods": ["TEST"],
        "types": ["control-objective"],
        "collected": record["ended"],
        "props": [_prop(name, line(str(value))) for name, value in sorted(facts.items()) if line(str(value))],
        "relevant-evidence": [
            {
                "description": f"record {kept.id}, sha256 {kept.digest}, signed by the audit's key",
                "props": [_prop("signature", kept.signature)],
            }
        ],
    }


def _finding(kept: Evidence, evidence: Sequence[Evidence]) -> dict[str, Any]:
    record = json.loads(kept.record)
    is_good = kept.outcome == "pass"
    status: dict[str, Any] = {"state": "satisfied" if is_good else "not-satisfied", "reason": _REASONS[kept.outcome]}
    if not is_good:
        status["remarks"] = _said(record, kept)
    related = [other for other in evidence if other.control == kept.control]
    return {
        "uuid": _uuid("finding", kept.id, kept.digest),
        "title": line(record["title"]) or kept.control,
        "description": _said(record, kept),
        "target": {"type": "objective-id", "target-id": token(kept.control), "status": status},
        "related-observations": [
            {"observation-uuid": _uuid("observation", other.id, other.digest)} for other in related
        ],
    }
