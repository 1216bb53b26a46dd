"""`readiness`: a full manifest is ready, and each required thing that is taken away is named with what mends it."""

from __future__ import annotations

from datetime import date
from typing import Any

import msgspec
import pytest

from roadbed.controls.governance import Approval, cards_of, model_digest, register_of, unapproved_of
from roadbed.controls.readiness import Surroundings, UnknownApp, is_ready, readiness
from roadbed.kernel.clock import SYSTEM_CLOCK
from roadbed.releases.manifest import Manifest

FULL: dict[str, Any] = {
    "name": "office",
    "endpoints": {
        "a": {"type": "openai", "model": "m", "url": "https://a.example/v1"},
        "b": {"type": "openai", "model": "m", "url": "https://b.example/v1"},
    },
    "models": {"smart": {"ladder": ["a", "b"]}},
    "sources": {"notes": {"type": "files", "path": "notes", "labels": ["internal"], "visible_to": ["staff"]}},
    "collections": {"company": {"sources": ["notes"]}},
    "apps": {
        "helpdesk": {
            "kind": "copilot", "knowledge": ["company"], "model": "smart", "description": "d", "owner": "o",
            "purpose": "p", "risk": "limited", "runbook": "r", "review_by": "2027-01-01", "budget": "5 USD/day",
            "rate": "10/min",
        }
    },
    "teams": {"staff": {"apps": ["helpdesk"], "alerts": {"webhook": "env:X"}}},
    "retention": {"usage": "100d"},
    "audit": {"ship_to": ["copies"], "webhook": "env:Y"},
    "access": {"two_persons": ["promotions", "approvals", "models"]},
}  # fmt: skip
AROUND = Surroundings(is_embedded=False, is_encrypted=True, is_open=True, restored_days=4, today=date(2026, 11, 27))


def manifest(**changed: Any) -> Manifest:
    document = msgspec.json.decode(msgspec.json.encode(FULL))
    for path, value in changed.items():
        *parents, last = path.split("__")
        place = document
        for parent in parents:
            place = place[parent]
        if value is None:
            place.pop(last)
        else:
            place[last] = value
    return msgspec.convert(document, Manifest)


def missing(around: Surroundings = AROUND, **changed: Any) -> set[str]:
    items = readiness("helpdesk", manifest(**changed), around)
    assert all(item.fix for item in items if item.state == "missing")
    return {item.name for item in items if item.state == "missing"}


def test_a_full_manifest_is_ready_and_says_what_nobody_measures() -> None:
    items = readiness("helpdesk", manifest(), AROUND)
    assert missing() == set()
    assert is_ready(items)
    assert [item.name for item in items if item.state == "unknown"] == ["evaluations"]


@pytest.mark.parametrize(
    ("path", "value", "name"),
    [
        ("apps__helpdesk__owner", None, "owner"),
        ("apps__helpdesk__description", None, "description"),
        ("apps__helpdesk__purpose", None, "purpose"),
        ("apps__helpdesk__risk", None, "risk class"),
        ("apps__helpdesk__runbook", None, "runbook"),
        ("apps__helpdesk__budget", None, "budget"),
        ("sources__notes__labels", None, "labels"),
        ("models__smart__ladder", ["a"], "fallback"),
        ("teams__staff__apps", None, "access"),
        ("retention", None, "retention"),
        ("audit__ship_to", None, "audit copies"),
        ("audit__webhook", None, "alarms"),
        ("access__two_persons", ["promotions"], "two persons"),
    ],
)
def test_each_required_thing(path: str, value: Any, name: str) -> None:
    changed = {path: value}
    assert name in missing(**changed)
    assert not is_ready(readiness("helpdesk", manifest(**changed), AROUND))


def test_advice_alone_does_not_make_it_unready() -> None:
    assert is_ready(readiness("helpdesk", manifest(apps__helpdesk__review_by="2026-01-01"), AROUND))
    assert "review" in missing(apps__helpdesk__review_by="2026-01-01")


def test_the_deployment_counts_too() -> None:
    assert "backups" in missing(AROUND._replace(restored_days=None))
    assert "encryption" in missing(AROUND._replace(is_encrypted=False))
    assert "controls" in missing(AROUND._replace(failed_controls=("canary",)))
    assert "model approvals" in missing(AROUND._replace(unapproved=("smart",)))


def test_an_unknown_app_is_named() -> None:
    with pytest.raises(UnknownApp):
        readiness("helpdsk", manifest(), AROUND)


def test_an_approval_ends_when_an_endpoint_moves() -> None:
    whole = manifest()
    approval = Approval("smart", model_digest("smart", whole), "Ada", SYSTEM_CLOCK.wall(), "")
    register = register_of(whole, {"smart": approval})
    assert unapproved_of("helpdesk", register) == []
    moved = register_of(manifest(endpoints__b__url="https://c.example/v1"), {"smart": approval})
    assert unapproved_of("helpdesk", moved) == ["smart"]
    cards = cards_of(register)
    assert set(cards) == {"model-smart.md", "app-helpdesk.md", "data-company.md"}
    assert "by Ada" in cards["model-smart.md"]
    assert "| approved | no |" in cards_of(moved)["model-smart.md"]
    assert "**not said**" not in cards["app-helpdesk.md"].replace("| prompt", "")
